"""Solids of which the embedded shapes are made, as triangle meshes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnnapps.plugins.pointclouds.mesh import Mesh

Floats = NDArray[np.float64]
_AROUND = 24
_ALONG = 12


def grid(points: Floats, part: int = 0) -> Mesh:
    """The surface through a grid of points (U, V, 3), two triangles a cell."""
    rows, columns = points.shape[:2]
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return Mesh(points.reshape(-1, 3), faces.astype(np.int64), np.full(len(faces), part, dtype=np.int64))


def turned(radii: Sequence[float] | Floats, heights: Sequence[float] | Floats, part: int = 0) -> Mesh:
    """The surface that a line of points (radius, height) makes as it turns about z."""
    angles = np.linspace(0, 2 * np.pi, _AROUND + 1)
    r, z = np.asarray(radii, dtype=np.float64)[:, None], np.asarray(heights, dtype=np.float64)[:, None]
    points = np.stack([r * np.cos(angles), r * np.sin(angles), np.broadcast_to(z, (len(r), len(angles)))], axis=-1)
    return grid(points, part)


def ball(radius: float, low: float = -np.pi / 2, high: float = np.pi / 2, at: float = 0.0, part: int = 0) -> Mesh:
    """A sphere between two latitudes, its centre at height `at`."""
    angle = np.linspace(low, high, _ALONG + 1)
    return turned(radius * np.cos(angle), at + radius * np.sin(angle), part)


def disc(radius: float, height: float, part: int = 0) -> Mesh:
    """A disc at a height."""
    return turned([0.0, radius], [height, height], part)


def ring(radius: float, thickness: float) -> Mesh:
    """A torus about z."""
    angle = np.linspace(0, 2 * np.pi, 2 * _ALONG + 1)
    return turned(radius + thickness * np.cos(angle), thickness * np.sin(angle))


def box(size: Sequence[float], centre: Sequence[float] = (0.0, 0.0, 0.0), part: int = 0) -> Mesh:
    """A box with sides along the axes."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))], dtype=np.int64)
    vertices = corners * np.asarray(size) + np.asarray(centre)
    return Mesh(vertices, faces, np.full(len(faces), part, dtype=np.int64))


def pyramid(side: float, height: float) -> Mesh:
    """A pyramid over a square: its sides are part 0, its ground part 1."""
    h = side / 2
    vertices = np.array([[-h, -h, 0], [h, -h, 0], [h, h, 0], [-h, h, 0], [0, 0, height]], dtype=np.float64)
    faces = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4], [0, 2, 1], [0, 3, 2]], dtype=np.int64)
    return Mesh(vertices, faces, np.array([0, 0, 0, 0, 1, 1], dtype=np.int64))


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one."""
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=True)]),
        np.concatenate([m.parts for m in meshes]),
    )


def stretched(mesh: Mesh, factors: Sequence[float] | Floats) -> Mesh:
    """Each axis times its factor."""
    return Mesh(mesh.vertices * np.asarray(factors), mesh.faces, mesh.parts)
