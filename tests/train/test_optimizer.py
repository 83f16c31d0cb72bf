"""Optimizers, schedules and clipping against their formulas: two updates by hand, and the rate at chosen steps."""

import math

import jax
import numpy as np
import pytest

from fnet.train.optimizer import OPTIMIZERS, SCHEDULES, with_clipping

W = np.array([1.0, -2.0, 0.5])
G = (np.array([0.3, -0.1, 2.0]), np.array([-0.2, 0.4, 1.0]))
RATE = 0.05


def sgd(momentum=0.9):
    w, m = W, 0.0
    for g in G:
        m = momentum * m + g
        w = w - RATE * m
    return w


def averaged_sgd(momentum=0.9):
    w, m = W, 0.0
    for g in G:
        m = momentum * m + (1 - momentum) * g
        w = w - RATE * m
    return w


def nesterov(momentum=0.9):
    w, m = W, 0.0
    for g in G:
        m = momentum * m + g
        w = w - RATE * (momentum * m + g)
    return w


def adam(b1=0.8, b2=0.95, eps=1e-3, decay=0.0):
    w, m, v = W, 0.0, 0.0
    for t, g in enumerate(G, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w - RATE * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * w)
    return w


def adamax(b1=0.8, b2=0.95, eps=1e-3):
    w, m, u = W, 0.0, 0.0
    for t, g in enumerate(G, 1):
        m, u = b1 * m + (1 - b1) * g, np.maximum(b2 * u, np.abs(g) + eps)
        w = w - RATE / (1 - b1**t) * m / u
    return w


def radam(b1=0.8):
    """In its first steps the variance of the second average is too large: the average gradient alone."""
    w, m = W, 0.0
    for t, g in enumerate(G, 1):
        m = b1 * m + (1 - b1) * g
        w = w - RATE * m / (1 - b1**t)
    return w


def rmsprop(decay=0.8, eps=1e-3):
    w, v = W, 0.0
    for g in G:
        v = decay * v + (1 - decay) * g**2
        w = w - RATE * g / np.sqrt(v + eps)
    return w


def adagrad(initial=0.2, eps=1e-3):
    w, total = W, initial
    for g in G:
        total = total + g**2
        w = w - RATE * g / np.sqrt(total + eps)
    return w


def adadelta(decay=0.8, eps=1e-3):
    w, v, d = W, 0.0, 0.0
    for g in G:
        v = decay * v + (1 - decay) * g**2
        update = np.sqrt(d + eps) / np.sqrt(v + eps) * g
        d = decay * d + (1 - decay) * update**2
        w = w - RATE * update
    return w


def lion(b1=0.8, b2=0.95, decay=0.1):
    w, m = W, 0.0
    for g in G:
        w = w - RATE * (np.sign(b1 * m + (1 - b1) * g) + decay * w)
        m = b2 * m + (1 - b2) * g
    return w


CASES = [
    ("sgd", {}, sgd(0.0)),
    ("sgd", {"momentum": 0.9}, sgd()),
    ("sgd", {"momentum": 0.9, "momentum_form": "average"}, averaged_sgd()),
    ("sgd", {"momentum": 0.9, "nesterov": True}, nesterov()),
    ("adam", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, adam()),
    ("adamw", {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1}, adam(decay=0.1)),
    ("adamax", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, adamax()),
    ("radam", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, radam()),
    ("rmsprop", {"decay": 0.8, "eps": 1e-3}, rmsprop()),
    ("adagrad", {"initial_accumulator": 0.2, "eps": 1e-3}, adagrad()),
    ("adadelta", {"decay": 0.8, "eps": 1e-3}, adadelta()),
    ("lion", {"b1": 0.8, "b2": 0.95, "weight_decay": 0.1}, lion()),
]


def updated(optimizer, gradients=G):
    """The parameters after an update per gradient, in float64."""
    with jax.enable_x64(True):
        w, state = W, optimizer.init(W)
        for g in gradients:
            update, state = optimizer.update(g, state, w)
            w = w + np.asarray(update)
    return w


@pytest.mark.parametrize(("name", "settings", "expected"), CASES, ids=[f"{n} {s}" for n, s, _ in CASES])
def test_two_updates_by_hand(name, settings, expected):
    np.testing.assert_allclose(updated(OPTIMIZERS[name](RATE, **settings)), expected, rtol=1e-6)


def test_every_optimizer_has_a_case():
    assert {name for name, _, _ in CASES} == set(OPTIMIZERS)


RATES = [
    ("constant", {}, {0: 1.0, 50: 1.0, 100: 1.0}),
    ("cosine", {}, {0: 1.0, 25: (1 + math.cos(math.pi / 4)) / 2, 50: 0.5, 100: 0.0}),
    ("cosine", {"warmup_steps": 20, "final_fraction": 0.1}, {0: 0.0, 10: 0.5, 20: 1.0, 60: 0.55, 100: 0.1}),
    ("exponential", {"decay": 0.01}, {0: 1.0, 50: 0.1, 100: 0.01}),
    ("step", {"every": 0.25, "factor": 0.5}, {0: 1.0, 24: 1.0, 25: 0.5, 74: 0.25, 75: 0.125}),
    ("linear", {"final_fraction": 0.2}, {0: 1.0, 50: 0.6, 100: 0.2}),
    ("linear", {"warmup_steps": 20}, {0: 0.0, 10: 0.5, 20: 1.0, 60: 0.5, 100: 0.0}),
    (
        "one_cycle",
        {"rise": 0.4, "initial_divisor": 4.0, "final_divisor": 10.0},
        {0: 0.25, 20: 0.625, 40: 1.0, 100: 0.025},
    ),
]


@pytest.mark.parametrize(("name", "settings", "rates"), RATES, ids=[f"{n} {s}" for n, s, _ in RATES])
def test_the_rate_at_chosen_steps_of_a_hundred(name, settings, rates):
    schedule = SCHEDULES[name](1.0, 100, **settings)
    np.testing.assert_allclose([schedule(step) for step in rates], list(rates.values()), rtol=1e-5, atol=1e-7)


def test_every_schedule_has_a_case():
    assert {name for name, _, _ in RATES} == set(SCHEDULES)


def test_gradients_are_clipped_by_entry_and_then_to_a_norm():
    gradient = np.array([3.0, -0.5, 4.0])
    by_value = np.array([2.0, -0.5, 2.0])
    norm = np.linalg.norm(by_value)
    optimizer = with_clipping(OPTIMIZERS["sgd"](RATE), value=2.0, norm=1.0)
    np.testing.assert_allclose(updated(optimizer, [gradient]), W - RATE * by_value / norm, rtol=1e-6)
    optimizer = with_clipping(OPTIMIZERS["sgd"](RATE), norm=100.0)
    np.testing.assert_allclose(updated(optimizer, [gradient]), W - RATE * gradient, rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_the_momentum_may_be_traced(name):
    def updated(momentum):
        optimizer = OPTIMIZERS[name](RATE, momentum=momentum)
        state = optimizer.init(W)
        for g in G:
            updates, state = optimizer.update(g, state, W)
        return updates

    for momentum, updates in zip((0.3, 0.9), jax.vmap(updated)(np.array([0.3, 0.9])), strict=True):
        np.testing.assert_allclose(updates, updated(momentum), rtol=1e-6)
