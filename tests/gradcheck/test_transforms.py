"""Networks with transforms, loops, and several inputs: correct ones pass, and mistakes inside are located."""

import jax
import numpy as np
import pytest

import fnet
from fnet.gradcheck import check
from fnet.reference import Rule, activation, embedding

INSIDE = (fnet.batch_norm(), fnet.tanh(), fnet.dropout(0.3))

NETS = {
    "remat": fnet.remat(fnet.precision(fnet.dense(2), *INSIDE)),
    "frozen": fnet.frozen(fnet.dense(2), *INSIDE),
    "a loop in a loop": fnet.repeat(fnet.dense(3), fnet.repeat(*INSIDE, times=2, scan=True), times=2, scan=True),
}


def checked(layer):
    net = fnet.serial(fnet.dense(3), layer)
    params, state = net.init(jax.random.key(0), (3,))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape), params)
    return check(
        net, "mse", params, state, rng.standard_normal((4, 3)), rng.standard_normal((4, *net.shape((3,)))), samples=1
    )


@pytest.mark.parametrize("name", NETS)
def test_networks_without_a_mistake_pass(name):
    report = checked(NETS[name])
    assert report.ok, str(report)
    assert any(row.part == "state" for row in report.rows)
    assert any(row.part == "dropout" for row in report.rows) == (name != "frozen")


@pytest.mark.parametrize("name", ["frozen", "a loop in a loop"])
def test_a_mistake_inside_is_located(name, monkeypatch):
    right = activation.tanh
    monkeypatch.setattr(activation, "tanh", Rule(right.forward, lambda *a: (1.01 * right.backward(*a)[0], {})))
    report = checked(NETS[name])
    assert {culprit.kind for culprit in report.culprits} == {"tanh"}, str(report)
    assert {(culprit.what, culprit.verdict) for culprit in report.culprits} == {("input", "by hand")}


def test_the_gradient_of_a_frozen_parameter_is_0():
    """The loss depends on these parameters, so that finite differences do not apply to them."""
    report = checked(NETS["frozen"])
    rows = [row for row in report.listed if row.name.startswith("frozen_1/")]
    assert len(rows) == 4
    assert all((row.absolute, row.checked, row.verdict) == (0.0, 0, "ok") for row in rows)


TWO_INPUTS = fnet.graph(
    fnet.dense(3, name="left"),
    fnet.embedding(5, 3, name="right"),
    fnet.global_avg_pool(name="pooled"),
    fnet.dense(2, name="last"),
    nodes={
        "a": ("left", "values"),
        "b": ("right", "indices"),
        "c": ("pooled", "b"),
        "d": ("multiply", "a", "c"),
        "y": ("last", "d"),
    },
    inputs=("values", "indices"),
)


def check_two_inputs():
    params, state = TWO_INPUTS.init(jax.random.key(0), {"values": (4,), "indices": (3,)})
    rng = np.random.default_rng(2)
    x = {"values": rng.standard_normal((5, 4)), "indices": rng.integers(0, 5, (5, 3))}
    return check(TWO_INPUTS, "mse", params, state, x, rng.standard_normal((5, 2)), samples=1)


def test_several_inputs_are_checked():
    report = check_two_inputs()
    assert report.ok, str(report)
    names = [row.name for row in report.listed]
    assert names[:3] == ["outputs", "loss", "input/values"]
    assert "input/indices" not in names


def test_a_mistake_behind_several_inputs_is_located(monkeypatch):
    right = embedding.embedding
    mistake = Rule(right.forward, lambda *a: (right.backward(*a)[0], {"w": 2 * right.backward(*a)[1]["w"]}))
    monkeypatch.setattr(embedding, "embedding", mistake)
    report = check_two_inputs()
    assert [(c.layer, c.what, c.verdict) for c in report.culprits] == [("right", "w", "by hand")], str(report)


def test_branches_of_several_inputs_with_dropout_of_their_weights():
    net = fnet.parallel(fnet.cross_attention(1, rate=0.3), fnet.cross_attention(2))
    params, state = net.init(jax.random.key(0), ((2, 4), (3, 2)))
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, 2, 4)), rng.standard_normal((4, 3, 2))
    report = check(net, "mse", params, state, x, rng.standard_normal((4, 2, 8)), samples=1)
    assert report.ok, str(report)
    assert [row.name for row in report.rows if row.part == "dropout"] == ["kept: cross_attention_1"]


def test_several_outputs_with_steps_are_checked():
    """The loss is a function of both outputs, without a rule by hand."""
    net = fnet.graph(
        fnet.dense(3, name="f"),
        fnet.dense(2, name="g"),
        nodes={"a": ("f", "input"), "b": ("g", "a")},
        output=("a", "b"),
    )
    params, state = net.init(jax.random.key(0), (2, 4))
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((4, 2, 4)), (rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2, 2)))

    def both(outputs, targets):
        return fnet.losses.mse(outputs[0], targets[0]) + 2 * fnet.losses.huber(outputs[1], targets[1])

    report = check(net, both, params, state, x, y, samples=1)
    assert report.ok, str(report)
    assert [row.name for row in report.listed][:4] == ["outputs/0", "outputs/1", "loss", "input"]
    assert "masked steps" in {row.part for row in report.rows}


@fnet.constructor
def iced(*layers: fnet.Layer, name: str | None = None):
    """Layers whose parameters do not change."""
    return fnet.frozen(*layers)


@fnet.constructor
def block(*, name: str | None = None):
    """Two dense layers with a tanh each."""
    return fnet.repeat(fnet.dense(2), fnet.tanh(), times=2, scan=True)


def checked_composite(*layers):
    net = fnet.serial(*layers)
    params, state = net.init(jax.random.key(0), (2,))
    rng = np.random.default_rng(1)
    return check(net, "mse", params, state, rng.standard_normal((3, 2)), rng.standard_normal((3, 2)), samples=1)


def test_a_composite_around_frozen_layers_has_constants():
    report = checked_composite(fnet.tanh(), iced(fnet.dense(2)))
    assert report.ok, str(report)
    assert [row.checked for row in report.listed if "iced" in row.name] == [0, 0]


def test_a_mistake_in_a_composite_around_a_loop_is_located(monkeypatch):
    right = activation.tanh
    monkeypatch.setattr(activation, "tanh", Rule(right.forward, lambda *a: (-right.backward(*a)[0], {})))
    report = checked_composite(block(name="block"))
    assert [(c.layer, c.what, c.verdict) for c in report.culprits] == [("block/tanh_1", "input", "by hand")]


def test_forward_values_of_a_lower_precision_are_compared_within_its_rounding_errors():
    net = fnet.serial(fnet.precision(fnet.dense(3), fnet.batch_norm(), fnet.tanh()), fnet.dense(2))
    params, state = net.init(jax.random.key(0), (4,))
    rng = np.random.default_rng(1)
    arguments = net, "mse", params, state, rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    report = check(*arguments, samples=1, precision="float32")
    assert report.ok, str(report)
    row = next(row for row in report.rows if row.name == "outputs")
    assert row.relative > 1e-3
    assert row.diagnosis == "equal up to measured rounding"
