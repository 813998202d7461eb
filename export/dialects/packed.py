"""Weights and activations as bits, thresholds in place of BatchNorm and sign; see docs/runtime.md."""

from __future__ import annotations

import sys
from dataclasses import replace

from onnx import ModelProto
from onnx_ir.passes import common

from bnnapps.export.dialects import portable
from bnnapps.export.flow import Dialect, Step, Work
from bnnapps.export.packed_parity import check_packed_parity
from bnnapps.export.parity import Parity
from bnnapps.export.passes.metadata import describe
from bnnapps.export.passes.packed.attention import fuse_products
from bnnapps.export.passes.packed.audit import audit_packed
from bnnapps.export.passes.packed.embeddings import pack_tables
from bnnapps.export.passes.packed.epilogues import fuse_epilogues, fuse_next_bits
from bnnapps.export.passes.packed.layout import channels_last
from bnnapps.export.passes.packed.lift import lift
from bnnapps.export.passes.packed.moves import pack_early
from bnnapps.export.passes.packed.pools import pool_bits
from bnnapps.export.passes.packed.thresholds import merge_thresholds


def _lift(work: Work) -> Work:
    lifted = lift(work.onnx, work.sites, work.deployed)
    pack_tables(work.onnx)
    notes = tuple(f"layer '{site}' is not packed: {reason}" for site, reason in lifted.kept.items())
    return replace(work, packed=lifted.packed, notes=(*work.notes, *notes))


def _moves(work: Work) -> Work:
    pack_early(work.onnx)
    return work


def _pools(work: Work) -> Work:
    pool_bits(work.onnx)
    return work


def _thresholds(work: Work) -> Work:
    notes = merge_thresholds(work.onnx)
    pool_bits(work.onnx)  # a pool that a rising BatchNorm stood behind
    notes += merge_thresholds(work.onnx)
    return replace(work, notes=(*work.notes, *dict.fromkeys(notes)))


def _epilogues(work: Work) -> Work:
    fuse_epilogues(work.onnx)
    fuse_next_bits(work.onnx)
    fuse_products(work.onnx)
    return work


def _layout(work: Work) -> Work:
    channels_last(work.onnx)
    common.DeduplicateInitializersPass(size_limit=sys.maxsize)(work.onnx)  # weights that two products of a layer share
    return work


def _describe(work: Work) -> Work:
    describe(work.onnx, work.dialect, portable.layer_facts(work.deployed))
    return work


def _audit(work: Work) -> Work:
    audit_packed(work.onnx, portable.expected_constants(work.deployed))
    return work


def _prove(model: ModelProto, work: Work) -> Parity:
    return check_packed_parity(model, work.deployed, work.inputs, work.samples, work.sites, work.packed)


DIALECT = Dialect(
    name="packed",
    describes="bits in and between the layers; exact without our kernels, fast with them",
    prove=_prove,
    steps=(
        *(step for step in portable.DIALECT.steps if step.name in ("freeze", "trace", "barriers", "clean")),
        Step("bits", "products of codes become operators on bits, quantizers pack", _lift),
        Step("moves", "bits are made in front of transpositions and splits", _moves),
        Step("pools", "a maximum in front of a quantizer becomes one of bits", _pools),
        Step(
            "thresholds",
            "scale, bias, BatchNorm and sign become one integer comparison, found by trying every sum",
            _thresholds,
            agrees="up to rounding",
        ),
        Step(
            "epilogues", "what is left behind the sums becomes part of the layer", _epilogues, agrees="up to rounding"
        ),
        Step("layout", "float maps between our layers have their channels last, equal constants are one", _layout),
        Step("describe", "dialect, version, sign_zero and the binary layers go into the file's metadata", _describe),
        Step("audit", "the structure is checked: operators, bits of the weights, no latent weight", _audit),
    ),
)
