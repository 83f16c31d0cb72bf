import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet
from fnet.gradcheck.noise import draw_noise
from fnet.layers.dropout import keep_mask
from fnet.reference.network import backward, forward
from fnet.reference.rule import Scope, rule_of

both_kinds = pytest.mark.parametrize("make", [fnet.dropout, fnet.spatial_dropout], ids=["dropout", "spatial_dropout"])


def apply_in_training(layer, x, seed=0):
    return layer.apply({}, {}, jnp.asarray(x, jnp.float32), train=True, key=jax.random.key(seed))[0]


def test_by_hand():
    """With rate 0.75 every entry that is not dropped is multiplied by 4, and so is its cotangent."""
    layer, scope = fnet.dropout(0.75), Scope({}, noise={"mask": np.array([[True, False, True]])}, train=True)
    rule = rule_of(fnet.dropout(0.5))
    y, cache = rule.forward(layer, scope, np.array([[1.0, 2.0, -3.0]]))
    dx, gradients = rule.backward(layer, scope, cache, np.array([[10.0, 20.0, 30.0]]))
    assert y.tolist() == [[4.0, 0.0, -12.0]]
    assert dx.tolist() == [[40.0, 0.0, 120.0]]
    assert gradients == {}


def test_entries_are_dropped_or_scaled_up(rng):
    x = rng.standard_normal((6, 7)).astype(np.float32)
    y, m = apply_in_training(fnet.dropout(0.2), x, seed=3), keep_mask(jax.random.key(3), (6, 7), 0.2)
    np.testing.assert_allclose(y, x * m / 0.8, rtol=1e-6)
    assert 0 < np.sum(m) < m.size


def test_a_dropped_infinity_is_0():
    y = apply_in_training(fnet.dropout(0.5), np.full((1, 64), np.inf))
    assert set(y[0].tolist()) == {0.0, np.inf}


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_is_the_probability_of_dropping(rate):
    """Within five standard deviations of the binomial distribution, and the expected value does not change."""
    n = 200_000
    y = np.asarray(apply_in_training(fnet.dropout(rate), np.ones((n, 1))), np.float64)
    std = np.sqrt(rate * (1 - rate) / n)
    assert abs(np.mean(y == 0) - rate) < 5 * std
    assert abs(np.mean(y) - 1) < 5 * std / (1 - rate)


@pytest.mark.parametrize("in_shape", [(6,), (5, 6), (4, 5, 6)])
def test_whole_channels_are_dropped(in_shape):
    y = np.asarray(apply_in_training(fnet.spatial_dropout(0.5), np.ones((40, *in_shape)))).reshape(40, -1, 6)
    assert (y == y[:, :1]).all()
    channels = y[:, 0]
    assert set(channels.reshape(-1).tolist()) == {0.0, 2.0}
    assert abs(np.mean(channels == 0) - 0.5) < 5 * 0.5 / np.sqrt(240)
    assert len(np.unique(channels, axis=0)) > 10
    assert (channels.std(axis=0) > 0).all()


@both_kinds
def test_the_mask_depends_only_on_the_key(make):
    layer, x = make(0.5), np.ones((4, 3, 8))
    assert np.array_equal(apply_in_training(layer, x), apply_in_training(layer, 3 * x) / 3)
    assert not np.array_equal(apply_in_training(layer, x), apply_in_training(layer, x, seed=1))


def test_layers_of_one_network_draw_different_masks():
    net = fnet.serial(fnet.dropout(0.5), fnet.serial(fnet.dropout(0.5)), fnet.dropout(0.5))
    noise = draw_noise(net, {}, {}, np.ones((4, 16), np.float32), jax.random.key(0))
    masks = [noise["dropout_1"]["mask"], noise["serial_1"]["dropout_1"]["mask"], noise["dropout_2"]["mask"]]
    assert len({mask.tobytes() for mask in masks}) == 3


