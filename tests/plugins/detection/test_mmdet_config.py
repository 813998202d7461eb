from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from bnnapps.errors import RecipeError
from bnnapps.plugins.detection.mmdet_config import find_config, read_config
from bnnapps.plugins.detection.mmdet_python import NotPlainError, values_of


def evaluated(text: str, **bases: Any) -> dict[str, Any]:
    return values_of(ast.parse(text), bases)[0]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = dict(a=1, b=[1, (2, 3)], **dict(c=None))", {"a": 1, "b": [1, (2, 3)], "c": None}),
        ("n = 3\nx = [dict(i=i) for i in range(n) if i != 9] if n else []", None),
        ("x = [2**i / 4 for i in range(3)]", [0.25, 0.5, 1.0]),
        ("a, b = 1, -2\nx = (a + b) * 3 // 2", -2),
        ("root = 'data/'\nx = f'{root}coco' + '/'", "data/coco/"),
        ("x = dict(a=dict(b=1))\nx.a.b = 2\nx['c'] = x.a.b", {"a": {"b": 2}, "c": 2}),
        ("x = dict(a=1, b=2)\nx.update(a=3)\nx.pop('b')", {"a": 3}),
        ("y = 1\ndel y\nx = [1]\nx.append(2)\nx += [3]", [1, 2, 3]),
        ("x = {k: dict(lr=v) for k, v in [('a', 1), ('b', 2)]}", {"a": {"lr": 1}, "b": {"lr": 2}}),
        ("x = [1, 2, 3, 4][1:-1]", [2, 3]),
        ("x = list(enumerate(['a', 'b']))", [(0, "a"), (1, "b")]),
    ],
)
def test_plain_python_gives_its_values(text: str, expected: Any) -> None:
    if expected is None:
        with pytest.raises(NotPlainError, match="i != 9"):  # comparisons are no part of it
            evaluated(text)
        return
    assert evaluated(text)["x"] == expected
    assert evaluated(text)["x"] == _run_by_python(text)


def _run_by_python(text: str) -> Any:
    class Mapping(dict[str, Any]):
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__  # type: ignore[assignment]

    names: dict[str, Any] = {"dict": Mapping}
    exec(text, names)
    return names["x"]


HOSTILE = [
    "import os",
    "from os import system",
    "__import__('os').system('touch owned')",
    "x = __import__('os')",
    "x = open('/etc/passwd').read()",
    "x = ().__class__.__bases__[0].__subclasses__()",
    "x = dict.__init__",
    "x = ''.join(['a'])",
    "x = '{0.__class__}'.format(1)",
    "x = f'{1:{10**9}}'",
    "def f(): pass",
    "class A: pass",
    "for i in range(3): x = i",
    "while True: pass",
    "x = (lambda: 1)()",
    "x = eval('1')",
    "x = [0] * 10**9",
    "x = 9**9**9",
    "x = 2.0 ** 1e9",
    "x = [i for i in range(10**9)]",
    "x = [1 for a in range(1000) for b in range(1000)]",
    "x = 'a' * 10**9",
    "x = (y := 1)",
    "dict = eval\nx = dict('1')",
    "x = undefined",
    "x = b'bytes'",
    "raise SystemExit",
    "try:\n    pass\nfinally:\n    pass",
    "with open('x') as f: pass",
    "assert False",
    "_base_.clear()",
    "x = 1\nx.update(a=1)",
    "async def f(): pass",
    "x = 1 if 1 == 1 else 2",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_code_is_refused_and_never_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "config.py", f"model = dict(type='FasterRCNN')\n{text}\n")
    with pytest.raises(RecipeError, match=r"config\.py, line \d+: '.*' .*run_code") as caught:
        read_config(path)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["config.py"]


