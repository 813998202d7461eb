from __future__ import annotations

import copy
import inspect
import itertools
import pickle
from typing import Any

import pytest
import torch
from memory import kept_bytes
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import bnnapps
from bnnapps.errors import BinarizeError
from bnnapps.nn import ActivationSpec, BinaryGRU, BinaryLayer, BinaryLSTM, BinaryRNN, LinearSpec, WeightSpec
from bnnapps.nn import functional as BF
from bnnapps.nn.layers.base import to_float
from bnnapps.nn.spec import OutputSpec

REAL = LinearSpec(weight=None, activation=None)
IN, HIDDEN, BATCH, STEPS = 4, 5, 3, 6
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "tanh": (nn.RNN, BinaryRNN, {}),
    "relu": (nn.RNN, BinaryRNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, BinaryLSTM, {}),
    "projected lstm": (nn.LSTM, BinaryLSTM, {"proj_size": 3}),
    "gru": (nn.GRU, BinaryGRU, {}),
}
GRID = [
    {"num_layers": layers, "bidirectional": both, "batch_first": first, "bias": bias}
    for layers, both, first, bias in itertools.product((1, 3), (False, True), (False, True), (False, True))
]
FORMS = ["batch", "unbatched", "packed", "packed unsorted", "one step"]
by_kind = pytest.mark.parametrize("kind", KINDS)
by_options = pytest.mark.parametrize("options", GRID, ids=lambda o: "-".join(str(int(v)) for v in o.values()))


def pair(kind: str, spec: LinearSpec | None = None, **options: Any) -> tuple[Any, Any]:
    base, twin_class, own = KINDS[kind]
    options = {"dtype": torch.float64} | own | options
    layer, twin = base(IN, HIDDEN, **options), twin_class(IN, HIDDEN, **options, spec=spec)
    twin.load_state_dict(layer.state_dict())
    return layer, twin


def inputs(form: str, batch_first: bool = False) -> Any:
    if form == "unbatched":
        return torch.randn(STEPS, IN, dtype=torch.float64)
    if form.startswith("packed"):
        lengths = [2, 5, 3, 5] if form == "packed unsorted" else [5, 3, 3, 1]
        sequences = [torch.randn(n, IN, dtype=torch.float64) for n in lengths]
        return pack_sequence(sequences, enforce_sorted=form == "packed")
    steps = 1 if form == "one step" else STEPS
    return torch.randn(*((BATCH, steps) if batch_first else (steps, BATCH)), IN, dtype=torch.float64)


