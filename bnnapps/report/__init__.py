"""The HTML page of a run."""

from bnnapps.report.page import write_report

__all__ = ["write_report"]
