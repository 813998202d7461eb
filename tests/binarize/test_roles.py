from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize.roles import Roles

TEXT: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
IMAGE: dict[str, Any] = {k: v for k, v in TEXT.items() if k != "vocab_size"} | {"image_size": 8, "patch_size": 4}
HUGGING_FACE = "Hugging Face input embeddings and heads"


def hugging_face(name: str) -> nn.Module:
    import transformers as t

    return {
        "BERT classifier": lambda: t.BertForSequenceClassification(t.BertConfig(**TEXT)),
        "BERT": lambda: t.BertModel(t.BertConfig(**TEXT)),
        "BERT masked": lambda: t.BertForMaskedLM(t.BertConfig(**TEXT)),
        "RoBERTa classifier": lambda: t.RobertaForSequenceClassification(t.RobertaConfig(**TEXT)),
        "ELECTRA classifier": lambda: t.ElectraForSequenceClassification(t.ElectraConfig(**TEXT, embedding_size=4)),
        "ViT classifier": lambda: t.ViTForImageClassification(t.ViTConfig(**IMAGE)),
        "DistilBERT answers": lambda: t.DistilBertForQuestionAnswering(
            t.DistilBertConfig(vocab_size=30, dim=8, n_layers=1, n_heads=2, hidden_dim=16)
        ),
    }[name]()


def torchvision(name: str, device: str = "meta", **options: Any) -> nn.Module:
    import torchvision.models as v

    with torch.device(device):
        made: nn.Module = getattr(v, name)(num_classes=10, **options)
    return made


def vision_transformer() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3
    )


class TimmNet(nn.Sequential):
    """As timm's models describe themselves; the head is neither the last to be defined nor the only one."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.head_dist, self.head, self.stem = nn.Linear(4, 2), nn.Linear(4, 2), nn.Conv2d(3, 4, 1)
        self.body = nn.Linear(4, 4)
        self.pretrained_cfg = cfg


TimmNet.__module__ = "timm.models.small"
TIMM = {"first_conv": "stem", "classifier": ("head", "head_dist")}


# model, where roles are known from, first, heads
ROLES: dict[str, tuple[Callable[[], nn.Module], str, list[str], list[str]]] = {
    "BERT classifier": (
        lambda: hugging_face("BERT classifier"),
        HUGGING_FACE,
        ["bert.embeddings.word_embeddings"],
        ["classifier"],
    ),
    "BERT without a head": (lambda: hugging_face("BERT"), HUGGING_FACE, ["embeddings.word_embeddings"], []),
    "BERT masked": (
        lambda: hugging_face("BERT masked"),
        HUGGING_FACE,
        ["bert.embeddings.word_embeddings"],
        ["cls.predictions.transform.dense", "cls.predictions.transform.transform_act_fn", "cls.predictions.decoder"],
    ),
    "RoBERTa classifier": (
        lambda: hugging_face("RoBERTa classifier"),
        HUGGING_FACE,
        ["roberta.embeddings.word_embeddings"],
        ["classifier.dense", "classifier.out_proj"],
    ),
    "ELECTRA classifier": (
        lambda: hugging_face("ELECTRA classifier"),
        HUGGING_FACE,
        ["electra.embeddings.word_embeddings"],
        ["classifier.dense", "classifier.activation", "classifier.out_proj"],
    ),
    "ViT classifier": (
        lambda: hugging_face("ViT classifier"),
        HUGGING_FACE,
        ["vit.embeddings.patch_embeddings.projection"],
        ["classifier"],
    ),
    "DistilBERT answers": (
        lambda: hugging_face("DistilBERT answers"),
        HUGGING_FACE,
        ["distilbert.embeddings.word_embeddings"],
        ["qa_outputs"],
    ),
    "torchvision resnet18": (lambda: torchvision("resnet18"), "torchvision's ResNet", ["conv1"], ["fc"]),
    "torchvision vgg11": (lambda: torchvision("vgg11"), "torchvision's VGG", ["features.0"], ["classifier.6"]),
    "torchvision alexnet": (lambda: torchvision("alexnet"), "torchvision's AlexNet", ["features.0"], ["classifier.6"]),
    "torchvision densenet": (
        lambda: torchvision("densenet121"),
        "torchvision's DenseNet",
        ["features.conv0"],
        ["classifier"],
    ),
    "torchvision mobilenet v2": (
        lambda: torchvision("mobilenet_v2"),
        "torchvision's MobileNetV2",
        ["features.0.0"],
        ["classifier.1"],
    ),
    "torchvision mobilenet v3": (
        lambda: torchvision("mobilenet_v3_small"),
        "torchvision's MobileNetV3",
        ["features.0.0"],
        ["classifier.3"],
    ),
    "torchvision shufflenet": (
        lambda: torchvision("shufflenet_v2_x0_5"),
        "torchvision's ShuffleNetV2",
        ["conv1.0"],
        ["fc"],
    ),
    "torchvision squeezenet": (
        lambda: torchvision("squeezenet1_1"),
        "torchvision's SqueezeNet",
        ["features.0"],
        ["classifier.1"],
    ),
    "torchvision efficientnet": (
        lambda: torchvision("efficientnet_b0"),
        "torchvision's EfficientNet",
        ["features.0.0"],
        ["classifier.1"],
    ),
    "torchvision mnasnet": (lambda: torchvision("mnasnet0_5"), "torchvision's MNASNet", ["layers.0"], ["classifier.1"]),
    "torchvision regnet": (lambda: torchvision("regnet_y_400mf", "cpu"), "torchvision's RegNet", ["stem.0"], ["fc"]),
    "torchvision convnext": (
        lambda: torchvision("convnext_tiny"),
        "torchvision's ConvNeXt",
        ["features.0.0"],
        ["classifier.2"],
    ),
    "torchvision swin": (
        lambda: torchvision("swin_t"),
        "torchvision's SwinTransformer",
        ["features.0.0"],
        ["head"],
    ),
    "torchvision vit": (vision_transformer, "torchvision's VisionTransformer", ["conv_proj"], ["heads.head"]),
    "torchvision googlenet": (
        lambda: torchvision("googlenet", init_weights=False),
        "torchvision's GoogLeNet",
        ["conv1.conv"],
        ["aux1.fc2", "aux2.fc2", "fc"],
    ),
    "torchvision inception": (
        lambda: torchvision("inception_v3", init_weights=False),
        "torchvision's Inception3",
        ["Conv2d_1a_3x3.conv"],
        ["AuxLogits.fc", "fc"],
    ),
    "timm, two heads": (lambda: TimmNet(TIMM), "timm pretrained_cfg", ["stem"], ["head_dist", "head"]),
    "timm, one head": (
        lambda: TimmNet(SimpleNamespace(**TIMM | {"classifier": "head"})),
        "timm pretrained_cfg",
        ["stem"],
        ["head"],
    ),
}


@pytest.mark.parametrize("case", ROLES)
def test_first_layer_and_heads_come_from_metadata(case: str) -> None:
    build, source, first, heads = ROLES[case]
    plan = bnnapps.plan(build(), {"rules": [{"match": "*", "use": "bnn"}], "keep_first": 1, "keep_last": 1})
    assert plan.roles == source
    assert [e.name for e in plan.entries if e.reason == "keep_first: 1"] == first
    assert [e.name for e in plan.entries if e.reason == "keep_last: 1"] == heads


class Backwards(nn.Module):
    """Defined in one order, executed in another; one layer is never executed."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.middle, self.unused, self.first = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        result: Tensor = self.last(self.middle(self.first(x) * scale))
        return result


