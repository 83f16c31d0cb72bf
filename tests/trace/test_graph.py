"""The computational graph, compared with jax.grad, closed forms and the lectures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet.trace import functions, nodes
from fnet.trace.functions import cos, exp, maximum, mean, sigmoid, softmax, sqrt, tanh, total
from fnet.trace.graph import backward, gradient, kink
from fnet.trace.nodes import Undefined, constant, variable
from fnet.trace.parser import parse

BY_JAX = {
    "exp": jnp.exp, "log": jnp.log, "sqrt": jnp.sqrt, "sin": jnp.sin, "cos": jnp.cos, "tan": jnp.tan,
    "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus, "swish": jax.nn.swish,
    "gelu": jax.nn.gelu, "relu": jax.nn.relu, "elu": jax.nn.elu, "abs": jnp.abs,
    "logistic": jax.nn.sigmoid, "ln": jnp.log,
}  # fmt: skip
"""Elementwise functions of one operand."""


def jax_gradients(function, *points, order=1):
    """Return the gradients of the sum of the function's outputs by JAX, in float64."""
    with jax.enable_x64(True):
        points = tuple(jnp.asarray(point, jnp.float64) for point in points)

        def value(*points):
            return jnp.sum(function(*points))

        argnums = tuple(range(len(points)))
        first = jax.grad(value, argnums)
        second = jax.grad(lambda *points: sum(map(jnp.sum, first(*points))), argnums)
        return [np.asarray(slope) for slope in (first if order == 1 else second)(*points)]


def graph_gradients(function, *points, order=1):
    nodes = [variable(point) for point in points]
    slopes = gradient(total(function(*nodes)), *nodes)
    if order == 2:
        sum_of_slopes = constant(0.0)
        for slope in slopes:
            sum_of_slopes = sum_of_slopes + total(slope)
        slopes = gradient(sum_of_slopes, *nodes)
    return [slope.value for slope in slopes]


def assert_agrees_with_jax(function, by_jax, *points, orders=(1, 2)):
    for order in orders:
        actual, expected = graph_gradients(function, *points, order=order), jax_gradients(by_jax, *points, order=order)
        for a, b in zip(actual, expected, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_gates():
    """Item 2: add distributes, multiply swaps, copy adds, max routes."""
    a, b = variable(3.0), variable(-7.0)
    assert [float(g) for g in gradient(5 * (a + b), a, b)] == [5, 5]
    assert [float(g) for g in gradient(5 * (a * b), a, b)] == [-35, 15]
    assert [float(g) for g in gradient(5 * maximum(a, b), a, b)] == [5, 0]
    assert [float(g) for g in gradient(5 * (a + a + a), a)] == [15]


def test_messages_are_upstream_times_local_and_add_up():
    x = variable(2.0)
    a = x**2
    c = a + exp(a)
    f = sqrt(c) + cos(c)
    result = backward(f)
    for message in result.messages:
        upstream = result.gradients[message.sender]
        assert message.local is not None
        assert float(message.value) == pytest.approx(float(upstream) * float(message.local), rel=1e-15)
    for node, slope in result.gradients.items():
        received = [float(message.value) for message in result.messages if message.receiver is node]
        assert float(slope) == pytest.approx(sum(received) if received else 1.0, rel=1e-15)
    senders = [message.sender.number for message in result.messages]
    assert senders == sorted(senders, reverse=True)


@pytest.mark.parametrize("name", sorted(BY_JAX))
def test_first_and_second_derivatives_agree_with_jax(name):
    operation = functions.FUNCTIONS[name].operations[1]
    points = np.array([0.3, 0.9, 2.4])
    assert_agrees_with_jax(operation, BY_JAX[name], points)
    if name not in ("log", "ln", "sqrt"):
        assert_agrees_with_jax(operation, BY_JAX[name], -points)
    np.testing.assert_allclose(operation(points).value, BY_JAX[name](points), rtol=1e-6)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "swish", "gelu", "elu"])
def test_saturated_functions_do_not_overflow_and_reach_their_limits(name):
    operation = functions.FUNCTIONS[name].operations[1]
    far = np.array([-800.0, 800.0])
    limits = {"tanh": [-1, 1], "sigmoid": [0, 1], "elu": [-1, 800]}.get(name, [0, 800])
    slopes = {"tanh": [0, 0], "sigmoid": [0, 0]}.get(name, [0, 1])
    np.testing.assert_allclose(operation(far).value, limits, atol=1e-12)
    np.testing.assert_allclose(graph_gradients(operation, far)[0], slopes, atol=1e-12)