def states_for(layer: Any, x: Any) -> Any:
    """Random first states."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    if isinstance(x, PackedSequence):
        batch: tuple[int, ...] = (int(x.batch_sizes[0]),)
    else:
        batch = () if x.dim() == 2 else (x.shape[0 if layer.batch_first else 1],)
    hidden = torch.randn(count, *batch, layer.proj_size or HIDDEN, dtype=torch.float64)
    return (hidden, torch.randn(count, *batch, HIDDEN, dtype=torch.float64)) if layer.mode == "LSTM" else hidden


def tensors(result: Any) -> list[Tensor]:
    """Everything that a layer returned."""
    output, states = result
    parts = list(output) if isinstance(output, PackedSequence) else [output]
    return [t for t in [*parts, *(states if isinstance(states, tuple) else [states])] if t is not None]


def assert_same(found: Any, expected: Any) -> None:
    assert type(found[0]) is type(expected[0])
    assert type(found[1]) is type(expected[1])
    for ours, theirs in zip(tensors(found), tensors(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@by_kind
@by_options
def test_with_real_operands_it_is_the_float_layer(kind: str, options: dict[str, Any]) -> None:
    layer, twin = pair(kind, REAL, **options)
    for form in FORMS:
        x = inputs(form, options["batch_first"])
        for hx in (None, states_for(layer, x)):
            assert_same(twin(x, hx), layer(x, hx))


@by_kind
def test_gradients_with_real_operands_are_those_of_the_float_layer(kind: str) -> None:
    layer, twin = pair(kind, REAL, num_layers=2, bidirectional=True)
    x = inputs("packed unsorted")
    hx = states_for(layer, x)
    for net in (layer, twin):
        output, states = net(x, hx)
        last = states[1] if isinstance(states, tuple) else states
        (output.data.sin().sum() + last.square().sum()).backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(twin.get_parameter(name).grad, parameter.grad)


@by_kind
@pytest.mark.parametrize("form", ["batch", "packed unsorted"])
def test_dropout_between_layers_takes_the_same_numbers_away(kind: str, form: str) -> None:
    layer, twin = pair(kind, REAL, num_layers=3, dropout=0.5, bidirectional=True)
    x = inputs(form)
    results = []
    for net in (layer, twin):
        torch.manual_seed(7)
        results.append(net.train()(x))
    assert_same(results[1], results[0])
    assert not torch.equal(tensors(twin.eval()(x))[0], tensors(results[1])[0])
    assert_same(twin.eval()(x), layer.eval()(x))


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result = BF.sign(x) @ BF.sign(weight).t() * weight.abs().mean(1)
    return result if bias is None else result + bias


def one_sequence(layer: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The definition, for one sequence from zero states: (outputs, last hidden states, last cell states)."""
    hidden_states, cell_states = [], []
    for number in range(layer.num_layers):
        outputs = []
        for suffix in ("", "_reverse") if layer.bidirectional else ("",):
            name = f"l{number}{suffix}"
            bias_ih, bias_hh = (getattr(layer, f"bias_{k}_{name}", None) for k in ("ih", "hh"))
            weight_ih, weight_hh = (getattr(layer, f"weight_{k}_{name}") for k in ("ih", "hh"))
            h, c = x.new_zeros(layer.proj_size or HIDDEN), x.new_zeros(HIDDEN)
            seen = []
            for row in x.flip(0) if suffix else x:
                from_x, from_h = product(row[None], weight_ih, bias_ih)[0], product(h[None], weight_hh, bias_hh)[0]
                if layer.mode == "LSTM":
                    i, f, g, o = (from_x + from_h).view(4, HIDDEN)
                    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                    h = o.sigmoid() * c.tanh()
                    if layer.proj_size:
                        h = product(h[None], getattr(layer, f"weight_hr_{name}"), None)[0]
                elif layer.mode == "GRU":
                    (x_r, x_z, x_n), (h_r, h_z, h_n) = from_x.view(3, HIDDEN), from_h.view(3, HIDDEN)
                    keep = (x_z + h_z).sigmoid()
                    h = (1 - keep) * (x_n + (x_r + h_r).sigmoid() * h_n).tanh() + keep * h
                else:
                    h = (from_x + from_h).tanh() if layer.mode == "RNN_TANH" else (from_x + from_h).relu()
                seen.append(h)
            outputs.append(torch.stack(seen[::-1] if suffix else seen))
            hidden_states.append(h)
            cell_states.append(c)
        x = torch.cat(outputs, -1)
    return x, torch.stack(hidden_states), torch.stack(cell_states)


@by_kind
@by_options
def test_binary_operands_follow_the_definition(kind: str, options: dict[str, Any]) -> None:
    layer, twin = pair(kind, **options)
    x = inputs("batch", options["batch_first"])
    found, states = twin(x)
    for row in range(BATCH):
        sequence = x[row] if options["batch_first"] else x[:, row]
        output, hidden, cell = one_sequence(layer, sequence)
        torch.testing.assert_close(found[row] if options["batch_first"] else found[:, row], output)
        torch.testing.assert_close(states[0][:, row] if kind.endswith("lstm") else states[:, row], hidden)
        if kind.endswith("lstm"):
            torch.testing.assert_close(states[1][:, row], cell)


@by_kind
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences_are_independent(kind: str, enforce_sorted: bool) -> None:
    """Each sequence of a packed batch gets what it gets alone, whatever stands beside it."""
    layer, twin = pair(kind, num_layers=2, bidirectional=True, batch_first=True)
    lengths = [5, 3, 3, 1] if enforce_sorted else [2, 5, 1, 3]
    padded = torch.randn(4, 5, IN, dtype=torch.float64)
    packed = pack_padded_sequence(padded, torch.tensor(lengths), batch_first=True, enforce_sorted=enforce_sorted)
    output, states = twin(packed)
    unpacked, found_lengths = pad_packed_sequence(output, batch_first=True)
    assert found_lengths.tolist() == lengths
    for row, length in enumerate(lengths):
        expected, hidden, _ = one_sequence(layer, padded[row, :length])
        torch.testing.assert_close(unpacked[row, :length], expected)
        torch.testing.assert_close((states[0] if kind.endswith("lstm") else states)[:, row], hidden)


