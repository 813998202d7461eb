"""The ONNX side of an export: passes over the graph, and the audit of the result."""
