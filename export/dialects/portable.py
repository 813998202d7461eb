"""Plain ONNX, exact in any runtime: Where for the signs, constant codes, a barrier behind each product."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from onnx import ModelProto

from bnnapps.errors import ExportError
from bnnapps.export.flow import Dialect, Step, Work, check_sizes
from bnnapps.export.graph.freeze import Frozen, freeze, latent_weights, row_codes, weight_codes
from bnnapps.export.graph.inputs import of_one_length
from bnnapps.export.graph.product import Dense
from bnnapps.export.graph.trace import trace
from bnnapps.export.parity import Parity, check_parity
from bnnapps.export.passes.audit import Array, Expected, Table, audit
from bnnapps.export.passes.clean import clean
from bnnapps.export.passes.metadata import describe
from bnnapps.export.passes.sites import lower_marks


def _freeze(work: Work) -> Work:
    return replace(work, frozen=freeze(work.model))


def _trace(work: Work) -> Work:
    for sequence in (True, False) if work.inputs.sequence else (False,):
        try:
            graph = trace(work.deployed.model, work.inputs, work.opset, sequence)
            traced = replace(work, graph=graph, sequence=sequence)
            check_sizes(traced)
        except ExportError as problem:
            if not sequence:
                raise
            note = f"the sequence length is fixed at {work.inputs.sequence}: {problem}"
            samples = of_one_length(work.inputs, work.samples)
            work = replace(work, samples=samples, notes=(*work.notes, note))
        else:
            break
    return traced


def _barriers(work: Work) -> Work:
    return replace(work, sites=lower_marks(work.onnx))


def _clean(work: Work) -> Work:
    clean(work.onnx, type(work.model).__name__)
    return work


def _describe(work: Work) -> Work:
    describe(work.onnx, work.dialect, layer_facts(work.deployed))
    return work


def _audit(work: Work) -> Work:
    audit(work.onnx, work.sites, expected_constants(work.deployed))
    return work


def expected_constants(frozen: Frozen) -> Expected:
    """What the audit holds a graph against, computed from the binarized model anew."""
    return Expected(
        one_bit=frozenset(site for site, quantizer in frozen.quantizers().items() if quantizer.one_bit),
        weights=stored_codes(frozen),
        tables=embedding_codes(frozen),
        latent=latent_arrays(frozen),
    )


def stored_codes(frozen: Frozen) -> dict[str, Array]:
    """By site, the codes of each weight as the binarized model has them now, laid out as the graph stores them."""
    expected: dict[str, Array] = {}
    products = frozen.products()
    for site, codes in weight_codes(frozen.reference).items():
        product = products[site]
        if product.exact:
            expected[site] = (codes.t() if isinstance(product, Dense) else codes).contiguous().numpy()
    return expected


def embedding_codes(frozen: Frozen) -> dict[str, Table]:
    """By layer, the codes of each binary embedding as the binarized model has them now."""
    return {name: codes.to(torch.int8).numpy() for name, codes in row_codes(frozen.reference).items()}


def latent_arrays(frozen: Frozen) -> dict[str, Array]:
    """The latent weights that must not be in the file."""
    return {name: np.asarray(weight) for name, weight in latent_weights(frozen.reference)}


def layer_facts(frozen: Frozen) -> dict[str, dict[str, Any]]:
    """What the file says about each binary layer: its kind, whether its sums are exact, and their number of terms.

    The terms of an attention's second product are positions, so their number is not part of the model.
    """
    facts: dict[str, dict[str, Any]] = {name: {"kind": kind} for name, kind in frozen.layers.items()}
    for site, product in frozen.products().items():
        layer, _, operation = site.partition("/")
        of_layer = facts[layer]
        of_layer["exact"] = product.exact and of_layer.get("exact", True)
        if product.terms is not None:
            of_layer.setdefault("terms", {})[operation if operation else "product"] = product.terms
    return facts


def _prove(model: ModelProto, work: Work) -> Parity:
    return check_parity(model, work.deployed, work.inputs, work.samples, work.sites)


DIALECT = Dialect(
    name="portable",
    describes="plain ONNX, exact in any runtime",
    prove=_prove,
    steps=(
        Step(
            "freeze",
            "latent weights become constant codes and scales; binary layers become primitive operators",
            _freeze,
        ),
        Step("trace", "PyTorch's exporter writes the graph, onnxscript simplifies it", _trace, agrees="up to rounding"),
        Step(
            "barriers",
            "Cast to int32 and back behind each product of codes, so that nothing is folded into it",
            _barriers,
        ),
        Step("clean", "unused constants and the exporter's notes go, names are those of the model", _clean),
        Step("describe", "dialect, version, sign_zero and the binary layers go into the file's metadata", _describe),
        Step("audit", "the structure is checked: signs, codes, barriers, no latent weight, plain operators", _audit),
    ),
)
