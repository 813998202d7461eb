"""The losses of BiDet and AutoBiDet: less information in high-level features, and fewer false positives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor
from torchvision.ops import box_iou, nms

from bnnapps.losses import Loss, LossInputs, register_loss
from bnnapps.losses.hub import extra_of
from bnnapps.plugins.detection.recorder import CANDIDATES, FEATURES, PROPOSALS, RPN_FEATURES, Candidates
from bnnapps.validation import Record


class PriorOptions(Record):
    """Options of `bidet_prior`: which boxes survive. The defaults are those of the released SSD."""

    score_threshold: float = Field(default=0.03, ge=0, lt=1)
    """Boxes that score less are left out (released: 0.03 in SSD, 0.01 in Faster R-CNN)."""
    iou: float = Field(default=0.45, gt=0, le=1)
    """Of the suppression (released: 0.45 in SSD, 0.3 in Faster R-CNN)."""
    most: int = Field(default=200, ge=1)
    """So many of the surest boxes of a class are looked at."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Added inside the logarithm, and the least sum of scores, so that neither a score nor a sum of 0 gives NaN."""


class RpnPriorOptions(PriorOptions):
    """Options of `bidet_rpn_prior`; the defaults are those of the region proposals."""

    score_threshold: float = Field(default=0.0, ge=0, lt=1)
    iou: float = Field(default=0.7, gt=0, le=1)
    most: int = Field(default=2000, ge=1)


def sparse_prior(scores: Tensor, objects: int, epsilon: float = 1e-6) -> Tensor:
    """-(1/g) sum_i p_i log(p_i + e) with p_i = s_i / S: the entropy of the scores of one class, by its objects.

    S, the sum of the scores, takes no gradient, so that with n boxes of the same score each term has the gradient
    -(log p_i + 1) / (g S), negative where p_i > 1/e: mass moves from the many small scores to the few large ones
    (BiDet, Wang et al., CVPR 2020, section 3.3).

    Args:
        scores: (n,), of the boxes that survive suppression.
        objects: g, at least 1.
        epsilon: e, and the least S: the released code has none in SSD, where a score that underflows gives NaN.

    """
    shares = scores / scores.detach().sum().clamp(min=epsilon)
    return -(shares * (shares + epsilon).log()).sum() / objects


def surviving_scores(boxes: Tensor, scores: Tensor, options: PriorOptions) -> Tensor:
    """The scores (k,), with gradient, of the boxes that stay above the threshold and survive suppression.

    Args:
        boxes: (n, 4).
        scores: (n,).
        options: thresholds.

    """
    chosen = (scores.detach() > options.score_threshold).nonzero().flatten()
    if len(chosen) > options.most:
        chosen = chosen[scores.detach()[chosen].topk(options.most).indices]
    kept = nms(boxes[chosen], scores.detach()[chosen], options.iou)
    return scores[chosen[kept]]


def prior_of_images(images: Sequence[Candidates], options: PriorOptions) -> Tensor:
    """The mean of `sparse_prior` over images and the classes that they have.

    A pair of image and class counts only where more boxes survive than there are objects: then some must be false.
    Without any such pair the value is 0, still with a (zero) gradient.
    """
    terms = []
    for image in images:
        for label in image.labels.unique().tolist():
            objects = int((image.labels == label).sum())
            kept = surviving_scores(*image.of_class(label), options)
            if len(kept) > objects:
                terms.append(sparse_prior(kept, objects, options.epsilon))
    if not terms:
        return torch.stack([image.scores.sum() for image in images]).sum() * 0
    return torch.stack(terms).mean()


def compression(features: Sequence[Sequence[Tensor]]) -> Tensor:
    """(N,): for each image the mean over its maps F of mean(F^2).

    BiDet's bound on I(X; F), the divergence of the features from N(0, 1), as the released code has it: only the
    squares of the means are left of it.

    Args:
        features: of each image its maps, of any shapes. A map of no elements (an image without regions) counts 0.

    """
    rows = [torch.stack([m.pow(2).mean() if m.numel() else m.sum() for m in maps]).mean() for maps in features]
    return torch.stack(rows)


