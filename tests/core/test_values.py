"""Layers are values: equality, hashing, pickling and copying."""

import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers.cases import CASES

import fnet

EVERY_CASE = [(kind, number) for kind, cases in CASES.items() for number in range(len(cases))]


@fnet.constructor
def doubled(*layers: fnet.Layer, times: float = 2.0, name: str | None = None) -> fnet.Parts:
    """A container of a user's own."""
    inner = fnet.serial(*layers)

    def apply(params, state, x, *, train, key=None, mask=None):
        y, state = inner.apply(params, state, x, train=train, key=key, mask=mask)
        return times * y, state

    return fnet.Parts(inner.shape, inner.init, apply, inner.children)


@pytest.mark.parametrize(("kind", "number"), EVERY_CASE)
def test_equal_calls_make_equal_layers(kind, number):
    one, other = CASES[kind][number].make(), CASES[kind][number].make()
    assert one == other
    assert hash(one) == hash(other)
    assert fnet.serial(one, name="net") == fnet.serial(other, name="net")
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.deepcopy(one) == one == copy.copy(one)


def test_different_calls_make_different_layers():
    layers = [
        fnet.dense(3),
        fnet.dense(4),
        fnet.dense(3, bias=False),
        fnet.dense(3, name="a"),
        fnet.serial(fnet.dense(3)),
        fnet.serial(fnet.dense(4)),
        fnet.residual(fnet.dense(3)),
        fnet.repeat(fnet.dense(3), times=2),
        fnet.repeat(fnet.dense(3), times=3),
        doubled(fnet.dense(3)),
        doubled(fnet.dense(3), times=3.0),
        dataclasses.replace(fnet.dense(3), apply=fnet.dense(3).apply),
    ]
    assert len(set(layers)) == len(layers)
    assert sum(one == other for one in layers for other in layers) == len(layers)
    assert fnet.dense(3) != "dense"


@fnet.constructor
def power(exponent: float | int | bool | tuple[float | int | bool, ...], *, name: str | None = None) -> fnet.Parts:
    """y = x^exponent."""

    def apply(params, state, x, *, train, key=None, mask=None):
        return x**exponent, {}

    return fnet.Parts(lambda in_shape: in_shape, fnet.no_parameters, apply)


def test_settings_of_other_types_or_signs_are_different():
    layers = [power(1), power(True), power(1.0), power(0.0), power(-0.0), power(0)]
    layers += [power((1,)), power((True,)), power((1.0,)), power((0.0,)), power((-0.0,)), power((0,))]
    assert len(set(layers)) == len(layers)


def test_the_gradient_of_a_setting_is_that_of_jit():
    """Without jit, a traced number has a value, which must not replace it."""

    def f(slope):
        return fnet.leaky_relu(slope).apply({}, {}, jnp.array([-2.0]), train=False)[0].sum()

    assert jax.grad(f)(0.3) == jax.jit(jax.grad(f))(0.3) == -2.0
    assert jax.jvp(f, (0.3,), (1.0,))[1] == -2.0


def test_an_equal_network_is_an_equal_static_argument():
    traced = []

    def forward(net, params, state, x):
        traced.append(net)
        return net.apply(params, state, x, train=False)[0]

    def network(units):
        return fnet.serial(fnet.dense(units), doubled(fnet.relu()), fnet.transformer(4, 2))

    compiled = jax.jit(forward, static_argnums=0)
    params, state = network(4).init(jax.random.key(0), (3, 4))
    outputs = [compiled(network(4), params, state, jnp.ones((2, 3, 4))) for _ in range(2)]
    assert len(traced) == 1
    assert np.array_equal(*outputs)


def test_a_pickled_network_computes_the_same(rng):
    net = fnet.serial(doubled(fnet.conv(2, 3), fnet.batch_norm(), name="own"), fnet.flatten(), fnet.dense(2))
    params, state = net.init(jax.random.key(0), (4, 3, 1))
    x = rng.standard_normal((2, 4, 3, 1))
    again = pickle.loads(pickle.dumps(net))
    assert again["own/conv_1"] == net["own/conv_1"]
    assert np.array_equal(net.apply(params, state, x, train=False)[0], again.apply(params, state, x, train=False)[0])


def test_a_layer_with_a_traced_setting_equals_only_itself():
    @jax.jit
    def f(rate):
        one, other = fnet.dropout(rate), fnet.dropout(rate)
        with pytest.raises(TypeError, match="unhashable"):
            hash(one)
        return (one == one) + 2 * (one == other)

    assert f(0.5) == 1