RULES = {"rules": [{"types": ["linear"], "use": "bnn"}]}


def test_without_metadata_the_order_of_definition_counts_and_the_plan_says_so() -> None:
    plan = bnnapps.plan(Backwards(), RULES)
    assert plan.roles.startswith("definition order (give example inputs")
    assert [e.name for e in plan.binarized] == ["middle", "unused"]


@pytest.mark.parametrize(
    "example", [torch.ones(2, 4), (torch.ones(2, 4),), [torch.ones(2, 4)], {"x": torch.ones(2, 4), "scale": 2.0}]
)
def test_with_example_inputs_the_order_of_execution_counts(example: Any) -> None:
    plan = bnnapps.plan(Backwards(), RULES, example_inputs=example)
    assert plan.roles == "execution order on the example inputs"
    assert [e.name for e in plan.entries if not e.binarized] == ["last", "first"]
    assert {e.name: e.reason for e in plan.kept} == {"first": "keep_first: 1", "last": "keep_last: 1"}


def test_counts_follow_the_order_of_execution() -> None:
    plan = bnnapps.plan(Backwards(), RULES, keep_first=2, keep_last=0, example_inputs=torch.ones(2, 4))
    assert [e.name for e in plan.binarized] == ["last", "unused"]


def test_a_sequential_whose_order_differs_from_its_definition() -> None:
    class Reversed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for module in reversed(self):
                x = module(x)
            return x

    model = Reversed(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4))
    plan = bnnapps.plan(model, RULES, keep_first=1, keep_last=0, example_inputs=torch.ones(1, 4))
    assert [e.name for e in plan.binarized] == ["0", "2"]
    plan = bnnapps.plan(model, RULES, keep_first=1, keep_last=0)
    assert [e.name for e in plan.binarized] == ["2", "3"]


def test_layers_without_weights_are_not_counted() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3), nn.GELU())
    for example in (None, torch.ones(1, 3)):
        plan = bnnapps.plan(model, {"method": "bit", "keep_first": 1, "keep_last": 1}, example_inputs=example)
        assert [e.name for e in plan.kept] == ["0", "4"]


def test_a_hugging_face_model_inside_another_module() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = hugging_face("BERT")
            self.fc = nn.Linear(8, 2)

    plan = bnnapps.plan(Net(), "bibert")
    assert plan.roles.startswith("definition order")
    assert [e.name for e in plan.kept if e.reason.startswith("keep_")] == ["fc"]


ORDER = ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("first", "heads", "count", "expected_first", "expected_last"),
    [
        (("a",), ("e",), 0, "", ""),
        (("a",), ("e",), 1, "a", "e"),
        (("a",), ("e",), 2, "ab", "de"),
        (("a",), ("e",), 4, "abcd", "bcde"),
        (("a",), ("e",), 9, "abcd", "abcde"),
        (("c",), ("a", "b"), 1, "c", "ab"),
        (("c",), ("a", "b"), 2, "cd", "abe"),
        ((), (), 1, "a", ""),
        ((), (), 2, "ab", "e"),
    ],
)
def test_counting(
    first: tuple[str, ...], heads: tuple[str, ...], count: int, expected_first: str, expected_last: str
) -> None:
    roles = Roles(ORDER, first, heads, "")
    assert roles.first_layers(count) == set(expected_first)
    assert roles.last_layers(count) == set(expected_last)


@pytest.mark.parametrize("count", range(1, 12))
def test_more_last_layers_never_means_fewer(count: int) -> None:
    roles = Roles(ORDER, ("a",), ("e",), "")
    assert roles.last_layers(count) <= roles.last_layers(count + 1)
    assert roles.first_layers(count) <= roles.first_layers(count + 1)
