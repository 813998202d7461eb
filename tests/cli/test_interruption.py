"""A run that is stopped, by Ctrl-C or by a full disk, goes on from its last checkpoint."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import torch
import toy_task
from command_line import call, error, settings

import bnnapps.plugin
from bnnapps.training.checkpoint import load_file
from bnnapps.training.module import BinaryModule

RECIPE = """
task: toy
seed: 3
binarize: {method: irnet}
train:
  epochs: 2
  lr: 0.01
  checkpoint_every: 5
  stages:
    - {name: teacher, binarize: false}
    - {name: student, teacher: teacher, init: teacher, losses: [{name: soft_cross_entropy}]}
"""
STEPS = 2 * 12


class _Point:
    name = "toy"

    def load(self):
        return toy_task.PLUGIN


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of an unbroken run."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "toy.yaml").write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bnnapps.plugin, "plugin_names", lambda: {"toy": _Point()})
        assert call("run", folder / "toy.yaml", "--out", folder / "run").code == 0
    return load_file(folder / "run" / "model.ckpt")["state_dict"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.setattr(bnnapps.plugin, "plugin_names", lambda: {"toy": _Point()})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


@pytest.fixture(autouse=True)
def listens_to_ctrl_c():
    """Whoever starts the tests in the background lets them inherit that Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def equal(state, path) -> bool:
    other = load_file(path)["state_dict"]
    return state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)


def at_step(monkeypatch, number: int, what) -> None:
    original, seen = BinaryModule.on_train_batch_end, []

    def end(self, *arguments):
        original(self, *arguments)
        seen.append(1)
        if len(seen) == number:
            what()

    monkeypatch.setattr(BinaryModule, "on_train_batch_end", end)


@pytest.mark.parametrize("step", [8, STEPS + 14])
def test_an_interrupted_run_says_how_to_go_on(monkeypatch, whole, step):
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), signal.SIGINT))
        found = call("run", "toy.yaml", "--out", "run")
    assert (found.code, found.err) == (130, "")
    assert found.lines[-1] == "Interrupted. `bnnapps run --resume run` goes on from the last checkpoint."
    assert "Interrupted." in Path("run/log.txt").read_text(encoding="utf-8")
    assert signal.getsignal(signal.SIGINT) is handler  # a second Ctrl-C is not ignored
    assert call("run", "--resume", "run").code == 0
    assert equal(whole, "run/model.ckpt")


def test_an_interruption_before_the_start_leaves_nothing(monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(toy_task.ToyTask, "prepare", interrupt)
    found = call("run", "toy.yaml", "--out", "run")
    assert (found.code, found.lines, found.err) == (130, ["Interrupted. Nothing was written."], "")
    assert not Path("run").exists()


class FullDisk:
    """A file that takes a few bytes and then no more."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def fill(monkeypatch, name: str, room: int, skip: int = 0) -> None:
    """From its `skip`-th writing on there is no room for the file of that name."""
    original, seen = Path.open, []

    def opened(self, *arguments, **options):
        file = original(self, *arguments, **options)
        mode = arguments[0] if arguments else options.get("mode", "r")
        if name in self.name and mode != "r":
            seen.append(1)
            return FullDisk(file, room) if len(seen) > skip else file
        return file

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize("room", [0, 3000])
def test_a_full_disk_keeps_the_earlier_checkpoint(monkeypatch, whole, room):
    path = Path("run/stages/1-teacher/checkpoints/last.ckpt")
    with monkeypatch.context() as patch:
        fill(patch, "last.ckpt", room, skip=2)
        message = error(call("run", "toy.yaml", "--out", "run"), 1)
    assert message == (
        f"could not write the checkpoint {path.resolve()}: No space left on device; the earlier checkpoint is intact"
    )
    assert load_file(path)["global_step"] in (10, 12)
    assert [p.name for p in path.parent.iterdir() if "partial" in p.name] == []
    assert call("run", "--resume", "run").code == 0
    assert equal(whole, "run/model.ckpt")


@pytest.mark.parametrize("name", ["model.ckpt", "best.ckpt", "result.json", "recipe.yaml", "metrics.jsonl", "log.txt"])
def test_whatever_file_finds_no_room_a_run_goes_on_afterwards(monkeypatch, whole, name):
    with monkeypatch.context() as patch:
        fill(patch, name, 0)
        message = error(call("run", "toy.yaml", "--out", "run"), 1)
    assert name in message
    assert "No space left on device" in message
    if Path("run/recipe.yaml").exists():
        assert call("run", "--resume", "run").code == 0
        assert equal(whole, "run/model.ckpt")
    else:
        assert call("run", "toy.yaml", "--out", "other").code == 0


def test_a_full_disk_loses_no_metrics(monkeypatch):
    assert call("run", "toy.yaml", *settings("train.epochs=1"), "--out", "run").code == 0
    before = Path("run/metrics.jsonl").read_text(encoding="utf-8")
    Path("run/stages/2-student/model.ckpt").unlink()
    with monkeypatch.context() as patch:
        fill(patch, "metrics.jsonl.partial", 0)
        assert "metrics.jsonl: No space left on device" in error(call("run", "--resume", "run"), 1)
    assert Path("run/metrics.jsonl").read_text(encoding="utf-8") == before


def test_a_checkpoint_that_cannot_be_resumed_is_named(monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 20, lambda: os.kill(os.getpid(), signal.SIGINT))
        call("run", "toy.yaml", "--out", "run")
    path = Path("run/stages/1-teacher/checkpoints/last.ckpt")
    good = path.read_bytes()
    path.write_bytes(good[:2000])
    assert "last.ckpt is no checkpoint, or a truncated one" in error(call("run", "--resume", "run"), 1)
    torch.save({"global_step": 3}, path)
    assert "was not written by `bnnapps run`" in error(call("run", "--resume", "run"), 1)
    path.write_bytes(good)
    assert call("run", "--resume", "run").code == 0


def test_a_run_killed_while_its_assets_are_written_can_go_on(monkeypatch, whole):
    def killed(self, folder):
        folder.mkdir(parents=True)
        (folder / "toy.json").write_text("{", encoding="utf-8")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(toy_task.ToyTask, "save_assets", killed)
        assert call("run", "toy.yaml", "--out", "run").code == 130
    assert call("run", "--resume", "run").code == 0
    assert json.loads(Path("run/assets/toy.json").read_text(encoding="utf-8")) == {"hidden": 16}
    assert equal(whole, "run/model.ckpt")
