"""An export as a list of named steps, each checked against the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir
import torch
from onnx import ModelProto
from torch import Tensor, nn

from bnnapps.errors import ExportError
from bnnapps.export.compare import largest_difference, rounding_excess
from bnnapps.export.graph.freeze import Frozen
from bnnapps.export.graph.inputs import Inputs, Tensors, failing, of_one_length, samples_of, shapes_of
from bnnapps.export.graph.replay import replay
from bnnapps.export.graph.trace import outputs_of
from bnnapps.export.passes.packed.bits import PackedSite, compare_codes, lead_of
from bnnapps.export.passes.packed.carry import executable, values_of
from bnnapps.export.passes.sites import LEADING, Site, marked_sites
from bnnapps.export.session import probe, run, serialized, session_of

if TYPE_CHECKING:
    from bnnapps.export.parity import Parity


@dataclass(frozen=True)
class Work:
    """What passes from step to step.

    Attributes:
        model: what the user handed in, in eval mode.
        inputs: the example inputs.
        samples: what each step is run on; the first is the example.
        opset: the version of ONNX's operator set.
        dialect: the name of the dialect.
        frozen: the deployed form of the model, from the step that makes it on.
        graph: the ONNX graph, from the step that makes it on.
        sites: its quantizers and products, once its marks are gone.
        packed: the quantizers whose codes are bits in the graph, by site, once it is packed.
        sequence: whether the sequence axis is dynamic.
        notes: what a user should know.

    """

    model: nn.Module
    inputs: Inputs
    samples: tuple[Tensors, ...]
    opset: int
    dialect: str
    frozen: Frozen | None = None
    graph: ir.Model | None = None
    sites: tuple[Site, ...] = ()
    packed: Mapping[str, PackedSite] = field(default_factory=dict)
    sequence: bool = False
    notes: tuple[str, ...] = ()

    @property
    def deployed(self) -> Frozen:
        """The deployed form; a step that needs it comes after the one that makes it."""
        assert self.frozen is not None
        return self.frozen

    @property
    def onnx(self) -> ir.Model:
        """The graph; a step that needs it comes after the one that makes it."""
        assert self.graph is not None
        return self.graph


@dataclass(frozen=True)
class Step:
    """One step of an export.

    Attributes:
        name: how `list_steps` and errors call it.
        does: one line.
        run: from work to work; it may change the graph in place.
        agrees: how well the outputs before and after must agree. "rounding": a runtime rounds differently from torch,
            so the layers are compared one by one.

    """

    name: str
    does: str
    run: Callable[[Work], Work]
    agrees: Literal["exactly", "up to rounding"] = "exactly"


@dataclass(frozen=True)
class StepResult:
    """What the check of a step found.

    Attributes:
        name, agrees: as in the step.
        max_abs_diff: the largest difference of the model's outputs to those before the step.

    """

    name: str
    agrees: str
    max_abs_diff: float


@dataclass(frozen=True)
class Dialect:
    """A form that an exported file can have.

    Attributes:
        name: how a user calls it.
        describes: one line.
        steps: what leads to it.
        prove: compares the finished file with the model.
        exchange: the file is read by other tools, which know its operators but neither functions nor dynamic axes: it
            takes one row at a time, and carries no bodies.

    """

    name: str
    describes: str
    steps: tuple[Step, ...]
    prove: Callable[[ModelProto, Work], Parity]
    exchange: bool = False


def begin(model: nn.Module, inputs: Inputs, opset: int, dialect: str, seed: int) -> Work:
    """What the first step starts from: the model runs on every sample that is left.

    A model that takes sequences of one length alone is exported with that length.

    Raises:
        ExportError: the model cannot run on the example inputs, or on another batch size.

    """
    work = Work(model, inputs, samples_of(inputs, seed), opset, dialect)
    trouble = failing(model, inputs, work.samples)
    if trouble is not None and inputs.sequence:
        tried, reason = shapes_of(trouble[0]), trouble[1]
        note = f"the sequence length is fixed at {inputs.sequence}: for {tried} the model raises {reason}"
        samples = of_one_length(inputs, work.samples)
        work = replace(work, inputs=replace(inputs, sequence=None), samples=samples, notes=(note,))
        trouble = failing(model, inputs, samples)
    if trouble is not None:
        advice = "; pass dynamic_batch=False if its batch size is fixed" if trouble[0] is not work.samples[0] else ""
        raise ExportError(f"the model cannot run on {shapes_of(trouble[0])}: {trouble[1]}{advice}")
    return work


def carry_out(steps: Sequence[Step], work: Work) -> tuple[Work, tuple[StepResult, ...]]:
    """Run the steps in order; each is checked against the outputs of the one before.

    Raises:
        ExportError: a step fails, or changes what the model computes; the step is named.

    """
    results: list[StepResult] = []
    before = [_torch_outputs(work, tensors) for tensors in work.samples]
    for step in steps:
        work = step.run(work)
        after = _outputs(work)
        worst = 0.0
        for old, new in zip(before, after, strict=False):
            for (name, a), b in zip(old.items(), new.values(), strict=True):
                difference = largest_difference(b, a)
                worst = max(worst, difference)
                if step.agrees == "exactly" and not _same(a, b):
                    raise ExportError(
                        f"the step '{step.name}' changes the output '{name}' by up to {difference:.3g}; it must change "
                        "nothing"
                    )
        if step.agrees != "exactly":
            _check_up_to_rounding(step, work)
        results.append(StepResult(step.name, step.agrees, worst))
        before = after
    return work, tuple(results)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())


def _outputs(work: Work) -> list[dict[str, Tensor]]:
    """On every sample in torch; a graph runs on the first one."""
    if work.graph is None:
        return [_torch_outputs(work, tensors) for tensors in work.samples]
    session = session_of(serialized(executable(work.graph)), "DISABLE_ALL")
    return [run(session, work.samples[0])]


def check_sizes(work: Work) -> None:
    """Run the graph on samples of every size.

    Raises:
        ExportError: it cannot be run on one of them, or its outputs have another shape than torch's.

    """
    session = session_of(serialized(executable(work.onnx)), "DISABLE_ALL")
    for tensors in work.samples:
        expected = [value.shape for value in _torch_outputs(work, tensors).values()]
        found = [value.shape for value in run(session, tensors).values()]
        if expected != found:
            shapes = [tuple(shape) for shape in found], [tuple(shape) for shape in expected]
            raise ExportError(
                f"for {shapes_of(tensors)} the graph gives outputs of shape {shapes[0]}, torch {shapes[1]}"
            )


@torch.no_grad()
def _torch_outputs(work: Work, tensors: Tensors) -> dict[str, Tensor]:
    model = work.model if work.frozen is None else work.frozen.model
    return outputs_of(work.inputs.call(model, tensors))


def _check_up_to_rounding(step: Step, work: Work) -> None:
    """Led by the graph's own codes, torch must see the same input at every quantizer, and the same outputs."""
    if work.packed:
        check_led_bits(work, executable(work.onnx), f"after the step '{step.name}'")
        return
    sites = work.sites if work.sites else marked_sites(work.onnx)
    quantizers = [site for site in sites if site.role == "quantizer"]
    leading = [site for site in sites if site.role in LEADING]
    wanted = {site.source for site in quantizers} | {site.result for site in leading}
    session = session_of(serialized(probe(executable(work.onnx), wanted)), "DISABLE_ALL")
    tensors = work.samples[0]
    values = run(session, tensors) | tensors
    led = replay(work.deployed, work.inputs, tensors, {s.name: values[s.result] for s in leading})
    where = f"after the step '{step.name}'"
    compare_led(where, led.inputs, {site.name: values[site.source] for site in quantizers})
    names = [str(value.name) for value in work.onnx.graph.outputs]
    compare_led(where, dict(zip(names, led.outputs.values(), strict=True)), values)


