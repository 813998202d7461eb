"""Synthesis with Yosys: which cells a design becomes, layer by layer. Counts, no timing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnnapps.errors import ExportError
from bnnapps.export.fpga.devices import Device
from bnnapps.export.fpga.generate import LIBRARY
from bnnapps.export.fpga.tools.process import Tick
from bnnapps.export.fpga.tools.yosys import run_yosys

NETLIST = "netlist.json"


@dataclass(frozen=True)
class Cells:
    """Cells after synthesis, before placement packs them.

    Attributes:
        luts: lookup tables; carry chains count as the two lookup tables that they take on ECP5, the one on Gowin.
        carries: carry cells.
        ffs: registers.
        brams: block memories; half ones count as halves.
        lut_rams: cells of memories made of lookup tables.
        dsps: multipliers.

    """

    luts: int = 0
    carries: int = 0
    ffs: int = 0
    brams: float = 0
    lut_rams: int = 0
    dsps: int = 0


@dataclass(frozen=True)
class Synthesized:
    """What synthesis found.

    Attributes:
        total: of the design.
        parts: by the instances of the top module, in their order there.
        seconds: on the clock.
        megabytes: the most memory.

    """

    total: Cells
    parts: Mapping[str, Cells] = field(default_factory=dict)
    seconds: float = 0
    megabytes: float = 0


def synthesize(device: Device, folder: Path, tick: Tick | None = None) -> Synthesized:
    """Synthesise the design whose files are in a folder.

    Raises:
        MissingExtraError: pyosys is not installed.
        ExportError: Yosys fails.

    """
    commands = [f"read_verilog -defer {' '.join(LIBRARY)} top.v", device.synth, "autoname", f"write_json {NETLIST}"]
    usage = run_yosys(commands, folder, "synthesis", "synthesis", tick)
    try:
        modules = json.loads((folder / NETLIST).read_text(encoding="utf-8"))["modules"]
    except (OSError, ValueError, KeyError):
        raise ExportError(f"Yosys wrote no netlist: see {folder / 'synthesis.log'}") from None
    total, parts = count_cells(modules["top"]["cells"])
    return Synthesized(total, parts, usage.seconds, usage.megabytes)


def count_cells(cells: Mapping[str, Any]) -> tuple[Cells, dict[str, Cells]]:
    """The cells of a flat netlist, and those of each instance of its top, which their names begin with."""
    kinds: dict[str, Counter[str]] = {}
    for name, cell in cells.items():
        path = name.partition("$flatten\\")[2] or name
        instance = path.lstrip("\\").partition(".")[0] if "." in path and not path.startswith("$") else ""
        kinds.setdefault(instance, Counter())[cell["type"]] += 1
    everything = sum(kinds.values(), Counter())
    return summed(everything), {name: summed(found) for name, found in kinds.items()}


_GOWIN_MEMORIES = ("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B", "pROM", "pROMX9")


def summed(kinds: Mapping[str, int]) -> Cells:
    """Cells of any of the families by what they are."""

    def count(*starts: str) -> int:
        return sum(n for kind, n in kinds.items() if kind.startswith(starts))

    gowin = sum(kinds.get(kind, 0) for kind in _GOWIN_MEMORIES)
    adders = kinds.get("ALU", 0)  # of Gowin, each in place of a lookup table
    return Cells(
        luts=count("LUT", "SB_LUT", "INV") + 2 * count("CCU2C") + adders,
        carries=count("CCU2C", "CARRY4", "SB_CARRY") + adders,
        ffs=count("TRELLIS_FF", "FDRE", "FDSE", "FDCE", "FDPE", "SB_DFF", "DFF"),
        brams=count("DP16KD", "PDPW16KD", "RAMB36", "SB_RAM40") + gowin + 0.5 * count("RAMB18"),
        lut_rams=count("TRELLIS_DPR", "RAM32", "RAM64", "RAM128", "RAM16"),
        dsps=count("MULT18", "DSP48", "SB_MAC16", "MULT9"),
    )
