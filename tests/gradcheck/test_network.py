import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet
from fnet.gradcheck import check
from fnet.gradcheck.compare_leaves import compare_arrays
from fnet.losses import LOSSES
from fnet.reference import activation, losses
from fnet.reference import dense as reference_dense
from fnet.reference import network as reference_network
from fnet.reference.rule import Rule
from fnet.regularization import Penalties

NET = fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(3, name="out"))
"""One network for all tests: checks of equal networks and losses are compiled once."""


def problem(rng, loss="cross_entropy"):
    net = NET
    params, state = net.init(jax.random.key(2), (5,))
    x = rng.standard_normal((6, 5)).astype(np.float32)
    y = rng.integers(0, 3, 6) if loss == "cross_entropy" else rng.standard_normal((6, 3))
    return net, loss, params, state, x, y


def wrong_rows(report):
    return [row.name for row in report.rows if not row.ok]


def test_rows_of_a_correct_network(rng):
    report = check(*problem(rng))
    names = ["outputs", "loss", "input", "dense_1/w", "dense_1/b", "out/w", "out/b"]
    assert [row.name for row in report.listed] == names
    assert [row.name for row in report.rows] == [*names, *names, *names[1:]]
    assert report.ok
    assert max(row.relative for row in report.rows) < 1e-12
    assert str(report).splitlines()[-1] == (
        "all values and gradients agree within 1e-10 (relative, float64); 60 entries agree with finite differences"
    )


@pytest.mark.parametrize(
    "penalties",
    [
        Penalties(l1=0.1, l2=0.3),
        Penalties(l1=0.1, l2=0.3, layers={"out": {"l1": 0.0, "l2": 0.7}}, max_norm=0.01),
    ],
)
def test_penalties_are_checked(rng, monkeypatch, penalties):
    assert check(*problem(rng), regularization=penalties).ok
    monkeypatch.setattr(reference_network, "penalty", lambda *_: (0.0, {}))
    report = check(*problem(rng), regularization=penalties)
    assert wrong_rows(report) == ["loss", "dense_1/w", "out/w", *["loss", "dense_1/w", "out/w"]]


def test_a_penalty_of_one_layer_is_checked_at_that_layer(rng, monkeypatch):
    penalties, everywhere = Penalties(l2=0.1, layers={"out": {"l2": 0.7}}), Penalties(l2=0.1)
    original = reference_network.penalty
    replacements = {penalties: everywhere}
    monkeypatch.setattr(reference_network, "penalty", lambda p, r, *path: original(p, replacements.get(r, r), *path))
    assert wrong_rows(check(*problem(rng), regularization=penalties)) == ["loss", "out/w", "loss", "out/w"]


@pytest.mark.parametrize(
    "loss",
    [
        "huber",
        fnet.losses.huber,
        functools.partial(fnet.losses.huber, delta=0.3),
        fnet.losses.LOSSES["mse"],
        functools.partial(fnet.losses.cross_entropy, label_smoothing=0.2),
        fnet.losses.hinge,
        fnet.losses.kl_divergence,
    ],
)
def test_a_loss_may_be_a_name_or_a_function_with_or_without_settings(rng, loss):
    net, _, params, state, x, y = problem(rng, "huber")
    y = {"hinge": y > 0, "kl_divergence": np.abs(y)}.get(getattr(loss, "__name__", ""), y)
    y = np.argmax(y, axis=1) if "cross_entropy" in repr(loss) else y
    assert check(net, loss, params, state, x, y).ok


def test_the_settings_of_the_loss_apply_to_the_hand_written_loss(rng, monkeypatch):
    """A hand-written loss that ignores delta agrees only for the default delta of 1."""
    monkeypatch.setitem(losses.LOSSES, "huber", lambda o, t, *, delta: losses.huber(o, t))
    net, _, params, state, x, y = problem(rng, "huber")
    assert not check(net, functools.partial(fnet.losses.huber, delta=0.3), params, state, x, y).ok
    assert check(net, functools.partial(fnet.losses.huber, delta=1.0), params, state, x, y).ok


def test_the_float32_parameters_are_checked(rng):
    """The outputs are those of the float32 parameters in the arguments, not of newly initialized ones."""
    net, loss, params, state, x, y = problem(rng)
    params = jax.tree.map(lambda leaf: leaf + np.float32(0.25), params)
    report = check(net, loss, params, state, x, y)
    expected = LOSSES[loss].function(net.apply(params, state, x, train=True)[0], y).mean()
    (row,) = (row for row in report.listed if row.name == "loss")
    np.testing.assert_allclose(row.values[1], expected, rtol=1e-5)
    assert not jax.config.jax_enable_x64


def test_a_zero_bias_gradient_is_detected(rng, monkeypatch):
    def backward(layer, scope, cache, g):
        dx, gradients = rule.backward(layer, scope, cache, g)
        return dx, gradients | {"b": np.zeros_like(gradients["b"])}

    rule = reference_dense.dense
    monkeypatch.setattr(reference_dense, "dense", Rule(rule.forward, backward))
    report = check(*problem(rng))
    assert wrong_rows(report) == ["dense_1/b", "out/b"]
    assert "2 of 7 rows differ: dense_1/b, out/b" in str(report)


