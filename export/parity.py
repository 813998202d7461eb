"""Whether an exported file computes what the model computes, at every graph-optimisation level of ONNX Runtime.

Two float programs round differently, so a value that is 0 but for rounding may take either sign in another runtime,
and everything behind it differs for a good reason. Comparing outputs alone would either forgive real defects or refuse
good files. So the file is compared layer by layer:

1. *Locked.* ONNX Runtime hands out the real input, the codes and the integer sums of every binary layer. The binarizer
   of the original model, given ONNX Runtime's own input, must yield the same codes, and the deployed layer the same
   sums: equal, at every level.
2. *Led.* The deployed model runs in torch once more, with ONNX Runtime's codes in place of its own. No difference can
   then pass a quantizer, so what reaches each quantizer, and each output, must agree up to rounding (`compare`).
3. *Free.* Both run by themselves. Their outputs, and the signs that differ, are counted. Given 1 and 2 each flip
   started from a value within rounding of its threshold.

What is handed out keeps a runtime from some fusions, so the file as it is runs too: its outputs must agree, up to
rounding, with those of the run that was examined or with torch's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor

from bnnapps.errors import ExportError
from bnnapps.export.compare import FLOOR, ROUNDING, argmax_agreement, largest_difference, rounding_excess
from bnnapps.export.flow import compare_led
from bnnapps.export.graph.freeze import Frozen, activation_binarizers
from bnnapps.export.graph.inputs import Inputs, Tensors
from bnnapps.export.graph.product import Pairwise, Product
from bnnapps.export.graph.replay import Replay, replay
from bnnapps.export.passes.sites import Site
from bnnapps.export.session import LEVELS, probe, run, serialized, session_of


@dataclass(frozen=True)
class LevelRecord:
    """What was found at one graph-optimisation level, over all inputs.

    Attributes:
        level: its name.
        verdict: "exact": every code as in torch, and the outputs agree up to rounding; "rounding": some codes differ,
            all for values within rounding of their threshold.
        max_abs_diff: of the outputs, file against torch, both running free.
        led_max_abs_diff: the same with torch led by the file's codes: rounding alone.
        argmax_agreement: share of rows with the same largest output; `None` where outputs have one column.
        codes, sign_flips: codes compared in the free runs, and how many differ.
        sums: integer sums that were compared, and found equal, in the locked check.

    """

    level: str
    verdict: str
    max_abs_diff: float
    led_max_abs_diff: float
    argmax_agreement: float | None
    codes: int
    sign_flips: int
    sums: int


@dataclass(frozen=True)
class Parity:
    """The comparison of an exported file with its model.

    Attributes:
        verdict: that of the worst level.
        levels: one record each.
        inputs: the shapes that were run, by input name.
        layers: how many quantizers and exact products were compared one by one.
        rounding, floor: what counted as rounding: floor + rounding * size (see `compare`).
        versions: of the packages that took part.

    """

    verdict: str
    levels: tuple[LevelRecord, ...]
    inputs: tuple[dict[str, tuple[int, ...]], ...]
    layers: dict[str, int]
    rounding: float
    floor: float
    versions: dict[str, str]

    @property
    def sign_flips(self) -> int:
        """Codes that differ, at the level with the most."""
        return max((level.sign_flips for level in self.levels), default=0)

    @property
    def max_abs_diff(self) -> float:
        """The largest difference of outputs at any level, both sides running free."""
        return max((level.max_abs_diff for level in self.levels), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def check_parity(
    model: ModelProto, frozen: Frozen, inputs: Inputs, samples: Sequence[Tensors], sites: Sequence[Site]
) -> Parity:
    """Compare a file with its model, at every level and on every sample.

    Args:
        model: the file.
        frozen: the model and its deployed form.
        inputs: how it is called.
        samples: with what.
        sites: the quantizers and products of the file.

    Raises:
        ExportError: a difference that rounding does not explain; the layer and the level are named.

    """
    checker = Checker(model, frozen, inputs, tuple(sites))
    free = [replace(replay(frozen, inputs, tensors), inputs={}) for tensors in samples]
    levels = tuple(checker.level(level, samples, free) for level in LEVELS)
    roles = [site.role for site in sites]
    layers = {"quantizers": roles.count("quantizer"), "exact_products": roles.count("product")}
    return parity_of(levels, samples, layers)


def parity_of(levels: tuple[LevelRecord, ...], samples: Sequence[Tensors], layers: dict[str, int]) -> Parity:
    """The whole comparison, from its levels."""
    return Parity(
        verdict="exact" if all(level.verdict == "exact" for level in levels) else "rounding",
        levels=levels,
        inputs=tuple({name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in samples),
        layers=layers,
        rounding=ROUNDING,
        floor=FLOOR,
        versions=_versions(),
    )


class Checker:
    """One file against one model."""

    def __init__(self, model: ModelProto, frozen: Frozen, inputs: Inputs, sites: tuple[Site, ...]) -> None:
        self.frozen, self.inputs = frozen, inputs
        self.outputs = [value.name for value in model.graph.output]
        self.quantizers = [site for site in sites if site.role == "quantizer"]
        self.sums = [site for site in sites if site.role == "product"]
        self.choices = [site for site in sites if site.role == "choice"]
        self.fronts = [site for site in sites if site.role == "front"]
        self.binarizers = activation_binarizers(frozen.reference)
        self.products = frozen.products()
        self.seen: dict[bytes, LevelRecord] = {}
        self.plain, self.probed = serialized(model), serialized(probe(model, self._wanted(model)))

    def _wanted(self, model: ModelProto) -> set[str]:
        """The values that the runtime hands out for the examination."""
        quantizers = {n for site in self.quantizers for n in (site.source, site.result)}
        return quantizers | {s.result for s in self.sums} | self._wanted_of_others()

    def _wanted_of_others(self) -> set[str]:
        choices = {name for site in self.choices for name in (site.source, site.scores, site.result)}
        return choices | {site.result for site in self.fronts}

    def _session(self, model: bytes, level: str) -> Any:
        return session_of(model, level)

    def level(self, level: str, samples: Sequence[Tensors], free: Sequence[Replay]) -> LevelRecord:
        """What is found at one level, over all samples."""
        plain, probed = self._session(self.plain, level), self._session(self.probed, level)
        found = [self._sample(level, plain, probed, *pair) for pair in zip(samples, free, strict=True)]
        agreements = [one.argmax_agreement for one in found if one.argmax_agreement is not None]
        return LevelRecord(
            level=level,
            verdict="exact" if all(one.verdict == "exact" for one in found) else "rounding",
            max_abs_diff=max(one.max_abs_diff for one in found),
            led_max_abs_diff=max(one.led_max_abs_diff for one in found),
            argmax_agreement=sum(agreements) / len(agreements) if agreements else None,
            codes=sum(one.codes for one in found),
            sign_flips=sum(one.sign_flips for one in found),
            sums=sum(one.sums for one in found),
        )

    def _sample(self, level: str, plain: Any, probed: Any, tensors: Tensors, free: Replay) -> LevelRecord:
        values = run(probed, tensors, level) | tensors
        result = run(plain, tensors, level)
        digest = _digest(values, result)
        if digest not in self.seen:  # most levels compute the same, bit for bit
            self.seen[digest] = self._examined(level, tensors, values, result, free)
        return replace(self.seen[digest], level=level)

    def _examined(
        self, level: str, tensors: Tensors, values: dict[str, Tensor], result: dict[str, Tensor], free: Replay
    ) -> LevelRecord:
        sums = self._locked(level, values)
        led_difference = self._led(level, tensors, values)
        flips, codes = self._flips(values, free)
        outputs = dict(zip(self.outputs, free.outputs.values(), strict=True))
        worst = max(largest_difference(result[name], value) for name, value in outputs.items())
        close = all(rounding_excess(result[name], value) <= 1 for name, value in outputs.items())
        if not close and any(rounding_excess(result[name], values[name]) > 1 for name in self.outputs):
            raise ExportError(
                f"at {level} the outputs differ from torch by {worst:.3g}, and from those of the run in which every "
                "layer was examined: ONNX Runtime changes the graph where nothing is handed out"
            )
        first = self.outputs[0]
        return LevelRecord(
            level=level,
            verdict="exact" if close and not flips else "rounding",
            max_abs_diff=worst,
            led_max_abs_diff=led_difference,
            argmax_agreement=argmax_agreement(result[first], outputs[first]),
            codes=codes,
            sign_flips=flips,
            sums=sums,
        )

    @torch.no_grad()
    def _locked(self, level: str, values: dict[str, Tensor]) -> int:
        """Every layer by itself, from the runtime's own operands: codes and integer sums must be equal."""
        codes: dict[str, Tensor] = {}
        for site in self.quantizers:
            codes[site.name] = values[site.result]
            expected = self.binarizers[_base(site)](values[site.source]).codes
            _require_equal(level, site, values[site.result], expected, "codes")
        compared = 0
        for site in self.sums:
            product = self.products[_base(site)]
            expected = product(*(codes[name] for name in operand_sites(product, site)))
            _require_equal(level, site, values[site.result], expected, "integer sums")
            compared += expected.numel()
        self._same_others(level, values)
        return compared

    def _same_others(self, level: str, values: dict[str, Tensor]) -> None:
        """Torch must choose the same boxes from the runtime's own boxes and scores, and fronts must agree."""
        choices = self.frozen.choices()
        for site in self.choices:
            expected = choices[_base(site)](values[site.source], values[site.scores])
            _require_equal(level, site, values[site.result], expected, "chosen boxes")
        fronts = self.frozen.fronts()
        for site in self.fronts:
            front = fronts[_base(site)].front
            excess = front.excess(values[site.result], front(values[site.source]))
            if not excess <= 1:
                raise ExportError(
                    f"'{site.name}': at {level} it differs from torch by {excess:.3g} times what rounding explains"
                )

    def _led(self, level: str, tensors: Tensors, values: dict[str, Tensor]) -> float:
        """With the runtime's codes, torch must see the same in front of every quantizer, and give the same outputs."""
        lead = {site.name: values[site.result] for site in (*self.quantizers, *self.choices, *self.fronts)}
        led = replay(self.frozen, self.inputs, tensors, lead)
        compare_led(f"at {level}", led.inputs, {site.name: values[site.source] for site in self.quantizers})
        outputs = dict(zip(self.outputs, led.outputs.values(), strict=True))
        return compare_led(f"at {level}", outputs, values)

    def _flips(self, values: dict[str, Tensor], free: Replay) -> tuple[int, int]:
        flips = total = 0
        for site in self.quantizers:
            ours, theirs = values[site.result], free.codes[site.name]
            total += theirs.numel()
            if torch.equal(ours, theirs):
                continue
            step = 1e-3 * float(theirs.abs().max())  # between two levels of 8 bits lie 8e-3
            flips += int(((ours - theirs).abs() > step).sum())
        return flips, total


