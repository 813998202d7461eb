"""Triangle meshes: reading and writing `.off` files, and drawing points on their surface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError


@dataclass(frozen=True)
class Mesh:
    """A surface of triangles.

    Attributes:
        vertices: float64, (V, 3).
        faces: int64, (F, 3), numbers of vertices.
        parts: int64, (F,): which part of the shape a face belongs to; all 0 where nobody said.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    parts: NDArray[np.int64]

    def areas(self) -> NDArray[np.float64]:
        """The area of each triangle, (F,)."""
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        found: NDArray[np.float64] = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
        return found

    def sample(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """`count` points, uniform on the surface, with the normal of their triangle: (count, 6), and their parts.

        A triangle is drawn by its area; in it the point is (1 - sqrt(u)) a + sqrt(u) (1 - v) b + sqrt(u) v c with u, v
        uniform in [0, 1) (Osada et al., Shape Distributions, 2002).

        Raises:
            ValueError: no triangle has an area.
        """
        areas = self.areas()
        total = np.cumsum(areas)
        if len(total) == 0 or not total[-1] > 0:
            raise ValueError("no face has an area")
        drawn = np.searchsorted(total, rng.random(count) * total[-1], side="right")
        faces = self.faces[np.minimum(drawn, len(areas) - 1)]
        a, b, c = (self.vertices[faces[:, i]] for i in range(3))
        root, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
        places = (1 - root) * a + root * (1 - v) * b + root * v * c
        normals = np.cross(b - a, c - a)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return np.concatenate([places, normals], axis=1).astype(np.float32), self.parts[drawn]


def read_off(path: Path) -> Mesh:
    """The mesh of an `.off` file; polygons become fans of triangles.

    Some files of ModelNet40 have their counts glued to the header ("OFF490 518 0"); they are read as any. Comments
    (`#`) and empty lines are passed over; colours behind a face are left out.

    Raises:
        DataError: the file cannot be read, is cut short, or holds no surface; the message says where.
    """
    try:
        text = path.read_text(encoding="ascii")
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text, so no .off file: remove it, or write it as ASCII") from None
    lines = [line for raw in text.splitlines() if (line := raw.partition("#")[0].strip())]
    if not lines or not lines[0].upper().startswith("OFF"):
        start = lines[0][:20] if lines else ""
        raise DataError(f"{path}: begins with '{start}' where an .off file begins with 'OFF': it is another format")
    glued = lines[0][3:].strip()
    lines = [glued, *lines[1:]] if glued else lines[1:]
    counts = lines[0].split() if lines else []
    if len(counts) < 2 or not all(word.isdigit() for word in counts[:2]):
        raise DataError(f"{path}: '{' '.join(counts)}' stands where the numbers of vertices and faces belong")
    vertices, faces = int(counts[0]), int(counts[1])
    if vertices == 0 or faces == 0:
        raise DataError(f"{path}: the mesh is empty ({vertices} vertices, {faces} faces): remove the file")
    if len(lines) - 1 < vertices + faces:
        raise DataError(
            f"{path}: promises {vertices} vertices and {faces} faces, and has {len(lines) - 1} lines of them: the file "
            "is cut short, fetch it again"
        )
    mesh = Mesh(*_surface(path, lines[1 : vertices + 1], lines[vertices + 1 : vertices + faces + 1]))
    if not mesh.areas().sum() > 0:
        raise DataError(f"{path}: its faces have no area, so no point can be drawn on them: remove the file")
    return mesh


def _surface(
    path: Path, corners: list[str], polygons: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    try:
        places = np.array(" ".join(" ".join(line.split()[:3]) for line in corners).split(), dtype=np.float64)
        vertices = places.reshape(len(corners), 3)
    except ValueError:
        raise DataError(f"{path}: a vertex is not three numbers") from None
    bad = ~np.isfinite(vertices).all(axis=1)
    if bad.any():
        raise DataError(f"{path}: vertex {int(np.flatnonzero(bad)[0])} is not finite: correct or remove the file")
    fans: list[tuple[int, int, int]] = []
    for number, line in enumerate(polygons):
        try:
            words = line.split()
            size = int(words[0])
            ring = [int(word) for word in words[1 : size + 1]]
        except (ValueError, IndexError):
            raise DataError(f"{path}: face {number} is '{line[:40]}', which is no list of vertices") from None
        if len(ring) != size or any(not 0 <= corner < len(corners) for corner in ring):
            raise DataError(f"{path}: face {number} is '{line[:40]}', and there are {len(corners)} vertices")
        fans += [(ring[0], ring[i], ring[i + 1]) for i in range(1, size - 1)]
    faces = np.array(fans, dtype=np.int64).reshape(-1, 3)
    return vertices, faces, np.zeros(len(faces), dtype=np.int64)


def write_off(path: Path, mesh: Mesh) -> None:
    """Write a mesh as an `.off` file."""
    lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
    lines += [" ".join(f"{x:.6g}" for x in row) for row in mesh.vertices.tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
