import jax
import numpy as np
import pytest

import fnet
from fnet.reference.rule import Scope, rule_of


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


def test_an_argument_that_is_not_a_layer_is_refused():
    with pytest.raises(TypeError, match=r"expected a layer, got .*; did you mean relu\(\)\?"):
        fnet.serial(fnet.dense(1), fnet.relu)


def test_adding_a_layer_changes_no_other_weights():
    short = fnet.serial(fnet.dense(3), fnet.dense(2)).init(jax.random.key(3), (4,))[0]
    long = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.serial(fnet.dense(3), name="new"), fnet.dense(2))
    params = long.init(jax.random.key(3), (4,))[0]
    for name in ("dense_1", "dense_2"):
        assert np.array_equal(short[name]["w"], params[name]["w"])


def test_layers_of_equal_shape_have_different_initial_weights():
    params, _ = fnet.serial(fnet.dense(4), fnet.dense(4)).init(jax.random.key(0), (4,))
    assert not np.array_equal(params["dense_1"]["w"], params["dense_2"]["w"])


def test_shape_errors_name_the_path():
    net = fnet.serial(fnet.serial(fnet.dense(2), fnet.dense(2), name="block"))
    params, state = net.init(jax.random.key(0), (3,))
    params["block"]["dense_2"]["w"] = np.ones((5, 2))
    with pytest.raises(fnet.ShapeError, match=r"^block/dense_2: expects"):
        net.apply(params, state, np.ones((1, 3)), train=False)
    with pytest.raises(fnet.ShapeError, match=r"^block/dense_1: expects"):
        net.shape(())


def test_other_errors_carry_the_layer_in_a_note():
    net = fnet.serial(fnet.dense(2, name="first"))
    with pytest.raises(ValueError, match="did not find the entry 'w'") as caught:
        net.apply({}, {}, np.ones((1, 3)), train=False)
    assert any("in layer 'first'" in note for note in caught.value.__notes__)


def test_deep_linear_network_is_one_affine_map(rng):
    """A network of linear units collapses to one: W = W_1 W_2 W_3 and b = (b_1 W_2 + b_2) W_3 + b_3."""
    net = fnet.serial(fnet.dense(5), fnet.dense(6), fnet.dense(2))
    params, state = net.init(jax.random.key(1), (4,))
    x = rng.standard_normal((7, 4)).astype(np.float32)
    (w1, b1), (w2, b2), (w3, b3) = ((params[n]["w"], params[n]["b"] + 0.3) for n in ("dense_1", "dense_2", "dense_3"))
    for name, b in zip(("dense_1", "dense_2", "dense_3"), (b1, b2, b3), strict=True):
        params[name]["b"] = b
    y, _ = net.apply(params, state, x, train=False)
    np.testing.assert_allclose(y, x @ (w1 @ w2 @ w3) + ((b1 @ w2 + b2) @ w3 + b3), rtol=1e-4, atol=1e-5)


def test_residual_adds_its_input(rng):
    net = fnet.residual(fnet.dense(4), fnet.tanh())
    params, state = net.init(jax.random.key(0), (4,))
    x = rng.standard_normal((3, 4)).astype(np.float32)
    f, _ = fnet.serial(fnet.dense(4), fnet.tanh()).apply(params, state, x, train=False)
    np.testing.assert_allclose(net.apply(params, state, x, train=False)[0], x + f, rtol=1e-6)


@pytest.mark.parametrize(("combine", "merge"), [("add", np.add), ("multiply", np.multiply)])
def test_parallel_merges_its_branches(combine, merge, rng):
    net = fnet.parallel(fnet.dense(2), fnet.dense(2), combine=combine)
    params, state = net.init(jax.random.key(0), (3,))
    x = rng.standard_normal((4, 3)).astype(np.float32)
    branches = [x @ params[name]["w"] for name in ("dense_1", "dense_2")]
    np.testing.assert_allclose(net.apply(params, state, x, train=False)[0], merge(*branches), rtol=1e-5, atol=1e-6)


def test_every_repetition_has_its_own_parameters():
    params, _ = fnet.repeat(fnet.dense(3), times=2).init(jax.random.key(0), (3,))
    assert set(params) == {"serial_1", "serial_2"}
    assert not np.array_equal(params["serial_1"]["dense_1"]["w"], params["serial_2"]["dense_1"]["w"])


def test_a_layer_in_two_nodes_shares_its_parameters(rng):
    net = fnet.graph(fnet.dense(3, name="f"), nodes={"a": ("f", "input"), "b": ("f", "a"), "y": ("add", "a", "b")})
    params, state = net.init(jax.random.key(0), (3,))
    assert set(params) == {"f"}
    x = rng.standard_normal((2, 3)).astype(np.float32)
    a = x @ params["f"]["w"]
    np.testing.assert_allclose(
        net.apply(params, state, x, train=False)[0], a + a @ params["f"]["w"], rtol=1e-5, atol=1e-6
    )


