"""The parts that designs are made for: what they hold, and what the open tools do for them."""

from __future__ import annotations

from dataclasses import dataclass

from bnnapps.errors import UsageError, nearest


@dataclass(frozen=True)
class Device:
    """A target.

    Attributes:
        name: as `--target` takes it.
        title: for people.
        synth: the Yosys command, without its outputs.
        luts: lookup tables of the part, 0 where the target is a family.
        lut_inputs: of each.
        brams: block memories of the part.
        bram_bits: of each.
        bram_width: the widest word that one of them reads.
        route: arguments of nextpnr, empty where the open tools neither place nor time the part.

    """

    name: str
    title: str
    synth: str
    luts: int
    lut_inputs: int
    brams: int
    bram_bits: int
    bram_width: int
    route: tuple[str, ...] = ()


def _ecp5(size: str, luts: int, brams: int) -> Device:
    package = "CABGA381" if size != "12k" else "CABGA256"
    return Device(
        f"ecp5-{size}",
        f"Lattice ECP5-{size.upper()}, speed grade 6, {package}",
        "synth_ecp5 -top top",
        luts,
        4,
        brams,
        18432,
        36,
        (f"--{size}", "--package", package, "--speed", "6"),
    )


DEVICES = {
    device.name: device
    for device in (
        _ecp5("25k", 24288, 56),
        _ecp5("45k", 43848, 108),
        _ecp5("85k", 83640, 208),
        Device("ice40", "Lattice iCE40 family", "synth_ice40 -top top", 0, 4, 0, 4096, 16),
        Device("xilinx7", "Xilinx 7-series family", "synth_xilinx -family xc7 -flatten -top top", 0, 6, 0, 36864, 72),
        Device("gowin", "Gowin family", "synth_gowin -top top", 0, 4, 0, 18432, 36),
    )
}


def get_device(name: str) -> Device:
    """The target of that name.

    Raises:
        UsageError: there is none.

    """
    if name not in DEVICES:
        raise UsageError(f"--target: unknown target '{name}'; the nearest are {nearest(name, DEVICES)}")
    return DEVICES[name]
