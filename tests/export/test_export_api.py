"""Exporting and loading as a user does it, and everything that a user can get wrong."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from export_models import two_layers
from torch import Tensor, nn

import bnnapps
import bnnapps.export
from bnnapps.errors import ExportError, MissingExtraError, UsageError
from bnnapps.export import DIALECTS, ExportResult, check_exportable
from bnnapps.export.api import OPSET
from bnnapps.export.dialects.portable import DIALECT
from bnnapps.export.flow import Dialect, Step, Work
from bnnapps.nn import BinaryEmbedding


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return bnnapps.export.export(
            two_layers(), torch.randn(2, 2, 4, 4), tmp_path_factory.mktemp("export") / "model.onnx"
        )


def test_the_folder_holds_the_file_and_its_record_alone(result: ExportResult) -> None:
    assert sorted(file.name for file in result.path.parent.iterdir()) == ["model.onnx", "model.parity.json"]


def test_the_record_says_what_was_checked(result: ExportResult) -> None:
    record = json.loads(result.parity_path.read_text())
    assert record["verdict"] == result.parity.verdict == "exact"
    assert record["dialect"] == "portable"
    assert record["file"] == "model.onnx"
    assert [step["name"] for step in record["steps"]] == [name for name, _ in bnnapps.export.list_steps("portable")]
    assert record["steps"][0]["max_abs_diff"] == 0.0
    assert record["dynamic_axes"] == {"input": ["batch"]}


def test_steps_are_listed_in_order() -> None:
    names = [name for name, _ in bnnapps.export.list_steps("portable")]
    assert names == ["freeze", "trace", "barriers", "clean", "describe", "audit"]


def test_an_export_is_quiet(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bnnapps.export.export(two_layers(), torch.randn(2, 2, 4, 4), tmp_path / "model.onnx")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_the_file_names_no_path_of_the_machine_and_asks_for_no_newer_format_than_it_needs(
    result: ExportResult,
) -> None:
    assert b".py" not in result.path.read_bytes()
    model = onnx.load(result.path)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert model.ir_version == 8


def test_the_model_stays_as_it_was(tmp_path: Path) -> None:
    model = two_layers().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bnnapps.export.export(model, torch.randn(2, 2, 4, 4), tmp_path / "model.onnx")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_newer_opset_can_be_asked_for(tmp_path: Path) -> None:
    made = bnnapps.export.export(two_layers(), torch.randn(2, 2, 4, 4), tmp_path / "model.onnx", opset=20)
    assert onnx.load(made.path).opset_import[0].version == 20
    assert made.parity.verdict == "exact"


def test_options_reach_the_session(result: ExportResult) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = bnnapps.export.load(result.path, options)
    assert session.get_session_options().graph_optimization_level == options.graph_optimization_level
    assert session.get_modelmeta().custom_metadata_map["bnnapps.version"] == bnnapps.__version__


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dialect": "packd"}, UsageError, "unknown dialect 'packd'.*; available here: portable"),
        ({"opset": 17}, UsageError, "opset is 17: PyTorch's exporter writes 18 to"),
        ({"path": "missing/model.onnx"}, UsageError, "there is no folder '.*missing' to write 'model.onnx' to"),
        ({"path": "."}, UsageError, "is a folder: name a file"),
        ({"example_inputs": "text"}, UsageError, "example_inputs is a str"),
    ],
)
def test_a_wrong_request_is_said_in_one_line(
    options: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    request = {"example_inputs": torch.randn(2, 2, 4, 4), "dialect": "portable", "opset": OPSET} | options
    path = tmp_path / str(request.pop("path", "model.onnx"))
    with pytest.raises(error, match=message) as raised:
        bnnapps.export.export(two_layers(), request.pop("example_inputs"), path, **request)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    calls: list[Callable[[], object]] = [
        lambda: bnnapps.export.export(two_layers(), torch.randn(2, 2, 4, 4), tmp_path / "model.onnx"),
        lambda: bnnapps.export.load(tmp_path / "model.onnx"),
        lambda: bnnapps.export.list_steps("portable"),
    ]
    for call in calls:
        with pytest.raises(MissingExtraError, match=rf"needs the package '{package}'.*bnnapps\[export\]"):
            call()


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_model_that_pytorch_cannot_trace_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="PyTorch cannot export this model: ") as raised:
        bnnapps.export.export(Branching(), torch.randn(2, 3), tmp_path / "model.onnx")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


class OneLength(nn.Module):
    """Reads exactly six positions."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.head = nn.Linear(24, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.words(input_ids).reshape(-1, 24))
        return logits


def test_a_model_of_one_length_is_exported_with_that_length_and_says_so(tmp_path: Path) -> None:
    model = bnnapps.binarize(OneLength(), [{"types": ["embedding"], "use": "bibert"}], keep_first=0).eval()
    made = bnnapps.export.export(model, {"input_ids": torch.randint(0, 10, (2, 6))}, tmp_path / "model.onnx")
    assert made.dynamic == {"input_ids": {0: "batch"}}
    assert len(made.notes) == 1
    assert "the sequence length is fixed at 6" in made.notes[0]


