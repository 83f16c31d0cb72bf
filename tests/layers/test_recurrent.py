"""Recurrent layers: worked examples, masks, directions, and the derivative of the loop against JAX's own."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy import exp, tanh

import fnet
from fnet.layers.recurrent_scan import GATED, MEMORY, PLAIN, recur

CONSTRUCTORS = {"rnn": fnet.rnn, "gru": fnet.gru, "lstm": fnet.lstm}
CELLS = {**PLAIN, "gru": GATED, "lstm": MEMORY}
every_kind = pytest.mark.parametrize("kind", CONSTRUCTORS)


def sigma(z):
    return 1 / (1 + exp(-z))


def run(layer, params, x, mask=None):
    with jax.enable_x64(True):
        params = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), params, is_leaf=lambda p: isinstance(p, list)
        )
        return np.asarray(layer.apply(params, {}, jnp.asarray(x, jnp.float64), train=False, mask=mask)[0])


def initialized(kind, seed=0, in_shape=(5, 2), **settings):
    layer = CONSTRUCTORS[kind](3, **settings)
    return layer, layer.init(jax.random.key(seed), in_shape)[0]


def test_two_steps_of_an_rnn_by_hand():
    params = {"w": [[0.5]], "u": [[-2.0]], "b": [0.25]}
    first = tanh(0.5 * 1 + 0.25)
    h = run(fnet.rnn(1), params, [[[1.0], [3.0]]])
    np.testing.assert_allclose(h[0, :, 0], [first, tanh(0.5 * 3 - 2 * first + 0.25)], rtol=1e-14)


def test_two_steps_of_a_gru_by_hand():
    """The reset gate has no effect in the first step, where the state is 0; the second step uses every gate."""
    params = {"w": [[1.0, 2.0, 0.5]], "u": [[0.3, -0.7, 1.5]], "b": [0.1, -0.2, 0.4]}
    s = sigma(2 * 2 - 0.2)
    h = (1 - s) * tanh(0.5 * 2 + 0.4)
    r, s = sigma(-1 + 0.3 * h + 0.1), sigma(-2 - 0.7 * h - 0.2)
    second = s * h + (1 - s) * tanh(-0.5 + 1.5 * r * h + 0.4)
    np.testing.assert_allclose(run(fnet.gru(1), params, [[[2.0], [-1.0]]])[0, :, 0], [h, second], rtol=1e-14)


def test_two_steps_of_an_lstm_by_hand():
    """The gates are in the order input, forget, candidate, output."""
    params = {"w": [[1.0, -1.0, 0.5, 2.0]], "u": [[0.2, 0.4, -0.6, 0.8]], "b": [0.1, 0.2, 0.3, -0.4]}
    c = sigma(2 + 0.1) * tanh(1 + 0.3)
    h = sigma(4 - 0.4) * tanh(c)
    later = sigma(1 + 0.4 * h - 0 + 0.2) * c + sigma(-1 + 0.2 * h + 0.1) * tanh(-0.5 - 0.6 * h + 0.3)
    second = sigma(-2 + 0.8 * h - 0.4) * tanh(later)
    np.testing.assert_allclose(run(fnet.lstm(1), params, [[[2.0], [-1.0]]])[0, :, 0], [h, second], rtol=1e-14)


@every_kind
def test_a_masked_sequence_gives_the_outputs_of_the_shorter_one(kind, rng):
    """Masked steps repeat the last real state, whatever their inputs; without `sequence` the output is that state."""
    layer, params = initialized(kind)
    last, _ = initialized(kind, sequence=False)
    x = rng.standard_normal((2, 5, 2))
    mask = np.arange(5) < np.array([[3], [5]])
    h = run(layer, params, x, mask)
    np.testing.assert_allclose(h[0, :3], run(layer, params, x[:1, :3])[0], rtol=1e-13)
    assert np.array_equal(h[0, 3:], h[0, [2, 2]])
    assert np.array_equal(run(last, params, x, mask), h[:, -1])
    other = np.where(mask[:, :, None], x, 1e3)
    assert np.array_equal(run(layer, params, other, mask), h)


@every_kind
def test_a_reversed_layer_reads_the_flipped_sequence(kind, rng):
    forward, params = initialized(kind)
    backward, _ = initialized(kind, reverse=True)
    x = rng.standard_normal((2, 5, 2))
    assert np.array_equal(run(backward, params, x), run(forward, params, x[:, ::-1])[:, ::-1])
    last, _ = initialized(kind, reverse=True, sequence=False)
    mask = np.arange(5) < np.array([[3], [5]])
    np.testing.assert_allclose(run(last, params, x, mask)[0], run(forward, params, x[:1, 2::-1])[0, -1], rtol=1e-13)


@every_kind
def test_a_step_does_not_depend_on_later_ones(kind, rng):
    layer, params = initialized(kind)
    x = rng.standard_normal((2, 5, 2))
    changed = x.copy()
    changed[:, 3:] += 1
    before, after = run(layer, params, x), run(layer, params, changed)
    assert np.array_equal(before[:, :3], after[:, :3])
    assert not np.any(before[:, 3:] == after[:, 3:])


@every_kind
def test_a_sequence_without_real_steps_gives_zeros_and_zero_gradients(kind, rng):
    layer, params = initialized(kind)
    x, mask = jnp.asarray(rng.standard_normal((2, 4, 2)), jnp.float32), np.array([[False] * 4, [True] * 4])

    def total(params, x):
        h, _ = layer.apply(params, {}, x, train=True, mask=mask)
        return jnp.sum(h[0]) + 0 * jnp.sum(h), h

    gradients, h = jax.grad(total, argnums=(0, 1), has_aux=True)(params, x)
    assert np.all(h[0] == 0)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_the_derivative_of_the_loop_is_that_of_its_unrolled_steps(name, masked, rng):
    """Reverse mode, forward mode and second order, against JAX's derivatives of the unrolled steps."""
    cell, units = CELLS[name], 2
    with jax.enable_x64(True):
        a = jnp.asarray(rng.standard_normal((3, 2, cell.gates * units)))
        u = jnp.asarray(rng.standard_normal((units, cell.gates * units)))
        mask = jnp.asarray([[True, False], [False, True], [True, True]]) if masked else None
        weights = jnp.asarray(rng.standard_normal((3, 2, units)))

        def steps(a, u):
            state = tuple(jnp.zeros((2, units)) for _ in range(cell.parts))
            outputs = []
            for t in range(3):
                after, *_ = cell.step(a[t], u, state)
                if mask is not None:
                    after = tuple(jnp.where(mask[t][:, None], new, old) for new, old in zip(after, state, strict=True))
                state = after
                outputs.append(state[0])
            return jnp.stack(outputs)

        tangents = tuple(jnp.asarray(rng.standard_normal(part.shape)) for part in (a, u))
        results = []
        for f in (lambda a, u: recur(cell, a, u, mask), steps):

            def value(a, u, f=f):
                return jnp.sum(weights * f(a, u))

            gradient = jax.grad(value, argnums=(0, 1))
            results.append((f(a, u), gradient(a, u), jax.jvp(f, (a, u), tangents), jax.jvp(gradient, (a, u), tangents)))
        for actual, expected in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_u_is_one_product():
    """It is not one product per step: no loop in the derivative carries an array of the shape of u."""
    cell, units = MEMORY, 7
    a, u = jnp.ones((5, 3, 4 * units)), jnp.ones((units, 4 * units))
    jaxpr = jax.make_jaxpr(jax.grad(lambda u: jnp.sum(recur(cell, a, u, None))))(u)
    loops = [equation for equation in jaxpr.eqns if equation.primitive.name == "scan"]
    assert len(loops) == 2
    for loop in loops:
        carried = loop.invars[loop.params["num_consts"] :][: loop.params["num_carry"]]
        assert u.shape not in [variable.aval.shape for variable in carried]


