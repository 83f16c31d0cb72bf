"""Transforms, loops over repeated layers, and graphs with several inputs and outputs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import same

import fnet
from fnet.reference.rule import Scope, backward, forward


def block(*, rate=0.0):
    return fnet.serial(fnet.dense(4), fnet.batch_norm(), fnet.dropout(rate), fnet.tanh())


def gradient_of(net, params, state, x, **options):
    def loss(params, x):
        y, _ = net.apply(params, state, x, **options)
        return jnp.sum(jnp.sin(y.astype(jnp.float32)))

    return jax.grad(loss, argnums=(0, 1))(params, x)


def stacked(params):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params.values())


@pytest.mark.parametrize("train", [True, False])
def test_a_loop_over_repetitions_equals_the_unrolled_layers(train, rng):
    """Initial weights, outputs, dropout masks, running statistics and gradients."""
    unrolled, loop = (fnet.repeat(block(rate=0.4), times=3, scan=scan) for scan in (False, True))
    key = jax.random.key(3)
    params, state = unrolled.init(key, (4,))
    loop_params, loop_state = loop.init(key, (4,))
    assert same(stacked(params), loop_params)
    x = jnp.asarray(rng.standard_normal((5, 4)), jnp.float32)
    mask = jnp.array([True, True, False, True, True])
    y, after = unrolled.apply(params, state, x, train=train, key=key, mask=mask)
    loop_y, loop_after = loop.apply(loop_params, loop_state, x, train=train, key=key, mask=mask)
    np.testing.assert_allclose(loop_y, y, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), stacked(after), loop_after)
    expected, _ = gradient_of(unrolled, params, state, x, train=train, key=key, mask=mask)
    gradient, _ = gradient_of(loop, loop_params, loop_state, x, train=train, key=key, mask=mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), stacked(expected), gradient)


def test_the_size_of_a_loop_does_not_depend_on_the_number_of_repetitions():
    def operations(times):
        net = fnet.repeat(block(), times=times, scan=True)
        params, state = net.init(jax.random.key(0), (4,))
        traced = jax.jit(lambda params: net.apply(params, state, jnp.ones((2, 4)), train=True)[0]).trace(params)
        return len(traced.lower().as_text().splitlines())

    assert operations(2) == operations(20)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("times", [10**6 + 1, 10**9, 10**5000], ids=["10^6 + 1", "10^9", "10^5000"])
def test_too_many_repetitions_are_refused_at_once(times, scan):
    with pytest.raises(ValueError, match=r"^repeat: times: expected a value of at most 1000000, got "):
        fnet.repeat(fnet.relu(), times=times, scan=scan)


def test_the_number_of_unrolled_layers_is_bounded():
    inner = fnet.repeat(fnet.relu(), times=1000)
    message = r"^repeat: expected at most 100,000 layers without scan, got 2,002,000 in 1,000 repetitions; use scan"
    with pytest.raises(ValueError, match=message):
        fnet.repeat(inner, times=1000)
    loop = fnet.repeat(inner, times=10**6, scan=True)
    assert fnet.repeat(loop, times=2, scan=True).shape((3,)) == (3,)


def test_a_loop_refuses_layers_that_change_the_shape():
    net = fnet.repeat(fnet.dense(3), times=2, scan=True)
    with pytest.raises(fnet.ShapeError, match=r"repeat: its layers must preserve the shape \(4,\), but .* \(3,\)"):
        net.init(jax.random.key(0), (4,))


def test_features_inside_a_loop_are_stacked(rng):
    net = fnet.serial(fnet.repeat(fnet.dense(4), fnet.tanh(), times=3, scan=True), fnet.dense(2))
    params, state = net.init(jax.random.key(0), (4,))
    x = rng.standard_normal((2, 4)).astype(np.float32)
    h, expected = x, []
    for w in params["repeat_1"]["dense_1"]["w"]:
        h = np.tanh(h @ w)
        expected.append(h)
    features = fnet.features(net, params, state, x, "repeat_1/tanh_1", train=False)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("container", [fnet.remat, fnet.precision, fnet.frozen])
def test_transforms_compute_what_their_layers_compute(container, rng):
    layers = fnet.conv(3, 3), fnet.batch_norm(), fnet.relu(), fnet.flatten(), fnet.dense(2)
    plain, net = fnet.serial(*layers), container(*layers)
    params, state = plain.init(jax.random.key(0), (4, 4, 1))
    assert same(net.init(jax.random.key(0), (4, 4, 1)), (params, state))
    assert net.shape((4, 4, 1)) == (2,)
    x = jnp.asarray(rng.standard_normal((3, 4, 4, 1)), jnp.float32)
    tolerance = 3e-2 if container is fnet.precision else 1e-6
    y, _ = net.apply(params, state, x, train=False)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, plain.apply(params, state, x, train=False)[0], rtol=tolerance, atol=tolerance)
    assert fnet.build(fnet.describe(fnet.serial(net))) == fnet.serial(net)
    again = fnet.features(fnet.serial(net, name="outer"), {f"{net.kind}_1": params}, {f"{net.kind}_1": state}, x,
                          f"{net.kind}_1/dense_1", train=False)  # fmt: skip
    np.testing.assert_allclose(again, y, rtol=tolerance, atol=tolerance)


def test_remat_has_the_same_gradient_and_saves_fewer_activations(rng):
    layers = [layer for _ in range(3) for layer in (fnet.dense(8), fnet.tanh(), fnet.dropout(0.3))]
    plain, net = fnet.serial(*layers), fnet.remat(*layers)
    params, state = plain.init(jax.random.key(0), (4,))
    x = jnp.asarray(rng.standard_normal((2, 4)), jnp.float32)
    options = {"train": True, "key": jax.random.key(1)}
    expected, actual = (gradient_of(one, params, state, x, **options) for one in (plain, net))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), expected, actual)

    def residuals(one):
        _, pull = jax.vjp(lambda params: one.apply(params, state, x, **options)[0], params)
        return len(jax.tree.leaves(pull))

    assert residuals(net) < residuals(plain)


def test_precision_computes_in_the_format_and_keeps_parameters_and_statistics(rng):
    seen = {}

    def spy(name):
        @fnet.constructor
        def recorder(*, name: str | None = name):
            def apply(params, state, x, *, train, key=None, mask=None):
                seen[name] = x.dtype
                return x, {}

            return fnet.Parts(lambda in_shape: in_shape, fnet.no_parameters, apply)

        return recorder()

    net = fnet.precision(
        spy("first"), fnet.embedding(5, 4), spy("embedded"), fnet.dense(4), fnet.batch_norm(), spy("normalized"),
        fnet.precision(spy("inner"), compute="float32"), spy("last"), compute="bfloat16",
    )  # fmt: skip
    params, state = net.init(jax.random.key(0), (3,))
    y, after = net.apply(params, state, jnp.array([[0, 4, 2]]), train=True)
    assert seen == {
        "first": jnp.int32,
        "embedded": jnp.bfloat16,
        "normalized": jnp.bfloat16,
        "inner": jnp.float32,
        "last": jnp.bfloat16,
    }
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, after, y))} == {"float32"}
    gradients = jax.grad(lambda params: net.apply(params, state, jnp.array([[0, 4, 2]]), train=True)[0].sum())(params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(gradients)} == {"float32"}


def test_nested_precision_receives_the_parameters_unrounded():
    inner = fnet.precision(fnet.dense(3), compute="float32")
    net = fnet.precision(fnet.residual(inner), compute="bfloat16")
    params, state = net.init(jax.random.key(0), (3,))
    text = str(jax.make_jaxpr(lambda params: net.apply(params, state, jnp.ones((1, 3)), train=False)[0])(params))
    assert "bf16[3,3]" not in text
    assert "bf16[1,3]" in text


def test_a_loop_takes_and_gives_several_arrays(rng):
    pair = fnet.graph(
        fnet.dense(3, name="f"), nodes={"a": ("f", "x"), "b": ("add", "a", "y")}, inputs=("x", "y"), output=("b", "a")
    )
    unrolled, loop = (fnet.repeat(pair, times=3, scan=scan) for scan in (False, True))
    params, state = unrolled.init(jax.random.key(0), ((3,), (3,)))
    x = tuple(jnp.asarray(rng.standard_normal((2, 3)), jnp.float32) for _ in range(2))
    expected, _ = unrolled.apply(params, state, x, train=False)
    actual, _ = loop.apply(stacked(params), {}, x, train=False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), actual, expected)


def test_a_long_chain_of_nodes_is_a_graph():
    nodes = {f"n{i}": ("add", "input" if i == 0 else f"n{i - 1}", "input") for i in range(1500)}
    assert fnet.graph(nodes=nodes).shape((2,)) == (2,)


def test_one_hot_indices_are_computed_in_the_format_too():
    net = fnet.precision(fnet.one_hot(5), fnet.dense(2))
    params, state = net.init(jax.random.key(0), (3,))
    text = str(jax.make_jaxpr(lambda x: net.apply(params, state, x, train=False)[0])(jnp.zeros((1, 3), int)))
    assert re.search(r"bf16\[3,2\] = dot_general", text)


def test_frozen_layers_are_in_evaluation_mode_and_constant(rng):
    layers = fnet.dense(3), fnet.batch_norm(), fnet.dropout(0.5)
    net = fnet.serial(fnet.dense(4), fnet.frozen(*layers), fnet.dense(2))
    params, state = net.init(jax.random.key(0), (5,))
    x = jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)
    expected, _ = net.apply(params, state, x, train=False)
    y, after = net.apply(params, state, x, train=True)  # without a key: no dropout is active
    assert np.array_equal(y, expected)
    assert same(after, state)
    gradient, _ = gradient_of(net, params, state, x, train=True)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient["frozen_1"]))
    assert all(leaf.any() for leaf in jax.tree.leaves((gradient["dense_1"], gradient["dense_2"])))


def two_towers(output=None):
    return fnet.graph(
        fnet.dense(3, name="tower"),
        fnet.dense(1, name="head"),
        nodes={
            "a": ("tower", "left"),
            "b": ("tower", "right"),
            "product": ("multiply", "a", "b"),
            "score": ("head", "product"),
        },
        inputs=("left", "right"),
        output=output,
    )


@pytest.mark.parametrize("as_tuple", [False, True])
def test_a_graph_takes_several_inputs(as_tuple, rng):
    net = two_towers()
    shapes = ((4,), (4,)) if as_tuple else {"right": (4,), "left": (4,)}
    params, state = net.init(jax.random.key(0), shapes)
    left, right = (rng.standard_normal((2, 4)).astype(np.float32) for _ in range(2))
    w, head = params["tower"]["w"], params["head"]["w"]
    x = (left, right) if as_tuple else {"right": right, "left": left}
    y, _ = net.apply(params, state, x, train=False)
    np.testing.assert_allclose(y, ((left @ w) * (right @ w)) @ head, rtol=1e-5, atol=1e-6)
    assert net.shape(shapes) == (1,)
    np.testing.assert_allclose(
        fnet.features(net, params, state, x, "tower", train=False), right @ w, rtol=1e-5, atol=1e-6
    )


def test_a_graph_gives_several_outputs_with_gradients_by_hand(rng):
    """The output a is used by other nodes as well: its cotangents add up."""
    net = two_towers(output=("score", "a"))
    params, state = net.init(jax.random.key(0), ((4,), (4,)))
    x = (rng.standard_normal((2, 4)), rng.standard_normal((2, 4)))
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        y, pull = jax.vjp(lambda params, x: net.apply(params, state, x, train=False)[0], params, x)
        by_hand, cache = forward(net, Scope(params), x)
        g = tuple(rng.standard_normal(part.shape) for part in y)
        gradients, dx = pull(g)
    dx_by_hand, gradients_by_hand = backward(net, Scope(params), cache, g)
    for one, other in ((y, by_hand), (dx, dx_by_hand), (gradients, gradients_by_hand)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), one, other)
    assert net.shape(((4,), (4,))) == ((1,), (3,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: two_towers().shape((4,)), "graph: expects the inputs left, right, as a dict or as a tuple in this"),
        (lambda: two_towers().shape({"left": (4,)}), "got a dict of left"),
        (lambda: two_towers().shape(((4,), (4,), (4,))), "got a tuple of 3"),
        (
            lambda: two_towers().shape(((4,), (5,))),
            r"the layer 'tower' is applied to \(4,\) and, in node 'b', to \(5,\)",
        ),
        (
            lambda: fnet.serial(fnet.relu(), two_towers()).shape({"left": (4,)}),
            "serial: expects one array, got a dict of",
        ),
        (
            lambda: fnet.graph(nodes={"y": ("add", "a", "a")}, inputs=("a", "b")),
            "the input 'b' is not used by any node",
        ),
        (lambda: fnet.graph(nodes={"a": ("add", "a", "a")}, inputs=("a",)), "may not be named 'a': the name is taken"),
        (lambda: fnet.graph(nodes={"y": ("add", "a", "a")}, inputs=("a", "a")), "expected different inputs, got a, a"),
        (lambda: two_towers(output=("score", "score")), "expected different outputs, got score, score"),
        (
            lambda: fnet.parallel(two_towers(output=("score", "a")), combine="add").shape(((4,), (4,))),
            r"add expects single arrays, got graph_1 \(\(1,\), \(3,\)\); choose one of several outputs",
        ),
        (
            lambda: fnet.graph(fnet.relu(name="add"), nodes={"y": ("add", "input", "input")}),
            "a layer may not be named 'add', which is an operation",
        ),
        (lambda: two_towers(output=("score", "b", "c")), "the output 'c' is not a node"),
    ],
)
def test_wrong_inputs_of_a_graph_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_graph_with_several_inputs_survives_its_description():
    net = fnet.serial(two_towers(output=("score", "a")), name="net")
    assert fnet.build(fnet.describe(net)) == net
    assert net.several_inputs