def check_led_bits(work: Work, model: ModelProto, where: str) -> None:
    """The same for a graph whose codes are bits: torch's own codes may differ where its input is at the threshold."""
    tensors = work.samples[0]
    free = replay(work.deployed, work.inputs, tensors)
    names = values_of(model)
    wanted = {site.bits for site in work.packed.values()} | {s.result for s in work.sites if s.result in names}
    session = session_of(serialized(probe(model, wanted & names)), "DISABLE_ALL")
    values = run(session, tensors) | tensors
    led = replay(work.deployed, work.inputs, tensors, lead_of(work.packed, work.sites, values, free))
    compare_codes(where, work.packed, values, led)
    names_out = [str(value.name) for value in work.onnx.graph.outputs]
    compare_led(where, dict(zip(names_out, led.outputs.values(), strict=True)), values)


def compare_led(where: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """The largest difference of tensors that must agree up to rounding.

    Raises:
        ExportError: two of them do not; the first one is named.

    """
    worst = 0.0
    for name, value in expected.items():
        if name not in found:
            raise ExportError(f"{where}: '{name}' is missing")
        excess = rounding_excess(found[name], value)
        difference = largest_difference(found[name], value)
        worst = max(worst, difference)
        if excess > 1:
            raise ExportError(
                f"{where}: what reaches '{name}' differs from torch by {difference:.3g}, {excess:.3g} times what "
                "rounding explains"
            )
    return worst
