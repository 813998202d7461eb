"""Simulations of a design against the golden model: Icarus Verilog, CXXRTL and Verilator run the same vectors."""