@by_kind
def test_states_are_carried_from_one_part_of_a_sequence_to_the_next(kind: str) -> None:
    _, twin = pair(kind, num_layers=2)
    x = inputs("batch")
    whole, last = twin(x)
    first, states = twin(x[:2])
    second, after = twin(x[2:], states)
    assert torch.equal(torch.cat([first, second]), whole)
    assert all(torch.equal(a, b) for a, b in zip(tensors((whole, after)), tensors((whole, last)), strict=True))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "projected lstm"])
def test_one_step_on_signs_is_that_of_the_float_layer(kind: str) -> None:
    """Weights, inputs and hidden states of +1 and -1 are their own codes, and the scales are 1."""
    layer, twin = pair(kind, bias=False)
    for net in (layer, twin):
        for name, parameter in net.named_parameters():
            parameter.data.copy_(BF.sign(layer.get_parameter(name)))
    x = BF.sign(inputs("one step"))
    hx = states_for(layer, x)
    hx = (BF.sign(hx[0]), hx[1]) if kind == "lstm" else BF.sign(hx)
    assert_same(twin(x, hx), layer(x, hx))


@by_kind
def test_every_matrix_has_parts_of_its_own_with_the_right_sizes(kind: str) -> None:
    spec = LinearSpec(activation=ActivationSpec(shift="channel", scale="elastic"))
    layer, twin = pair(kind, spec, num_layers=2, bidirectional=True)
    twin.train()(inputs("batch"))
    keys = [n.removeprefix("weight_") for n, _ in layer.named_parameters() if n.startswith("weight_")]
    assert list(twin.binary.products) == keys
    assert [name for name, _, _ in twin.latents()] == [f"weight_{key}" for key in keys]
    assert len({id(b) for _, _, b in twin.latents()}) == len(keys)
    for key in keys:
        activation = twin.binary.product(key).activation
        assert activation.shift.shape == (getattr(layer, f"weight_{key}").shape[1],)
        assert bool(activation.calibrated)
        assert 1e-3 < float(activation.alpha.detach()) < 10
    assert {n for n in twin.state_dict() if not n.startswith("binary.")} == set(layer.state_dict())
    with torch.no_grad():
        twin.binary.product("hh_l1_reverse").activation.shift.fill_(100.0)
    changed = twin.eval()(inputs("batch"))[0]
    assert changed.isfinite().all()


def test_the_scale_of_the_hidden_state_starts_from_real_hidden_states() -> None:
    """Its first input are zeros; the scale is set from the states that follow while they are real."""
    spec = LinearSpec(weight=None, activation=ActivationSpec(scale="elastic"))
    layer, twin = pair("lstm", spec)
    x = inputs("batch")
    twin.train()(x)
    scaled = BF.sign(x) * 2 * x.abs().mean()
    hidden = layer(scaled)[0]
    found = twin.binary.product("hh_l0").activation
    torch.testing.assert_close(found.alpha.double(), 2 * hidden.abs().mean().view(1), rtol=1e-6, atol=0)
    before = found.alpha.detach().clone()
    twin(x * 3)
    assert torch.equal(found.alpha, before)


def test_an_evaluated_layer_does_not_calibrate() -> None:
    _, twin = pair("gru", LinearSpec(activation=ActivationSpec(scale="elastic")))
    twin.eval()(inputs("batch"))
    activation = twin.binary.product("hh_l0").activation
    assert not bool(activation.calibrated)
    assert activation.needs_data


SPECS = {
    "default": LinearSpec(),
    "shifted": LinearSpec(activation=ActivationSpec(shift="channel", scale="elastic")),
    "two bits": LinearSpec(activation=ActivationSpec(bits=2, scale="elastic")),
    "affine": LinearSpec(weight=WeightSpec(scale="affine"), activation=ActivationSpec(scale="affine")),
    "row means": LinearSpec(activation=ActivationSpec(scale="input_map")),
    "standardized": LinearSpec(activation=ActivationSpec(standardize="sample"), weight=WeightSpec(transform="recu")),
    "noise": LinearSpec(activation=ActivationSpec(noise=True), weight=WeightSpec(noise=True)),
    "split": LinearSpec(weight=WeightSpec.model_validate({"kind": "split", "estimator": "identity"})),
    "weights alone": LinearSpec(activation=None),
    "activations alone": LinearSpec(weight=None),
}


