"""What a network costs: operations, sizes, the summary table."""
