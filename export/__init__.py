"""From a trained model to ONNX; installed as `bnnapps.export`.

Example:
    >>> import torch, bnnapps, bnnapps.export
    >>> [name for name, _ in bnnapps.export.list_steps("portable")]
    ['freeze', 'trace', 'barriers', 'clean', 'describe', 'audit']

"""

from bnnapps.export.api import OPSET, ExportResult, export, list_steps, load, parity_path, require_packages
from bnnapps.export.dialects import DIALECTS
from bnnapps.export.emit import emit_c
from bnnapps.export.graph.exportable import check_exportable
from bnnapps.export.graph.packable import PackableRow, packable
from bnnapps.export.targets import TARGETS, get_target

__all__ = [
    "DIALECTS",
    "OPSET",
    "TARGETS",
    "ExportResult",
    "PackableRow",
    "check_exportable",
    "emit_c",
    "export",
    "get_target",
    "list_steps",
    "load",
    "packable",
    "parity_path",
    "require_packages",
]
