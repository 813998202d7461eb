"""Text classification with transformer encoders, on GLUE."""
