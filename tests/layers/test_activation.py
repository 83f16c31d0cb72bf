import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet
from fnet.reference.rule import Scope, rule_of

FORMULAS = {
    # The formulas of the lectures, with the functions of Python's math module.
    "identity": (fnet.identity(), lambda z: z),
    "sigmoid": (fnet.sigmoid(), lambda z: 1 / (1 + math.exp(-z))),
    "tanh": (fnet.tanh(), math.tanh),
    "relu": (fnet.relu(), lambda z: max(0, z)),
    "leaky_relu": (fnet.leaky_relu(), lambda z: max(0.01 * z, z)),
    "leaky_relu 0.1": (fnet.leaky_relu(0.1), lambda z: max(0.1 * z, z)),
    "elu": (fnet.elu(), lambda z: z if z >= 0 else math.exp(z) - 1),
    "elu 2": (fnet.elu(2.0), lambda z: z if z >= 0 else 2 * (math.exp(z) - 1)),
    "swish": (fnet.swish(), lambda z: z / (1 + math.exp(-z))),
    "gelu": (
        fnet.gelu(),
        lambda z: 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    ),
    "gelu exact": (fnet.gelu(approximate=False), lambda z: 0.5 * z * (1 + math.erf(z / math.sqrt(2)))),
}


@pytest.mark.parametrize(("layer", "formula"), FORMULAS.values(), ids=FORMULAS.keys())
def test_values_agree_with_the_formula(layer, formula):
    z = np.array([[-3.0, -0.7, 0.0, 0.4, 2.5]])
    y, _ = layer.apply({}, {}, jnp.asarray(z), train=False)
    np.testing.assert_allclose(y, [[formula(entry) for entry in z[0]]], rtol=1e-5, atol=1e-7)


def test_softmax_by_hand():
    z = jnp.log(jnp.array([[1.0, 2.0, 5.0]]))
    np.testing.assert_allclose(fnet.softmax().apply({}, {}, z, train=False)[0], [[0.125, 0.25, 0.625]], rtol=1e-6)


@pytest.mark.parametrize("layer", [fnet.softmax(), fnet.sigmoid(), fnet.swish(), fnet.elu(), fnet.gelu()], ids=str)
def test_outputs_for_large_inputs_are_finite(layer):
    z = np.array([[-800.0, 0.0, 800.0]])
    y, _ = layer.apply({}, {}, jnp.asarray(z), train=False)
    by_hand, cache = rule_of(layer).forward(layer, Scope({}), z)
    dz, _ = rule_of(layer).backward(layer, Scope({}), cache, np.ones_like(z))
    assert np.isfinite(y).all()
    assert np.isfinite(by_hand).all()
    assert np.isfinite(dz).all()


@pytest.mark.parametrize(
    ("layer", "derivative"),
    [(fnet.relu(), 0.0), (fnet.leaky_relu(0.1), 1.0), (fnet.elu(0.3), 0.3)],
    ids=str,
)
def test_derivative_at_the_kink(layer, derivative):
    """At 0 both interpreters follow the convention of jax.nn."""
    by_jax = jax.grad(lambda z: layer.apply({}, {}, z, train=False)[0].sum())(jnp.zeros((1, 1)))
    _, cache = rule_of(layer).forward(layer, Scope({}), np.zeros((1, 1)))
    by_hand, _ = rule_of(layer).backward(layer, Scope({}), cache, np.ones((1, 1)))
    assert float(by_jax[0, 0]) == pytest.approx(derivative)
    assert by_hand[0, 0] == pytest.approx(derivative)


def test_a_function_is_a_layer(rng):
    x = rng.standard_normal((2, 5)).astype(np.float32)
    layer = fnet.lambda_layer(jax.nn.mish)
    assert layer.shape((5,)) == (5,)
    y, state = layer.apply({}, {}, x, train=True)
    np.testing.assert_allclose(y, x * np.tanh(np.log1p(np.exp(x))), rtol=1e-5)
    assert (layer.init(jax.random.key(0), (5,)), state) == (({}, {}), {})
    assert fnet.describe(layer) == {"lambda_layer": {"function": "jax.nn.mish"}}
    assert layer == fnet.lambda_layer("jax.nn.mish") == fnet.build({"lambda_layer": "jax.nn.mish"})


def test_a_local_function_is_a_layer_that_cannot_be_described():
    def pairs(x):
        return x.reshape(len(x), -1, 2)

    layer = fnet.lambda_layer(pairs)
    assert layer.shape((6,)) == (3, 2)
    assert "function=pairs" in str(layer)
    with pytest.raises(
        ValueError, match=r"lambda_layer: function: a description cannot contain the function .*pairs, because"
    ):
        fnet.describe(layer)
    with pytest.raises(ValueError, match=r"lambda_layer: function: .* cannot contain the function .*<lambda>, because"):
        fnet.describe(fnet.serial(fnet.lambda_layer(lambda x: x)))


def test_invalid_functions_are_refused():
    with pytest.raises(ValueError, match=r"lambda_layer: function: cannot import the function 'jax.nn.mihs': .*mihs"):
        fnet.lambda_layer("jax.nn.mihs")
    with pytest.raises(ValueError, match=r"'math.pi' is not a function, but float; give the path of a function"):
        fnet.lambda_layer("math.pi")
    with pytest.raises(ValueError, match=r"expected a function of an array, or its dotted path such as .*, got 3"):
        fnet.lambda_layer(3)
    with pytest.raises(
        fnet.ShapeError, match=r"must keep the batch as the first axis, but maps \(3, 4\) to \(4,\); reduce"
    ):
        fnet.lambda_layer(lambda x: x.sum(axis=0)).shape((4,))
