"""Composites: layers with their own kind and settings that are defined by another network."""

import jax
import numpy as np
import pytest
from ruamel.yaml import YAML
from shipped import FOLDER
from trees import same

import fnet
from fnet.config.load import load
from fnet.core.layer import walk
from fnet.core.traversal import leaves, rewire
from fnet.reference.network import backward, forward
from fnet.reference.rule import Scope


@fnet.constructor
def bottleneck(*layers: fnet.Layer, units: int, width: int = 4, name: str | None = None):
    """A user-defined composite: layers between two projections, with a shortcut around them."""
    return fnet.residual(fnet.dense(units), *layers, fnet.dense(width))


@fnet.constructor
def pair(*, name: str | None = None):
    """A composite that is defined by another composite."""
    return bottleneck(fnet.tanh(), units=2)


COMPOSITES = {
    "transformer": (lambda: fnet.transformer(4, 2), (3, 4)),
    "repeat": (lambda: fnet.repeat(fnet.dense(3), fnet.tanh(), times=2, name="trunk"), (3,)),
    "bidirectional": (lambda: fnet.bidirectional(fnet.gru(2), combine="add"), (3, 2)),
    "bottleneck": (lambda: bottleneck(fnet.tanh(), units=2), (4,)),
    "pair": (pair, (4,)),
}
every_composite = pytest.mark.parametrize(("make", "in_shape"), COMPOSITES.values(), ids=COMPOSITES.keys())


@every_composite
def test_its_description_builds_equal_parameters(make, in_shape):
    net = fnet.serial(make())
    again = fnet.build(fnet.describe(net))
    assert fnet.describe(again) == fnet.describe(net)
    key = jax.random.key(3)
    assert same(net.init(key, in_shape), again.init(key, in_shape))


def test_its_description_contains_its_own_settings_and_layers():
    assert fnet.describe(fnet.transformer(8, 2)) == {
        "transformer": {"width": 8, "heads": 2, "hidden": None, "causal": False, "rate": 0.0}
    }
    assert fnet.describe(fnet.repeat(fnet.relu(), times=2)) == {
        "repeat": {"times": 2, "scan": False, "layers": ["relu"]}
    }
    assert fnet.describe(bottleneck(fnet.tanh(), units=2, name="b")) == {
        f"{__name__}.bottleneck": {"units": 2, "width": 4, "layers": ["tanh"], "name": "b"}
    }


def test_print_shows_the_layers_inside():
    net = fnet.serial(fnet.repeat(fnet.dense(3), times=2))
    assert str(net).splitlines() == [
        "network      serial",
        "repeat_1     repeat  times=2",
        "  serial_1   serial",
        "    dense_1  dense  units=3",
        "  serial_2   serial",
        "    dense_1  dense  units=3",
    ]
    assert repr(fnet.repeat(fnet.relu(), times=2)) == "repeat(relu(), times=2, scan=False)"


@every_composite
def test_the_layers_inside_can_be_observed_and_have_features(make, in_shape, rng):
    net = fnet.serial(make())
    params, state = net.init(jax.random.key(0), in_shape)
    x = rng.standard_normal((2, *in_shape)).astype(np.float32)
    y, _ = net.apply(params, state, x, train=False)
    again = rewire(net, lambda path, layer: layer)
    assert [path for path, _ in walk(again)] == [path for path, _ in walk(net)]
    assert np.array_equal(again.apply(params, state, x, train=False)[0], y)
    for path, _ in walk(net):
        if path:
            assert fnet.features(net, params, state, x, "/".join(path), train=False).shape[0] == 2
    assert np.array_equal(fnet.features(net, params, state, x, net.children[0][0], train=False), y)


@every_composite
def test_its_hand_written_rule_is_that_of_its_expansion(make, in_shape, rng):
    net = make()
    params, _ = net.init(jax.random.key(0), in_shape)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = rng.standard_normal((2, *in_shape))
    y, cache = forward(net, Scope(params), x)
    expected, _ = forward(net.expansion, Scope(params), x)
    assert np.array_equal(y, expected)
    _, gradients = backward(net, Scope(params), cache, np.ones_like(y))
    assert [name for name, _ in leaves(net, gradients)] == [name for name, _ in leaves(net, params)]


def test_the_gradients_of_a_user_defined_composite_are_checked(rng):
    net = fnet.serial(bottleneck(fnet.tanh(), units=2), fnet.dense(3))
    params, state = net.init(jax.random.key(0), (4,))
    report = fnet.gradcheck.check(
        net, "cross_entropy", params, state, rng.standard_normal((3, 4)), rng.integers(0, 3, 3)
    )
    assert report.ok
    assert any(row.name == "bottleneck_1/dense_2/w" for row in report.rows)


def test_its_settings_are_checked():
    with pytest.raises(ValueError, match="bottleneck: units: expected a whole number, got 'two'"):
        bottleneck(units="two")


def test_a_plain_function_that_is_annotated_to_return_a_layer_is_found_by_its_path():
    assert fnet.build({f"{__name__}.plain": {"units": 3}}).shape((2,)) == (3,)
    with pytest.raises(ValueError, match=r"same' is not a constructor of layers; decorate it with @fnet\.constructor"):
        fnet.build(f"{__name__}.same")


def plain(units: int) -> fnet.Layer:
    return fnet.dense(units)


def test_the_resolved_config_contains_composites_not_their_expansions(tmp_path):
    (tmp_path / "text.txt").write_text("A text of characters. " * 40)
    overrides = [
        f"data.path={tmp_path / 'text.txt'}",
        "model.2.repeat.layers.0.transformer.width=8",
        "train.epochs=200",
    ]
    experiment = load(str(FOLDER / "text-gpt.yaml"), [*overrides, "model.0.embedding.width=8"])
    model = YAML(typ="safe").load(experiment.config_text(None))["model"]
    (repeat,) = (item["repeat"] for item in model if "repeat" in item)
    assert repeat["times"] == 4
    assert [*repeat["layers"][0]] == ["transformer"]
    again = fnet.build(model)
    key = jax.random.key(0)
    assert same(experiment.net.init(key, (8,)), again.init(key, (8,)))