@by_kind
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_part_gets_a_gradient(kind: str, spec: LinearSpec) -> None:
    _, twin = pair(kind, spec, num_layers=2, bidirectional=True)
    twin.train()(inputs("packed"))
    output, _ = twin(inputs("packed"))
    (output.data * torch.randn_like(output.data)).sum().backward()
    resting = {n for n, _, b in twin.latents() if b.spec.kind == "split"}
    for name, parameter in twin.named_parameters():
        if name not in resting:
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name
        if name.startswith("weight") and name not in resting and kind != "relu":
            assert parameter.grad.any(), name


@by_kind
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_saved_and_copied_layers_compute_the_same(kind: str, spec: LinearSpec) -> None:
    _, twin = pair(kind, spec, bidirectional=True)
    x = inputs("batch")
    twin.train()(x)
    twin.eval()
    expected = tensors(twin(x))
    other = pair(kind, spec, bidirectional=True)[1].eval()
    other.load_state_dict(twin.state_dict())
    for made in (other, copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert all(torch.equal(a, b) for a, b in zip(tensors(made(x)), expected, strict=True))


class Named(nn.LSTM):
    """A subclass that computes the same."""


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_subclass_copies_and_becomes_float_again(how: Any) -> None:
    rules = [bnnapps.Rule(types=["lstm"], use="bireal")]
    model: Any = bnnapps.binarize(nn.ModuleDict({"a": Named(IN, HIDDEN)}), rules, keep_first=0, keep_last=0)
    x = torch.randn(STEPS, BATCH, IN)
    assert isinstance(model["a"], Named)
    assert isinstance(model["a"], BinaryLayer)
    copied = how(model)
    assert torch.equal(copied["a"](x)[0], model["a"](x)[0])
    before = {n: p.clone() for n, p in copied.named_parameters()}
    restored = bnnapps.restore(copied)
    assert type(restored["a"]) is Named
    assert all(torch.equal(p, before[n]) for n, p in restored.named_parameters())
    restored["a"](x)


@by_kind
def test_deployed_weights_are_scale_times_code_under_the_float_names(kind: str) -> None:
    layer, twin = pair(kind, bidirectional=True)
    deployed = twin.binary_tensors()
    expected = {n: p.detach() for n, p in layer.named_parameters() if n.startswith("weight")}
    assert set(deployed) == set(expected)
    for name, w in expected.items():
        torch.testing.assert_close(deployed[name], BF.sign(w) * w.abs().mean(1, keepdim=True))


def test_constraints_reach_every_weight() -> None:
    _, twin = pair("projected lstm", LinearSpec(weight=WeightSpec(constraint="clip")), num_layers=2, bidirectional=True)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(100)
    twin.constrain()
    for name, weight, _ in twin.latents():
        assert float(weight.detach().abs().max()) == 1.0, name


def test_split_weights_merge_when_the_layer_becomes_float() -> None:
    _, twin = pair("gru", SPECS["split"])
    halves = twin.binary.product("hh_l0").weight
    with torch.no_grad():
        halves.first.add_(0.25)
    expected, untouched = halves.first + halves.second, twin.weight_ih_l0.clone()
    to_float(twin)
    assert type(twin) is nn.GRU
    assert torch.equal(twin.weight_hh_l0, expected)
    assert torch.equal(twin.weight_ih_l0, untouched)
    twin(inputs("batch"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (LinearSpec(output=OutputSpec()), "a recurrent layer has no output scale"),
        (LinearSpec(gradient_bits=6), "a recurrent layer has no rounded gradient, but gradient_bits is 6"),
    ],
)
def test_what_has_no_place_is_refused_before_anything_changes(spec: LinearSpec, message: str) -> None:
    with pytest.raises(BinarizeError, match=message):
        BinaryLSTM(IN, HIDDEN, spec=spec)
    model = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.LSTM(IN, HIDDEN)})
    use = {"method": "bnn", **({"gradient_bits": 6} if spec.output is None else {"output": {"scale": "channel"}})}
    with pytest.raises(BinarizeError, match=message.replace("a recurrent layer", "'b', a recurrent layer,")):
        bnnapps.plan(model, [{"types": ["linear", "lstm"], "use": use}], keep_first=0, keep_last=0)
    assert [type(m) for m in model.values()] == [nn.Linear, nn.LSTM]


