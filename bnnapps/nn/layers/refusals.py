"""What a kind of layer has no place for, said before it is made."""

from __future__ import annotations

from bnnapps.errors import BinarizeError
from bnnapps.nn.spec import LinearSpec


def operands_only(spec: LinearSpec, kind: str) -> None:
    """Refuse what goes beyond the binarizers of weight and activation.

    Args:
        spec: the record.
        kind: of layer, as a message calls it ("a bilinear layer", "'decoder', a bilinear layer,").

    Raises:
        BinarizeError: the record has an output scale, two sets of codes, rounds the gradient, or changes that of the
            input.

    """
    if spec.output is not None:
        raise BinarizeError(
            f"{kind} has no output scale, but output.scale is '{spec.output.scale}': set output to null for it, or "
            "keep it"
        )
    single_codes(spec, kind)
    if spec.input_gradient != "scaled":
        raise BinarizeError(
            f"{kind} has no gradient of its own for its input, but input_gradient is '{spec.input_gradient}': set it "
            "to 'scaled' for it, or keep it"
        )
    if spec.gradient_bits < 32:
        raise BinarizeError(
            f"{kind} has no rounded gradient, but gradient_bits is {spec.gradient_bits}: set gradient_bits to 32 for "
            "it, or keep it"
        )


def single_codes(spec: LinearSpec, kind: str) -> None:
    """Refuse an activation of two sets of codes (`dual`); the arguments are those of `operands_only`."""
    if spec.activation is not None and spec.activation.scale == "dual":
        raise BinarizeError(
            f"{kind} multiplies with one set of codes, but activation.scale is 'dual': set it to 'none' for it, or "
            "keep it"
        )
