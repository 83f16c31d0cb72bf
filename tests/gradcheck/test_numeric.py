import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fnet.gradcheck.branches import with_branches
from fnet.gradcheck.numeric import differences, order_of, taylor_remainders


def derivatives(f, x):
    with jax.enable_x64(True):
        x = jnp.asarray(x, jnp.float64)
        result = jax.jit(lambda x: differences(f, x, jnp.arange(x.size), jnp.maximum(jnp.abs(x), 0.1)))(x)
        return jax.tree.map(np.asarray, result)


def smooth(x):
    return jnp.stack([jnp.sum(jnp.exp(x) * jnp.sin(3 * x[::-1])), jnp.prod(x), 1e6 + x[0] ** 3])


def test_the_true_error_is_within_the_estimated_error(rng):
    x = rng.standard_normal(5)
    result = derivatives(smooth, x)
    with jax.enable_x64(True):
        exact = np.asarray(jax.jacobian(smooth)(jnp.asarray(x))).T
    assert not result.kinks.any()
    np.testing.assert_allclose(result.values[:, :2], exact[:, :2], atol=1e-9)
    assert np.all(np.abs(result.values - exact) <= result.errors)
    # A large constant reduces the number of correct digits, which the estimate reflects.
    assert np.all(result.errors[:, 2] > 100 * result.errors[:, 1])


KINKS = {
    "relu": lambda x: jnp.sum(jax.nn.relu(x) * x[::-1]),
    "leaky_relu": lambda x: jnp.sum(jax.nn.leaky_relu(x) * x[::-1]),
    "abs": lambda x: jnp.sum(jnp.abs(x)),
    "hinge": lambda x: jnp.sum(jnp.maximum(0, -x)),
    "where": lambda x: jnp.sum(jnp.where(x > 0, x, 2 * x)),
    "clip": lambda x: jnp.sum(jnp.clip(x, 0, 5)),
    "sort": lambda x: jnp.sum(jnp.sort(jnp.append(x, 0.0)) * jnp.arange(1.0, 6)),
    "min": lambda x: jnp.sum(jnp.min(jnp.stack([x, -x]), axis=0)),
    "in a scan": lambda x: lax.scan(lambda c, v: (c + jax.nn.relu(v), None), x[0], x)[0],
    "under jit and checkpoint": jax.checkpoint(jax.jit(lambda x: jnp.sum(jnp.abs(x)))),
    "under grad": lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(jax.nn.relu(x) ** 2))(x)),
}


@pytest.mark.parametrize("f", KINKS.values(), ids=KINKS)
def test_entries_on_a_kink_are_marked(f):
    result = derivatives(lambda x: f(x)[None], [1.5, 0.0, -0.7, 0.3])
    assert result.kinks.tolist() == [False, True, False, False]
    assert np.isfinite(result.values[~result.kinks]).all()


def test_a_step_that_crosses_a_kink_is_reduced():
    """At 1e-4 from the kink the first step of 0.01 would cross it; the derivatives there are 1 and 0, not 1/2."""
    result = derivatives(lambda x: jnp.sum(jax.nn.relu(x))[None], [1e-4, -1e-4, 1.0])
    assert not result.kinks.any()
    np.testing.assert_allclose(result.values[:, 0], [1.0, 0.0, 1.0], atol=1e-6)


def test_recording_branches_does_not_change_the_value(rng):
    x = rng.standard_normal((3, 4))

    def f(x):
        def body(carry, row):
            return jnp.tanh(carry + jax.nn.relu(row)), jnp.max(row)

        last, rows = lax.scan(body, x[0], x, reverse=True)
        return {"a": lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, last), "b": (rows, jnp.argmax(x))}

    value, outcomes = with_branches(f)(x)
    jax.tree.map(np.testing.assert_array_equal, value, f(x))
    assert len(outcomes) == 4
    assert sorted(np.shape(outcome) for outcome in outcomes) == [(), (), (3, 4), (3, 4)]


@pytest.mark.parametrize(("wrong", "order"), [(0.0, 2.0), (0.3, 1.0)])
def test_the_order_of_the_remainder(wrong, order, rng):
    x, d = rng.standard_normal((2, 5))
    with jax.enable_x64(True):
        f = lambda x: smooth(x)[:1]  # noqa: E731
        slope = jax.jacobian(f)(x) @ d + wrong
        remainders, value = map(np.asarray, taylor_remainders(f, jnp.asarray(x), jnp.asarray(d), slope))
        assert value == f(x)
    assert order_of(remainders[:, 0], 1.0) == pytest.approx(order, abs=0.15)
