"""Fully parallel, pipelined designs: one inference a cycle, weights and tables as logic."""
