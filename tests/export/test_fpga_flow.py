"""From a torch model to hardware layers, the refusals, and the whole flow on a small network."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from rich.console import Console
from torch import nn

import bnnapps
from bnnapps.cli import main
from bnnapps.errors import ExportError, UsageError
from bnnapps.export import export
from bnnapps.export.fpga.flow import NAMES, Options, build
from bnnapps.export.fpga.golden import classes, sums
from bnnapps.export.fpga.layers import Conv, Pool
from bnnapps.export.fpga.read import input_codes, read_network
from bnnapps.export.fpga.route import Effort
from bnnapps.export.fpga.synthesis import count_cells, summed
from bnnapps.export.fpga.tools.process import run_tool
from bnnapps.models.finn import TensorNorm, cnv, fully_connected

BNN = [{"types": ["linear", "conv2d"], "use": "bnn"}]
PIXELS = {"match": "0", "use": {"method": "bnn", "activation.bits": 8, "activation.scale": "elastic"}}


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """With norms of either sign, one of them of weight 0, as if it had been trained."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.weight.data[0] = 0
            module.running_mean.normal_().mul_(2)
            module.running_var.uniform_(4, 40)
    return model.eval()


def packed(model: nn.Module, x: torch.Tensor, path: Path, *rules: Any, **keep: int) -> onnx.ModelProto:
    keep = {"keep_first": 0, "keep_last": 0} | keep
    bnnapps.binarize(model, [*BNN, *rules], example_inputs=x, **keep)
    for module in model.modules():
        if hasattr(module, "alpha"):
            module.alpha.data.fill_(1 / 100)
    export(model, x, path, dialect="packed")
    return onnx.load(path)


