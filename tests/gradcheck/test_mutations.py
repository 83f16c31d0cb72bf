import functools
import importlib
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradcheck.mutations import BATCH, IN_JAX, MUTATIONS, PROBLEMS, inputs, with_custom_derivative, with_mistake

import fnet
from fnet.core.families import FAMILIES
from fnet.gradcheck import check
from fnet.layers import conv_primitives
from fnet.reference import losses
from fnet.reference import network as reference_network
from fnet.reference.rule import Rule


def check_problem(problem):
    params, state, x, y = inputs(problem)
    return check(problem.net, problem.loss, params, state, x, y, regularization=problem.penalties)


def culprits(report):
    return [(culprit.layer, culprit.what) for culprit in report.culprits]


def diagnosis_of(report, layer, what):
    return next(c.diagnosis for c in report.culprits if c.layer.startswith(layer) and c.what == what)


def reference_module(kind):
    """Return the module of the hand-written rule for a kind of layer."""
    modules = (importlib.import_module(f"fnet.reference.{family}") for family in FAMILIES)
    return next(module for module in modules if isinstance(getattr(module, kind, None), Rule))


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_without_a_mistake_pass(name):
    report = check_problem(PROBLEMS[name])
    assert report.ok, str(report)
    assert not report.culprits
    assert sum(row.checked for row in report.rows) > 20


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[f"{m.kind}: {m.name}" for m in MUTATIONS])
def test_a_planted_mistake_is_located_and_diagnosed(mutation, monkeypatch):
    module = reference_module(mutation.kind)
    monkeypatch.setattr(module, mutation.kind, with_mistake(getattr(module, mutation.kind), mutation.change))
    report = check_problem(PROBLEMS[mutation.problem])
    assert not report.ok
    assert report.culprits, str(report)
    layers, whats = zip(*culprits(report), strict=True)
    assert all(layer.startswith(mutation.layer) for layer in layers), str(report)
    assert mutation.what in whats, str(report)
    assert re.search(mutation.words, diagnosis_of(report, mutation.layer, mutation.what)), str(report)
    unclear = mutation.name == "at the kink"
    assert {c.verdict for c in report.culprits} == {"unclear" if unclear else "by hand"}


@pytest.mark.parametrize("name", IN_JAX)
def test_a_mistake_in_a_custom_derivative_is_attributed_to_jax(name):
    change, what, words = IN_JAX[name]
    net = fnet.serial(
        fnet.dense(5), fnet.tanh(), with_custom_derivative(change, fnet.dense(4)), fnet.sigmoid(), fnet.dense(2)
    )
    params, state = net.init(jax.random.key(1), (3,))
    rng = np.random.default_rng(0)
    report = check(net, "mse", params, state, rng.standard_normal((BATCH, 3)), rng.standard_normal((BATCH, 2)))
    assert culprits(report) == [("dense_2", what)], str(report)
    assert {row.verdict for row in report.rows if not row.ok} == {"by JAX"}
    assert re.search(words, diagnosis_of(report, "dense_2", what))


def test_the_same_mistake_on_both_sides_is_found_by_finite_differences(monkeypatch):
    module = importlib.import_module("fnet.reference.dense")

    def change(backward, layer, scope, cache, g):
        dx, gradients = backward(layer, scope, cache, g)
        return dx, gradients | {"w": -gradients["w"]} if layer.name == "twisted" else gradients

    monkeypatch.setattr(module, "dense", with_mistake(module.dense, change))
    twisted = with_custom_derivative(lambda p, x: (p | {"w": -p["w"]}, x), fnet.dense(4, name="twisted"))
    net = fnet.serial(twisted, fnet.tanh(), fnet.dense(2))
    params, state = net.init(jax.random.key(1), (3,))
    rng = np.random.default_rng(0)
    report = check(net, "mse", params, state, rng.standard_normal((BATCH, 3)), rng.standard_normal((BATCH, 2)))
    wrong = [row for row in report.rows if not row.ok]
    assert [(row.name, row.verdict) for row in wrong] == [("twisted/w", "both")]
    assert (
        wrong[0].diagnosis
        == "hand and JAX agree, but not with finite differences: sign flipped: every entry is negated"
    )


LOSSES = {
    "half of mse": ("penalized", "mse", lambda c, o, t: c / 2, "norm ratio 1/2"),
    "mse summed": ("penalized", "mse", lambda c, o, t: c * 2, "norm ratio 2 = outputs"),
    "sign of mse": ("kinks", "mse", lambda c, o, t: -c, "sign flipped"),
    "no label": ("mlp", "cross_entropy", lambda c, o, t: c + np.eye(3)[t], "term|unrelated|entries"),
    "one class": ("mlp", "cross_entropy", lambda c, o, t: c * [1, 1, 0], "only entries with index 2 of axis 1"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_mistake_in_a_loss_is_located(name, monkeypatch):
    problem, loss, change, words = LOSSES[name]
    right = losses.LOSSES[loss]

    @functools.wraps(right)
    def wrong(outputs, targets, **settings):
        values, cotangents = right(outputs, targets, **settings)
        return values, change(cotangents, outputs, targets)

    monkeypatch.setitem(losses.LOSSES, loss, wrong)
    report = check_problem(PROBLEMS[problem])
    assert culprits(report) == [("loss", "input")], str(report)
    assert re.search(words, diagnosis_of(report, "loss", "input")), str(report)


PENALTIES = {
    "missing": (lambda g: 0 * g, "regularization: the gradient of the penalty is missing"),
    "twice": (lambda g: 2 * g, "regularization: the gradient of the penalty is counted twice"),
    "halved": (lambda g: g / 2, "regularization: the gradient of the penalty is halved"),
    "negated": (lambda g: -g, "regularization: the gradient of the penalty is multiplied by -1"),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_a_mistake_in_a_penalty_is_distinguished_from_one_in_the_data_loss(name, monkeypatch):
    change, words = PENALTIES[name]
    right = reference_network.penalty

    def wrong(params, regularization, path=()):
        value, gradients = right(params, regularization, path)
        return value, {n: change(g) if n == "w" else g for n, g in gradients.items()}

    monkeypatch.setattr(reference_network, "penalty", wrong)
    report = check_problem(PROBLEMS["penalized"])
    assert {row.part for row in report.rows if not row.ok} == {"total", "penalty"}
    assert {row.name for row in report.rows if not row.ok} == {"dense_1/w", "dense_2/w"}
    assert not report.culprits
    total = [row for row in report.rows if not row.ok and row.part == "total"]
    assert all(re.search(words, row.diagnosis) for row in total), str(report)


def test_a_wrong_derivative_of_fnets_convolution_is_attributed_to_jax(monkeypatch):
    """The mistake is a flipped derivative with respect to the kernel."""
    kernel_of = conv_primitives._kernel_of
    flipped = types.SimpleNamespace(bind=lambda x, g, **settings: jnp.flip(kernel_of.bind(x, g, **settings), (0, 1)))
    monkeypatch.setattr(conv_primitives, "_kernel_of", flipped)
    jax.clear_caches()  # an equal network may be compiled already
    report = check_problem(PROBLEMS["images"])
    jax.clear_caches()
    assert [(c.layer, c.what, c.verdict) for c in report.culprits] == [("conv_1", "w", "by JAX")], str(report)
    assert diagnosis_of(report, "conv_1", "w") == "flipped along axes 0 and 1"
