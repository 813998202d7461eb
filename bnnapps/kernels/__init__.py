"""The shared library of 1-bit kernels (its sources are in `export/runtime/native`), and PyTorch operators on it."""
