"""`fnet gradcheck` with planted mistakes: exit status 1, and the rows that it reports."""

import importlib

import pytest
from cli.calls import call, parse_json
from shipped import XOR

from fnet.reference.rule import Rule


def without_bias(rule):
    """Return the rule without the gradient of the bias."""

    def backward(*arguments):
        dx, gradients = rule.backward(*arguments)
        return dx, {name: gradient for name, gradient in gradients.items() if name != "b"}

    return Rule(rule.forward, backward)


def with_the_wrong_sign(rule):
    """Return the rule with the derivative negated."""

    def backward(*arguments):
        dx, gradients = rule.backward(*arguments)
        return -dx, gradients

    return Rule(rule.forward, backward)


def plant(monkeypatch, bug):
    """Plant a mistake in the hand-written backward pass; return the rows of xor-mlp that must differ."""
    if bug == "bias":
        module = importlib.import_module("fnet.reference.dense")
        monkeypatch.setattr(module, "dense", without_bias(module.dense))
        return {"dense_1/b", "dense_2/b"}
    if bug == "sign":
        module = importlib.import_module("fnet.reference.activation")
        monkeypatch.setattr(module, "tanh", with_the_wrong_sign(module.tanh))
        return {"input", "dense_1/w", "dense_1/b"}
    module = importlib.import_module("fnet.reference.network")
    original = module.backward
    monkeypatch.setattr(module, "backward", lambda net, inputs, cache, g: original(net, inputs, cache, g * len(g)))
    return {"input", "dense_1/w", "dense_1/b", "dense_2/w", "dense_2/b"}


@pytest.mark.parametrize("bug", ["bias", "sign", "mean"])
def test_gradcheck_finds_a_planted_mistake(monkeypatch, bug):
    wrong = plant(monkeypatch, bug)
    result = call("gradcheck", XOR, "--json")
    assert result.exit_code == 1
    output = parse_json(result.stdout)
    assert output["ok"] is False
    (report,) = output["checks"]
    assert {row["name"] for row in report["rows"] if not row["ok"]} == wrong
    assert all(name in report["verdict"] for name in wrong)


def test_gradcheck_shows_a_planted_mistake(monkeypatch):
    plant(monkeypatch, "bias")
    result = call("gradcheck", XOR)
    assert result.exit_code == 1
    assert "WRONG" in result.stdout
    assert "2 of 7 rows differ: dense_1/b, dense_2/b" in result.stdout
    assert "Traceback" not in result.stderr
