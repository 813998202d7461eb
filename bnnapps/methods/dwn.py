"""Differentiable weightless networks: lookup tables that are trained with finite differences."""

from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import tables
from bnnapps.nn.spec import LookupSpec

DWN = register_method(
    Method(
        name="dwn",
        title="tables of n inputs whose entries are bits; extended finite differences; learnable mapping",
        reference="Bacellar, Susskind, Breternitz, John, John, Lima, França: Differentiable Weightless Neural "
        "Networks, ICML 2024",
        layers={"lookup": LookupSpec()},
        rules=tables("dwn"),
        keep_first=0,
        keep_last=0,
        training="cross-entropy of group sums, Adam 1e-2 with steps of 0.1, batch 32; spectral regularisation as "
        "`spectral` (networks of `bnnapps list models`: dwn)",
        tasks=("classification",),
    )
)