@pytest.mark.parametrize(
    ("function", "by_jax"),
    [
        (lambda a, b: a / b, jnp.divide),
        (lambda a, b: a - b, jnp.subtract),
        (functions.leaky_relu, jax.nn.leaky_relu),
        (functions.maximum, jnp.maximum),
        (functions.minimum, jnp.minimum),
    ],
    ids=["divide", "subtract", "leaky_relu", "max", "min"],
)
@pytest.mark.parametrize("shapes", [((), ()), ((3,), ()), ((2, 1), (3,)), ((2, 3), (1, 3))])
def test_two_operands_broadcast(function, by_jax, shapes, rng):
    assert_agrees_with_jax(
        function, by_jax, *(rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape) for shape in shapes)
    )


def test_power(rng):
    base, exponent = rng.uniform(0.5, 2, 4), rng.uniform(-2, 2, 4)
    assert_agrees_with_jax(lambda a, b: a**b, jnp.power, base, exponent)
    for whole in (-2, -1, 0, 1, 2, 3):
        points = np.append(-base, 0) if whole >= 0 else -base
        assert_agrees_with_jax(lambda a, whole=whole: a**whole, lambda a, whole=whole: a**whole, points)


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((2, 4), (4,)), ((4,), (4, 3)), ((2, 4), (4, 3))])
def test_matrix_products(shapes, rng):
    assert_agrees_with_jax(
        lambda a, b: sigmoid(a @ b), lambda a, b: jax.nn.sigmoid(a @ b), *map(rng.standard_normal, shapes)
    )


def test_matrix_product_of_the_lecture(rng):
    """Item 3: q = W x has dW = dq x^T and dx = W^T dq."""
    w, x, dq = rng.standard_normal((2, 3)), rng.standard_normal(3), rng.standard_normal(2)
    weights, point = variable(w), variable(x)
    dw, dx = gradient(total(dq * (weights @ point)), weights, point)
    np.testing.assert_allclose(dw.value, np.outer(dq, x), rtol=1e-14)
    np.testing.assert_allclose(dx.value, w.T @ dq, rtol=1e-14)


@pytest.mark.parametrize(
    ("function", "by_jax"),
    [
        (lambda a: mean(a**3), lambda a: jnp.mean(a**3)),
        (lambda a: functions.reduce_max(a) ** 2, lambda a: jnp.max(a) ** 2),
        (lambda a: functions.reduce_min(a) ** 2, lambda a: jnp.min(a) ** 2),
        (lambda a: softmax(a) ** 2, lambda a: jax.nn.softmax(a) ** 2),
        (lambda a: nodes.transpose(a) @ tanh(a), lambda a: a.T @ jnp.tanh(a)),
        (lambda a: nodes.reshape(a, (6,)) ** 3, lambda a: a.reshape(6) ** 3),
    ],
    ids=["mean", "reduce_max", "reduce_min", "softmax", "transpose", "reshape"],
)
def test_functions_of_whole_arrays(function, by_jax, rng):
    assert_agrees_with_jax(function, by_jax, rng.standard_normal((2, 3)))


KINKS = {
    "relu(x)": "relu'(0) is taken as 0",
    "abs(x)": "abs'(0) is taken as 1",
    "leaky_relu(x, 0.1)": "leaky_relu'(0) is taken as 1",
    "max(x, 0)": "max of equal numbers sends half of the gradient to each",
    "min(x, 0)": "min of equal numbers sends half of the gradient to each",
}


@pytest.mark.parametrize("source", KINKS)
def test_derivatives_at_kinks_follow_jax_and_are_reported(source):
    (number,) = [n for n, step in enumerate(parse(source).steps) if step.operation]
    operation = parse(source).steps[number].operation
    others = [0.1 if "leaky" in source else 0.0] if "," in source else []
    by_jax = {"max": jnp.maximum, "min": jnp.minimum, "leaky_relu": jax.nn.leaky_relu}.get(source.partition("(")[0])
    by_jax = by_jax or BY_JAX[source.partition("(")[0]]
    assert_agrees_with_jax(lambda x: operation(x, *others), lambda x: by_jax(x, *others), 0.0, orders=(1,))
    assert kink(operation(variable(0.0), *others)) == KINKS[source]
    assert kink(operation(variable(1.5), *others)) is None


def test_a_slope_of_one_has_no_kink():
    assert kink(functions.leaky_relu(variable(0.0), 1.0)) is None


@pytest.mark.parametrize("function", [functions.reduce_max, functions.reduce_min])
def test_ties_within_an_array_share_the_gradient(function):
    by_jax = jnp.max if function is functions.reduce_max else jnp.min
    assert_agrees_with_jax(function, by_jax, np.array([1.0, 1.0, 1.0]), orders=(1,))
    assert "sends equal shares" in str(kink(function(np.array([2.0, 2.0]))))
    assert kink(function(np.array([1.0, 2.0]))) is None


