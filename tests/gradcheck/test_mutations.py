import functools
import importlib
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradcheck.mutations import BATCH, IN_JAX, MUTATIONS, PROBLEMS, derived, inputs, planted

import fnet
from fnet.gradcheck import check
from fnet.layers import conv_primitives
from fnet.layers.vocabulary import CONSTRUCTORS
from fnet.reference import losses
from fnet.reference import network as reference_network


def checked(problem):
    params, state, x, y = inputs(problem)
    return check(problem.net, problem.loss, params, state, x, y, regularization=problem.penalties)


def begins(report):
    return [(culprit.layer, culprit.what) for culprit in report.culprits]


def said(report, layer, what):
    return next(c.diagnosis for c in report.culprits if c.layer.startswith(layer) and c.what == what)


@pytest.mark.parametrize("name", PROBLEMS)
def test_nothing_is_wrong_before_a_mistake_is_planted(name):
    report = checked(PROBLEMS[name])
    assert report.ok, str(report)
    assert not report.culprits
    assert sum(row.checked for row in report.rows) > 20


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[f"{m.kind}: {m.name}" for m in MUTATIONS])
def test_a_planted_mistake_is_found_where_it_is_and_named(mutation, monkeypatch):
    module = importlib.import_module(f"fnet.reference.{CONSTRUCTORS[mutation.kind]}")
    monkeypatch.setattr(module, mutation.kind, planted(getattr(module, mutation.kind), mutation.change))
    report = checked(PROBLEMS[mutation.problem])
    assert not report.ok
    assert report.culprits, str(report)
    layers, whats = zip(*begins(report), strict=True)
    assert all(layer.startswith(mutation.layer) for layer in layers), str(report)
    assert mutation.what in whats, str(report)
    assert re.search(mutation.words, said(report, mutation.layer, mutation.what)), str(report)
    unclear = mutation.name == "at the kink"
    assert {c.verdict for c in report.culprits} == {"unclear" if unclear else "by hand"}


@pytest.mark.parametrize("name", IN_JAX)
def test_a_mistake_in_a_derivative_on_jaxs_side_is_blamed_on_jax(name):
    change, what, words = IN_JAX[name]
    net = fnet.serial(fnet.dense(5), fnet.tanh(), derived(change, fnet.dense(4)), fnet.sigmoid(), fnet.dense(2))
    params, state = net.init(jax.random.key(1), (3,))
    rng = np.random.default_rng(0)
    report = check(net, "mse", params, state, rng.standard_normal((BATCH, 3)), rng.standard_normal((BATCH, 2)))
    assert begins(report) == [("dense_2", what)], str(report)
    assert {row.verdict for row in report.rows if not row.ok} == {"by JAX"}
    assert re.search(words, said(report, "dense_2", what))


def test_the_same_mistake_on_both_sides_is_found_by_differences(monkeypatch):
    module = importlib.import_module("fnet.reference.dense")

    def change(backward, layer, given, cache, g):
        dx, gradients = backward(layer, given, cache, g)
        return dx, gradients | {"w": -gradients["w"]} if layer.name == "twisted" else gradients

    monkeypatch.setattr(module, "dense", planted(module.dense, change))
    twisted = derived(lambda p, x: (p | {"w": -p["w"]}, x), fnet.dense(4, name="twisted"))
    net = fnet.serial(twisted, fnet.tanh(), fnet.dense(2))
    params, state = net.init(jax.random.key(1), (3,))
    rng = np.random.default_rng(0)
    report = check(net, "mse", params, state, rng.standard_normal((BATCH, 3)), rng.standard_normal((BATCH, 2)))
    wrong = [row for row in report.rows if not row.ok]
    assert [(row.name, row.verdict) for row in wrong] == [("twisted/w", "both")]
    assert wrong[0].diagnosis == "both sides agree, but not with differences: sign: the negative of the right one"


LOSSES = {
    "half of mse": ("penalized", "mse", lambda c, o, t: c / 2, "norm ratio 1/2"),
    "mse summed": ("penalized", "mse", lambda c, o, t: c * 2, "norm ratio 2 = outputs"),
    "sign of mse": ("kinks", "mse", lambda c, o, t: -c, "sign: the negative"),
    "no label": ("mlp", "cross_entropy", lambda c, o, t: c + np.eye(3)[t], "term|quantity|entries"),
    "one class": ("mlp", "cross_entropy", lambda c, o, t: c * [1, 1, 0], "only entries with index 2 of axis 1"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_mistake_in_a_loss_is_found_there(name, monkeypatch):
    problem, loss, change, words = LOSSES[name]
    right = losses.LOSSES[loss]

    @functools.wraps(right)
    def wrong(outputs, targets, **settings):
        values, cotangents = right(outputs, targets, **settings)
        return values, change(cotangents, outputs, targets)

    monkeypatch.setitem(losses.LOSSES, loss, wrong)
    report = checked(PROBLEMS[problem])
    assert begins(report) == [("loss", "input")], str(report)
    assert re.search(words, said(report, "loss", "input")), str(report)


PENALTIES = {
    "left out": (lambda g: 0 * g, "off by the regularizer: the gradient of the penalty is left out"),
    "twice": (lambda g: 2 * g, "off by the regularizer: the gradient of the penalty is counted twice"),
    "half": (lambda g: g / 2, "off by the regularizer: the gradient of the penalty is half left out"),
    "of the wrong sign": (lambda g: -g, "off by the regularizer: the gradient of the penalty is -1 times itself"),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_a_mistake_in_a_penalty_is_told_from_one_in_the_data_loss(name, monkeypatch):
    change, words = PENALTIES[name]
    right = reference_network.penalty

    def wrong(params, regularization, path=()):
        value, gradients = right(params, regularization, path)
        return value, {n: change(g) if n == "w" else g for n, g in gradients.items()}

    monkeypatch.setattr(reference_network, "penalty", wrong)
    report = checked(PROBLEMS["penalized"])
    assert {row.part for row in report.rows if not row.ok} == {"total", "penalty"}
    assert {row.name for row in report.rows if not row.ok} == {"dense_1/w", "dense_2/w"}
    assert not report.culprits
    total = [row for row in report.rows if not row.ok and row.part == "total"]
    assert all(re.search(words, row.diagnosis) for row in total), str(report)


def test_a_wrong_rule_of_fnets_own_convolution_is_blamed_on_jax(monkeypatch):
    """The derivative with respect to the kernel, flipped: a rule that JAX differentiates with, not a layer's."""
    kernel_of = conv_primitives._kernel_of
    flipped = types.SimpleNamespace(bind=lambda x, g, **settings: jnp.flip(kernel_of.bind(x, g, **settings), (0, 1)))
    monkeypatch.setattr(conv_primitives, "_kernel_of", flipped)
    problem = PROBLEMS["images"]
    net = fnet.build(fnet.describe(problem.net))
    params, state, x, y = inputs(problem)
    report = check(net, problem.loss, params, state, x, y)
    assert [(c.layer, c.what, c.verdict) for c in report.culprits] == [("conv_1", "w", "by JAX")], str(report)
    assert said(report, "conv_1", "w") == "flipped along axis 0 and 1"