@both_kinds
def test_precision_does_not_change_the_mask(make, rng):
    layer, x = make(0.3), rng.standard_normal((5, 4, 16))
    single = apply_in_training(layer, x)
    with jax.enable_x64(True):
        double, _ = layer.apply({}, {}, jnp.asarray(x), train=True, key=jax.random.key(0))
        assert double.dtype == jnp.float64
        assert np.array_equal(single != 0, double != 0)
    half, _ = layer.apply({}, {}, jnp.asarray(x, jnp.bfloat16), train=True, key=jax.random.key(0))
    assert half.dtype == jnp.bfloat16
    assert np.array_equal(single != 0, half != 0)


@both_kinds
def test_it_is_a_no_op_outside_training(make, rng):
    x = rng.standard_normal((3, 2, 4)).astype(np.float32)
    for key in (None, jax.random.key(0)):
        assert np.array_equal(make(0.5).apply({}, {}, x, train=False, key=key)[0], x)
    assert np.array_equal(make(0.0).apply({}, {}, x, train=True)[0], x)


@both_kinds
def test_training_needs_a_key(make):
    layer, x = make(0.5), np.ones((2, 4), np.float32)
    message = f"{layer.kind}: training needs a key: net.apply(..., train=True, key=key)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layer.apply({}, {}, x, train=True)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}\nin layer 'drop'"):
        fnet.serial(make(0.5, name="drop")).apply({}, {}, x, train=True)


@both_kinds
def test_it_changes_no_other_weights(make):
    short = fnet.serial(fnet.dense(3), fnet.dense(2)).init(jax.random.key(3), (4,))
    long = fnet.serial(make(0.1), fnet.dense(3), make(0.5), fnet.dense(2)).init(jax.random.key(3), (4,))
    assert jax.tree.structure(short) == jax.tree.structure(long)
    assert jax.tree.all(jax.tree.map(np.array_equal, short, long))


def test_a_network_with_dropout_agrees_with_the_reference(rng):
    """The reference's layers receive their masks through containers, and backpropagate through the same entries."""
    net = fnet.serial(
        fnet.dense(8),
        fnet.dropout(0.5),
        fnet.serial(fnet.reshape((2, 4)), fnet.spatial_dropout(0.3), fnet.dropout(0.2), name="block"),
        fnet.flatten(),
        fnet.dense(3),
    )
    key = jax.random.key(5)
    params, state = net.init(key, (4,))
    x, g = rng.standard_normal((3, 4)), rng.standard_normal((3, 3))
    noise = draw_noise(net, params, state, x, key)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    scope = Scope(params, state, noise, True)
    with jax.enable_x64(True):
        y, pull = jax.vjp(
            lambda params, x: net.apply(params, state, x, train=True, key=key)[0],
            jax.tree.map(jnp.asarray, params),
            jnp.asarray(x),
        )
        params_bar, x_bar = pull(jnp.asarray(g))
    by_hand, cache = forward(net, scope, x)
    dx, gradients = backward(net, scope, cache, g)
    np.testing.assert_allclose(by_hand, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, x_bar, rtol=1e-12, atol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), gradients, params_bar)


@both_kinds
@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (1.0, "rate: expected a value less than 1, got 1"),
        (-0.1, "rate: expected a value of at least 0, got -0.1"),
        ("half", "rate: expected a number, got 'half'"),
        (float("nan"), "rate: expected a finite number, got nan"),
    ],
)
def test_invalid_settings_are_named(make, rate, message):
    with pytest.raises(ValueError, match=f"^{make.__name__}: {re.escape(message)}"):
        make(rate)


def test_scalars_are_refused():
    net = fnet.serial(fnet.spatial_dropout(0.5))
    message = re.escape(
        "spatial_dropout_1: expects examples with at least one axis, (..., channels), got scalars; "
        "put a reshape before it"
    )
    with pytest.raises(fnet.ShapeError, match=f"^{message}$"):
        net.shape(())
    with pytest.raises(fnet.ShapeError, match=f"^{message}$"):
        net.apply({}, {}, np.ones(3, np.float32), train=True, key=jax.random.key(0))