def difficulty(image: Candidates, epsilon: float = 1e-6) -> Tensor:
    """How badly the objects of an image are found: mean of -log(max_i s_i IoU_i + e) over its objects; no gradient.

    s_i is the score of box i for the object's class and IoU_i their overlap. 0 for an image without objects.
    """
    if len(image.labels) == 0:
        return image.scores.new_zeros(())
    found = []
    for label, truth in zip(image.labels.tolist(), image.objects, strict=True):
        boxes, scores = image.of_class(label)
        fit = box_iou(truth[None], boxes)[0] * scores.detach()
        found.append(fit.max() if len(fit) else fit.new_zeros(()))
    return -(torch.stack(found) + epsilon).log().mean()


def sample_weights(difficulties: Tensor) -> Tensor:
    """(N,) weights of mean 1, larger for easier images: N softmax(-d / mean(d)); no gradient.

    AutoBiDet (Wang et al., TPAMI 2022) lets the trade-off between compression and accuracy follow the complexity of
    each image. Its exact rule is not public; this one is ours, in that spirit: the features of an image that is
    found easily are compressed more, those of a hard one less.
    """
    scale = difficulties.mean().clamp(min=1e-6)
    return len(difficulties) * torch.softmax(-difficulties.detach() / scale, dim=0)


def bottleneck_loss(inputs: LossInputs) -> Tensor:
    """`compression`, mean over the images."""
    return compression(extra_of(inputs.student, "student", "bidet_bottleneck", FEATURES)).mean()


def rpn_bottleneck_loss(inputs: LossInputs) -> Tensor:
    """`compression` of the region proposals' maps, mean over the images."""
    return compression(extra_of(inputs.student, "student", "bidet_rpn_bottleneck", RPN_FEATURES)).mean()


def auto_bottleneck_loss(inputs: LossInputs) -> Tensor:
    """`compression` of each image times its weight (`sample_weights`), mean over the images."""
    term = "autobidet_bottleneck"
    images = extra_of(inputs.student, "student", term, CANDIDATES)
    weights = sample_weights(torch.stack([difficulty(image) for image in images]))
    return (weights * compression(extra_of(inputs.student, "student", term, FEATURES))).mean()


def prior_loss(inputs: LossInputs, options: PriorOptions) -> Tensor:
    """`prior_of_images` of the detections."""
    return prior_of_images(extra_of(inputs.student, "student", "bidet_prior", CANDIDATES), options)


def rpn_prior_loss(inputs: LossInputs, options: RpnPriorOptions) -> Tensor:
    """`prior_of_images` of the region proposals, with its gradient (the released code passes the scores without)."""
    return prior_of_images(extra_of(inputs.student, "student", "bidet_rpn_prior", PROPOSALS), options)


for _loss in (
    Loss("bidet_bottleneck", bottleneck_loss, "mean square of high-level features (BiDet)", extras=(FEATURES,)),
    Loss(
        "autobidet_bottleneck",
        auto_bottleneck_loss,
        "mean square of high-level features, by the difficulty of each image (AutoBiDet)",
        extras=(FEATURES, CANDIDATES),
    ),
    Loss(
        "bidet_rpn_bottleneck",
        rpn_bottleneck_loss,
        "mean square of the region proposals' features (BiDet)",
        extras=(RPN_FEATURES,),
    ),
    Loss(
        "bidet_prior",
        prior_loss,
        "entropy of the scores that survive suppression, class by class (BiDet)",
        options=PriorOptions,
        extras=(CANDIDATES,),
    ),
    Loss(
        "bidet_rpn_prior",
        rpn_prior_loss,
        "entropy of the scores of the region proposals (BiDet)",
        options=RpnPriorOptions,
        extras=(PROPOSALS,),
    ),
):
    register_loss(_loss)
