import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnet
from fnet.reference.rule import Scope, rule_of

X = jnp.array([[1.0, 5.0, 2.0], [7.0, 3.0, 3.0], [0.0, 4.0, 6.0]]).reshape(1, 3, 3, 1)


def run(layer, x, **kwargs):
    return layer.apply({}, {}, x, train=False, **kwargs)[0]


def test_pooling_by_hand():
    assert run(fnet.max_pool(2, stride=1), X)[0, :, :, 0].tolist() == [[7, 5], [7, 6]]
    assert run(fnet.avg_pool(2, stride=1), X)[0, :, :, 0].tolist() == [[4, 3.25], [3.5, 4]]
    assert run(fnet.max_pool(2, padding="same"), X)[0, :, :, 0].tolist() == [[7, 3], [4, 6]]
    assert run(fnet.avg_pool(2, padding="same"), X)[0, :, :, 0].tolist() == [[4, 2.5], [2, 6]]
    assert run(fnet.global_max_pool(), X).tolist() == [[7]]
    assert run(fnet.global_avg_pool(), X)[0, 0] == pytest.approx(31 / 9)


def test_padding_is_never_the_maximum():
    assert run(fnet.max_pool(2, padding="same"), -1 - X).max() < 0


@pytest.mark.parametrize(
    "layer", [fnet.max_pool((2, 2)), fnet.max_pool(3, stride=1), fnet.max_pool(4), fnet.global_max_pool()], ids=repr
)
def test_ties_go_to_the_first_in_row_order(layer):
    """For constant windows, both interpreters send the gradient of the sum to the first entry of each window."""
    x = np.ones((1, 4, 4, 1))
    y, pull = jax.vjp(lambda x: run(layer, x), jnp.asarray(x, jnp.float32))
    by_jax = pull(jnp.ones_like(y))[0]
    _, cache = rule_of(layer).forward(layer, Scope({}), x)
    by_hand, _ = rule_of(layer).backward(layer, Scope({}), cache, np.ones(y.shape))
    assert np.array_equal(by_jax, by_hand)
    first = np.zeros((4, 4))
    starts = {(2, 2): [0, 2], 3: [0, 1], 4: [0], None: [0]}[layer.settings.get("window")]
    first[np.ix_(starts, starts)] = 1
    assert np.array_equal(by_jax[0, :, :, 0], first)


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2), (2, 1), (3, 3)])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_against_reduce_window(window, stride, padding, rng):
    """Without ties, values and gradients are those of XLA's own pooling."""
    x = jnp.asarray(rng.standard_normal((2, 7, 5, 3)), jnp.float32)

    def xla_pool(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), padding)

    layer = fnet.max_pool(window, stride=stride, padding=padding.lower())
    y, pull = jax.vjp(lambda x: run(layer, x), x)
    expected, pull_xla = jax.vjp(xla_pool, x)
    assert np.array_equal(y, expected)
    g = jnp.asarray(rng.standard_normal(y.shape), jnp.float32)
    np.testing.assert_allclose(pull(g)[0], pull_xla(g)[0], rtol=1e-6, atol=1e-6)


def test_nan_propagates():
    for index in range(4):
        x = jnp.ones(4).at[index].set(jnp.nan).reshape(1, 2, 2, 1)
        assert jnp.isnan(run(fnet.max_pool(2), x)).all()


def test_masked_steps_are_ignored():
    x = jnp.array([[[1.0], [2.0], [50.0]], [[-3.0], [-1.0], [-2.0]]])
    mask = jnp.array([[True, True, False], [True, False, False]])
    assert run(fnet.global_max_pool(), x, mask=mask).tolist() == [[2.0], [-3.0]]
    assert run(fnet.global_avg_pool(), x, mask=mask).tolist() == [[1.5], [-3.0]]
    whole = run(fnet.global_avg_pool(), x, mask=jnp.array([True, False]))
    assert whole.tolist() == run(fnet.global_avg_pool(), x).tolist()


@pytest.mark.parametrize(
    ("make", "in_shape", "message"),
    [
        (lambda: fnet.max_pool(2), (8,), r"max_pool: expects examples \(\*spatial, channels\), got \(8,\)"),
        (lambda: fnet.avg_pool(5), (4, 8, 1), r"its window \(5, 5\) is larger than its input \(4, 8\); use a smaller"),
        (lambda: fnet.max_pool((2, 2)), (8, 1), r"expects examples with 2 spatial axes, one per size, got \(8, 1\)"),
        (fnet.global_avg_pool, (8,), r"global_avg_pool: expects examples \(\*spatial, channels\), got \(8,\)"),
    ],
)
def test_invalid_shapes_are_refused(make, in_shape, message):
    with pytest.raises(fnet.ShapeError, match=message):
        make().shape(in_shape)
