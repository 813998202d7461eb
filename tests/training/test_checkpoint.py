from __future__ import annotations

import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

import bnnapps
from bnnapps.binarize import is_binarized, plan_of
from bnnapps.errors import CheckpointError
from bnnapps.training.checkpoint import load_file, load_model, save_file, save_model


def network(width: int = 16) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 2))


def binary(method: str = "reactnet") -> nn.Module:
    return bnnapps.binarize(network(), method)


@pytest.mark.parametrize("method", ["bnn", "xnor", "irnet", "reactnet", "bit"])
def test_the_plan_travels_with_the_state(tmp_path, method):
    model = bnnapps.binarize(network(), {"rules": [{"types": ["linear"], "use": method}]})
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))
    save_model(model, tmp_path / "m.ckpt", note="here")
    fresh = network()
    assert load_model(fresh, tmp_path / "m.ckpt") == {"note": "here"}
    assert plan_of(fresh) == plan_of(model)
    assert fresh.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), model.state_dict().values(), strict=True))


def test_a_float_model_has_no_plan(tmp_path):
    save_model(network(), tmp_path / "m.ckpt")
    fresh = network()
    load_model(fresh, tmp_path / "m.ckpt")
    assert not is_binarized(fresh)


class Trap:
    """Would create a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, zipped):
    trap, file = tmp_path / "sprung", tmp_path / "evil.ckpt"
    if zipped:
        torch.save({"format": 1, "plan": None, "state_dict": {}, "extra": Trap(trap)}, file)
    else:
        file.write_bytes(pickle.dumps({"state_dict": Trap(trap)}))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt") as caught:
        load_file(file)
    assert "\n" not in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0.0, 0.05, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_one_clear_line(tmp_path, keep):
    save_model(binary(), tmp_path / "m.ckpt")
    data = (tmp_path / "m.ckpt").read_bytes()
    (tmp_path / "m.ckpt").write_bytes(data[: int(len(data) * keep)])
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"m\.ckpt") as caught:
        load_model(model, tmp_path / "m.ckpt")
    assert "\n" not in str(caught.value)
    assert not is_binarized(model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_damaged_bytes_inside_are_refused_or_harmless(tmp_path):
    save_model(binary(), tmp_path / "m.ckpt")
    good = (tmp_path / "m.ckpt").read_bytes()
    with zipfile.ZipFile(tmp_path / "m.ckpt") as archive:
        info = next(i for i in archive.infolist() if i.filename.endswith("data.pkl"))
        at = info.header_offset + 60
    (tmp_path / "m.ckpt").write_bytes(good[:at] + bytes(64) + good[at + 64 :])
    with pytest.raises(CheckpointError):
        load_model(network(), tmp_path / "m.ckpt")


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            load_file(path)


@pytest.mark.parametrize("change", ["width", "missing", "extra", "part", "newer", "no_plan_format", "foreign"])
def test_a_checkpoint_of_another_model_changes_nothing(tmp_path, change):
    model = binary()
    save_model(model, tmp_path / "m.ckpt")
    data = load_file(tmp_path / "m.ckpt")
    state = data["state_dict"]
    if change == "missing":
        del state["2.weight"]
    elif change == "extra":
        state["3.weight"] = torch.zeros(1)
    elif change == "part":
        del state["1.binary.activation.shift"]
    elif change == "newer":
        data["format"] = 99
    elif change == "no_plan_format":
        data["plan"] = {"layers": 3}
    elif change == "foreign":
        data = {"weights": state}
    save_file(data, tmp_path / "m.ckpt")
    target = network(width=24 if change == "width" else 16)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"m\.ckpt"):
        load_model(target, tmp_path / "m.ckpt")
    assert not is_binarized(target)
    assert before.keys() == target.state_dict().keys()
    assert all(torch.equal(before[k], v) for k, v in target.state_dict().items())


def test_a_full_disk_leaves_the_earlier_checkpoint_intact(tmp_path, monkeypatch):
    save_model(binary(), tmp_path / "m.ckpt")
    before = (tmp_path / "m.ckpt").read_bytes()

    def full(data, file):
        file.write(b"some bytes")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"m\.ckpt: No space left on device; the earlier checkpoint is intact"):
        save_model(binary("irnet"), tmp_path / "m.ckpt")
    assert (tmp_path / "m.ckpt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.ckpt"]


def test_torchs_own_error_for_a_full_disk_is_caught_too(tmp_path):
    class Full(dict):
        def __reduce_ex__(self, protocol):
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\nsecond line")

    with pytest.raises(CheckpointError, match="file write failed") as caught:
        save_file({"x": Full()}, tmp_path / "m.ckpt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.ckpt").exists()


def test_a_real_full_file_system_is_reported():
    if not os.path.exists("/dev/full"):
        pytest.fail("this system has no /dev/full")
    with pytest.raises(OSError, match="No space"), open("/dev/full", "wb") as file:
        torch.save({"x": torch.zeros(1 << 16)}, file)
