import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet


def test_affine_map_by_hand():
    """Item 3 of the lectures with examples as rows: z = x w + b, dw = x^T dz, dx = dz w^T."""
    x = jnp.array([[1.0, 2.0, -1.0]])
    params = {"w": jnp.array([[1.0, 0.0], [2.0, -1.0], [0.5, 3.0]]), "b": jnp.array([10.0, 20.0])}
    z, pull = jax.vjp(lambda params, x: fnet.dense(2).apply(params, {}, x, train=False)[0], params, x)
    params_bar, x_bar = pull(jnp.array([[1.0, -2.0]]))
    assert z.tolist() == [[14.5, 15.0]]
    assert params_bar["w"].tolist() == [[1.0, -2.0], [2.0, -4.0], [-1.0, 2.0]]
    assert params_bar["b"].tolist() == [1.0, -2.0]
    assert x_bar.tolist() == [[1.0, 4.0, -5.5]]


def test_initial_weights_have_the_variance_of_their_initializer():
    """glorot_uniform: 2 / (in + out); he_normal: 2 / in; the bias is initialized to zero."""
    for init, variance in {"glorot_uniform": 2 / (300 + 200), "he_normal": 2 / 300}.items():
        params, _ = fnet.dense(200, init=init).init(jax.random.key(0), (300,))
        assert np.var(params["w"]) == pytest.approx(variance, rel=0.05)
        assert not params["b"].any()


def test_initializer_by_dotted_path():
    params, _ = fnet.dense(2, init="jax.nn.initializers.ones").init(jax.random.key(0), (3,))
    assert params["w"].tolist() == [[1.0, 1.0]] * 3


def test_weights_do_not_depend_on_precision():
    net = fnet.serial(fnet.dense(3, init="he_normal"))
    params, _ = net.init(jax.random.key(5), (4,))
    with jax.enable_x64(True):
        again, _ = net.init(jax.random.key(5), (4,))
    assert np.array_equal(params["dense_1"]["w"], again["dense_1"]["w"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "dense: units: expected a value of at least 1, got 0"),
        ({"units": 1.5}, "dense: units: expected a whole number, got 1.5"),
        ({"units": 1, "bias": "no"}, "dense: bias: expected true or false, got 'no'"),
        (
            {"units": 1, "init": "glorot_unifrom"},
            "unknown initializer 'glorot_unifrom'; did you mean 'glorot_uniform'?",
        ),
        ({"units": 1, "name": "a/b"}, "a layer's name may not be empty or contain '/', got 'a/b'"),
    ],
)
def test_invalid_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fnet.dense(**arguments)


def test_an_unknown_dotted_initializer_is_refused():
    with pytest.raises(ValueError, match=r"dense: init: cannot import the function 'no\.such': No module named 'no'"):
        fnet.dense(1, init="no.such").init(jax.random.key(0), (2,))


def test_errors_for_invalid_inputs_name_the_expected_shape():
    net = fnet.serial(fnet.dense(3), fnet.dense(2))
    params, state = net.init(jax.random.key(0), (4,))
    with pytest.raises(fnet.ShapeError, match=r"^dense_1: expects \(batch, \.\.\., 4\).*got \(5, 7\); put a flatten"):
        net.apply(params, state, np.ones((5, 7)), train=False)
    with pytest.raises(fnet.ShapeError, match=r"^dense: expects examples with at least one axis"):
        fnet.dense(2).shape(())


def quarter(key, shape, dtype):
    return jnp.full(shape, 0.25, dtype)


def test_a_function_is_an_initializer():
    """It is called with a key, the shape and float32; without a path it runs, but cannot be described."""
    calls = []

    def halves(key, shape, dtype):
        calls.append((shape, dtype))
        return jnp.full(shape, 0.5, dtype)

    layer = fnet.dense(2, init=halves)
    params, _ = layer.init(jax.random.key(0), (3,))
    assert params["w"].tolist() == [[0.5, 0.5]] * 3
    assert calls == [((3, 2), jnp.float32)]
    assert layer == fnet.dense(2, init=halves) != fnet.dense(2)
    assert "init=halves" in str(layer)
    message = r"dense: init: a description cannot contain the function .*halves, because .*init='my_module.my_function'"
    with pytest.raises(ValueError, match=message):
        fnet.describe(fnet.serial(layer))
    he = jax.nn.initializers.he_normal()
    params, _ = fnet.conv_1d(2, init=he).init(jax.random.key(0), (5, 3))
    assert np.array_equal(params["w"], he(jax.random.key(0), (3, 3, 2), jnp.float32))
    params, _ = fnet.gru(2, init=halves, recurrent_init=quarter).init(jax.random.key(0), (5, 3))
    assert set(np.ravel(params["w"])) == {0.5}
    assert set(np.ravel(params["u"])) == {0.25}


def test_a_function_of_a_module_is_described_by_its_path():
    layer = fnet.dense(2, init=quarter)
    description = fnet.describe(layer)
    assert description["dense"]["init"] == f"{__name__}.quarter"
    assert fnet.build(description, trust=[__name__]) == layer
    assert fnet.dense(1, init=jax.nn.initializers.ones).settings["init"] == "jax.nn.initializers.ones"


def test_invalid_initializers_are_refused():
    with pytest.raises(ValueError, match=r"dense: init: expected an initializer of .*, or a function .*, got 3"):
        fnet.dense(2, init=3)
    with pytest.raises(
        fnet.ShapeError, match=r"its initializer was called for the shape \(3, 2\), but returned \(2,\)"
    ):
        fnet.dense(2, init=lambda key, shape, dtype: jnp.ones(2)).init(jax.random.key(0), (3,))