def test_total_derivative_over_two_branches():
    """Item 6: the first and the second derivative of 2 x^3 + 2 e^(2x) are 6 x^2 + 4 e^(2x) and 12 x + 8 e^(2x)."""
    for point in (-1.3, 0.0, 0.7, 2.0):
        x = variable(point)
        (first,) = gradient(2 * x**3 + 2 * exp(2 * x), x)
        (second,) = gradient(first, x)
        (third,) = gradient(second, x)
        assert float(first) == pytest.approx(6 * point**2 + 4 * np.exp(2 * point), rel=1e-13)
        assert float(second) == pytest.approx(12 * point + 8 * np.exp(2 * point), rel=1e-13)
        assert float(third) == pytest.approx(12 + 16 * np.exp(2 * point), rel=1e-13)


def test_reflected_operators_and_arrays_on_the_left():
    x = variable(np.array([1.0, 2.0]))
    node = np.array([3.0, 4.0]) @ (2 - 1 / x + 2**x - np.array([1.0, 1.0]) * x)
    assert float(node) == pytest.approx(3 * (2 - 1 + 2 - 1) + 4 * (2 - 0.5 + 4 - 2))
    np.testing.assert_allclose(
        gradient(node, x)[0].value, [3 * (1 + 2 * np.log(2) - 1), 4 * (0.25 + 4 * np.log(2) - 1)], rtol=1e-14
    )


def test_an_unused_variable_has_gradient_zero():
    x, y = variable(1.0), variable(np.ones(2))
    assert gradient(x * 2, y)[0].value.tolist() == [0, 0]


def test_a_long_chain_of_nodes_used_twice():
    """The backward pass is not recursive and visits each node once, although 2^2000 paths lead to the first one."""
    x = node = variable(1.0)
    for _ in range(2000):
        node = 0.5 * (node + node)
    assert float(gradient(node, x)[0]) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 1 / variable(0.0), "division by zero"),
        (lambda: functions.log(-1.0), "logarithm of a number that is not positive"),
        (lambda: sqrt(-1.0), "square root of a negative number"),
        (lambda: variable(-1.0) ** 0.5, "a negative number to a power that is not an integer"),
        (lambda: variable(0.0) ** -1, "0 to a negative power is a division by zero"),
        (lambda: exp(1000.0), "overflow: the result exceeds the largest float64"),
        (lambda: variable(np.nan), "nan is not a finite number"),
    ],
)
def test_values_that_are_not_finite_raise(make, message):
    with pytest.raises(Undefined, match=message):
        make()


def test_an_infinite_derivative_names_its_node():
    x = variable(0.0)
    root = sqrt(x)
    with pytest.raises(Undefined, match=r"the derivative of sqrt is not finite here \(division by zero\)") as error:
        gradient(2 * root, x)
    assert error.value.node is root


def test_only_a_scalar_has_a_gradient():
    with pytest.raises(ValueError, match=r"the output has shape \(2,\): take its sum or mean"):
        backward(variable(np.ones(2)) * 2)


def test_incompatible_shapes_raise():
    with pytest.raises(ValueError, match=r"matmul is not defined for shapes \(2, 3\) and \(2,\)"):
        variable(np.ones((2, 3))) @ np.ones(2)
    with pytest.raises(ValueError, match=r"matmul is not defined for shapes \(\) and \(2,\)"):
        variable(1.0) @ np.ones(2)
    with pytest.raises(ValueError, match=r"matmul is not defined for shapes \(4, 2, 3\) and \(3, 1\)"):
        variable(np.ones((4, 2, 3))) @ np.ones((3, 1))


# Random graphs

UNARY = ("tanh", "sigmoid", "sin", "cos", "swish", "softplus", "gelu", "elu", "relu", "abs")


@st.composite
def random_graphs(draw):
    """Draw instructions on a growing list of values that starts with two variables; operands are earlier values."""
    size = draw(st.integers(1, 14))
    steps = []
    for number in range(size):
        operation = draw(st.sampled_from(["+", "-", "*", "/", "max", "min", *UNARY]))
        operands = draw(st.tuples(*[st.integers(max(0, number - 4), number + 1)] * 2))
        steps.append((operation, *operands))
    return steps


def run(steps, values, function):
    values = list(values)
    for operation, first, second in steps:
        a, b = values[first], values[second]
        match operation:
            case "+":
                values.append(a + b)
            case "-":
                values.append(a - b)
            case "*":
                values.append(0.5 * a * b)
            case "/":
                values.append(a / (1.5 + b * b))
            case "max" | "min":
                values.append(function(operation, 2)(a, b))
            case _:
                values.append(function(operation, 1)(a))
    return values[-1]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(random_graphs(), st.integers(0, 2**32 - 1))
def test_gradients_of_random_graphs_agree_with_jax(steps, seed):
    points = np.random.default_rng(seed).uniform(-1.5, 1.5, 2)
    extremes = {"max": jnp.maximum, "min": jnp.minimum}
    actual = graph_gradients(lambda *v: run(steps, v, lambda name, n: functions.FUNCTIONS[name].operations[n]), *points)
    expected = jax_gradients(lambda *v: run(steps, v, lambda name, n: (extremes | BY_JAX)[name]), *points)
    scale = 1 + max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11 * scale)