def test_a_layer_made_by_hand_takes_one_array_in_a_graph():
    def halve(params, state, x, *, train, key=None, mask=None):
        return x / 2, state

    half = fnet.Layer("half", {}, lambda in_shape: in_shape, lambda key, in_shape: ({}, {}), halve)
    net = fnet.graph(half, nodes={"a": ("half_1", "input"), "b": ("add", "a", "input")})
    assert net.apply({}, {}, np.array([[3.0, -1.0]]), train=False)[0].tolist() == [[4.5, -1.5]]
    assert fnet.serial(half, fnet.embedding(5, 2)).indices is None  # its outputs are not those of a rearrangement


def test_total_derivative_over_two_paths():
    """y = x + x x over two paths, dy/dx = 1 + 2x; and y = x x x with three uses of one value, dy/dx = 3 x^2."""
    for nodes, derivative in [
        ({"s": ("multiply", "input", "input"), "y": ("add", "input", "s")}, lambda x: 1 + 2 * x),
        ({"y": ("multiply", "input", "input", "input")}, lambda x: 3 * x**2),
    ]:
        net = fnet.graph(nodes=nodes)
        x = np.array([[1.5, -2.0, 0.0]])
        by_jax = jax.grad(lambda x: net.apply({}, {}, x, train=False)[0].sum())(x.astype(np.float32))  # noqa: B023
        _, cache = rule_of(net).forward(net, Scope({}), x)
        by_hand, _ = rule_of(net).backward(net, Scope({}), cache, np.ones_like(x))
        np.testing.assert_allclose(by_jax, derivative(x), rtol=1e-6)
        np.testing.assert_allclose(by_hand, derivative(x), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fnet.residual(fnet.dense(3)),
            r"residual: its layers must preserve the shape \(4,\), but their output has shape \(3,\)",
        ),
        (
            lambda: fnet.serial(fnet.parallel(fnet.dense(2), fnet.dense(3), combine="add")),
            r"parallel_1: add expects equal shapes, got dense_1 \(2,\), dense_2 \(3,\); make them equal, or use concat",
        ),
        (
            lambda: fnet.graph(
                fnet.dense(3, name="f"), nodes={"a": ("f", "input"), "b": ("f", "a"), "y": ("add", "a", "b")}
            ),
            r"the layer 'f' is applied to \(4,\) and, in node 'b', to \(3,\); make the shapes equal",
        ),
        (
            lambda: fnet.graph(fnet.dense(3), nodes={"a": ("dense_1", "input"), "y": ("multiply", "a", "input")}),
            r"multiply expects equal shapes, got a \(3,\), input \(4,\)",
        ),
    ],
)
def test_incompatible_shapes_are_refused(make, message):
    with pytest.raises(fnet.ShapeError, match=message):
        make().shape((4,))


@pytest.mark.parametrize(
    ("nodes", "output", "message"),
    [
        ({}, None, "expected at least one node"),
        ({"a": ("f", "b"), "b": ("f", "a")}, None, "the nodes form a cycle: a -> b -> a"),
        ({"a": ("f", "inptu")}, None, "node 'a': unknown value 'inptu'; did you mean 'input'?"),
        ({"a": ("g", "input")}, None, "node 'a': unknown layer 'g'; known: add, concatenate, f, multiply"),
        ({"a": ("f",)}, None, "node 'a': expected an operation and its inputs"),
        ({"a": ("f", "input"), "b": ("add", "a")}, None, "node 'b': add takes at least two values, got 1"),
        (
            {"a": ("f", "input", "input")},
            None,
            "the layer 'f' takes one value, got 2; merge them in a separate node",
        ),
        ({"a": ("f", "input"), "b": ("f", "a")}, "a", "the node 'b' is not used; use it or remove it"),
        ({"a": ("add", "input", "input")}, None, "the layer 'f' is not used by any node; use it or remove it"),
        ({"a": ("f", "input")}, "y", "the output 'y' is not a node; known: a"),
        ({"input": ("f", "input")}, None, "a node may not be named 'input'"),
    ],
)
def test_invalid_graphs_are_refused(nodes, output, message):
    with pytest.raises(ValueError, match=message):
        fnet.graph(fnet.dense(3, name="f"), nodes=nodes, output=output)


@pytest.mark.parametrize("times", [0, -1, 1.5])
def test_times_must_be_a_positive_integer(times):
    with pytest.raises(ValueError, match="repeat: times: expected a"):
        fnet.repeat(fnet.relu(), times=times)


def test_a_residual_is_not_broadcast():
    """Parameters of another network: the sum of (4, 3) and (4, 1) would have a shape."""
    net = fnet.residual(fnet.dense(1))
    params = {"dense_1": {"w": np.ones((3, 1)), "b": np.zeros(1)}}
    with pytest.raises(fnet.ShapeError, match=r"must preserve the shape \(3,\), but their output has shape \(1,\)"):
        net.apply(params, {}, np.ones((4, 3)), train=False)


def test_a_layer_in_parallel_needs_a_branch():
    with pytest.raises(ValueError, match="parallel: expected at least one branch, got none"):
        fnet.parallel()
