"""Sequences in a config: positions of errors inside short forms, and indices in place of real numbers."""

import re

import pytest

import fnet
from fnet.config.errors import ConfigError
from fnet.config.model import index_incompatibility
from fnet.data.source import DatasetSpec, Targets


def spec(dtype, vocabulary=None):
    return DatasetSpec("verses", (8,), Targets("classes", 5), 10, tokens=dtype == "int32", vocabulary=vocabulary)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            "  - reshape: [8, 8]\n  - transformer: {width: 8, heads: 3}\n  - flatten\n",
            "c.yaml:4:5: transformer_1/residual_1/attention_1: its heads must divide the width, but 3 does not divide 8"
            "; use 1, 2, 4, 8; examples of digits have the shape (8, 8, 1)",
        ),
        (
            "  - bidirectional: [{lstm: 4}]\n",
            "c.yaml:3:5: bidirectional_1/forward: expects examples (time, features), got (8, 8, 1); "
            "put a reshape before it, such as reshape: [8, -1]; examples of digits have the shape (8, 8, 1)",
        ),
        (
            "  - flatten\n  - tied: [{dense: 4}]\n",
            "c.yaml:4:11: tied: expected an embedding first, whose weights the readout shares, got dense",
        ),
        (
            "  - flatten\n  - bidirectional: [{dense: 4}]\n",
            "c.yaml:4:20: bidirectional: expected one recurrent layer that is not reversed (rnn, gru, lstm), "
            "got dense; it makes the reversed layer itself",
        ),
    ],
    ids=["transformer", "bidirectional", "tied", "bidirectional dense"],
)
def test_errors_inside_short_forms_have_a_position(layers, message, load_text):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_text(f"data: digits\nmodel:\n{layers}  - dense: 10\n")


def test_a_layer_for_indices_does_not_take_real_numbers(load_text):
    message = (
        "c.yaml:2:9: the network begins with a layer for the indices 0 ... 8, but iris has real numbers; "
        "begin with another layer, such as dense or lstm"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_text("data: iris\nmodel: [{embedding: {size: 9, width: 2}}, flatten, {dense: 3}]\n")


@fnet.constructor
def custom(*, name: str | None = None):
    """y = x."""
    return fnet.Parts(lambda in_shape: in_shape, fnet.no_parameters, lambda params, state, x, **_: (x, {}))


@fnet.constructor
def custom_indices(size: int, *, name: str | None = None):
    """y = x, for the indices 0 ... size - 1."""
    return custom.__wrapped__()._replace(indices=size)


@pytest.mark.parametrize(
    ("net", "data", "message"),
    [
        (
            fnet.serial(fnet.dense(3)),
            spec("int32", "abc"),
            "verses has token indices, but the network begins with a layer for real numbers; begin with embedding: "
            "{size: 3, width: 64} or one_hot: 3",
        ),
        (fnet.serial(custom(), fnet.dense(3)), spec("int32", "abc"), None),
        (fnet.serial(custom_indices(3), fnet.dense(3)), spec("int32", "abc"), None),
        (
            fnet.serial(custom_indices(2), fnet.dense(3)),
            spec("int32", "abc"),
            "the network begins with a layer for 2 indices, but verses has 3 different tokens; set its size to 3",
        ),
        (fnet.serial(fnet.one_hot(3)), spec("int32", "abc"), None),
        (fnet.serial(fnet.one_hot(3)), spec("int32"), None),
        (fnet.serial(fnet.dense(3)), spec("float32"), None),
        (
            fnet.serial(fnet.one_hot(2)),
            spec("int32", "abc"),
            "the network begins with a layer for 2 indices, but verses has 3 different tokens; set its size to 3",
        ),
    ],
)
def test_tokens_need_a_layer_for_at_least_as_many_indices(net, data, message):
    assert index_incompatibility(net, data) == message
