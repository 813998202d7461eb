"""The embedded set `rooms`: furnished rooms as clouds of coloured points, in the form of S3DIS's blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnnapps.plugins.pointclouds.mesh import Mesh
from bnnapps.plugins.pointclouds.primitives import ball, box, joined
from bnnapps.plugins.pointclouds.sets import CloudSet, Splits

CLASSES = ("ceiling", "floor", "wall", "table", "chair", "clutter")
COUNTS = {"train": 400, "dev": 100}
STORED = 1024
_CEILING, _FLOOR, _WALL, _TABLE, _CHAIR, _CLUTTER = range(6)
_COLOURS = np.array(
    [[0.85, 0.85, 0.8], [0.45, 0.35, 0.3], [0.75, 0.75, 0.7], [0.6, 0.45, 0.3], [0.3, 0.3, 0.5], [0.5, 0.5, 0.5]]
)


def room_mesh(rng: np.random.Generator) -> tuple[Mesh, NDArray[np.float64]]:
    """A room with its furniture, the parts being classes, and its size along x, y and z in metres."""
    x, y, z = rng.uniform(3, 6), rng.uniform(3, 6), rng.uniform(2.4, 3.2)
    thin = 0.02
    found = [box((x, y, thin), (x / 2, y / 2, 0), _FLOOR), box((x, y, thin), (x / 2, y / 2, z), _CEILING)]
    for side in (0.0, x):
        found.append(box((thin, y, z), (side, y / 2, z / 2), _WALL))
    for side in (0.0, y):
        found.append(box((x, thin, z), (x / 2, side, z / 2), _WALL))
    for _ in range(rng.integers(1, 3)):
        at, size = rng.uniform(0.8, (x - 0.8, y - 0.8)), rng.uniform((0.8, 0.6, 0.65), (1.6, 0.9, 0.8))
        found.append(box((size[0], size[1], 0.06), (*at, size[2]), _TABLE))
        found.append(box((0.15, 0.15, size[2]), (*at, size[2] / 2), _TABLE))
    for _ in range(rng.integers(1, 4)):
        at, back = rng.uniform(0.5, (x - 0.5, y - 0.5)), rng.uniform(0.35, 0.5)
        found.append(box((0.45, 0.45, 0.06), (*at, 0.45), _CHAIR))
        found.append(box((0.06, 0.06, 0.45), (*at, 0.22), _CHAIR))
        found.append(box((0.45, 0.05, back), (at[0], at[1] + 0.2, 0.45 + back / 2), _CHAIR))
    for _ in range(rng.integers(1, 4)):
        at, radius = rng.uniform(0.4, (x - 0.4, y - 0.4)), rng.uniform(0.12, 0.3)
        blob = ball(radius, at=radius)
        found.append(Mesh(blob.vertices + np.array([*at, 0.0]), blob.faces, np.full(len(blob.faces), _CLUTTER)))
    return joined(*found), np.array([x, y, z])


def room_cloud(rng: np.random.Generator, stored: int = STORED) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A room as (stored, 9): metres from its middle, colours in [0, 1], place in the room in [0, 1]; and classes.

    Half of the points are drawn on the furniture, so that each class is met often enough to be learned.
    """
    mesh, size = room_mesh(rng)
    furniture = mesh.parts >= _TABLE
    halves = [
        Mesh(mesh.vertices, mesh.faces[chosen], mesh.parts[chosen]).sample(count, rng)
        for chosen, count in ((furniture, stored // 2), (~furniture, stored - stored // 2))
    ]
    order = rng.permutation(stored)
    places = np.concatenate([p[:, :3] for p, _ in halves])[order] + rng.normal(scale=0.01, size=(stored, 3))
    labels = np.concatenate([each for _, each in halves])[order]
    colours = _COLOURS[labels] * rng.uniform(0.7, 1.2) + rng.normal(scale=0.12, size=(stored, 3))
    found = np.concatenate([places - size * [0.5, 0.5, 0], colours.clip(0, 1), places / size], axis=1)
    return found.astype(np.float32), labels


def load_rooms(train: int, dev: int, seed: int) -> Splits:
    """`rooms`: room i of a part of the set follows from (seed, part, i) alone."""
    found = []
    for which, count in enumerate((train, dev)):
        pairs = [room_cloud(np.random.default_rng([seed, which, i])) for i in range(count)]
        found.append(CloudSet(np.stack([p for p, _ in pairs]), np.stack([each for _, each in pairs]), "rooms"))
    return Splits(found[0], found[1], CLASSES, "rooms, furnished rooms (generated)")
