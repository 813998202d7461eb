from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import call, error
from onnx import TensorProto, helper, numpy_helper
from packed_files import export_all

import bnnapps


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_all(tmp_path_factory.mktemp("files"))


CONV, DENSE = 16 * 8 * 9, 3 * 256


def test_a_packed_file_node_by_node(files: Path) -> None:
    found = call("inspect", files / "packed.onnx", "--json").json
    assert list(found) == ["file", "dialect", "written_by", "opset", "packed_version", "nodes", "totals"]
    assert (found["dialect"], found["written_by"], found["opset"]) == ("packed", bnnapps.__version__, 18)
    assert found["packed_version"] == 1
    assert list(found["nodes"][0]) == [
        *("name", "operator", "bits", "shape", "constant_bytes", "one_bit_weights", "one_bit_bytes")
    ]
    model = onnx.load(files / "packed.onnx")
    assert [node["name"] for node in found["nodes"]] == [node.name for node in model.graph.node]
    assert [node["bits"] for node in found["nodes"]] == [node.domain == "bnnapps" for node in model.graph.node]
    weighty = [node for node in found["nodes"] if node["one_bit_weights"]]
    assert [(node["one_bit_weights"], node["one_bit_bytes"]) for node in weighty] == [(CONV, 16 * 9), (DENSE, 3 * 32)]
    first = found["nodes"][0]
    assert (first["operator"], first["bits"], first["shape"]) == ("Conv", False, ["batch", 8, 6, 6])
    assert (first["constant_bytes"], first["one_bit_weights"]) == (4 * (8 * 3 * 9 + 8), 0)


def test_the_totals_of_a_packed_file(files: Path) -> None:
    path = files / "packed.onnx"
    totals, model = call("inspect", path, "--json").json["totals"], onnx.load(path)
    assert totals["file_bytes"] == path.stat().st_size
    assert totals["one_bit_weights"] == CONV + DENSE
    assert totals["one_bit_bytes"] == 16 * 9 + 3 * 32
    assert totals["float_bytes"] == 4 * (CONV + DENSE)
    assert totals["ratio"] == 32
    arrays = sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
    assert totals["one_bit_bytes"] + totals["other_constant_bytes"] == arrays
    assert totals["function_bytes"] == sum(function.ByteSize() for function in model.functions)
    assert totals["nodes_on_bits"] == sum(node.domain == "bnnapps" for node in model.graph.node)
    assert totals["nodes_on_bits"] + totals["nodes_real"] == len(model.graph.node)
    assert sum(totals["real"].values()) == totals["nodes_real"]
    assert totals["real"]["Conv"] == 1


def test_a_packed_file_as_text(files: Path) -> None:
    found, totals = (
        call("inspect", files / "packed.onnx"),
        call("inspect", files / "packed.onnx", "--json").json["totals"],
    )
    assert (found.code, found.err) == (0, "")
    assert found.lines[:5] == [
        f"file           {files / 'packed.onnx'}",
        "dialect        packed",
        f"written by     bnnapps {bnnapps.__version__}",
        "opset          18",
        "operators      domain bnnapps, version 1",
    ]
    assert found.lines[5].split() == [
        "node",
        "operator",
        "on",
        "bits",
        "output",
        "constant",
        "bytes",
        "1-bit",
        "weights",
    ]
    real = ", ".join(f"{count} {name}" for name, count in totals["real"].items())
    assert found.lines[-6:] == [
        f"file                   {totals['file_bytes']:,} bytes",
        "1-bit weights          1,920 in 240 bytes; float32 would take 7,680, 32.0 times as much",
        f"other constants        {totals['other_constant_bytes']:,} bytes",
        f"function bodies        {totals['function_bytes']:,} bytes",
        f"nodes on bits          {totals['nodes_on_bits']} of {totals['nodes_on_bits'] + totals['nodes_real']}",
        f"nodes that stay real   {real}",
    ]


def test_the_weights_of_a_portable_file_take_four_bytes(files: Path) -> None:
    found = call("inspect", files / "portable.onnx", "--json").json
    assert found["dialect"] == "portable"
    totals = found["totals"]
    assert (totals["one_bit_weights"], totals["one_bit_bytes"]) == (CONV + DENSE, 4 * (CONV + DENSE))
    assert (totals["ratio"], totals["nodes_on_bits"], totals["function_bytes"]) == (1, 0, 0)


def test_real_nodes_without_constants_are_shown_on_demand(files: Path) -> None:
    short, long = call("inspect", files / "portable.onnx"), call("inspect", files / "portable.onnx", "--all")
    hidden = next(line for line in short.lines if line.startswith("and "))
    count = int(hidden.split()[1])
    assert hidden == f"and {count} real nodes without constants (--all shows them)"
    assert len(long.lines) == len(short.lines) + count - 1
    assert any(" Cast " in line for line in long.lines)
    assert not any(" Cast " in line for line in short.lines[:-1])


def test_a_foreign_file(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 2), np.float32))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", size]) for n, size in (("x", 4), ("y", 2)))
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "foreign.onnx")
    found = call("inspect", tmp_path / "foreign.onnx", "--json").json
    assert (found["dialect"], found["written_by"], found["opset"]) == ("foreign", None, 17)
    assert found["nodes"] == [
        {
            "name": "product",
            "operator": "MatMul",
            "bits": False,
            "shape": ["N", 2],
            "constant_bytes": 32,
            "one_bit_weights": 8,
            "one_bit_bytes": 32,
        }
    ]
    assert call("inspect", tmp_path / "foreign.onnx").lines[1] == "dialect        foreign: not written by bnnapps"


@pytest.mark.parametrize("command", ["inspect", "bench"])
def test_what_is_no_model_is_one_line(command: str, files: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    assert error(call(command, bad), 1) == f"there is no file '{bad}': export a model to it first"
    assert error(call(command, tmp_path), 1) == f"'{tmp_path}' is a folder: name a file in it"
    bad.write_bytes((files / "packed.onnx").read_bytes()[:2000])
    assert error(call(command, bad), 1) == f"'{bad}' is damaged, or no ONNX file: export the model again"
    bad.write_text("no model at all", encoding="utf-8")
    assert error(call(command, bad), 1) == f"'{bad}' is damaged, or no ONNX file: export the model again"
    bad.write_bytes(b"")
    assert error(call(command, bad), 1) == f"'{bad}' holds no ONNX graph: export the model again"


def test_a_node_without_its_attributes_is_named(files: Path, tmp_path: Path) -> None:
    model = onnx.load(files / "packed.onnx")
    node = next(node for node in model.graph.node if node.op_type.startswith("BinaryConv"))
    del node.attribute[:]
    onnx.save(model, tmp_path / "bad.onnx")
    reason = "has attributes or constants that do not fit it: export the model again"
    assert error(call("inspect", tmp_path / "bad.onnx"), 1) == f"the node '{node.name}' ({node.op_type}) {reason}"


def test_json_and_text_agree_on_the_number_of_rows(files: Path) -> None:
    rows = json.loads(call("inspect", files / "float.onnx", "--json").out)["nodes"]
    text = call("inspect", files / "float.onnx", "--all")
    assert sum(line.startswith(tuple(row["name"] for row in rows)) for line in text.lines) == len(rows)
    assert "1-bit weights          none" in text.lines