def agrees(model: nn.Module, proto: onnx.ModelProto, x: torch.Tensor) -> Any:
    """The hardware layers, if their classes are those of torch, which are several."""
    network, chain, front = read_network(proto, "m.onnx")
    z = sums(network, input_codes(chain, front, x.numpy()))
    with torch.no_grad():
        expected = model(x)
    assert (torch.from_numpy(classes(network.head, z)) == expected.argmax(1)).all()
    return network, z, expected


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed file of 64-24-16-5."""
    path = tmp_path_factory.mktemp("fpga") / "small.onnx"
    model = trained(fully_connected(5, 1, (24, 16), image_size=8))
    packed(model, torch.rand(2, 1, 8, 8) * 2 - 1, path)
    return path


def test_a_dense_network_agrees_with_torch(tmp_path: Path) -> None:
    torch.manual_seed(1)
    x = torch.rand(200, 1, 8, 8) * 2 - 1
    model = nn.Sequential(*fully_connected(5, 1, (24, 16), image_size=8)[:-1], nn.BatchNorm1d(5))
    model = trained(model)
    network, z, expected = agrees(model, packed(model, x[:2], tmp_path / "m.onnx"), x)
    assert network.head.ranks is not None  # a norm for each class, of either sign
    assert len(set(expected.argmax(1).tolist())) > 1
    norm: Any = model[-1]
    with torch.no_grad():
        assert torch.allclose(norm(torch.from_numpy(z).float()), expected, atol=1e-5)


def test_a_convolutional_network_agrees_with_torch(tmp_path: Path) -> None:
    """8-bit pixels, convolutions, a pool, and a map that is flattened."""
    torch.manual_seed(2)
    x = torch.rand(60, 3, 12, 12) * 2 - 1
    model = trained(cnv(4, 3, channels=((6, 8), (8,)), hidden=(12,), image_size=12))
    network, z, expected = agrees(model, packed(model, x[:2], tmp_path / "m.onnx", PIXELS), x)
    assert [type(layer).__name__ for layer in network.layers] == ["Conv", "Conv", "Pool", "Conv", "Dense", "Dense"]
    assert network.input.bits == 8
    assert network.head.ranks is None  # one norm for all scores
    norm: Any = model[-1]
    with torch.no_grad():
        assert torch.allclose(norm(torch.from_numpy(z).float()), expected, atol=1e-5)


def test_padding_and_strides_are_read(tmp_path: Path) -> None:
    torch.manual_seed(3)
    x = torch.rand(40, 4, 9, 7) * 2 - 1
    layers = [nn.Conv2d(4, 6, 3, stride=(2, 1), padding=1, bias=False), nn.BatchNorm2d(6), nn.MaxPool2d(2)]
    model = trained(nn.Sequential(*layers, nn.Hardtanh(), nn.Flatten(), nn.Linear(36, 3, bias=False)))
    network, _, _ = agrees(model, packed(model, x[:2], tmp_path / "m.onnx"), x)
    conv, pool = network.layers[:2]
    assert isinstance(conv, Conv)
    assert (conv.stride, conv.pads, conv.pad_value) == ((2, 1), (1, 1, 1, 1), 0)
    assert isinstance(pool, Pool)
    assert pool.size == (5, 7)


@pytest.mark.parametrize(
    ("layers", "rules", "keep", "message"),
    [
        (
            [nn.Flatten(), nn.Linear(64, 4, bias=False), nn.Linear(4, 2)],
            [],
            {"keep_last": 1},
            r"cannot become hardware: it computes on real numbers",
        ),
        (
            [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)],
            [],
            {"keep_first": 1},
            r"layer '0.*\(Conv\) cannot become hardware.*activation\.bits: 8",
        ),
        (
            [nn.Conv2d(1, 4, 3), nn.MaxPool2d(3, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)],
            [],
            {},
            r"windows of \(3, 3\) in steps of \(2, 2\); the FPGA flow takes windows that touch",
        ),
        (
            [nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2)],
            [],
            {},
            r"layer '0': channel \d has a BatchNorm of negative weight behind the pool: put BatchNorm",
        ),
        (
            [nn.Conv2d(1, 4, 3, dilation=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)],
            [],
            {},
            r"layer '0' is grouped, dilated or not 2-dimensional",
        ),
        (
            [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)],
            [],
            {},
            r"cannot become hardware: take the mean out",
        ),
    ],
)
def test_what_the_flow_cannot_take_is_named(
    layers: list[nn.Module], rules: list[Any], keep: dict[str, int], message: str, tmp_path: Path
) -> None:
    model = trained(nn.Sequential(*layers))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.copy_(torch.tensor([1.0, -1.0, 0.5, -0.5]))
    proto = packed(model, torch.rand(2, 1, 8, 8) * 2 - 1, tmp_path / "m.onnx", *rules, **keep)
    with pytest.raises(ExportError, match=message):
        read_network(proto, "m.onnx")


def test_a_branch_is_refused(tmp_path: Path) -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.b(self.a(x) + x)
            return out

    proto = packed(Branch(), torch.randn(2, 16), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=r"joins 2 values; the FPGA flow takes plain chains"):
        read_network(proto, "m.onnx")


def test_cells_of_each_family_are_counted() -> None:
    """Names as Yosys gives them."""
    gowin = summed({"LUT4": 3, "LUT1": 1, "ALU": 2, "DFFRE": 5, "SPX9": 1, "pROM": 2, "RAM16SDP4": 4, "MUX2_LUT5": 9})
    assert (gowin.luts, gowin.carries, gowin.ffs, gowin.brams, gowin.lut_rams) == (6, 2, 5, 3, 4)
    ecp5 = summed(
        {"LUT4": 3, "CCU2C": 2, "DP16KD": 3, "PDPW16KD": 1, "TRELLIS_DPR16X4": 2, "ALU54B": 1, "MULT18X18D": 1}
    )
    assert (ecp5.luts, ecp5.brams, ecp5.lut_rams, ecp5.dsps) == (7, 4, 2, 1)
    xilinx = summed({"LUT6": 2, "INV": 1, "FDRE": 3, "FDSE": 1, "RAMB36E1": 1, "RAMB18E1": 3, "RAM32M": 1, "CARRY4": 1})
    assert (xilinx.luts, xilinx.ffs, xilinx.brams, xilinx.lut_rams, xilinx.carries) == (3, 4, 2.5, 1, 1)
    ice40 = summed({"SB_LUT4": 2, "SB_CARRY": 1, "SB_DFFESR": 3, "SB_RAM40_4K": 4})
    assert (ice40.luts, ice40.carries, ice40.ffs, ice40.brams) == (2, 1, 3, 4)


def test_the_norm_of_a_tensor_is_that_of_one_feature() -> None:
    torch.manual_seed(0)
    ours, theirs = TensorNorm(), nn.BatchNorm1d(1, eps=1e-4)
    for _ in range(3):
        x = torch.randn(6, 5) * 3 + 1
        assert torch.allclose(ours(x), theirs(x.reshape(-1, 1)).reshape(6, 5), atol=1e-6)
    assert torch.allclose(ours.running_var, theirs.running_var)
    assert torch.allclose(ours.running_mean, theirs.running_mean)
    x = torch.randn(4, 5)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x.reshape(-1, 1)).reshape(4, 5), atol=1e-6)


def call(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0


def test_the_flow_goes_through_and_is_cached(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Generate, simulate, synthesise, report; a second call does nothing again; --from does."""
    out = tmp_path / "out"
    arguments = ["fpga", str(small), "--target", "xilinx7", "--fps", "1e5", "--mhz", "100", "--out", str(out)]
    arguments += ["--vectors", "8", "--luts", "9000", "--brams", "9"]
    call(*arguments, "--to", "report")
    said = capsys.readouterr().out
    assert "all results right" in said
    found = json.loads((out / "report.json").read_text())
    assert {n["kind"] for n in found["totals"].values()} <= {"simulated", "predicted", "estimate", "synthesised cells"}
    assert found["totals"]["cycles an inference"]["value"] <= 1000
    assert found["totals"]["LUT6"]["value"] == pytest.approx(sum(r["LUT"]["value"] for r in found["layers"]), abs=60)
    assert len({run["simulator"] for run in found["simulations"]}) == 2
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")
    call(*arguments, "--to", "synthesize")
    assert capsys.readouterr().out.count("as before") == NAMES.index("synthesize") + 1
    call(*arguments, "--from", "fold", "--to", "generate")
    assert capsys.readouterr().out.count("as before") == 1


