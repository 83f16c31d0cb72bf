"""Attention and the transformer block: worked examples, masks, causality, and invalid inputs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy import exp

import fnet


def run(layer, params, x, mask=None):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        return np.asarray(layer.apply(params, {}, jnp.asarray(x, jnp.float64), train=False, mask=mask)[0])


def initialized(*, in_shape=(5, 4), **settings):
    layer = fnet.attention(2, **settings)
    return layer, layer.init(jax.random.key(0), in_shape)[0]


def projections(query, key, value, out):
    return {
        name: {"w": np.array(w, float)}
        for name, w in zip(("query", "key", "value", "out"), (query, key, value, out), strict=True)
    }


def test_two_steps_of_one_head_by_hand():
    """Scores q_t k_s / sqrt(1) of x = (1, 2) with q = 2x, k = -x, v = 3x, and an output projection of 5."""
    params = projections([[2.0]], [[-1.0]], [[3.0]], [[5.0]])
    weights = [[exp(-2), exp(-4)], [exp(-4), exp(-8)]]
    expected = [5 * (a * 3 + b * 6) / (a + b) for a, b in weights]
    layer = fnet.attention(1, bias=False)
    np.testing.assert_allclose(run(layer, params, [[[1.0], [2.0]]])[0, :, 0], expected, rtol=1e-14)
    causal = fnet.attention(1, bias=False, causal=True)
    np.testing.assert_allclose(run(causal, params, [[[1.0], [2.0]]])[0, :, 0], [15, expected[1]], rtol=1e-14)


def test_scores_are_divided_by_the_root_of_the_width_of_a_head():
    """One head of width 4: equal projections of x = (c, c, c, c) score 4 c_t c_s / sqrt(4)."""
    params = projections(*[np.eye(4)] * 4)
    y = run(fnet.attention(1, bias=False), params, np.array([[[1.0] * 4, [0.5] * 4]]))
    weights = exp([[2, 1], [1, 0.5]])
    np.testing.assert_allclose(y[0, :, 0], weights @ [1, 0.5] / weights.sum(axis=1), rtol=1e-14)


def test_heads_are_blocks_of_columns(rng):
    """With the identity as output projection, two heads are two layers of one head, each with half of the columns."""
    x = rng.standard_normal((2, 3, 4))
    q, k, v = (rng.standard_normal((4, 4)) for _ in range(3))
    whole = run(fnet.attention(2, bias=False), projections(q, k, v, np.eye(4)), x)
    for side in (slice(0, 2), slice(2, 4)):
        zq, zk, zv = x @ q[:, side], x @ k[:, side], x @ v[:, side]
        p = exp(zq @ np.swapaxes(zk, 1, 2) / np.sqrt(2))
        np.testing.assert_allclose(whole[..., side], p @ zv / p.sum(axis=2, keepdims=True), rtol=1e-12)


def test_without_positions_permuted_steps_have_permuted_outputs(rng):
    layer, params = initialized()
    x, order = rng.standard_normal((2, 5, 4)), [3, 0, 4, 1, 2]
    np.testing.assert_allclose(run(layer, params, x[:, order]), run(layer, params, x)[:, order], rtol=1e-12)
    net = fnet.serial(fnet.sinusoidal_positions(), layer)
    net_params = {"attention_1": params}
    assert not np.allclose(run(net, net_params, x[:, order]), run(net, net_params, x)[:, order])


def test_the_causal_block_is_bitwise_independent_of_later_steps(rng):
    """The output at t depends on every earlier step, but on no later one."""
    net = fnet.serial(fnet.positions(6), fnet.repeat(fnet.transformer(4, 2, causal=True), times=2), fnet.layer_norm())
    params, _ = net.init(jax.random.key(0), (6, 4))
    x = rng.standard_normal((2, 6, 4))
    later, earlier = x.copy(), x.copy()
    later[:, 4:] += rng.standard_normal((2, 2, 4))
    earlier[:, :1] += rng.standard_normal((2, 1, 4))
    y = run(net, params, x)
    assert np.array_equal(run(net, params, later)[:, :4], y[:, :4])
    assert not np.any(run(net, params, later)[:, 4:] == y[:, 4:])
    assert not np.any(run(net, params, earlier) == y)


@pytest.mark.parametrize("causal", [False, True])
def test_a_masked_sequence_gives_the_outputs_of_the_shorter_one(causal, rng):
    layer, params = initialized(causal=causal)
    x = rng.standard_normal((2, 5, 4))
    mask = np.arange(5) < np.array([[3], [5]])
    y = run(layer, params, x, mask)
    np.testing.assert_allclose(y[0, :3], run(layer, params, x[:1, :3])[0], rtol=1e-12)
    np.testing.assert_allclose(y[1], run(layer, params, x[1:])[0], rtol=1e-12)
    other = np.where(mask[:, :, None], x, 1e3)
    assert np.array_equal(run(layer, params, other, mask)[mask], y[mask])
    assert np.array_equal(run(layer, params, x, np.array([True, False])), run(layer, params, x))


@pytest.mark.parametrize("causal", [False, True])
def test_a_sequence_without_real_steps_is_finite(causal, rng):
    """No step is visible: the outputs are the bias of the output projection, and no gradient is NaN."""
    layer, params = initialized(causal=causal)
    params["out"]["b"] = jnp.arange(4.0)
    x, mask = jnp.asarray(rng.standard_normal((2, 3, 4)), jnp.float32), np.array([[False] * 3, [False, True, True]])

    def total(params, x):
        y, _ = layer.apply(params, {}, x, train=True, mask=mask)
        return jnp.sum(y**2), y

    gradients, y = jax.grad(total, argnums=(0, 1), has_aux=True)(params, x)
    assert np.array_equal(y[0], np.tile(np.arange(4.0), (3, 1)))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert np.all(gradients[1][0] == 0)


def test_large_scores_do_not_overflow():
    params = projections([[1e3]], [[1e3]], [[1.0]], [[1.0]])
    y, _ = fnet.attention(1, bias=False).apply(params, {}, jnp.array([[[1.0], [2.0], [3.0]]]), train=False)
    assert y[0, :, 0].tolist() == [3, 3, 3]


def test_heads_must_divide_the_width():
    message = "attention: its heads must divide the width, but 5 does not divide 12; use 1, 2, 3, 4, 6, 12"
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}$"):
        fnet.attention(5).shape((3, 12))
    with pytest.raises(fnet.ShapeError, match=r"^residual_1/attention_1: its heads must divide the width, but 3 does"):
        fnet.transformer(8, 3).shape((5, 8))


def test_the_bias_of_the_keys_has_no_effect(rng):
    layer, params = initialized()
    x = rng.standard_normal((2, 5, 4))
    changed = {**params, "key": {**params["key"], "b": params["key"]["b"] + rng.standard_normal(4)}}
    np.testing.assert_allclose(run(layer, changed, x), run(layer, params, x), rtol=1e-12)


@pytest.mark.parametrize("layer", [fnet.attention(2), fnet.positions(9), fnet.sinusoidal_positions()])
def test_inputs_of_invalid_shape_are_refused(layer):
    message = f"{layer.kind}: expects examples (time, width), got (8,); put a reshape or an embedding before it"
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}$"):
        layer.shape((8,))
    params, _ = layer.init(jax.random.key(0), (5, 4))
    if params:
        with pytest.raises(fnet.ShapeError, match=r"expects \(batch, time, 4\), for its w \(\d, 4\), got"):
            layer.apply(params, {}, jnp.ones((1, 5, 6)), train=False)


def test_a_mask_of_another_shape_is_refused():
    layer, params = initialized()
    message = (
        "attention: expects a mask (batch,) or (batch, time) that matches its input (1, 5, 4), got (1, 3); make the"
    )
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}"):
        layer.apply(params, {}, jnp.ones((1, 5, 4)), train=False, mask=np.ones((1, 3), bool))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0, "heads": 1}, "transformer: width: expected a value of at least 1, got 0"),
        ({"width": 8, "heads": 2, "rate": 1.0}, "transformer: rate: expected a value less than 1, got 1.0"),
    ],
)
def test_the_settings_of_a_block_are_checked(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fnet.transformer(**settings)


def test_weights_are_dropped_with_the_rate_and_scaled_up():
    """With zero scores all weights are 1 / time, so that the output of v = 1 is the share of weights that remain."""
    layer, time = fnet.attention(1, rate=0.25, bias=False), 40
    params = projections([[0.0]], [[0.0]], [[1.0]], [[1.0]])
    x, key = jnp.ones((5, time, 1)), jax.random.key(3)
    keep = layer.draw(key, x.shape)
    assert keep.shape == (5, 1, time, time)
    assert np.mean(keep) == pytest.approx(0.75, abs=0.02)
    y, _ = layer.apply(params, {}, x, train=True, key=key)
    np.testing.assert_allclose(y[..., 0], np.mean(keep[:, 0], axis=-1) / 0.75, rtol=1e-5)
    np.testing.assert_allclose(layer.apply(params, {}, x, train=False)[0], 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (fnet.attention(1, rate=0.5), np.ones((1, 2, 2))),
        (fnet.cross_attention(1, rate=0.5), (np.ones((1, 2, 2)), np.ones((1, 3, 2)))),
    ],
    ids=["attention", "cross_attention"],
)
def test_dropping_weights_needs_a_key(layer, x):
    params, _ = layer.init(jax.random.key(0), jax.tree.map(lambda part: part.shape[1:], x))
    with pytest.raises(ValueError, match=rf"^{layer.kind}: training needs a key: net.apply"):
        layer.apply(params, {}, x, train=True)
    plain = layer.constructor(1)
    assert plain.draw is None
    plain.apply(params, {}, x, train=True)


def test_cross_attention_to_the_input_itself_is_attention(rng):
    layer, params = initialized()
    cross = fnet.cross_attention(2)
    assert jax.tree.all(jax.tree.map(np.array_equal, cross.init(jax.random.key(0), ((5, 4), (5, 4)))[0], params))
    x, mask = rng.standard_normal((2, 5, 4)), np.arange(5) < np.array([[3], [5]])
    with jax.enable_x64(True):
        y, _ = cross.apply(params, {}, (x, x, mask), train=False)
    np.testing.assert_allclose(y, run(layer, params, x, mask), rtol=1e-12)


def test_cross_attention_by_hand():
    """One head, two steps of x and three of a wider memory."""
    q, k, v = np.array([[2.0]]), np.array([[1.0], [0.5]]), np.array([[-1.0], [1.0]])
    params = projections(q, k, v, [[3.0]])
    x, memory = np.array([[[1.0], [-1.0]]]), np.array([[[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]])
    p = exp((x[0] @ q) @ (memory[0] @ k).T)
    expected = 3 * (p @ (memory[0] @ v)) / p.sum(axis=1, keepdims=True)
    with jax.enable_x64(True):
        y, _ = fnet.cross_attention(1, bias=False).apply(params, {}, (x, memory), train=False)
    np.testing.assert_allclose(y[0], expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("in_shape", "message"),
    [
        ((5, 4), r"expects several values, \(x, memory\) or \(x, memory, memory_mask\), got \(5, 4\); list them in"),
        (((5, 4),), r"expects several values, .*, got \(\(5, 4\),\)"),
        (((6, 5, 4), (3, 2)), r"expects examples \(time, width\), got \(6, 5, 4\)"),
        (((5, 4), (3,)), r"expects examples \(time, width\), got \(3,\)"),
        (((5, 3), (3, 4)), r"its heads must divide the width, but 2 does not divide 3; use 1, 3"),
        (((5, 4), (3, 4), (5,)), r"expects a memory_mask \(batch, time\) that matches its memory \(3, 4\), got \(5,\)"),
    ],
)
def test_invalid_inputs_of_cross_attention(in_shape, message):
    with pytest.raises(fnet.ShapeError, match=rf"^cross_attention: {message}"):
        fnet.cross_attention(2).shape(in_shape)


def test_other_inputs_than_at_initialization():
    layer = fnet.cross_attention(2)
    params, _ = layer.init(jax.random.key(0), ((5, 4), (3, 2)))
    x, memory = np.ones((2, 5, 4)), np.ones((2, 3, 2))
    with pytest.raises(fnet.ShapeError, match=r"expects \(batch, time, 2\), for its w \(2, 4\), got \(2, 3, 4\)"):
        layer.apply(params, {}, (x, np.ones((2, 3, 4))), train=False)
    with pytest.raises(fnet.ShapeError, match=r"expects \(batch, time, 4\), for its w \(4, 4\), got \(2, 5, 6\)"):
        layer.apply(params, {}, (np.ones((2, 5, 6)), memory), train=False)
    with pytest.raises(fnet.ShapeError, match=r"expects as many sequences as memories, got 2 and 1"):
        layer.apply(params, {}, (x, memory[:1]), train=False)
    with pytest.raises(TypeError, match=r"expects a Boolean memory_mask, got float32; use memory_mask.astype\(bool\)"):
        layer.apply(params, {}, (x, memory, np.ones((2, 3))), train=False)
    with pytest.raises(fnet.ShapeError, match=r"cross_attention: expects several values, .*, got \(2, 5, 4\)"):
        layer.apply(params, {}, x, train=False)
