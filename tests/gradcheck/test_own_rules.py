"""Layers and losses of one's own: with a hand-written rule, and without one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet
from fnet.gradcheck import check
from fnet.reference import Rule
from fnet.reference import activation as reference_activation
from fnet.reference.network import loss_and_gradients
from fnet.reference.rule import NoReference


def _forward(layer, scope, x):
    """y = x + c x^3."""
    return x + scope.params["c"] * x**3, x


def _backward(layer, scope, x, g):
    """dx = g (1 + 3 c x^2) and dc = sum g x^3."""
    return g * (1 + 3 * scope.params["c"] * x**2), {"c": np.sum(g * x**3, axis=tuple(range(g.ndim - 1)))}


def _wrong(layer, scope, x, g):
    dx, gradients = _backward(layer, scope, x, g)
    return dx, {"c": 2 * gradients["c"]}


def _parts(derivative=1.0):
    """Return the functions of y = x + c x^3; the derivative of the cube by JAX is multiplied by `derivative`."""

    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda primals, tangents: (primals[0] ** 3, derivative * 3 * primals[0] ** 2 * tangents[0]))

    def init(key, in_shape):
        return {"c": 0.3 * jax.random.normal(key, in_shape[-1:])}, {}

    def apply(params, state, x, *, train, key=None, mask=None):
        return x + params["c"] * cube(x), {}

    return fnet.Parts(lambda in_shape: in_shape, init, apply)


@fnet.constructor(reference=Rule(_forward, _backward))
def cubic(*, name: str | None = None):
    """y = x + c x^3."""
    return _parts()


@fnet.constructor(reference=Rule(_forward, _wrong))
def cubic_with_wrong_rule(*, name: str | None = None):
    """y = x + c x^3."""
    return _parts()


@fnet.constructor
def cubic_without_rule(*, name: str | None = None):
    """y = x + c x^3."""
    return _parts()


@fnet.constructor
def cubic_with_wrong_derivative(*, name: str | None = None):
    """y = x + c x^3."""
    return _parts(1.1)


@fnet.constructor
def noisy(*, name: str | None = None):
    """y = x + noise in training, with a count of the batches as state, around a layer with a rule."""
    inner = fnet.dense(3)

    def init(key, in_shape):
        return inner.init(key, in_shape)[0], {"count": jnp.zeros(())}

    def apply(params, state, x, *, train, key=None, mask=None):
        y = inner.apply(params, {}, x, train=train)[0]
        y = y + jax.random.normal(key, y.shape, jnp.float32) if train else y
        return y, {"count": state["count"] + train}

    return fnet.Parts(inner.shape, init, apply)


def checked(*layers, loss="mse", in_shape=(4,), out=2, **settings):
    net = fnet.serial(*layers, fnet.dense(out))
    rng = np.random.default_rng(5)
    params, state = net.init(jax.random.key(1), in_shape)
    x, y = rng.standard_normal((5, *in_shape)), rng.standard_normal((5, out))
    return check(net, loss, params, state, x, y, samples=5, **settings)


def rows_of(report, part="total"):
    return {row.name: (row.verdict, row.diagnosis) for row in report.rows if row.part == part}


def test_a_rule_of_ones_own_is_used():
    report = checked(fnet.dense(3), cubic(), fnet.tanh())
    assert report.ok, str(report)
    assert set(rows_of(report).values()) == {("ok", "")}
    assert report.rows[2].name == "input"


def test_a_wrong_rule_of_ones_own_is_located():
    report = checked(fnet.dense(3), cubic_with_wrong_rule(), fnet.tanh())
    (culprit,) = report.culprits
    assert (culprit.layer, culprit.what, culprit.verdict) == ("cubic_with_wrong_rule_1", "c", "by hand")
    assert culprit.diagnosis.startswith("norm ratio 2: a factor of 2")
    assert [row.name for row in report.rows if not row.ok] == ["cubic_with_wrong_rule_1/c"]


def test_a_layer_without_rule_is_checked_by_finite_differences():
    report = checked(fnet.dense(3), cubic_without_rule(), fnet.tanh())
    assert report.ok, str(report)
    rows = rows_of(report)
    assert rows.pop("cubic_without_rule_1/c") == ("ok", "no rule by hand")
    assert set(rows.values()) == {("ok", "")}
    assert "no rule by hand" in str(report)


def test_a_wrong_derivative_of_a_layer_without_rule_is_located():
    report = checked(fnet.dense(3), cubic_with_wrong_derivative(), fnet.tanh())
    assert not report.ok
    assert [(c.layer, c.what, c.verdict) for c in report.culprits] == [
        ("cubic_with_wrong_derivative_1", "input", "by JAX")
    ], str(report)
    assert {name for name, (verdict, _) in rows_of(report).items() if verdict != "ok"} == {
        "input",
        "dense_1/w",
        "dense_1/b",
    }


def test_mistakes_by_hand_beside_a_layer_without_rule_are_found(monkeypatch):
    right = reference_activation.tanh
    monkeypatch.setattr(
        reference_activation, "tanh", Rule(right.forward, lambda *arguments: (-right.backward(*arguments)[0], {}))
    )
    report = checked(fnet.dense(3), cubic_without_rule(), fnet.tanh())
    assert [(c.layer, c.what, c.verdict) for c in report.culprits] == [("tanh_1", "input", "by hand")]


def test_a_layer_without_rule_with_random_numbers_and_state():
    report = checked(noisy(), fnet.relu(), fnet.dropout(0.3), in_shape=(3,))
    assert report.ok, str(report)
    assert rows_of(report)["noisy_1/w"] == ("ok", "no rule by hand")
    assert rows_of(report, "state") == {"state: noisy_1/count": ("ok", "no rule by hand")}


def test_a_network_that_is_a_layer_without_rule():
    net = cubic_without_rule()
    params, state = net.init(jax.random.key(0), (3,))
    rng = np.random.default_rng(0)
    report = check(net, "mse", params, state, *rng.standard_normal((2, 5, 3)))
    assert report.ok
    assert rows_of(report)["c"] == rows_of(report)["input"] == ("ok", "no rule by hand")


def test_the_reference_alone_names_the_layer_without_rule():
    net = fnet.serial(fnet.dense(3), cubic_without_rule())
    params, _ = net.init(jax.random.key(0), (4,))
    message = (
        r"no hand-written backward exists for the layer '[\w.]*cubic_without_rule', .*"
        r"@fnet\.constructor\(reference=fnet\.reference\.Rule\(forward, backward\)\)"
    )
    with pytest.raises(NoReference, match=message):
        loss_and_gradients(net, params, np.ones((2, 4)), np.ones((2, 3)), "mse")


def fourth_power(outputs, targets):
    """L_i = mean over the outputs of (g - y)^4."""
    return jnp.mean((outputs - targets) ** 4, axis=1)


def fourth_power_by_hand(outputs, targets, factor=4.0):
    """dL_i/dg_k = (4/K) (g_k - y_k)^3."""
    error = outputs - targets
    return np.mean(error**4, axis=1), factor * error**3 / error.shape[1]


def loss_record(**settings):
    return fnet.losses.Loss(fourth_power, fnet.losses.identity, (), None, "a loss of one's own", **settings)


def test_a_loss_with_its_own_rule():
    report = checked(fnet.dense(3), loss=loss_record(reference=fourth_power_by_hand))
    assert report.ok, str(report)
    assert rows_of(report)["loss"] == ("ok", "")


def test_a_wrong_rule_of_a_loss_is_located():
    wrong = functools.partial(fourth_power_by_hand, factor=3.0)
    report = checked(fnet.dense(3), loss=loss_record(reference=wrong))
    assert [(c.layer, c.kind, c.what, c.verdict) for c in report.culprits] == [
        ("loss", "fourth_power", "input", "by hand")
    ]
    assert report.culprits[0].diagnosis == "norm ratio 0.75: the same factor in every entry"


@pytest.mark.parametrize("loss", [fourth_power, loss_record()])
def test_a_loss_without_rule_is_checked_by_finite_differences(loss):
    report = checked(fnet.dense(3), loss=loss)
    assert report.ok, str(report)
    assert rows_of(report)["loss"] == ("ok", "no rule by hand")
    assert rows_of(report)["dense_1/w"] == ("ok", "")


def test_a_wrong_derivative_of_a_loss_without_rule_is_located():
    @jax.custom_jvp
    def power(error):
        return error**4

    power.defjvp(lambda primals, tangents: (primals[0] ** 4, 3 * primals[0] ** 3 * tangents[0]))

    def loss(outputs, targets):
        return jnp.mean(power(outputs - targets), axis=1)

    report = checked(fnet.dense(3), loss=loss)
    assert [(c.layer, c.what, c.verdict) for c in report.culprits] == [("loss", "input", "by JAX")], str(report)