# Lookup, replacement and transfer.


def test_a_layer_inside_is_found_by_its_path():
    net = fnet.serial(fnet.transformer(4, 2), fnet.dense(3, name="head"))
    assert net["head"] == fnet.dense(3, name="head")
    assert net["transformer_1/residual_2/dense_2"] == fnet.dense(4)
    with pytest.raises(KeyError, match=r"^the network does not have a layer 'hed'; did you mean 'head'\?$"):
        net["hed"]
    with pytest.raises(TypeError, match=r"expected the path of a layer, such as net\['block/dense_1'\], got 0"):
        list(net)  # pyright: ignore[reportArgumentType]


def test_replacing_layers_keeps_the_paths_of_the_parameters(rng):
    net = fnet.serial(fnet.dense(4), fnet.relu(), fnet.repeat(fnet.dense(4), fnet.relu(), times=2), fnet.dense(2))
    params, state = net.init(jax.random.key(0), (3,))
    paths = []

    def smooth(path, layer):
        paths.append(path)
        return fnet.tanh() if layer.kind == "relu" else layer

    smoothed = fnet.map_layers(smooth, net)
    assert paths[-1] == ""
    assert "repeat_1/serial_2/relu_1" in paths
    assert not any(kind == "relu" for kind in str(smoothed).split())
    x = rng.standard_normal((2, 3))
    h = np.tanh(x @ params["dense_1"]["w"])
    for block in params["repeat_1"].values():
        h = np.tanh(h @ block["dense_1"]["w"])
    y, _ = smoothed.apply(params, state, x, train=False)
    np.testing.assert_allclose(y, h @ params["dense_2"]["w"], rtol=1e-5, atol=1e-6)
    again = fnet.build(fnet.describe(smoothed))
    assert np.array_equal(again.apply(params, state, x, train=False)[0], y)


def test_a_replaced_layer_takes_the_name_and_later_layers_keep_theirs():
    net = fnet.serial(fnet.dense(4), fnet.dense(5), fnet.dense(6))
    other = fnet.map_layers(lambda path, layer: fnet.identity() if path == "dense_1" else layer, net)
    assert [(name, layer.kind) for name, layer in other.children] == [
        ("dense_1", "identity"),
        ("dense_2", "dense"),
        ("dense_3", "dense"),
    ]


def test_a_replaced_layer_may_have_the_kind_that_another_is_named_after():
    net = fnet.serial(fnet.dense(3, name="gelu_1"), fnet.relu())

    def smooth(path, layer):
        return fnet.gelu() if layer.kind in ("relu", "gelu") else layer

    once = fnet.map_layers(smooth, net)
    assert [name for name, _ in fnet.map_layers(smooth, once).children] == ["gelu_1", "relu_1"]


def test_mapping_without_a_change_returns_the_same_network():
    net = fnet.serial(fnet.transformer(4, 2), fnet.repeat(fnet.relu(), times=2))
    assert fnet.map_layers(lambda path, layer: layer, net) is net


def test_layers_of_a_container_made_by_hand_are_not_replaced():
    net = dataclasses.replace(fnet.serial(fnet.relu()), kind="own")
    with pytest.raises(ValueError, match="the layers of the container 'own' cannot be replaced"):
        fnet.map_layers(lambda path, layer: fnet.tanh() if layer.kind == "relu" else layer, net)


def test_transfer_checks_names_and_shapes():
    def params_of(*layers):
        return fnet.serial(*layers).init(jax.random.key(0), (3,))[0]

    source = params_of(fnet.dense(4, name="trunk"), fnet.dense(2, name="head"))
    target = params_of(fnet.dense(4, name="trunk"), fnet.dense(5, name="head"), fnet.dense(1, name="new"))
    with pytest.raises(ValueError, match=r"transfer: 'head/w' has the shape \(4, 2\) in the source, but \(4, 5\) in"):
        fnet.transfer(source, target, only="head/*")
    with pytest.raises(ValueError, match="transfer: the source does not have a parameter 'new/w'"):
        fnet.transfer(source, target, only="new/*")
    with pytest.raises(ValueError, match=r"transfer: only='tru' selects no parameter; known: trunk/w"):
        fnet.transfer(source, target, only="tru")
    moved = fnet.transfer(source, jax.tree.map(jnp.zeros_like, target), only="trunk/w")
    assert np.array_equal(moved["trunk"]["w"], source["trunk"]["w"])
    assert not moved["trunk"]["b"].any()