def operand_sites(product: Product, site: Site) -> tuple[str, ...]:
    """The quantizers that a product reads, for the same call of its layer."""
    _, _, call = site.name.partition("#")
    suffix = f"#{call}" if call else ""
    if not isinstance(product, Pairwise):
        return (product.site.removesuffix("/sums") + suffix,)
    layer, _, operation = product.site.rpartition("/")
    names = ("query", "key") if operation == "scores" else ("weights", "value")
    return tuple(f"{layer}/{name}{suffix}" for name in names)


def _digest(*groups: dict[str, Tensor]) -> bytes:
    """A fingerprint of every value, bit for bit."""
    state = hashlib.blake2b(digest_size=16)
    for group in groups:
        for name, tensor in group.items():
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            state.update(np.ascontiguousarray(tensor.numpy()).data)
    return state.digest()


def _base(site: Site) -> str:
    return site.name.partition("#")[0]


def _require_equal(level: str, site: Site, found: Tensor, expected: Tensor, what: str) -> None:
    expected = expected.to(torch.int32) if found.dtype == torch.int32 else expected
    if found.shape == expected.shape and torch.equal(found, expected):
        return
    if found.shape != expected.shape:
        problem = f"have the shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    else:
        problem = f"are wrong in {int((found != expected).sum())} of {found.numel()} places"
    raise ExportError(
        f"layer '{site.name}': at {level} its {what} {problem}, for the very input that ONNX Runtime gave it"
    )


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime
    import onnxscript

    import bnnapps

    return {
        "bnnapps": bnnapps.__version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": onnxscript.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
