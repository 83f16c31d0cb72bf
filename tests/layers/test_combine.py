import jax
import numpy as np
import pytest

import fnet


def test_names_count_per_kind_and_restart_in_every_container():
    net = fnet.serial(
        fnet.dense(2), fnet.relu(), fnet.serial(fnet.dense(2), fnet.dense(2)), fnet.dense(2, name="mid"), fnet.dense(2)
    )
    assert [name for name, _ in net.children] == ["dense_1", "relu_1", "serial_1", "mid", "dense_3"]
    assert [name for name, _ in net.children[2][1].children] == ["dense_1", "dense_2"]
    params, state = net.init(jax.random.key(0), (3,))
    assert set(params) == {"dense_1", "serial_1", "mid", "dense_3"}
    assert state == {}


def test_duplicate_names_are_refused():
    with pytest.raises(ValueError, match="two layers of one container are named 'dense_2'"):
        fnet.serial(fnet.dense(1, name="dense_2"), fnet.dense(1))


def test_something_that_is_no_layer_is_refused():
    with pytest.raises(TypeError, match=r"expected a layer, got .*; did you mean relu\(\)\?"):
        fnet.serial(fnet.dense(1), fnet.relu)


def test_adding_a_layer_changes_no_other_weights():
    short = fnet.serial(fnet.dense(3), fnet.dense(2)).init(jax.random.key(3), (4,))[0]
    long = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.serial(fnet.dense(3), name="new"), fnet.dense(2))
    params = long.init(jax.random.key(3), (4,))[0]
    for name in ("dense_1", "dense_2"):
        assert np.array_equal(short[name]["w"], params[name]["w"])


def test_layers_of_one_shape_start_differently():
    params, _ = fnet.serial(fnet.dense(4), fnet.dense(4)).init(jax.random.key(0), (4,))
    assert not np.array_equal(params["dense_1"]["w"], params["dense_2"]["w"])


def test_errors_name_the_path():
    net = fnet.serial(fnet.serial(fnet.dense(2), fnet.dense(2), name="block"))
    params, state = net.init(jax.random.key(0), (3,))
    params["block"]["dense_2"]["w"] = np.ones((5, 2))
    with pytest.raises(fnet.ShapeError, match=r"^block/dense_2: expects"):
        net.apply(params, state, np.ones((1, 3)), train=False)
    with pytest.raises(fnet.ShapeError, match=r"^block/dense_1: expects"):
        net.shape(())


def test_other_errors_carry_the_layer_in_a_note():
    net = fnet.serial(fnet.dense(2, name="first"))
    with pytest.raises(KeyError, match="'w'") as caught:
        net.apply({}, {}, np.ones((1, 3)), train=False)
    assert any("in layer 'first'" in note for note in caught.value.__notes__)


def test_deep_linear_network_is_one_affine_map(rng):
    """Networks of linear units collapse: W = W_1 W_2 W_3 and b = (b_1 W_2 + b_2) W_3 + b_3."""
    net = fnet.serial(fnet.dense(5), fnet.dense(6), fnet.dense(2))
    params, state = net.init(jax.random.key(1), (4,))
    x = rng.standard_normal((7, 4)).astype(np.float32)
    (w1, b1), (w2, b2), (w3, b3) = ((params[n]["w"], params[n]["b"] + 0.3) for n in ("dense_1", "dense_2", "dense_3"))
    for name, b in zip(("dense_1", "dense_2", "dense_3"), (b1, b2, b3), strict=True):
        params[name]["b"] = b
    y, _ = net.apply(params, state, x, train=False)
    np.testing.assert_allclose(y, x @ (w1 @ w2 @ w3) + ((b1 @ w2 + b2) @ w3 + b3), rtol=1e-4, atol=1e-5)
