"""Optimizer groups: which parameters train how."""