class Picky(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] != 2 or x.shape[1] != 3:
            raise ValueError("two rows of three, please")
        return x + 1


def test_a_model_that_cannot_run_on_its_inputs_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"the model cannot run on x \(2, 4\): ValueError: two rows of three, please$"
    ):
        bnnapps.export.export(Picky(), torch.zeros(2, 4), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"cannot run on x \(1, 3\): .*; pass dynamic_batch=False if its batch size"):
        bnnapps.export.export(Picky(), torch.zeros(2, 3), tmp_path / "model.onnx")
    fixed = bnnapps.export.export(Picky(), torch.zeros(2, 3), tmp_path / "model.onnx", dynamic_batch=False)
    assert fixed.dynamic == {}


# What the library refuses to load


def damaged(path: Path, data: bytes) -> bytes:
    return data[: len(data) // 2]


def not_onnx(path: Path, data: bytes) -> bytes:
    return b"hello, this is a text file\n" * 10


def empty(path: Path, data: bytes) -> bytes:
    return b""


def newer(path: Path, data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    next(item for item in model.metadata_props if item.key == "bnnapps.version").value = "99.0.0"
    return model.SerializeToString()


def unknown_operator(path: Path, data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    model.graph.node[0].op_type = "NoSuchOperator"
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged, "damaged, or no ONNX file|holds no ONNX graph|cannot load"),
        (not_onnx, "damaged, or no ONNX file"),
        (empty, "holds no ONNX graph"),
        (newer, "was written by bnnapps 99.0.0, and this is .*: update bnnapps"),
        (unknown_operator, "ONNX Runtime cannot load"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_in_one_line(
    spoil: Callable[[Path, bytes], bytes], message: str, result: ExportResult, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(spoil(path, result.path.read_bytes()))
    with pytest.raises(ExportError, match=message) as raised:
        bnnapps.export.load(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"there is no file '.*nothing.onnx': export a model to it first"):
        bnnapps.export.load(tmp_path / "nothing.onnx")


# Steps that go wrong


def flip_a_weight(work: Work) -> Work:
    value = work.onnx.graph.initializers["model.0.product.weight"]
    value.const_value = ir.tensor(-np.asarray(value.const_value.numpy()), name=value.name)
    return work


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> str:
    """A dialect whose third step changes the model; registered as any new one: a module, and a line in the table."""
    module = ModuleType("broken_dialect")
    step = Step("flip", "the codes of a layer change sign", flip_a_weight)
    module.DIALECT = Dialect("broken", "wrong on purpose", (*DIALECT.steps[:3], step), DIALECT.prove)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken_dialect", module)
    monkeypatch.setitem(DIALECTS, "broken", "broken_dialect")
    return "broken"


def test_a_step_that_changes_the_outputs_is_named_and_the_earlier_file_stays(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the earlier file")
    with pytest.raises(ExportError, match=r"the step 'flip' changes the output 'output' by up to \d"):
        bnnapps.export.export(two_layers(), torch.randn(2, 2, 4, 4), path, dialect=broken)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"the earlier file"


def test_a_registered_dialect_is_listed_and_named(broken: str) -> None:
    assert bnnapps.export.list_steps(broken)[-1] == ("flip", "the codes of a layer change sign")
    with pytest.raises(
        UsageError, match=r"unknown dialect 'brokn' \(nearest: 'broken'\); available here: portable, packed, qonnx, b"
    ):
        bnnapps.export.list_steps("brokn")


def test_a_disk_that_cannot_be_written_leaves_the_earlier_file(
    result: ExportResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bnnapps.export import api

    target = tmp_path / "model.onnx"
    target.write_bytes(b"the earlier file")

    def full(self: Path, text: str, **options: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ExportError, match=r"cannot write '.*model.parity.json': No space left on device"):
        api._write(replace(result, path=target), b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == b"the earlier file"


# What is said before anything is traced


def test_a_model_that_can_be_exported_has_no_problems() -> None:
    assert check_exportable(two_layers()) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Linear(2, 2).half(),
            "'weight' is torch.float16: an exported file computes in float32, so call model.float()",
        ),
        (nn.Linear(2, 2).double(), "'weight' is torch.float64"),
        (nn.DataParallel(nn.Linear(2, 2)), "the model is wrapped in DataParallel: export `model.module`"),
        (nn.Sequential(BinaryEmbedding(4, 2, max_norm=1.0)), "layer '0' renormalizes its rows in use"),
    ],
)
def test_problems_are_named(model: nn.Module, message: str, tmp_path: Path) -> None:
    problems = check_exportable(model)
    assert len(problems) == 1
    assert message in problems[0]
    with pytest.raises(ExportError, match="this model cannot be exported: "):
        bnnapps.export.export(model, torch.zeros(2, 2), tmp_path / "model.onnx")
