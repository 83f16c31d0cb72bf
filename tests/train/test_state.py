"""The state before the first step, and the arguments of a step."""

import copy
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import same

import fnet
from fnet.train import Batch, TrainState, fit, init_state, make_step, objective

NET = fnet.serial(fnet.dense(3), fnet.batch_norm(), fnet.dense(1))
BATCH = Batch(np.arange(8.0).reshape(4, 2) % 3, np.ones((4, 1)), np.ones(4, bool))


def refused(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}(\n|$)")


def test_a_state_begins_with_given_parameters_and_state():
    """The key of the run is as without them, and the optimizer begins with the given parameters."""
    params, state = NET.init(jax.random.key(5), (2,))
    state = jax.tree.map(lambda leaf: leaf + 2, state)
    start = init_state(NET, optax.adam(0.1), jax.random.key(0), (2,))
    both = init_state(NET, optax.adam(0.1), jax.random.key(0), (2,), params=params, state=state)
    assert same((both.params, both.state), (params, state))
    assert same((both.step, both.opt_state, both.average), (start.step, start.opt_state, None))
    assert (jax.random.key_data(both.key) == jax.random.key_data(start.key)).all()
    one = init_state(NET, optax.adam(0.1), jax.random.key(0), (2,), params=jax.tree.map(np.asarray, params))
    assert same((one.params, one.state), (params, start.state))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(one))
    other = init_state(NET, optax.adam(0.1), jax.random.key(0), (2,), state=state)
    assert same((other.params, other.state), (start.params, state))
    reads = optax.GradientTransformation(lambda params: params, lambda updates, memory, _: (updates, memory))
    assert same(init_state(NET, reads, jax.random.key(0), (2,), params=params).opt_state, params)


def test_parameters_and_a_state_of_another_network_are_refused():
    params, _ = NET.init(jax.random.key(5), (2,))
    fix = "which the network has; pass"
    with refused(
        f"params: it misses the entry 'dense_2/b', {fix} parameters of this network, such as those of net.init"
    ):
        init_state(NET, optax.sgd(0.1), jax.random.key(0), (2,), params={**params, "dense_2": {"w": np.ones((3, 1))}})
    with refused(
        f"state: it misses the entry 'batch_norm_1/mean', {fix} the state of this network, such as those of net.init"
    ):
        init_state(NET, optax.sgd(0.1), jax.random.key(0), (2,), params=params, state={})


def test_states_of_several_parameters():
    """The parameters may be traced."""
    members = jax.vmap(lambda key: NET.init(key, (2,))[0])(jax.random.split(jax.random.key(0), 3))
    states = jax.vmap(lambda params: init_state(NET, optax.adam(0.1), jax.random.key(1), (2,), params=params))(members)
    assert same(states.params, members)


def test_an_optimizer_state_of_another_structure_is_refused():
    message = (
        "opt_state: expected the state of this optimizer for this network, without its frozen layers, got a state of "
        "another structure; make it with fnet.train.init_state(net, optimizer, key, in_shape, params=params)"
    )
    net, optimizer = fnet.serial(fnet.frozen(fnet.dense(3)), fnet.dense(1)), optax.adam(0.1)
    start = init_state(net, optimizer, jax.random.key(0), (2,))
    step = jax.jit(make_step(net, "mse", optimizer))
    by_hand = TrainState(jnp.int32(0), start.params, start.state, optimizer.init(start.params), jax.random.key(0))
    for wrong in (by_hand, start._replace(opt_state=optax.sgd(0.1).init(start.params))):
        with refused(message):
            step(wrong, BATCH)
    right = init_state(net, optimizer, jax.random.key(0), (2,), params=start.params, state=start.state)
    assert int(step(right, BATCH)[0].step) == 1


def test_a_scanned_step_with_an_average():
    step = make_step(NET, "mse", optax.sgd(0.1), ema=0.5)
    start = init_state(NET, optax.sgd(0.1), jax.random.key(0), (2,), averaged=True)
    assert same(start.average, start.params)
    end, _ = jax.lax.scan(lambda state, _: step(state, BATCH), start, length=1)
    expected = jax.tree.map(lambda old, new: 0.5 * (old + new), start.params, end.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), end.average, expected)
    with refused(
        "ema: the training state has no average of the parameters; make it with fnet.train.init_state(..., "
        "averaged=True)"
    ):
        jax.lax.scan(lambda state, _: step(state, BATCH), start._replace(average=None), length=2)


