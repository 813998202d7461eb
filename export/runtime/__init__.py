"""Running packed models: operators as functions and as kernels."""
