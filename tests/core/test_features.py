import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet


def network():
    return fnet.serial(
        fnet.dense(4),
        fnet.residual(fnet.dense(4), fnet.serial(fnet.tanh(), fnet.dense(4, name="deep"), name="inner")),
        fnet.graph(fnet.dense(3, name="f"), fnet.relu(), nodes={"a": ("f", "input"), "b": ("relu_1", "a")}),
        fnet.batch_norm(),
        fnet.dense(2),
    )


def test_features_at_any_depth(rng):
    """Features agree with the layers applied one after the other in NumPy."""
    net = network()
    params, state = net.init(jax.random.key(0), (5,))
    x = rng.standard_normal((3, 5)).astype(np.float32)
    h = x @ params["dense_1"]["w"] + params["dense_1"]["b"]
    np.testing.assert_allclose(fnet.features(net, params, state, x, "dense_1", train=False), h, rtol=1e-5, atol=1e-6)
    inner = params["residual_1"]
    z = jnp.tanh(h @ inner["dense_1"]["w"]) @ inner["inner"]["deep"]["w"]
    deep = fnet.features(net, params, state, x, "residual_1/inner/deep", train=False)
    np.testing.assert_allclose(deep, z, rtol=1e-5, atol=1e-6)
    f = fnet.features(net, params, state, x, "graph_1/f", train=False)
    np.testing.assert_allclose(f, (h + z) @ params["graph_1"]["f"]["w"], rtol=1e-5, atol=1e-5)
    whole, _ = net.apply(params, state, x, train=False)
    np.testing.assert_allclose(fnet.features(net, params, state, x, "dense_2", train=False), whole, rtol=1e-6)


def test_features_can_be_jitted_and_differentiated(rng):
    net = network()
    params, state = net.init(jax.random.key(0), (5,))
    x = rng.standard_normal((3, 5)).astype(np.float32)

    @jax.jit
    def norm(params):
        return jnp.sum(fnet.features(net, params, state, x, "residual_1", train=True) ** 2)

    gradients = jax.grad(norm)(params)
    assert jnp.any(gradients["dense_1"]["w"] != 0)
    assert not jnp.any(gradients["dense_2"]["w"] != 0)


def test_for_an_unknown_name_the_nearest_is_suggested():
    net = network()
    params, state = net.init(jax.random.key(0), (5,))
    with pytest.raises(ValueError, match=r"the network does not have a layer 'dens_1'; did you mean 'dense_1'\?"):
        fnet.features(net, params, state, np.ones((1, 5)), "dens_1", train=False)
