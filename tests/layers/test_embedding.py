"""Embeddings of indices and positions: vectors and gradients, shared weights, and invalid inputs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy import cos, sin

import fnet


def test_the_gradient_of_a_row_is_the_sum_over_its_uses():
    layer = fnet.embedding(4, 2)
    x, g = jnp.array([[1, 3, 1]]), jnp.array([[[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]]])
    dw = jax.grad(lambda w: jnp.sum(g * layer.apply({"w": w}, {}, x, train=False)[0]))(jnp.zeros((4, 2)))
    assert dw.tolist() == [[0, 0], [11, 22], [0, 0], [3, 4]]


@pytest.mark.parametrize("layer", [fnet.embedding(3, 2), fnet.one_hot(3)], ids=["embedding", "one_hot"])
@pytest.mark.parametrize("jitted", [False, True])
def test_an_index_out_of_range_gives_nan(layer, jitted):
    params, _ = layer.init(jax.random.key(0), (4,))

    def apply(x):
        return layer.apply(params, {}, x, train=False)[0]

    y = (jax.jit(apply) if jitted else apply)(jnp.array([[0, 3, -1, 2]]))
    assert np.isnan(y[0]).all(axis=1).tolist() == [False, True, True, False]
    assert np.isfinite(y[0, [0, 3]]).all()


def test_the_initial_weights_have_the_standard_deviation_of_the_setting():
    params, _ = fnet.embedding(200, 50, std=0.5).init(jax.random.key(0), (1,))
    assert abs(np.std(params["w"]) - 0.5) < 0.01
    params, _ = fnet.embedding(200, 50).init(jax.random.key(0), (1,))
    assert abs(np.std(params["w"]) - 0.02) < 0.0005


@pytest.mark.parametrize("layer", [fnet.embedding(3, 2), fnet.one_hot(3)], ids=["embedding", "one_hot"])
def test_real_numbers_are_refused(layer):
    params, _ = layer.init(jax.random.key(0), (1,))
    message = (
        f"{layer.kind}: expects indices (whole numbers of an integer type), got float32; "
        "convert indices with x.astype(int), or use a dense layer for real numbers"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        layer.apply(params, {}, jnp.zeros((1, 1)), train=False)


def test_tied_weights_by_hand():
    """y_k = w_x w_k: dy_k/dw has one term from the embedding, in row x, and one from the readout, in row k."""
    net = fnet.tied(fnet.embedding(3, 1))
    w = jnp.array([[2.0], [3.0], [5.0]])

    def scores(w):
        return net.apply({"embedding_1": {"w": w}}, {}, jnp.array([[1]]), train=False)[0][0, 0]

    assert scores(w).tolist() == [6, 9, 15]
    assert jax.jacobian(scores)(w)[..., 0].tolist() == [[3, 2, 0], [0, 6, 0], [0, 5, 3]]


def test_the_readout_has_no_parameters_of_its_own():
    net = fnet.tied(fnet.embedding(7, 4, name="letters"), fnet.lstm(4))
    params, _ = net.init(jax.random.key(0), (5,))
    assert {name: sorted(leaves) for name, leaves in params.items()} == {"letters": ["w"], "lstm_1": ["b", "u", "w"]}


@pytest.mark.parametrize(
    ("layers", "received"), [([], "no layer"), ([fnet.one_hot(3), fnet.embedding(3, 2)], "one_hot")]
)
def test_tied_begins_with_an_embedding(layers, received):
    message = f"tied: expected an embedding first, whose weights the readout shares, got {received}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fnet.tied(*layers)


def test_the_outputs_of_tied_layers_must_have_the_width_of_the_embedding():
    message = (
        "tied: the output of its layers has shape (5, 6), but its readout shares the weights of embedding_1 and "
        "expects (..., 4); append dense: 4"
    )
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}$"):
        fnet.tied(fnet.embedding(7, 4), fnet.gru(6)).shape((5,))


@fnet.constructor
def counts(size: int, *, name: str | None = None):
    """Count the occurrences of each index 0 ... size - 1; a user-defined layer that takes indices."""

    def apply(params, state, x, *, train, key=None, mask=None):
        return jax.nn.one_hot(x, size).sum(1), {}

    return fnet.Parts(lambda in_shape: (size,), fnet.no_parameters, apply, indices=size)


@pytest.mark.parametrize(
    ("net", "number"),
    [
        (fnet.serial(fnet.flatten(), fnet.serial(fnet.one_hot(4)), fnet.embedding(9, 2)), 4),
        (fnet.serial(fnet.dense(2), fnet.embedding(9, 2)), None),
        (fnet.tied(fnet.embedding(9, 2)), 9),
        (fnet.parallel(fnet.embedding(9, 2), fnet.one_hot(7)), 7),
        (
            fnet.graph(
                fnet.embedding(9, 2),
                fnet.embedding(3, 2),
                nodes={"a": ("embedding_1", "input"), "b": ("embedding_2", "a")},
            ),
            9,
        ),
        (fnet.serial(), None),
        (fnet.serial(fnet.serial(fnet.flatten()), fnet.embedding(9, 2)), 9),
        (fnet.serial(fnet.reshape((2, 3)), fnet.permute((2, 1)), fnet.zero_pad(1), fnet.embedding(9, 2)), 9),
        (fnet.serial(fnet.upsample(2), fnet.embedding(9, 2)), 9),
        (fnet.repeat(fnet.one_hot(4), times=2), 4),
        (fnet.residual(fnet.permute((1,)), fnet.one_hot(4)), 4),
        (fnet.serial(counts(6), fnet.dense(2)), 6),
    ],
)
def test_the_number_of_indices_that_a_network_takes(net, number):
    assert net.indices == number


def test_positions_are_added_starting_with_the_first():
    y, _ = fnet.positions(3).apply({"w": jnp.array([[1.0], [2.0], [4.0]])}, {}, jnp.full((1, 2, 1), 10.0), train=False)
    assert y[0, :, 0].tolist() == [11, 12]


def test_a_sequence_longer_than_the_positions_is_refused():
    layer = fnet.positions(3)
    message = (
        "positions: expects at most 3 steps, its number of positions, got 5; use positions: 5, or shorter sequences"
    )
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}$"):
        layer.shape((5, 2))
    params, _ = layer.init(jax.random.key(0), (3, 2))
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}$"):
        layer.apply(params, {}, jnp.zeros((1, 5, 2)), train=False)


def test_the_waves_of_sinusoidal_positions():
    """At t = 2 with width 4: the first pair turns by t, the second by t / base^(2/4)."""
    with jax.enable_x64(True):
        y, _ = fnet.sinusoidal_positions(100.0).apply({}, {}, np.zeros((1, 3, 4)), train=False)
    np.testing.assert_allclose(y[0, 2], [sin(2), cos(2), sin(0.2), cos(0.2)], rtol=1e-14)
