"""QONNX: the exchange format of FPGA tools (Pappalardo et al., 2022)."""
