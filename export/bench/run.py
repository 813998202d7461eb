"""A whole measurement: one file and its twins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnxruntime as ort
from onnx import ModelProto

import bnnapps
from bnnapps.errors import BnnappsError, ExportError
from bnnapps.export.bench.bound import popcount_bound
from bnnapps.export.bench.feeds import Feeds, Input, batch_name, batches_of, feeds_for, inputs_of, sizes_of
from bnnapps.export.bench.latency import Candidate, Latency, call_of, measure, options_for
from bnnapps.export.bench.memory import Footprint, footprint
from bnnapps.export.bench.operators import NodeTime, OperatorTime, by_operator, profile
from bnnapps.export.bench.twins import int8_twin
from bnnapps.export.file import metadata_of, packed_version, read_model
from bnnapps.export.passes.metadata import DIALECT
from bnnapps.export.session import REFUSALS, first_line, open_session
from bnnapps.kernels.library import isa, library_path
from bnnapps.training.folder import cpu_name

FILE = "file"
"""What a foreign file is called among its twins."""


@dataclass(frozen=True)
class Bench:
    """What was measured.

    Attributes:
        path: the file.
        name: its dialect, or "file".
        kernels: the instruction set of the kernels that it ran on, or `None`: ONNX Runtime's own operators.
        sizes: the free sizes of its inputs but the batch.
        latencies: of the file and its twins.
        files: their sizes in bytes, by name.
        footprints: their memory and start time, at the first number of threads and the first batch size.
        bound: multiply-adds of codes per second that one thread can do, or `None`.
        profiled: the number of threads and the batch size of the profile.
        nodes: where the time of the file goes.
        notes: what a user should know.

    """

    path: Path
    name: str
    kernels: str | None
    sizes: dict[str, int]
    latencies: tuple[Latency, ...]
    files: dict[str, int]
    footprints: tuple[Footprint, ...]
    bound: float | None
    profiled: tuple[int, int]
    nodes: tuple[NodeTime, ...]
    notes: tuple[str, ...]

    @property
    def operators(self) -> tuple[OperatorTime, ...]:
        """Where the time goes, by operator."""
        return by_operator(self.nodes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        memory = {one.name: one.to_dict() for one in self.footprints}
        unknown = {"bytes": None, "start": None}
        return {
            "file": str(self.path),
            "name": self.name,
            "kernels": self.kernels,
            "versions": {"bnnapps": bnnapps.__version__, "onnxruntime": ort.__version__},
            "cpu": cpu_name(),
            "sizes": self.sizes,
            "latencies": [one.to_dict() for one in self.latencies],
            "files": [
                {
                    "name": name,
                    "bytes": size,
                    "memory_bytes": memory.get(name, unknown)["bytes"],
                    "start": memory.get(name, unknown)["start"],
                }
                for name, size in self.files.items()
            ],
            "bound_macs_per_second": self.bound,
            "profiled": {"threads": self.profiled[0], "batch": self.profiled[1]},
            "operators": [one.to_dict() for one in self.operators],
            "nodes": [one.to_dict() for one in self.nodes],
            "notes": list(self.notes),
        }


def bench(
    path: str | os.PathLike[str],
    threads: Sequence[int] = (1,),
    batches: Sequence[int] | None = None,
    sizes: Mapping[str, int] | None = None,
    runs: int = 30,
    twins: Mapping[str, Path] | None = None,
    int8: Path | None = None,
    begin: Callable[[str], None] = lambda what: None,
) -> Bench:
    """Measure a file, in turns with its twins.

    Args:
        path: the file.
        threads: numbers of threads.
        batches: batch sizes, each of which is measured with each number of threads; without them 1, or what the file
            fixes.
        sizes: free sizes of the inputs by name.
        runs: calls of each file for each pair.
        twins: other files that are measured beside it, by name; from the one named "float" an int8 twin is made.
        int8: where the int8 twin is kept (and taken from, if it is newer than the float one); `None`: nowhere.
        begin: is told what comes next.

    Raises:
        ExportError: the file cannot be read or run.
        UsageError: sizes that it does not have.

    """
    file = Path(path)
    begin("reading")
    model = read_model(file)
    inputs = inputs_of(model)
    chosen = batches_of(inputs, batches)
    found = sizes_of(inputs, sizes or {})
    packed = packed_version(model) > 0
    kernels = packed and library_path() is not None
    name = metadata_of(model).get(DIALECT, FILE)
    notes = [] if kernels or not packed else ["the kernels are not installed: see `bnnapps runtime info`"]
    with tempfile.TemporaryDirectory() as folder:
        sides = [_Side(Candidate(name, str(file), kernels), inputs, found)]
        kept = Path(folder) / "int8.onnx" if int8 is None else int8
        sides += _twins(twins or {}, found, chosen[0], kept, notes, begin)
        latencies = _latencies(sides, threads, chosen, runs, notes, begin)
        footprints = []
        for side in sides:
            begin(f"{side.candidate.name}: memory")
            footprints.append(footprint(side.candidate, side.feeds(chosen[0]), threads[0]))
        files = {side.candidate.name: Path(side.candidate.path).stat().st_size for side in sides}
        begin("profile")
        bound = popcount_bound() if kernels else None
        nodes = profile(model, sides[0].candidate, sides[0].feeds(chosen[0]), threads[0], runs, bound)
    return Bench(
        path=file,
        name=name,
        kernels=isa() if kernels else None,
        sizes=found,
        latencies=tuple(latencies),
        files=files,
        footprints=tuple(one for one in footprints if one is not None),
        bound=bound,
        profiled=(threads[0], chosen[0]),
        nodes=nodes,
        notes=tuple(dict.fromkeys(notes)),
    )


@dataclass(frozen=True)
class _Side:
    """A file with its inputs."""

    candidate: Candidate
    inputs: tuple[Input, ...]
    sizes: dict[str, int]

    def takes(self, batch: int) -> bool:
        """Whether the file can be run with that batch size."""
        fixed = next((one.sizes[0] for one in self.inputs if one.sizes), batch)
        return batch_name(self.inputs) is not None or fixed == batch

    def feeds(self, batch: int) -> Feeds:
        return feeds_for(self.inputs, batch, self.sizes)


def _twins(
    files: Mapping[str, Path],
    sizes: Mapping[str, int],
    batch: int,
    int8: Path,
    notes: list[str],
    begin: Callable[[str], None],
) -> list[_Side]:
    """The twins that can be measured; why others cannot goes into the notes."""
    sides = []
    for name, path in files.items():
        try:
            sides.append(_twin(name, path, sizes))
        except BnnappsError as problem:
            notes.append(f"no twin '{name}': {problem}")
    floats = next((side for side in sides if side.candidate.name == "float"), None)
    if floats is not None and floats.takes(batch):
        begin("int8 twin")
        source = Path(floats.candidate.path)
        try:
            if not int8.is_file() or int8.stat().st_mtime < source.stat().st_mtime:
                int8_twin(source, int8, floats.feeds(batch))
            sides.append(replace(floats, candidate=Candidate("int8", str(int8), False)))
        except ExportError as problem:
            notes.append(f"no twin 'int8': {problem}")
    return sides


def _twin(name: str, path: Path, sizes: Mapping[str, int]) -> _Side:
    model: ModelProto = read_model(path)
    inputs = inputs_of(model)
    batch = batch_name(inputs)
    free = {size for one in inputs for size in one.sizes if isinstance(size, str) and size != batch}
    known = {size: value for size, value in sizes.items() if size in free}
    kernels = packed_version(model) > 0 and library_path() is not None
    return _Side(Candidate(name, str(path), kernels), inputs, sizes_of(inputs, known))


def _latencies(
    sides: Sequence[_Side],
    threads: Sequence[int],
    batches: Sequence[int],
    runs: int,
    notes: list[str],
    begin: Callable[[str], None],
) -> list[Latency]:
    found = []
    for count in threads:
        begin(f"{count} threads: opening {len(sides)} files")
        sessions = [open_session(s.candidate.path, options_for(count), s.candidate.kernels) for s in sides]
        for batch in batches:
            begin(f"{count} threads, batch {batch}")
            calls = {}
            for side, session in zip(sides, sessions, strict=True):
                if not side.takes(batch):
                    notes.append(f"the batch size of '{side.candidate.name}' is fixed: not measured at {batch}")
                    continue
                call = call_of(session, side.feeds(batch))
                try:
                    call()
                except REFUSALS as problem:
                    why = _refused(side, batch, problem)
                    if side is sides[0]:
                        raise ExportError(why) from None
                    notes.append(why)
                else:
                    calls[side.candidate.name] = call
            found += measure(calls, count, batch, runs)
    return found


def _refused(side: _Side, batch: int, problem: Exception) -> str:
    shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in side.feeds(batch).items())
    advice = "; --size sets its free sizes" if side.sizes else ""
    return f"ONNX Runtime cannot run '{side.candidate.path}' on {shapes}: {first_line(problem)}{advice}"
