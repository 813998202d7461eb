"""From a trained model to ONNX; installed as `bnnapps.export`."""