def test_a_chain_of_bases_merges_as_mmengine_merges(tmp_path: Path) -> None:
    write(tmp_path, "_base_/model.py", "model = dict(type='A', neck=dict(type='FPN', n=4), head=dict(type='H', k=1))")
    write(tmp_path, "_base_/data.yaml", "data: {root: coco, sizes: [1, 2]}")
    write(tmp_path, "middle.py", "_base_ = ['./_base_/model.py', './_base_/data.yaml']\nmodel = dict(neck=dict(n=5))")
    text = """
_base_ = './middle.py'
sizes = {{_base_.data.sizes}}
model = dict(head=dict(_delete_=True, type='G'), root='{{_base_.data.root}}', neck=_base_.model.neck)
_base_.model.type = 'B'
del _base_.data
"""
    found = read_config(write(tmp_path, "last.py", text))
    assert found["model"] == {"type": "B", "neck": {"type": "FPN", "n": 5}, "head": {"type": "G"}, "root": "coco"}
    assert found["sizes"] == [1, 2]
    assert "data" not in found


def test_yaml_goes_through_the_safe_loader(tmp_path: Path) -> None:
    path = write(tmp_path, "c.yaml", "model: !!python/object/apply:os.system ['touch owned']")
    with pytest.raises(RecipeError, match=r"c\.yaml cannot be read"):
        read_config(path)
    assert not (tmp_path / "owned").exists()
    assert read_config(write(tmp_path, "d.json", '{"model": {"type": "A"}}')) == {"model": {"type": "A"}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.py": "_base_ = 'b.py'", "b.py": "_base_ = 'a.py'"}, "is its own base"),
        ({"a.py": "_base_ = 'missing.py'"}, r"missing\.py cannot be read"),
        ({"a.py": "_base_ = ['b.py', 'c.py']", "b.py": "x = 1", "c.py": "x = 2"}, "two of its bases give 'x'"),
        ({"a.py": "_base_ = open('x')"}, "_base_ must be a path or a list of paths"),
        ({"a.py": "_base_ = [1]"}, r"must be a path or a list of paths, not \[1\]"),
        ({"a.py": "_base_ = 'mmpretrain::x.py'"}, "belongs to the package 'mmpretrain'"),
        ({"a.py": "_base_ = '/etc/passwd'"}, "is no config: it must end in .py"),
        ({"a.py": "x = ("}, "is no Python that can be read"),
        ({"a.py": "x = {{$HOME:1}}"}, "is not known: only _base_"),
        ({"a.py": "x = '" + "a" * (1 << 20) + "'"}, "more than 1048576 bytes"),
        ({"a.yaml": "[1, 2]"}, "holds no mapping from names to values"),
        ({"a.json": "{"}, r"a\.json cannot be read"),
        ({"a.toml": "x = 1"}, "is no config: it must end in .py, .yaml, .yml, .json"),
    ],
)
def test_a_file_that_is_no_config_gets_one_line(files: dict[str, str], message: str, tmp_path: Path) -> None:
    paths = [write(tmp_path, name, text) for name, text in files.items()]
    with pytest.raises(RecipeError, match=message) as caught:
        read_config(paths[0])
    assert "\n" not in str(caught.value)


def test_a_file_of_bytes_is_no_config(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"a\.py cannot be read"):
        read_config(path)


def test_configs_of_the_zoo_are_found_by_name_and_read_as_mmengine_reads_them() -> None:
    pytest.importorskip("mmdet")
    from mmengine.config import Config

    assert find_config("ssd300_coco") == find_config("mmdet::ssd/ssd300_coco.py")
    with pytest.raises(
        RecipeError, match="neither a file nor a config of mmdet's zoo; the nearest there are 'ssd300_coco"
    ):
        find_config("ssd300_cocoo")
    names = ("ssd300_coco", "faster-rcnn_r50_fpn_1x_coco", "yolox_tiny_8xb8-300e_coco", "cascade-rcnn_r50_fpn_1x_coco")
    for name in (
        *names,
        "rtmdet_tiny_8xb32-300e_coco",
        "deformable-detr_r50_16xb2-50e_coco",
        "mask2former_r50_8xb2-lsj-50e_coco",
    ):
        path = find_config(name)
        assert _lists(read_config(path)["model"]) == _lists(Config.fromfile(str(path)).to_dict()["model"])


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, (list, tuple)) else value