def test_a_missing_gradient_is_detected(rng, monkeypatch):
    def backward(layer, scope, cache, g):
        dx, gradients = rule.backward(layer, scope, cache, g)
        return dx, {"w": gradients["w"]}

    rule = reference_dense.dense
    monkeypatch.setattr(reference_dense, "dense", Rule(rule.forward, backward))
    report = check(*problem(rng))
    assert wrong_rows(report) == ["dense_1/b", "out/b"]
    assert "no gradient by hand" in str(report)


def test_a_wrong_sign_in_an_activation_is_detected(rng, monkeypatch):
    rule = activation.tanh
    flipped = Rule(rule.forward, lambda *args: (-rule.backward(*args)[0], {}))
    monkeypatch.setattr(activation, "tanh", flipped)
    report = check(*problem(rng))
    assert wrong_rows(report) == ["input", "dense_1/w", "dense_1/b"]


def test_a_sum_instead_of_a_mean_is_detected(rng, monkeypatch):
    """With a sum over the batch, every gradient is too large by a factor of the number of examples."""
    monkeypatch.setitem(losses.LOSSES, "mse", lambda o, t: (losses.mse(o, t)[0], 6 * losses.mse(o, t)[1]))
    report = check(*problem(rng, "mse"))
    assert wrong_rows(report) == ["input", "dense_1/w", "dense_1/b", "out/w", "out/b"]
    assert report.rows[-1].relative == pytest.approx(5 / 6)


def test_a_wrong_forward_pass_is_reported_as_such(rng, monkeypatch):
    rule = activation.tanh
    monkeypatch.setattr(
        activation, "tanh", Rule(lambda *a: (1.01 * rule.forward(*a)[0], rule.forward(*a)[1]), rule.backward)
    )
    assert "the forward values differ (outputs, loss): fix these before" in str(check(*problem(rng)))


def test_a_small_error_in_one_entry_is_detected(rng, monkeypatch):
    def backward(layer, scope, cache, g):
        dx, gradients = rule.backward(layer, scope, cache, g)
        gradients["w"][1, 2] *= 1.001
        return dx, gradients

    rule = reference_dense.dense
    monkeypatch.setattr(reference_dense, "dense", Rule(rule.forward, backward))
    assert wrong_rows(check(*problem(rng))) == ["dense_1/w", "out/w"]


@pytest.mark.parametrize(
    ("by_hand", "by_jax", "ok", "diagnosis"),
    [
        ([0.0, 0.0], [0.0, 0.0], True, ""),
        ([1e-16, 0.0], [-1e-16, 0.0], True, "zero up to rounding"),
        ([1.0, 2.0], [1.0, 2.0 + 1e-9], False, ""),
        ([1.0, np.nan], [1.0, 2.0], False, "NaN or infinite in 1 of 2 entries, first at [1]"),
        ([1.0, 2.0], [np.inf, 2.0], False, "NaN or infinite in 1 of 2 entries, first at [0]"),
        ([[1.0, 2.0]], [1.0, 2.0], False, "wrong shape: (1, 2) instead of (2,)"),
        (None, [1.0], False, "no gradient by hand"),
    ],
)
def test_compare_arrays(by_hand, by_jax, ok, diagnosis):
    row = compare_arrays("leaf", None if by_hand is None else np.array(by_hand), np.array(by_jax), 1e-10)
    assert (row.ok, row.diagnosis) == (ok, diagnosis)


def test_a_difference_below_the_measured_rounding_errors_is_not_called_zero():
    row = compare_arrays("leaf", np.array([1.0, 2.0]), np.array([1.0, 2.1]), 1e-3, rounding=0.2)
    assert (row.ok, row.diagnosis) == (True, "equal up to measured rounding")


def test_an_unknown_precision_is_refused(rng):
    message = "^check: precision: expected 'float64' or 'float32', got 'float16'; did you mean 'float64'\\?$"
    with pytest.raises(ValueError, match=message):
        check(*problem(rng), precision="float16")  # pyright: ignore[reportArgumentType]


FACTOR = 1.0


def scaled_by_a_global(outputs, targets):
    return FACTOR * jnp.mean((outputs - targets) ** 2, axis=1)


def test_a_loss_that_reads_a_changed_global(monkeypatch, rng):
    """The network and the loss are equal to those of the check before, but the values are not."""
    net, x, y = fnet.serial(fnet.dense(2)), rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    params, state = net.init(jax.random.key(0), (3,))
    values = []
    for factor in (1.0, 3.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        report = check(net, scaled_by_a_global, params, state, x, y)
        assert report.ok
        values.append(np.asarray(next(row for row in report.rows if row.name == "loss").values[:2]))
    np.testing.assert_allclose(values[1], 3 * values[0], rtol=1e-6)
