"""QONNX with `BipolarQuant`, for qonnx, FINN, hls4ml and what reads them; one input at a time."""

from __future__ import annotations

from dataclasses import replace

from onnx import ModelProto

from bnnapps.export.dialects import portable
from bnnapps.export.flow import Dialect, Step, Work
from bnnapps.export.graph.replay import replay
from bnnapps.export.parity import Checker, Parity, parity_of
from bnnapps.export.passes.bipolar import audit_bipolar, bipolar


def _bipolar(work: Work) -> Work:
    one_bit = portable.expected_constants(work.deployed).one_bit
    return replace(work, sites=bipolar(work.onnx, work.sites, one_bit))


def _audit(work: Work) -> Work:
    audit_bipolar(work.onnx, work.sites, portable.expected_constants(work.deployed))
    return work


def _prove(model: ModelProto, work: Work) -> Parity:
    """Node by node, as QONNX's executor computes: where nodes are fused, nothing keeps a scale out of a product."""
    checker = Checker(model, work.deployed, work.inputs, work.sites)
    free = [replace(replay(work.deployed, work.inputs, tensors), inputs={}) for tensors in work.samples]
    roles = [site.role for site in work.sites]
    layers = {"quantizers": roles.count("quantizer"), "exact_products": roles.count("product")}
    return parity_of((checker.level("DISABLE_ALL", work.samples, free),), work.samples, layers)


DIALECT = Dialect(
    name="qonnx",
    describes="QONNX's BipolarQuant for FPGA tools; one input at a time",
    prove=_prove,
    exchange=True,
    steps=(
        *(step for step in portable.DIALECT.steps if step.name in ("freeze", "trace", "barriers", "clean")),
        Step("bipolar", "one-bit quantizers and weights become BipolarQuant, barriers go", _bipolar),
        *(step for step in portable.DIALECT.steps if step.name == "describe"),
        Step("audit", "the structure is checked: codes and weights come from BipolarQuant, no latent weight", _audit),
    ),
)
