"""The torch side of an export: example inputs, the deployed form of a model, and its trace."""