def test_only_the_star_of_a_pattern_is_special():
    params, _ = fnet.serial(fnet.dense(2, name="a[1]"), fnet.dense(2, name="a1")).init(jax.random.key(0), (3,))
    moved = fnet.transfer(params, jax.tree.map(jnp.zeros_like, params), only="a[1]/*")
    assert moved["a[1]"]["w"].any()
    assert not moved["a1"]["w"].any()


def test_a_key_error_of_an_own_layer_is_its_own():
    @fnet.constructor
    def table(*, name: str | None = None) -> fnet.Parts:
        def apply(params, state, x, *, train, key=None, mask=None):
            return {}["missing"], {}

        return fnet.Parts(lambda in_shape: in_shape, fnet.no_parameters, apply)

    with pytest.raises(KeyError, match="missing"):
        table().apply({}, {}, X, train=False)


def test_leaves_and_count():
    params, _ = fnet.serial(fnet.dense(4), fnet.dense(2)).init(jax.random.key(0), (3,))
    net = fnet.serial(fnet.dense(4), fnet.dense(2))
    assert [name for name, _ in fnet.leaves(net, params)] == ["dense_1/w", "dense_1/b", "dense_2/w", "dense_2/b"]
    assert fnet.count(params) == sum(np.size(leaf) for leaf in jax.tree.leaves(params)) == 3 * 4 + 4 + 4 * 2 + 2


# What is seen is what is computed.


def test_a_changed_function_is_never_described_as_if_it_were_not(tmp_path):
    def shifted(params, state, x, *, train, key=None, mask=None):
        return x + 100, {}

    changed = dataclasses.replace(fnet.relu(), apply=shifted)
    own = dataclasses.replace(doubled(fnet.relu()), apply=shifted)
    for layer in (changed, own, fnet.serial(changed), dataclasses.replace(fnet.dense(3), settings={"units": 5})):
        with pytest.raises(ValueError, match="was made or changed without a constructor"):
            fnet.describe(layer)


def test_a_constructor_without_a_path_is_not_described():
    @fnet.constructor
    def local(*, name: str | None = None) -> fnet.Layer:
        return fnet.serial(fnet.relu())

    with pytest.raises(ValueError, match=r"local' has a constructor that this path does not lead to, because it was"):
        fnet.describe(local())
    jax.eval_shape(lambda rate: _refused(fnet.dropout(rate)), 0.5)


def _refused(layer):
    """A traced setting appears in the table of layers, not in a description."""
    assert "rate=" in str(layer)
    with pytest.raises(ValueError, match="dropout: rate: a description cannot contain a traced number"):
        fnet.describe(layer)
    return 0


def test_features_are_those_of_a_changed_function():
    def shifted(params, state, x, *, train, key=None, mask=None):
        return x + 100, {}

    net = fnet.serial(dataclasses.replace(fnet.relu(), apply=shifted), fnet.tanh(), name="net")
    x = jnp.ones((1, 2))
    assert fnet.features(net, {}, {}, x, "relu_1", train=False).tolist() == [[101.0, 101.0]]
    outer = fnet.serial(dataclasses.replace(net, apply=shifted), fnet.relu())
    assert fnet.features(outer, {}, {}, x, "net", train=False).tolist() == [[101.0, 101.0]]
    with pytest.raises(ValueError, match="the output of 'net/tanh_1' cannot be observed, because a container"):
        fnet.features(outer, {}, {}, x, "net/tanh_1", train=False)


# Errors.


@fnet.constructor
def own(returns: str = "pair", *, name: str | None = None) -> fnet.Parts:
    def apply(params, state, x, *, train, key=None, mask=None):
        return {"output": x, "triple": (x, {}, {}), "empty": (x, {}), "pair": (x, state)}[returns]

    return fnet.Parts(lambda in_shape: in_shape, lambda key, in_shape: ({}, {"seen": jnp.zeros(())}), apply)


@fnet.constructor
def one_layer(layer: fnet.Layer, *, name: str | None = None) -> fnet.Layer:
    return fnet.serial(layer)


