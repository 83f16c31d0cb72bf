import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnet
from fnet.reference.network import loss_and_gradients
from fnet.train import make_step
from fnet.train.state import Batch, init_state
from fnet.train.step import penalty_of, resolve_loss


def start(net, optimizer, in_shape=(3,)):
    return init_state(net, optimizer, jax.random.key(4), in_shape)


def test_one_step_of_gradient_descent_is_the_hand_written_one(rng):
    """W := W - alpha dL/dW with the reference's gradient, the penalty and a masked example included."""
    net, optimizer = fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(2)), optax.sgd(0.1)
    before = start(net, optimizer)
    x, y = rng.standard_normal((5, 3)).astype(np.float32), rng.integers(0, 2, 5)
    mask = np.array([True, True, True, True, False])
    step = make_step(net, "cross_entropy", optimizer, l1=0.01, l2=0.1)
    after, metrics = jax.jit(step)(before, Batch(x, y, mask))
    hand = loss_and_gradients(net, before.params, x, y, "cross_entropy", mask=mask, l1=0.01, l2=0.1)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, hand.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.params, expected)
    assert float(metrics.loss + metrics.penalty) == pytest.approx(hand.loss, rel=1e-5)
    assert int(after.step) == 1


def test_the_second_step_does_not_recompile(rng):
    net, optimizer = fnet.serial(fnet.dense(1)), optax.adam(0.1)
    state = start(net, optimizer)
    step = jax.jit(make_step(net, "mse", optimizer))
    for _ in range(3):
        x = rng.standard_normal((2, 3)).astype(np.float32)
        state, _ = step(state, Batch(x, np.zeros((2, 1), np.float32), np.ones(2, bool)))
    assert step._cache_size() == 1


def test_padding_does_not_count_even_when_it_is_nan(rng):
    net, optimizer = fnet.serial(fnet.dense(1)), optax.sgd(0.1)
    before = start(net, optimizer)
    step = make_step(net, "mse", optimizer)
    x, y = rng.standard_normal((3, 3)).astype(np.float32), np.ones((3, 1), np.float32)
    short, _ = step(before, Batch(x[:2], y[:2], np.ones(2, bool)))
    padded, _ = step(before, Batch(x, y, np.array([True, True, False])))
    np.testing.assert_allclose(short.params["dense_1"]["w"], padded.params["dense_1"]["w"], rtol=1e-6)
    _, metrics = step(before, Batch(x, np.array([[1.0], [1.0], [np.nan]]), np.array([True, True, False])))
    assert jnp.isfinite(metrics.loss)


def test_a_population_trains_under_vmap(rng):
    """One program, three networks: each goes the way that it goes alone."""
    net, optimizer = fnet.serial(fnet.dense(2), fnet.tanh(), fnet.dense(1)), optax.adam(0.05)
    step = make_step(net, "mse", optimizer)
    members = [init_state(net, optimizer, jax.random.key(seed), (3,)) for seed in range(3)]
    batch = Batch(rng.standard_normal((4, 3)).astype(np.float32), np.ones((4, 1), np.float32), np.ones(4, bool))
    together, _ = jax.vmap(step, in_axes=(0, None))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *members), batch)
    for number, member in enumerate(members):
        alone, _ = step(member, batch)
        np.testing.assert_allclose(
            together.params["dense_1"]["w"][number], alone.params["dense_1"]["w"], rtol=1e-5, atol=1e-7
        )


def test_a_loss_of_ones_own(rng):
    net, optimizer = fnet.serial(fnet.dense(1)), optax.sgd(0.1)
    step = make_step(net, lambda outputs, targets: jnp.abs(outputs - targets)[:, 0] ** 3, optimizer)
    x = rng.standard_normal((2, 3)).astype(np.float32)
    _, metrics = step(start(net, optimizer), Batch(x, np.ones((2, 1)), np.ones(2, bool)))
    assert float(metrics.loss) == pytest.approx(float(metrics.metric))


def test_losses_are_found_by_name_and_by_function():
    assert resolve_loss("mse") is fnet.losses.LOSSES["mse"] is resolve_loss(fnet.losses.mse)
    with pytest.raises(ValueError, match="unknown loss 'mes'; known: mse, binary_cross_entropy, cross_entropy"):
        resolve_loss("mes")


def test_penalty_counts_weights_at_any_depth_and_nothing_else():
    params = {"block": {"dense_1": {"w": jnp.array([[-2.0]]), "b": jnp.array([9.0])}}, "n": {"scale": jnp.ones(3)}}
    assert float(penalty_of(params, 1.0, 0.0)) == 2.0
    assert float(penalty_of(params, 0.0, 1.0)) == 2.0
