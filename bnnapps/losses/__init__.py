"""Losses beyond the task's own: distillation and regularizers."""
