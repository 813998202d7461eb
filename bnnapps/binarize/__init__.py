"""Rules, plans, and the change from a float model to a binary one and back."""

from bnnapps.binarize.apply import (
    apply_constraints,
    apply_plan,
    binarize,
    binary_state_dict,
    is_binarized,
    plan_of,
    restore,
)
from bnnapps.binarize.plan import Entry, Plan, plan
from bnnapps.binarize.proof import assert_ran
from bnnapps.binarize.registry import LayerType, layer_types, register_layer_type
from bnnapps.binarize.rules import Rule, RuleSet

__all__ = [
    "Entry",
    "LayerType",
    "Plan",
    "Rule",
    "RuleSet",
    "apply_constraints",
    "apply_plan",
    "assert_ran",
    "binarize",
    "binary_state_dict",
    "is_binarized",
    "layer_types",
    "plan",
    "plan_of",
    "register_layer_type",
    "restore",
]