@by_kind
def test_wrong_inputs_are_refused_as_in_the_float_layer(kind: str) -> None:
    layer, twin = pair(kind)
    x = inputs("batch")
    wrong: list[tuple[Any, ...]] = [
        (x[..., :2],),
        (x.float(),),
        (x[0, 0],),
        (x[:0],),
        (x, states_for(layer, x[:, :2])),
        (x[:, 0], states_for(layer, x)),
        (inputs("packed"), states_for(layer, x)),
    ]
    for given in wrong:
        for net in (layer, twin):
            with pytest.raises((ValueError, RuntimeError)):
                net(*given)


def test_batches_without_sequences() -> None:
    _, twin = pair("lstm", bidirectional=True)
    x = torch.zeros(4, 0, IN, dtype=torch.float64)
    output, (hidden, cell) = twin(x)
    assert (output.shape, hidden.shape, cell.shape) == ((4, 0, 2 * HIDDEN), (2, 0, HIDDEN), (2, 0, HIDDEN))


def test_functional_calls_use_the_weights_that_are_given() -> None:
    _, twin = pair("gru")
    x = inputs("batch")
    weights = {n: torch.randn_like(p) for n, p in twin.named_parameters()}
    found = torch.func.functional_call(twin, weights, (x,))[0]
    assert not torch.equal(found, twin(x)[0])
    twin.load_state_dict(weights, strict=False)
    assert torch.equal(twin(x)[0], found)


def test_the_weight_is_kept_once_for_all_steps() -> None:
    """What a step adds to memory does not grow with the square of the width, as a copy of the weight would."""
    twin = BinaryRNN(8, 64, bias=False, spec=LinearSpec(weight=WeightSpec(scale="none")))
    short, long = (kept_bytes(lambda n=n: twin(torch.randn(n, 1, 8))[0]) for n in (4, 36))  # type: ignore[misc]
    assert (long - short) / 32 < 64 * 64 / 8


SEQUENCES: dict[Any, tuple[Any, ...]] = {
    BinaryRNN: (nn.RNN, 4, 5, 2, "relu", False, True, 0.5, True),
    BinaryLSTM: (nn.LSTM, 4, 5, 2, False, True, 0.5, True, 3),
    BinaryGRU: (nn.GRU, 4, 5, 2, False, True, 0.5, True),
}


@pytest.mark.parametrize("twin", SEQUENCES, ids=lambda c: c.__name__)
def test_constructor_is_the_documented_one_of_the_float_class_plus_spec(twin: Any) -> None:
    base, *arguments = SEQUENCES[twin]
    line = base.__doc__.splitlines()[0].removeprefix("__init__(").removesuffix(")")  # the signature itself is *args
    documented = inspect.signature(eval(f"lambda {line}: None")).parameters
    ours = inspect.signature(twin.__init__).parameters
    assert list(ours) == ["self", *documented, "spec"]
    for name, parameter in documented.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind), name
    assert ours["spec"].kind is inspect.Parameter.KEYWORD_ONLY
    assert {n: (p.kind, p.default) for n, p in inspect.signature(twin.forward).parameters.items()} == {
        n: (p.kind, p.default) for n, p in inspect.signature(base.forward).parameters.items()
    }
    torch.manual_seed(5)
    theirs = base(*arguments, dtype=torch.float64)
    torch.manual_seed(5)
    made = twin(*arguments, dtype=torch.float64)
    assert twin.replaces is base
    assert isinstance(made, base)
    for name, value in theirs.state_dict().items():
        assert torch.equal(made.state_dict()[name], value)
    private = {"_modules", "_parameters", "_forward_pre_hooks", "_flat_weights", "_flat_weight_refs"}
    for name, value in theirs.__dict__.items():
        if name not in private:
            assert made.__dict__[name] == value, name
    assert set(made.__dict__) - set(theirs.__dict__) == {"spec"}
    assert {p.dtype for p in made.parameters()} == {torch.float64}


def test_a_recurrent_network_learns() -> None:
    """To tell whether the first of eight numbers was positive: the sign must be carried through the binary state."""
    torch.manual_seed(0)
    net = nn.ModuleDict({"body": BinaryGRU(1, 24), "head": nn.Linear(24, 1)})
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(120):
        x = torch.randn(8, 64, 1)
        target = (x[0] > 0).float()
        loss = nn.functional.binary_cross_entropy_with_logits(net["head"](net["body"](x)[0][-1]), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.randn(8, 512, 1)
    with torch.no_grad():
        right = (net["head"](net["body"](x)[0][-1]) > 0) == (x[0] > 0)
    assert float(right.float().mean()) > 0.9