def test_arguments_in_the_wrong_order_or_of_the_wrong_kind():
    optimizer, data = optax.sgd(0.1), (BATCH.x, BATCH.y)
    message = "net: expected a network, such as fnet.serial(fnet.dense(1)), as the first argument, got 'mse'"
    for call in (
        lambda: make_step("mse", NET, optimizer),
        lambda: objective("mse", NET),
        lambda: fit("mse", NET, optimizer, data),
        lambda: init_state("mse", optimizer, jax.random.key(0), (2,)),
    ):
        with refused(message):
            call()
    start = init_state(NET, optimizer, jax.random.key(0), (2,))
    step = make_step(NET, "mse", optimizer)
    with refused(
        "step: expected a fnet.train.TrainState as the first argument, got a dict; make one with "
        "fnet.train.init_state(net, optimizer, key, in_shape)"
    ):
        step(start.params, BATCH)
    with refused(
        "step: expected a fnet.train.Batch(x, y, mask) as the second argument, got (an array of shape (4, 2), an array "
        "of shape (4, 1))"
    ):
        step(start, data)


@pytest.mark.parametrize(("key", "seed"), [(7, 7), (0, 0), (None, 0), (np.int64(3), 0), (jnp.ones(2), 0)])
def test_a_key_that_is_not_one_is_refused(key, seed):
    with refused(f"key: expected a random key, got {key!r}; pass jax.random.key({seed})"):
        init_state(NET, optax.sgd(0.1), key, (2,))


def test_keys_of_both_kinds():
    raw, typed = (init_state(NET, optax.sgd(0.1), of(3), (2,)).params for of in (jax.random.PRNGKey, jax.random.key))
    assert same(raw, typed)


@fnet.constructor
def base(*, name: str | None = None) -> fnet.Layer:
    """A composite that is defined by frozen layers."""
    return fnet.frozen(fnet.dense(3))


@fnet.constructor
def loop(*, name: str | None = None) -> fnet.Layer:
    """A composite that is defined by a loop."""
    return fnet.repeat(fnet.dense(3), times=2, scan=True)


@fnet.constructor
def scanner(scan: bool = True, *, name: str | None = None) -> fnet.Parts:
    """A layer of one's own with a setting of the same name as that of repeat."""
    inner = fnet.dense(3)
    return fnet.Parts(inner.shape, inner.init, inner.apply)


def test_a_composite_of_frozen_layers_is_not_trained():
    net = fnet.serial(base(), fnet.dense(3))
    optimizer = optax.adamw(0.1, weight_decay=0.5)
    state = init_state(net, optimizer, jax.random.key(0), (3,))
    batch = Batch(np.ones((2, 3), np.float32), np.zeros((2, 3)), np.ones(2, bool))
    after, _ = make_step(net, "mse", optimizer, regularization=fnet.Penalties(l2=0.1))(state, batch)
    assert same(after.params["base_1"], state.params["base_1"])
    assert not same(after.params["dense_1"], state.params["dense_1"])


@pytest.mark.parametrize("make", [loop, scanner])
def test_max_norm_constrains_columns_whatever_a_loop_is_called(make):
    net, optimizer = make(), optax.sgd(0.0)
    state = init_state(net, optimizer, jax.random.key(0), (3,))
    batch = Batch(np.ones((2, 3), np.float32), np.zeros((2, 3)), np.ones(2, bool))
    after, _ = make_step(net, "mse", optimizer, regularization=fnet.Penalties(max_norm=0.7))(state, batch)
    (w,) = (leaf for name, leaf in fnet.leaves(net, after.params) if name.endswith("w"))
    lengths = np.linalg.norm(w, axis=-2)
    assert lengths.max() < 0.7 + 1e-6
    assert np.isclose(lengths, 0.7).any()


def test_integers_are_no_parameters():
    net = fnet.serial(fnet.batch_norm())
    params, state = net.init(jax.random.key(0), (2,))
    integers = jax.tree.map(lambda leaf: leaf.astype(int), state)
    with pytest.raises(ValueError, match="state: 'batch_norm_1/mean' is int32, but the network's is float32"):
        init_state(net, optax.sgd(0.1), jax.random.key(0), (2,), params=params, state=integers)


def test_penalties_are_values():
    penalties = fnet.Penalties(l1=0.1, layers={"a": {"l2": 0.5}}, max_norm=2.0)
    assert pickle.loads(pickle.dumps(penalties)) == penalties == copy.deepcopy(penalties)
