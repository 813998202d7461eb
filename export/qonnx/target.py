"""QONNX for one importer: through the packed form to hardware layers, and from them to the importer's file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from onnx import ModelProto

from bnnapps.errors import ExportError, UsageError, nearest
from bnnapps.export.dialects import get_dialect
from bnnapps.export.flow import StepResult, Work, begin, carry_out
from bnnapps.export.fpga import golden
from bnnapps.export.fpga.graph import Chain, apply
from bnnapps.export.fpga.layers import Array, Network
from bnnapps.export.fpga.read import input_codes, read_network
from bnnapps.export.fpga.thresholds import reachable
from bnnapps.export.graph.inputs import Inputs
from bnnapps.export.graph.trace import outputs_of
from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.parity import LevelRecord, Parity
from bnnapps.export.passes.packed.carry import carry_functions, executable
from bnnapps.export.qonnx.write import INPUT, OUTPUT, TARGETS, write
from bnnapps.export.session import probe, serialized, session_of


@dataclass(frozen=True)
class Targeted:
    """A file for one importer, and what it was held against.

    Attributes:
        model: the file.
        parity: that of the packed form, and of this file against the golden model.
        steps: of the packed form.
        notes: what a user should know.
        golden: by name: inputs of the network, codes that the file takes, sums of the last layer, classes.

    """

    model: ModelProto
    parity: Parity
    steps: tuple[StepResult, ...]
    notes: tuple[str, ...]
    golden: dict[str, Array]


def check_target(target: str, dialect: str) -> None:
    """Refuse an unknown importer, and one for another dialect.

    Raises:
        UsageError: as said.

    """
    if target not in TARGETS:
        raise UsageError(
            f"unknown target '{target}' (nearest: {nearest(target, TARGETS, 1)}); there are {', '.join(TARGETS)}"
        )
    if dialect != "qonnx":
        raise UsageError(f"target '{target}' is one of the dialect 'qonnx', not of '{dialect}'")


def for_target(work: Work, target: str, name: str) -> Targeted:
    """Bring a model through the packed form into a file for one importer.

    Raises:
        ExportError: a layer that FPGA flows cannot take; it is named, and what to change.

    """
    packed = get_dialect("packed")
    work, steps = carry_out(packed.steps, work)
    parity = packed.prove(executable(work.onnx), work)
    network, chain, front = read_network(executable(work.onnx), name)
    model = write(network, _head(chain, network), "finn" if target == "finn" else "hls4ml")
    found = _golden(work, network, chain, front)
    record = _compared(model, found)
    parity = replace(parity, levels=(*parity.levels, record))
    return Targeted(model, parity, steps, work.notes, found)


def _head(chain: Chain, network: Network) -> tuple[Array, Array]:
    """Factor and summand by which the network makes scores of the sums: found from the scores of all sums."""
    last = max(i for i, node in enumerate(chain.nodes) if node.domain == DOMAIN)
    node = chain.nodes[last]
    own = [] if node.op_type.endswith("Integer") else [node]
    terms = network.head.terms
    z = reachable(terms, 1, 2)
    columns = np.repeat(z[:, None], network.head.classes, axis=1).astype(np.float32)
    values = apply(chain, [*own, *chain.nodes[last + 1 :]], columns).astype(np.float64)
    factor, summand = (values[-1] - values[0]) / (2 * terms), (values[-1] + values[0]) / 2
    excess = np.abs(values - (z[:, None] * factor + summand)).max()
    if excess > 1e-5 * np.abs(values).max():
        raise ExportError(
            f"layer '{network.layers[-1].name}': what follows it is not one factor and one summand a class, which is "
            "all that importers take"
        )
    if (factor == factor[0]).all() and (summand == summand[0]).all():
        factor, summand = factor[:1], summand[:1]
    return factor, summand


@torch.no_grad()
def _golden(work: Work, network: Network, chain: Chain, front: int) -> dict[str, Array]:
    """All samples through torch and through the golden model, which must choose the same classes."""
    inputs = np.concatenate([next(iter(sample.values())).numpy() for sample in work.samples])
    scores = [next(iter(_outputs(work, sample).values())).numpy() for sample in work.samples]
    codes = input_codes(chain, front, inputs)
    sums = golden.sums(network, codes)
    classes = golden.classes(network.head, sums)
    expected = np.concatenate(scores).argmax(axis=1)
    if not np.array_equal(classes, expected):
        raise ExportError(
            f"the integer form chooses other classes than torch for {int((classes != expected).sum())} of "
            f"{len(classes)} inputs"
        )
    return {"inputs": inputs, "codes": codes.astype(np.float32), "sums": sums, "classes": classes}


def _outputs(work: Work, sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return outputs_of(work.inputs.call(work.model, sample))


def _compared(model: ModelProto, found: dict[str, Array]) -> LevelRecord:
    """The file itself, run node by node on the codes: sums are the golden model's, to the last one."""
    carried = ModelProto()
    carried.CopyFrom(model)
    *_, mul, _ = model.graph.node
    session = session_of(serialized(probe(carry_functions(carried), {mul.input[0]})), "DISABLE_ALL")
    rows = [session.run([mul.input[0], OUTPUT], {INPUT: row[None]}) for row in found["codes"]]
    sums = np.concatenate([one[0] for one in rows])
    if not np.array_equal(sums, found["sums"]):
        raise ExportError(
            f"the sums of the written file differ from the golden model's in {int((sums != found['sums']).sum())} of "
            f"{sums.size} places"
        )
    found["scores"] = np.concatenate([one[1] for one in rows])
    return LevelRecord("the file, node by node", "exact", 0.0, 0.0, 1.0, int(found["codes"].size), 0, int(sums.size))


def start(model: torch.nn.Module, inputs: Inputs, opset: int, seed: int) -> Work:
    """What `for_target` starts from.

    Raises:
        ExportError: the model has several inputs, or cannot run on the example.

    """
    if len(inputs.tensors) != 1:
        raise ExportError(f"the model takes {len(inputs.tensors)} inputs; FPGA flows take one")
    return begin(model, inputs, opset, "packed", seed)