def test_bad_requests(small: Path, tmp_path: Path) -> None:
    def ask(**options: Any) -> None:
        stops = {key: options.pop(key) for key in ("begin", "end") if key in options}
        build(small, tmp_path, Options(**options), Console(quiet=True), **stops)

    for options, message in (
        ({"begin": "rout"}, r"--from: there is no step 'rout'; the nearest are 'route'"),
        ({"begin": "fold", "end": "read"}, r"'read' comes before 'fold'"),
        ({"vectors": 1}, r"--vectors is 1; expected at least 2"),
        ({"fps": 1.0, "folding": small}, r"one of --fps and --folding"),
        ({"fps": 1e9, "end": "fold"}, r"at most \d+ inferences a second"),
    ):
        with pytest.raises(UsageError, match=message):
            ask(**options)
    for choice, message in (
        ({"placer": "heep"}, "--placer is 'heep'; expected one of heap, static, sa"),
        ({"router": "router3"}, "--router is 'router3'; expected one of router1, router2"),
    ):
        with pytest.raises(UsageError, match=message):
            Effort(**choice)


NEXTPNR = """
import json, sys
given = sys.argv[1:]
with open("given.json", "a") as file:
    file.write(json.dumps(given) + "\\n")
where = given[given.index("--report") + 1]
found = {"fmax": {"clk": {"achieved": 99.5}}, "utilization": {"TRELLIS_COMB": {"used": 7, "available": 9}}}
json.dump(found, open(where, "w"))
open(given[given.index("--textcfg") + 1], "w").close()
"""


def test_placer_and_router_are_chosen_and_only_routing_is_done_again(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in for nextpnr writes down what it is called with."""
    script = tmp_path / "nextpnr"
    script.write_text(f"#!{sys.executable}\n{NEXTPNR}", encoding="utf-8")
    script.chmod(0o755)
    for module in ("flow", "route"):
        monkeypatch.setattr(f"bnnapps.export.fpga.{module}.require_program", lambda *_: str(script))
    out = tmp_path / "out"
    arguments = ["fpga", str(small), "--target", "ecp5-25k", "--fps", "1e5", "--mhz", "100", "--out", str(out)]
    arguments += ["--vectors", "2", "--sim", "cxxrtl", "--to", "route"]
    call(*arguments)
    assert "99.5 MHz" in capsys.readouterr().out
    call(*arguments, "--placer", "static", "--router", "router2")
    assert capsys.readouterr().out.count("as before") == NAMES.index("route")
    given = [json.loads(line) for line in (out / "rtl" / "given.json").read_text().splitlines()]
    common = given[0]
    assert not any("placer" in word or "router" in word for word in common)
    assert given[1:] == [[*common, "--placer", "static", "--router", "router2"]]


def test_cells_are_counted_by_the_instances_of_the_top() -> None:
    names = ["layer0.mac.pe[0].x_LUT4", "$flatten\\layer0.$auto$1", "head.x", "clk_buf"]
    cells = {name: {"type": kind} for name, kind in zip(names, ["LUT4", "TRELLIS_FF", "CCU2C", "LUT4"], strict=True)}
    total, parts = count_cells(cells)
    assert (total.luts, total.ffs, total.carries) == (4, 1, 1)
    assert (parts["layer0"].luts, parts["layer0"].ffs, parts["head"].luts) == (1, 1, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process holds while it runs")
def test_the_memory_of_a_tool_is_its_own(tmp_path: Path) -> None:
    """That of what it started counts, that of this process, which holds torch, does not."""
    grandchild = "import pathlib, time\nheld = bytearray(80 << 20)\npathlib.Path('holds').touch()\n"
    grandchild += "while not pathlib.Path('seen').exists(): time.sleep(0.01)"
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {grandchild!r}], check=True)"
    ticks = []

    def tick(seconds: float) -> None:
        if (tmp_path / "holds").exists():
            ticks.append(seconds)
        if len(ticks) == 2:  # so it was looked at in between
            (tmp_path / "seen").touch()

    used = run_tool("Python", [sys.executable, "-c", script], tmp_path, "log", tick)
    assert 80 < used.megabytes < 160
