"""Published methods, one short file each; importing this module registers them."""

from bnnapps.methods import bibert, binarybert, bireal, bit, bnn, irnet, naive, reactnet, xnor
from bnnapps.methods.method import Method, Slot, get_method, methods, register_method

__all__ = [
    "Method",
    "Slot",
    "bibert",
    "binarybert",
    "bireal",
    "bit",
    "bnn",
    "get_method",
    "irnet",
    "methods",
    "naive",
    "reactnet",
    "register_method",
    "xnor",
]
