"""Twenty families of timm, by name, with few and narrow layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from torch import nn

from architectures import Architecture


def _of(name: str, size: int = 32, keep: Mapping[str, str] | None = None, **options: Any) -> Architecture:
    def build() -> nn.Module:
        made: nn.Module = timm.create_model(name, pretrained=False, num_classes=5, **options)
        return made

    return Architecture(build, lambda: torch.randn(2, 3, size, size), keep={} if keep is None else keep)


def _made(kind: Callable[..., nn.Module], size: int = 32, **options: Any) -> Architecture:
    return Architecture(lambda: kind(num_classes=5, **options), lambda: torch.randn(2, 3, size, size))


_VIT: dict[str, Any] = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}

TIMM: dict[str, Architecture] = {
    "ResNet": _of("resnet10t"),
    "MobileNetV3": _of("mobilenetv3_small_050"),
    "MobileNetV3 of TensorFlow": _of("tf_mobilenetv3_small_minimal_100"),
    "ViT": _of("vit_tiny_patch16_224", 16, **_VIT),
    "BEiT": _of("beit_base_patch16_224", 16, **_VIT),
    "EVA-02": _of("eva02_tiny_patch14_224", 16, **_VIT),
    "Swin": _of(
        "swin_tiny_patch4_window7_224", img_size=32, embed_dim=12, depths=(2, 2), num_heads=(1, 2), window_size=4
    ),
    "Swin V2": _of(
        "swinv2_tiny_window8_256", img_size=32, embed_dim=12, depths=(2, 2), num_heads=(1, 2), window_size=4
    ),
    "ConvNeXt": _of("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
    "MLP-Mixer": _made(timm.models.MlpMixer, img_size=32, patch_size=8, num_blocks=2, embed_dim=16),
    "PVT v2": _of("pvt_v2_b0", depths=(1, 1, 1, 1), embed_dims=(8, 8, 16, 16), num_heads=(1, 1, 2, 2)),
    "CaiT": _of("cait_xxs24_224", 16, **{**_VIT, "depth": 2}),
    "LeViT": _made(
        timm.models.Levit, 64, img_size=64, embed_dim=(16, 16, 16), num_heads=(2, 2, 2), key_dim=8, depth=(1, 1, 1)
    ),
    "MobileViT": _of("mobilevit_xxs"),
    "RegNet": _of("regnetx_002"),
    "PoolFormer": _made(timm.models.MetaFormer, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
    "CoAtNet": _of("coatnet_nano_rw_224", img_size=32, embed_dim=(32,) * 4, depths=(1, 1, 1, 1), stem_width=8),
    "GhostNet": _of("ghostnet_050"),
    "Hiera": _of("hiera_tiny_224", img_size=(32, 32), embed_dim=8, stages=(1, 1, 1, 1)),
    "FastViT": _of("fastvit_t8", layers=(1, 1, 1, 1), embed_dims=(8, 8, 16, 16)),
}
