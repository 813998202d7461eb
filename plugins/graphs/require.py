"""PyTorch Geometric, where it is needed."""

from __future__ import annotations

import importlib.util

from bnnapps.errors import MissingExtraError


def require_pyg(purpose: str) -> None:
    """Raise `MissingExtraError` unless PyTorch Geometric is installed."""
    if importlib.util.find_spec("torch_geometric") is None:
        raise MissingExtraError("torch-geometric", "graphs", purpose)
