"""Architectures of the field, built from the blocks."""
