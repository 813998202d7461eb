"""The embedded set `shapes10`: ten kinds of solids with proportions of their own, as noisy clouds of their surface."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnapps.plugins.pointclouds.mesh import Mesh, write_off
from bnnapps.plugins.pointclouds.primitives import ball, box, disc, joined, pyramid, ring, stretched, turned
from bnnapps.plugins.pointclouds.sets import CloudSet, Splits, unit_sphere

Generator = np.random.Generator
STORED = 1024
"""Points of a cloud that are stored."""
COUNTS = {"train": 1000, "dev": 300}


def _sphere(rng: Generator) -> Mesh:
    return ball(1.0)


def _box(rng: Generator) -> Mesh:
    return box(rng.uniform(0.5, 1.5, 3).tolist())


def _cylinder(rng: Generator) -> Mesh:
    r, h = rng.uniform(0.35, 0.8), rng.uniform(0.8, 2.0)
    return joined(turned([r, r], [0, h]), disc(r, 0.0, 1), disc(r, h, 1))


def _cone(rng: Generator) -> Mesh:
    r, h = rng.uniform(0.4, 0.9), rng.uniform(0.8, 2.0)
    return joined(turned([r, 0.0], [0, h]), disc(r, 0.0, 1))


def _torus(rng: Generator) -> Mesh:
    return ring(1.0, rng.uniform(0.15, 0.45))


def _capsule(rng: Generator) -> Mesh:
    r, h = rng.uniform(0.3, 0.5), rng.uniform(0.8, 1.6)
    return joined(turned([r, r], [0, h]), ball(r, low=0.0, at=h, part=1), ball(r, high=0.0, at=0.0, part=1))


def _pyramid(rng: Generator) -> Mesh:
    return pyramid(rng.uniform(0.8, 1.6), rng.uniform(0.7, 1.7))


def _ellipsoid(rng: Generator) -> Mesh:
    return stretched(ball(1.0), rng.permutation([1.0, rng.uniform(0.4, 0.75), rng.uniform(0.4, 0.75)]))


def _table(rng: Generator) -> Mesh:
    width, depth, height, top = rng.uniform(0.9, 1.6), rng.uniform(0.7, 1.2), rng.uniform(0.5, 1.0), 0.08
    return joined(box((width, depth, top), (0, 0, height)), *_legs(rng, width, depth, height, part=1))


def _chair(rng: Generator) -> Mesh:
    width, depth, height, back = rng.uniform(0.5, 0.8), rng.uniform(0.5, 0.8), 0.5, rng.uniform(0.5, 0.9)
    seat = box((width, depth, 0.08), (0, 0, height))
    rest = box((width, 0.07, back), (0, depth / 2, height + back / 2), part=2)
    return joined(seat, *_legs(rng, width, depth, height, part=1), rest)


def _legs(rng: Generator, width: float, depth: float, height: float, part: int) -> list[Mesh]:
    thick = rng.uniform(0.06, 0.12)
    x, y = width / 2 - thick / 2, depth / 2 - thick / 2
    places = [(sx * x, sy * y, height / 2) for sx in (-1, 1) for sy in (-1, 1)]
    return [box((thick, thick, height), place, part) for place in places]


KINDS: dict[str, tuple[Callable[[Generator], Mesh], tuple[str, ...]]] = {
    "sphere": (_sphere, ("surface",)),
    "box": (_box, ("surface",)),
    "cylinder": (_cylinder, ("side", "ends")),
    "cone": (_cone, ("side", "ground")),
    "torus": (_torus, ("surface",)),
    "capsule": (_capsule, ("side", "ends")),
    "pyramid": (_pyramid, ("sides", "ground")),
    "ellipsoid": (_ellipsoid, ("surface",)),
    "table": (_table, ("top", "legs")),
    "chair": (_chair, ("seat", "legs", "back")),
}
"""Each kind with its generator and the names of its parts."""
CLASSES = tuple(KINDS)
PART_CLASSES = tuple(f"{kind} {part}" for kind, (_, parts) in KINDS.items() for part in parts)
_FIRST_PART = np.cumsum([0, *(len(parts) for _, parts in KINDS.values())])
PARTS = tuple(tuple(range(int(a), int(b))) for a, b in itertools.pairwise(_FIRST_PART))
"""The numbers in `PART_CLASSES` that each kind has."""


def shape_mesh(kind: str, rng: Generator) -> Mesh:
    """A solid of the kind with random proportions, standing on or around z = 0."""
    return KINDS[kind][0](rng)


def shape_cloud(number: int, rng: Generator, stored: int = STORED) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A noisy cloud (stored, 6) of the kind, with normals, in the unit sphere, and the part of each point.

    Proportions, turn about z, sizes along the axes, a thin place and noise follow from `rng`. Half of the points
    around one of them, a fifth of the surface, fall away, as where a scanner sees badly.
    """
    mesh = shape_mesh(CLASSES[number], rng)
    mesh = stretched(mesh, rng.uniform(0.85, 1.15, 3))
    found, parts = mesh.sample(2 * stored, rng)
    centre = found[rng.integers(len(found)), :3]
    distance = np.linalg.norm(found[:, :3] - centre, axis=1)
    lost = (distance < np.quantile(distance, 0.2)) & (rng.random(len(found)) < 0.5)
    keep = np.flatnonzero(~lost)[:stored]
    found, parts = found[keep], parts[keep]
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    found = np.concatenate([found[:, :3] @ turn.T, found[:, 3:] @ turn.T], axis=1)
    found = unit_sphere(found)
    found[:, :3] += rng.normal(scale=0.02, size=(stored, 3))
    return found.astype(np.float32), parts + PARTS[number][0]


def load_shapes(train: int, dev: int, seed: int, parts: bool, normals: bool) -> Splits:
    """`shapes10`: kinds in turn; cloud i of a part of the set follows from (seed, part, i) alone."""
    found = []
    for which, count in enumerate((train, dev)):
        pairs = [shape_cloud(i % len(CLASSES), np.random.default_rng([seed, which, i])) for i in range(count)]
        points = np.stack([p for p, _ in pairs]) if pairs else np.zeros((0, STORED, 6), np.float32)
        kinds = np.arange(count, dtype=np.int64) % len(CLASSES)
        labels = np.stack([each for _, each in pairs]).astype(np.int64) if parts and pairs else kinds
        kept = points if normals else points[..., :3]
        found.append(CloudSet(np.ascontiguousarray(kept), labels, "shapes10", categories=kinds if parts else None))
    if parts:
        return Splits(found[0], found[1], PART_CLASSES, "shapes10, parts of solids (generated)", CLASSES, PARTS)
    return Splits(found[0], found[1], CLASSES, "shapes10, solids (generated)")


def write_shapes(root: Path, train: int, dev: int, seed: int = 0) -> None:
    """Write meshes of `shapes10` in ModelNet's layout, `KIND/{train,test}/KIND_0001.off`: so many of each kind."""
    for which, (split, count) in enumerate((("train", train), ("test", dev))):
        for number, kind in enumerate(CLASSES):
            for i in range(count):
                mesh = shape_mesh(kind, np.random.default_rng([seed, which, number, i]))
                write_off(root / kind / split / f"{kind}_{i + 1:04d}.off", mesh)
