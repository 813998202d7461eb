"""The command line: `bnnapps run`, `list`, `plan`, `summary`, `schema`, `export`."""

from bnnapps.cli.app import main

__all__ = ["main"]
