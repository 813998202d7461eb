"""Files that take sound: features inside the graph, against torchaudio's."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import bnnapps
from bnnapps.cli.app import export as export_command
from bnnapps.errors import ExportError, UsageError
from bnnapps.export import export, load
from bnnapps.losses import LossHub, LossTerm
from bnnapps.plugins.keywords.dfsmn import DFSMN
from bnnapps.plugins.keywords.features import Features, FeatureSettings
from bnnapps.plugins.keywords.hearing import Hearing
from bnnapps.plugins.keywords.model import depths_of
from bnnapps.plugins.keywords.sound_graph import Decibels, SoundNetwork
from bnnapps.plugins.keywords.waves import at_rate
from bnnapps.training.folder import RunFolder
from bnnapps.training.runner import export_eight_bits, open_run
from bnnapps.training.twins import float_twin, form_of, portable_twin

SETTINGS = {
    "power of two": FeatureSettings(window=256, hop=128, mels=8, rate=4000),
    "any window": FeatureSettings(window=160, hop=80, mels=8, rate=4000, normalized=False, low=100, high=1500),
    "mfcc": FeatureSettings(kind="mfcc", window=256, hop=128, mels=10, coefficients=8, rate=4000),
}
SAMPLES = 1920  # 16 frames of 128


def sounds(rows: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(0)
    tones = torch.sin(torch.arange(SAMPLES) * torch.tensor([[0.05], [0.3], [0.8]])[:rows])
    return 0.2 * tones + 0.02 * torch.randn(rows, SAMPLES, generator=random)


def hearing(settings: FeatureSettings) -> Hearing:
    pictures = Features(settings)(sounds())
    return Hearing(settings, pictures.mean(dim=(0, 1, 3)), pictures.std(dim=(0, 1, 3)))


def settled(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


@pytest.mark.parametrize("name", SETTINGS)
def test_the_features_are_those_of_torchaudio(name: str) -> None:
    heard = SoundNetwork(hearing(SETTINGS[name]), nn.Identity())
    expected = hearing(SETTINGS[name])(sounds())
    torch.testing.assert_close(heard(sounds()), expected, atol=2e-4, rtol=0)


def binary(settings: FeatureSettings) -> nn.Module:
    torch.manual_seed(0)
    network = DFSMN(5, rows=settings.rows, columns=settings.columns(SAMPLES), channels=8, hidden=8, depth=1)
    return bnnapps.binarize(settled(network), "bifsmn")


def real(settings: FeatureSettings) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(settings.rows * settings.columns(SAMPLES), 5))


@pytest.mark.parametrize(
    ("name", "dialect", "network_of"),
    [("power of two", "portable", binary), ("any window", "portable", real), ("mfcc", "packed", binary)],
)
def test_a_file_hears_what_the_network_hears(
    tmp_path: Path, name: str, dialect: str, network_of: Callable[[FeatureSettings], nn.Module]
) -> None:
    settings, sound = SETTINGS[name], sounds()
    network, ears = network_of(settings).eval(), hearing(settings)
    found = export(SoundNetwork(ears, network), sound, tmp_path / "model.onnx", dialect=dialect)
    assert found.parity.sign_flips == 0
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert ("STFT" in kinds) == (name != "any window")
    with torch.no_grad():
        expected = network(ears(sound))
    session = load(tmp_path / "model.onnx")
    assert [one.name for one in session.get_inputs()] == ["sound"]
    (logits,) = session.run(None, {"sound": sound.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-3, rtol=1e-3)


def test_bands_without_sound_do_not_stand_in_the_way(tmp_path: Path) -> None:
    """Above the old rate resampling leaves rounding noise, of which a logarithm makes something."""
    settings = FeatureSettings(window=256, hop=128, mels=8, rate=4000)
    narrow = torch.from_numpy(at_rate(sounds(1)[0, : SAMPLES // 2].numpy(), 2000, 4000))
    quiet = torch.cat([narrow, torch.zeros(SAMPLES - len(narrow))])
    found = export(SoundNetwork(hearing(settings), real(settings)), quiet[None].repeat(2, 1), tmp_path / "model.onnx")
    assert found.parity.verdict in ("exact", "rounding")


def test_amplitudes_are_compared_with_the_loudest_of_their_frame() -> None:
    front = Decibels(Features(SETTINGS["power of two"]))
    expected = torch.tensor([[[[0.0], [-120.0]]]])
    louder = expected + torch.tensor([[0.0], [6.0205999]])  # twice the amplitude: 1e-6 of the loudest
    assert front.excess(louder, expected) == pytest.approx(1e-6 / 1e-5, rel=1e-3)
    assert front.excess(expected, expected) == 0
    assert front.excess(expected * float("nan"), expected) == float("inf")


def test_features_that_differ_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decibels, "excess", lambda *_: 2.5)
    settings = SETTINGS["power of two"]
    heard = SoundNetwork(hearing(settings), real(settings))
    with pytest.raises(ExportError, match=r"'decibels': at DISABLE_ALL it differs from torch by 2\.5 times"):
        export(heard, sounds(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_depths_have_names() -> None:
    network = DFSMN(5, rows=16, columns=16, channels=8, hidden=16, depth=4, options=3).eval()
    pictures = torch.randn(2, 1, 16, 16)
    found = list(depths_of(network))
    assert [one[:2] for one in found] == [
        ("", "4 of 4 layers"),
        ("-2-layers", "2 of 4 layers"),
        ("-1-layers", "1 of 4 layers"),
    ]
    for option, (_, _, thin) in enumerate(found):
        network.option = option
        torch.testing.assert_close(thin(pictures), network(pictures))
    single = DFSMN(5, rows=16, columns=16, channels=8, hidden=16, depth=1)
    assert list(depths_of(single)) == [("", "", single)]


def test_a_run_is_exported_at_each_depth(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_command(trained, dialect="portable", overrides=["export.input=sound"], as_json=True, emit=None)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [one["path"] for one in (found, *found["further"])] == [
        "export/portable-sound/model.onnx",
        "export/portable-sound-1-layers/model.onnx",
    ]
    assert found["further"][0]["about"] == "1 of 2 layers"
    page = (trained / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert "export/portable-sound-1-layers/model.onnx" in page


def test_what_cannot_be_asked_of_a_finished_run(trained: Path) -> None:
    with pytest.raises(UsageError, match=r"of a finished run only the keys of 'export' can be changed"):
        open_run(trained, ["train.lr=1"])
    task, model, folder = open_run(trained, ["export.input=sound"])
    with pytest.raises(UsageError, match="--real-bits 8 would round what is computed in front of the network"):
        export_eight_bits(task, model, folder, Console(file=io.StringIO()))


def test_a_lesser_depth_is_evaluated_as_it_is(trained: Path) -> None:
    """So that the cost of 8 bits at a depth is that of this depth."""
    task, model, _ = open_run(trained)
    sound = {"sound": sounds().repeat(1, 9)[:, :16_000], "labels": torch.zeros(3, dtype=torch.int64)}
    forms = task.export_forms(model.eval())
    for option, form in enumerate(forms):
        module = task.make_module(form.model, task.recipe.train.resolved()[-1], LossHub([LossTerm("task")]), None)
        with torch.no_grad():
            logits, _ = module.eval().predict(sound)
            expected = form.model(module.hearing(sound["sound"]))
        assert logits.shape[1] == (2 if option == 0 else 1)
        torch.testing.assert_close(logits[:, 0], expected)


@pytest.mark.parametrize(
    ("folder", "form"),
    [
        ("packed", ""),
        ("portable-sound", "-sound"),
        ("packed-8bit-4-layers", "-4-layers"),
        ("packed-8bit", ""),
        ("qonnx-finn", ""),
    ],
)
def test_a_folder_names_its_form(tmp_path: Path, folder: str, form: str) -> None:
    assert form_of(tmp_path / "export" / folder / "model.onnx") == form


def test_a_file_is_measured_against_twins_of_its_form(trained: Path) -> None:
    run = RunFolder(trained)
    path = float_twin(run, "-sound-1-layers")
    assert path.name == "float-sound-1-layers.onnx"
    assert [one.name for one in load(path).get_inputs()] == ["sound"]
    for name in ("portable-1-layers", "packed-1-layers"):
        (trained / "export" / name).mkdir(parents=True, exist_ok=True)
    portable = trained / "export" / "portable-1-layers" / "model.onnx"
    portable.write_bytes(b"")
    assert portable_twin(run, trained / "export" / "packed-1-layers" / "model.onnx") == portable
    assert portable_twin(run, portable) is None
    with pytest.raises(UsageError, match="the run is exported in no form '-9-layers'"):
        float_twin(run, "-9-layers")