NET = fnet.serial(fnet.dense(3), fnet.batch_norm())
PARAMS, STATE = NET.init(jax.random.key(0), (2,))
X = np.ones((4, 2), np.float32)
OTHER, _ = fnet.serial(fnet.dense(3, name="first"), fnet.batch_norm()).init(jax.random.key(0), (2,))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NET.apply(PARAMS, X, train=False), TypeError, "apply expects params, state and x, got two arguments"),
        (lambda: NET.apply(PARAMS, STATE, X), TypeError, "apply needs train: train=True for batch statistics"),
        (lambda: NET.apply(PARAMS, STATE, X, train=1), TypeError, "train must be a Python bool"),
        (
            lambda: NET.apply(X, STATE, PARAMS, train=True),
            TypeError,
            "expects the params that init returned, a dict, got",
        ),
        (lambda: NET.apply(STATE, PARAMS, X, train=True), ValueError, r"dense: apply did not find the entry 'w'"),
        (lambda: NET.apply(OTHER, STATE, X, train=True), ValueError, r"did not find the entry 'w' \(parameters: none;"),
        (lambda: NET.apply(PARAMS, {}, X, train=True), ValueError, r"did not find the entry 'mean' \(parameters: sc"),
        (lambda: NET.apply(PARAMS, STATE, {"a": X}, train=True), ValueError, "expects one array, got a dict of a"),
        (lambda: NET.init(jax.random.key(0), X), TypeError, r"got an array of shape \(4, 2\); pass a tuple"),
        (
            lambda: fnet.serial(jax.nn.relu),
            TypeError,
            r"use fnet\.relu\(\) if fnet has this layer, or fnet\.lambda_layer",
        ),
        (lambda: NET.init(None, (2,)), TypeError, "init expects a random key, got None"),
        (lambda: NET.init(np.int64(4), (2,)), TypeError, r"pass jax\.random\.key\(4\)"),
        (lambda: NET.init(0, (2,)), TypeError, r"init expects a random key, got 0; pass jax\.random\.key\(0\)"),
        (lambda: fnet.count(NET), TypeError, "count: expected the params that init returned, a dict, got a Layer"),
        (lambda: fnet.leaves(PARAMS, NET), TypeError, "leaves: expected the params that init returned, a dict"),
        (lambda: fnet.transfer(PARAMS, NET), TypeError, "transfer: expected the params that init returned, a dict"),
        (lambda: fnet.transfer(PARAMS, PARAMS, only="dense_1"), ValueError, "did you mean 'dense_1/\\*'"),
        (
            lambda: fnet.features(NET, PARAMS, STATE, X, ["dense_1"], train=False),
            TypeError,
            "expected the name of one layer",
        ),
        (lambda: one_layer(fnet.relu()), TypeError, r"a container takes its layers as \*layers: fnet\.Layer"),
        (lambda: fnet.serial(fnet.relu), TypeError, r"did you mean relu\(\)\?$"),
        (lambda: own("output").apply({}, {"seen": 0}, X, train=True), TypeError, r"must return \(y, state\)"),
        (lambda: own("triple").apply({}, {"seen": 0}, X, train=True), TypeError, "got a tuple of 3; return y, {}"),
        (
            lambda: own("empty").apply({}, {"seen": 0}, X, train=True),
            ValueError,
            "but seen is missing; return y, state",
        ),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_how_to_fix_it(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_traced_number_is_no_structure():
    with pytest.raises(ValueError, match="dense: units: expected a Python value, because it determines the structure"):
        jax.jit(lambda units: fnet.dense(units))(3)


def test_numbers_of_numpy_are_settings():
    assert fnet.dense(np.int64(3), bias=np.True_) == fnet.dense(3)
    assert fnet.dropout(np.float32(0.5)) == fnet.dropout(jnp.asarray(0.5)) == fnet.dropout(0.5)
    assert fnet.reshape((np.int32(2), -1)) == fnet.reshape((2, -1))
    with pytest.raises(ValueError, match=r"dropout: rate: expected a value less than 1, got 1\.5"):
        fnet.dropout(jnp.asarray(1.5))


def test_layers_are_named_explicitly_only_where_they_must_be():
    net = fnet.serial(fnet.dense(4), fnet.relu(), fnet.dense(2, name="head"))

    def wider(path, layer):
        return {"dense_1": fnet.dense(5), "relu_1": fnet.relu(name="mine"), "head": fnet.dense(3)}.get(path, layer)

    expected = fnet.serial(fnet.dense(5), fnet.relu(name="relu_1"), fnet.dense(3, name="head"))
    assert fnet.describe(fnet.map_layers(wider, net)) == fnet.describe(expected)
