"""What a network costs: operations, sizes, the summary table."""

from bnnapps.profile.summary import LayerRow, Summary, summarize

__all__ = ["LayerRow", "Summary", "summarize"]
