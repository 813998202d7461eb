"""`bnnapps plan RECIPE --target packed`."""

from __future__ import annotations

from command_line import TINY, call, error, settings


def test_json_has_the_plans_and_a_row_for_each_product() -> None:
    plain = call("plan", "bibert_glue", *settings(*TINY), "--json").json
    found = call("plan", "bibert_glue", *settings(*TINY), "--target", "packed", "--json").json
    assert found["stages"] == plain
    target = found["target"]
    assert (target["name"], target["stage"]) == ("packed", "student")
    assert target["layers"][0]["layer"] == "bert.embeddings.word_embeddings"
    layer = "bert.encoder.layer.0"
    assert [row["layer"] for row in target["layers"][1:]] == [
        *(f"{layer}.attention.self/{name}" for name in ("scores", "context")),
        *(f"{layer}.attention.self.{name}" for name in ("query", "key", "value")),
        *(f"{layer}.{name}.dense" for name in ("attention.output", "intermediate", "output")),
        "bert.pooler.dense",
    ]
    assert all(row["takes_bits"] and row["reason"] == "" for row in target["layers"])


def test_text_names_what_stays_and_why() -> None:
    found = call("plan", "bibert_glue", *settings(*TINY), "--target", "packed")
    assert (found.code, found.err) == (0, "")
    plain = call("plan", "bibert_glue", *settings(*TINY))
    assert found.out.startswith(plain.out)
    rest = [" ".join(line.split()) for line in found.out.removeprefix(plain.out).splitlines()]
    assert rest == [
        "",
        "Target 'packed': student",
        "10 of 10 layers and products would run on bits",
    ]


def test_more_than_one_bit_is_a_reason() -> None:
    changes = settings(*TINY, "binarize.overrides={activation_bits: 2}", "binarize.method=bit")
    rows = call("plan", "bibert_glue", *changes, "--target", "packed", "--json").json["target"]["layers"]
    reasons = {row["layer"]: row["reason"] for row in rows}
    assert reasons["bert.pooler.dense"] == "'bert.pooler.dense' has 2 bits"
    found = call("plan", "bibert_glue", *changes, "--target", "packed")
    assert "stays as it is" in found.out
    assert "'bert.pooler.dense' has 2 bits" in found.out


def test_a_float_network_has_no_rows() -> None:
    changes = settings(*TINY, "train.stages.student=null")
    found = call("plan", "bibert_glue", *changes, "--target", "packed")
    assert found.lines[-2:] == ["Target 'packed': teacher", "float network, nothing would run on bits"]


def test_an_unknown_target_is_one_line() -> None:
    message = "there is no target 'paked'; the nearest are 'packed'"
    assert error(call("plan", "bibert_glue", "--target", "paked"), 2) == message
