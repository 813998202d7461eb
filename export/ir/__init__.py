"""The integer form of a trained network: the operators of docs/runtime.md, and a numpy interpreter as golden model."""