@every_kind
def test_the_block_of_each_gate_is_initialized_separately(kind):
    _, params = initialized(kind, in_shape=(5, 4))
    gates = params["b"].shape[0] // 3
    for block in np.split(np.asarray(params["u"]), gates, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(3), atol=1e-6)
    assert params["w"].shape == (4, 3 * gates)
    assert np.abs(params["w"]).max() <= np.sqrt(6 / (4 + 3))
    assert np.abs(params["w"]).max() > 0.8 * np.sqrt(6 / (4 + 3))
    assert len(np.unique(params["w"])) == 12 * gates


def test_forget_bias_is_the_initial_bias_of_the_forget_gate():
    _, params = initialized("lstm", forget_bias=2.5)
    assert params["b"].tolist() == [0, 0, 0, 2.5, 2.5, 2.5, 0, 0, 0, 0, 0, 0]


@every_kind
def test_bidirectional_concatenates_both_directions(kind, rng):
    both = fnet.bidirectional(CONSTRUCTORS[kind](3, sequence=False))
    params, _ = both.init(jax.random.key(0), (5, 2))
    x = rng.standard_normal((2, 5, 2))
    sides = [initialized(kind, sequence=False, reverse=reverse)[0] for reverse in (False, True)]
    outputs = [run(side, params[name], x) for side, name in zip(sides, ("forward", "backward"), strict=True)]
    assert np.array_equal(run(both, params, x), np.concatenate(outputs, axis=1))
    assert not np.array_equal(params["forward"]["u"], params["backward"]["u"])


@pytest.mark.parametrize(
    ("layers", "received"),
    [
        ([], "none"),
        ([fnet.dense(3)], "dense"),
        ([fnet.gru(3, reverse=True)], "a reversed gru"),
        ([fnet.rnn(3), fnet.rnn(3)], "rnn, rnn"),
    ],
)
def test_bidirectional_takes_one_recurrent_layer(layers, received):
    message = (
        f"bidirectional: expected one recurrent layer that is not reversed (rnn, gru, lstm), got {received}; "
        "it makes the reversed layer itself"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fnet.bidirectional(*layers)


@every_kind
def test_invalid_inputs_are_refused(kind):
    layer, params = initialized(kind)
    expected = f"{kind}: expects examples (time, features), got {{}}; put a reshape before it, such as reshape: {{}}"
    for shape, reshape in (((8,), [8, 1]), ((8, 4, 2), [8, -1])):
        with pytest.raises(fnet.ShapeError, match=f"^{re.escape(expected.format(shape, reshape))}$"):
            layer.shape(shape)
    message = f"{kind}: expects (batch, time, 2), for its w {params['w'].shape}, got (1, 5, 4); initialize"
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}"):
        layer.apply(params, {}, jnp.ones((1, 5, 4)), train=False)
    message = (
        f"{kind}: expects a mask (batch,) or (batch, time) that matches its input (1, 5, 2), got (1, 4); make the mask"
    )
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}"):
        layer.apply(params, {}, jnp.ones((1, 5, 2)), train=False, mask=np.ones((1, 4), bool))
    with pytest.raises(ValueError, match=f"^{kind}: units: expected a value of at least 1, got 0$"):
        CONSTRUCTORS[kind](0)
