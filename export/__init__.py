"""From a trained model to ONNX; installed as `bnnapps.export`.

Example:
    >>> import torch, bnnapps, bnnapps.export
    >>> [name for name, _ in bnnapps.export.list_steps("portable")]
    ['freeze', 'trace', 'barriers', 'clean', 'describe', 'audit']

"""

from bnnapps.export.api import OPSET, ExportResult, export, list_steps, load, parity_path, require_packages
from bnnapps.export.dialects import DIALECTS
from bnnapps.export.graph.exportable import check_exportable

__all__ = [
    "DIALECTS",
    "OPSET",
    "ExportResult",
    "check_exportable",
    "export",
    "list_steps",
    "load",
    "parity_path",
    "require_packages",
]
