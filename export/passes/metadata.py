"""What a file says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping

import onnx_ir as ir

import bnnapps

DIALECT = "bnnapps.dialect"
VERSION = "bnnapps.version"
LAYERS = "bnnapps.layers"
SIGN_ZERO = "sign_zero"


def describe(model: ir.Model, dialect: str, layers: Mapping[str, Mapping[str, object]]) -> None:
    """Write the dialect, this version, the meaning of sign(0), and the binary layers (as JSON) into the file."""
    model.metadata_props.update(
        {
            DIALECT: dialect,
            VERSION: bnnapps.__version__,
            SIGN_ZERO: "+1",
            LAYERS: json.dumps({name: dict(facts) for name, facts in layers.items()}),
        }
    )
    model.producer_name = "bnnapps"
    model.producer_version = bnnapps.__version__
