"""Networks of lookup tables: a thermometer, layers of tables, and a count for each class."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bnnapps.errors import UsageError
from bnnapps.models.registry import ModelEntry, one_of, register_model
from bnnapps.nn.layers import Lookup
from bnnapps.nn.thermometer import GroupSum, Thermometer

_WIRINGS = ("learned", "random", "tree")
_PLACEMENTS = ("distributive", "uniform")


def lookup_network(
    num_classes: int,
    in_channels: int = 1,
    hidden: Sequence[int] = (2000, 1000),
    inputs: int = 6,
    wiring: Sequence[str] = ("learned", "random"),
    bits: int = 3,
    placement: str = "distributive",
    temperature: float = 1 / 0.3,
    image_size: int = 28,
    features: int | None = None,
) -> nn.Sequential:
    """Layers of tables of `inputs` inputs behind a thermometer of `bits` bits a pixel.

    Every class counts the outputs of its share of the last layer. For a table of numbers instead of images say how many
    columns it has (`features`); thresholds are placed by `bnnapps.nn.thermometer.fit_thermometers`.

    Args:
        num_classes: scores.
        in_channels: of the images.
        hidden: tables of each layer; the last number is rounded up to a multiple of `num_classes`.
        inputs: of a table.
        wiring: of each layer (learned, random or tree); the last one holds for all that follow.
        bits: thresholds of a pixel.
        placement: distributive or uniform.
        temperature: divides the counts.
        image_size: rows and columns of the images.
        features: how many numbers come in, instead of the pixels of an image.

    Raises:
        UsageError: a value that does not fit.

    """
    if not hidden or any(not isinstance(m, int) or isinstance(m, bool) or m < 1 for m in hidden):
        raise UsageError(f"hidden is {list(hidden)!r}; expected whole numbers of at least 1")
    if not wiring:
        raise UsageError("wiring is empty; expected one of learned, random and tree for each layer")
    for how in wiring:
        one_of(how, _WIRINGS, "wiring")
    one_of(placement, _PLACEMENTS, "placement")
    before = in_channels * image_size**2 if features is None else features
    sizes = [*hidden[:-1], -(-hidden[-1] // num_classes) * num_classes]
    try:
        layers: list[nn.Module] = [Thermometer(before, bits, placement)]  # type: ignore[arg-type]
        before *= bits
        for number, tables in enumerate(sizes):
            how = wiring[min(number, len(wiring) - 1)]
            layers.append(Lookup(before, tables, inputs, how))  # type: ignore[arg-type]
            before = tables
        layers.append(GroupSum(num_classes, temperature))
    except ValueError as problem:
        raise UsageError(str(problem)) from None
    return nn.Sequential(*layers)


register_model(
    ModelEntry(
        "dwn",
        "DWN: 3 bits a pixel, two layers of tables of 6 inputs, a count for each class",
        "Bacellar, Susskind, Breternitz, John, John, Lima, França: Differentiable Weightless Neural Networks, "
        "ICML 2024",
        lookup_network,
        (28, 28),
        10,
        "dwn",
    )
)
