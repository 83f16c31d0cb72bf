"""Optimizers, schedules and clipping against their formulas: two updates by hand, and the rate at every step."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnet.core.settings import check_settings, model_of
from fnet.train.optimizer import OPTIMIZERS, SCHEDULE_SUPPLIED, SCHEDULES, with_clipping

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


def rmsprop(decay=0.8, eps=1e-3, momentum=0.0, rates=(RATE, RATE)):
    w, v, m = W, 0.0, 0.0
    for g, rate in zip(G, rates, strict=True):
        v = decay * v + (1 - decay) * g**2
        m = momentum * m + g / (np.sqrt(v) + eps)
        w = w - rate * m
    return w


def adagrad(initial=0.2, eps=1e-3):
    w, total = W, initial
    for g in G:
        total = total + g**2
        w = w - RATE * g / (np.sqrt(total) + eps)
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
    ("rmsprop", {"decay": 0.8, "eps": 1e-3, "momentum": 0.9}, rmsprop(momentum=0.9)),
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


BOUNDS = {
    "b1": (0.0, 0.999999),
    "b2": (0.0, 0.999999),
    "eps": (1e-37, 1.0),
    "decay": (0.0, 0.999999),
    "momentum": (0.0, 0.999999),
    "initial_accumulator": (0.0, 1.0),
    "weight_decay": (0.0, 1.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_both_ends_of_every_setting_give_finite_updates_in_float32(name):
    """An entry without gradient remains as it is, and one with a gradient moves against it."""
    floats = {s for s, field in model_of(OPTIMIZERS[name]).model_fields.items() if field.annotation is float}
    for setting in floats - {"learning_rate"}:
        for value in BOUNDS[setting]:
            optimizer = OPTIMIZERS[name](RATE, **{setting: value})
            w, g = jnp.zeros(2), jnp.array([0.0, 2.0])
            update, _ = optimizer.update(g, optimizer.init(w), w)
            assert np.isfinite(update).all(), (setting, value)
            assert (update[0] == 0, update[1] < 0) == (True, True), (setting, value)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("adam", {"b2": 0.99999999}, "at most 0.999999"),
        ("adamw", {"b1": 1.0}, "at most 0.999999"),
        ("rmsprop", {"eps": 1e-50}, "at least 1e-37"),
        ("sgd", {"momentum": 1.0}, "less than 1"),
        ("sgd", {"learning_rate": math.inf}, "a finite number"),
        ("lion", {"weight_decay": -0.1}, "at least 0"),
    ],
)
def test_a_setting_that_float32_would_make_meaningless_is_refused(name, setting, message):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}: expected .*{message}"):
        check_settings(OPTIMIZERS[name], setting)


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_momentum_accumulates_gradients_rather_than_updates(name):
    """As in PyTorch, the rate of a step is a factor on the whole update, whatever the rate was before."""
    settings = {"momentum": 0.9} if name == "sgd" else {"decay": 0.8, "eps": 1e-3, "momentum": 0.9}
    first, both = updated(OPTIMIZERS[name](RATE, **settings), G[:1]), updated(OPTIMIZERS[name](RATE, **settings))
    at_once = updated(OPTIMIZERS[name](lambda step: RATE * step, **settings))
    np.testing.assert_allclose(at_once - W, both - first, rtol=1e-6)


def progress(t, total, first=0):
    return (t - first) / (total - 1 - first) if total - 1 > first else 0.0


def after_warmup(decay):
    def at(t, total, warmup_steps=0, final_fraction=0.0):
        if t < warmup_steps:
            return t / warmup_steps
        return final_fraction + (1 - final_fraction) * decay(progress(t, total, warmup_steps))

    return at


def one_cycle(t, total, rise=0.3, initial_divisor=25.0, final_divisor=1e4):
    p, first, last = progress(t, total), 1 / initial_divisor, 1 / (initial_divisor * final_divisor)
    if p < rise:
        return first + (1 - first) * math.sin(math.pi / 2 * p / rise) ** 2
    return last + (1 - last) * math.sin(math.pi / 2 * (1 - p) / (1 - rise)) ** 2


FORMULAS = {
    "constant": lambda t, total: 1.0,
    "cosine": after_warmup(lambda p: math.cos(math.pi / 2 * p) ** 2),
    "linear": after_warmup(lambda p: 1 - p),
    "exponential": lambda t, total, decay=0.1: decay ** progress(t, total),
    "step": lambda t, total, every=Fraction(1, 3), factor=0.1: factor ** (t // max(1, Fraction(every) * total)),
    "one_cycle": one_cycle,
}
"""The rate at the step t of a run, for a learning rate of 1."""

WARM_UPS = [{}, {"final_fraction": 1.0}, *({"warmup_steps": w, "final_fraction": f} for w, f in ((1, 0.0), (2, 0.1)))]
ENDS = {
    "constant": [{}],
    "cosine": [*WARM_UPS, {"warmup_steps": 9}, {"warmup_steps": 99, "final_fraction": 0.5}],
    "linear": [*WARM_UPS, {"warmup_steps": 9}, {"warmup_steps": 99, "final_fraction": 0.5}],
    "exponential": [{}, {"decay": 1e-300}, {"decay": 0.999999}],
    "step": [
        *({"factor": factor} for factor in (0.0, 0.1, 1.0)),
        *({"every": Fraction(every), "factor": 0.5} for every in ("0", "1e-9", "1/7", "1/6", "0.1", "0.4", "1")),
    ],
    "one_cycle": [
        {},
        *({"rise": rise} for rise in (1e-6, 0.5, 0.999999)),
        {"initial_divisor": 1.0, "final_divisor": 1.0},
        {"initial_divisor": 1e300, "final_divisor": 1e300},
    ],
}
"""Settings of every schedule: its defaults and both ends of every bound."""


def rates(name, total, settings, steps):
    """The rates as numbers; a setting that is a fraction is rounded to a float for the schedule."""
    given = {k: float(v) if isinstance(v, Fraction) else v for k, v in settings.items()}
    return np.broadcast_to(SCHEDULES[name](1.0, total, **given)(steps), steps.shape)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_at_every_step_for_both_ends_of_every_setting(name):
    settings = {setting for case in ENDS[name] for setting in case}
    assert settings == {*model_of(SCHEDULES[name], skip=SCHEDULE_SUPPLIED).model_fields}
    for total in (1, 2, 3, 10, 100):
        for case in ENDS[name]:
            if case.get("warmup_steps", 0) < total:
                expected = [FORMULAS[name](t, total, **case) for t in range(total)]
                actual = rates(name, total, case, np.arange(total))
                np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-6, err_msg=f"{total} steps, {case}")


FIRST_AND_LAST = {
    "constant": ({}, 1.0, 1.0),
    "cosine": ({"final_fraction": 0.25}, 1.0, 0.25),
    "linear": ({"final_fraction": 0.25}, 1.0, 0.25),
    "exponential": ({"decay": 0.25}, 1.0, 0.25),
    "step": ({"every": 0.5, "factor": 0.25}, 1.0, 0.25),
    "one_cycle": ({"initial_divisor": 4.0, "final_divisor": 5.0}, 0.25, 0.05),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_first_and_the_last_step_have_the_rates_that_the_settings_name(name):
    settings, first, last = FIRST_AND_LAST[name]
    for total in (2, 3, 10, 100, 1_000_003):
        steps = np.array([0, total - 1, total, total + 5])
        np.testing.assert_allclose(rates(name, total, settings, steps)[:2], [first, last], rtol=2e-5)
        if name != "step":
            np.testing.assert_allclose(rates(name, total, settings, steps)[2:], last, rtol=2e-5)
    assert float(SCHEDULES[name](1.0, 1, **settings)(0)) == pytest.approx(first)


def test_a_step_schedule_falls_at_the_first_step_of_every_interval():
    """In compiled code, whose divisions may be rounded differently: exactly where whole numbers say."""
    for every in (Fraction(1, 3), Fraction(1, 7), Fraction(1, 10), Fraction(3, 10), Fraction(1, 1000)):
        for total in (7, 30, 99, 100, 10_000):
            schedule = jax.jit(SCHEDULES["step"](1.0, total, every=float(every), factor=0.99))
            falls = np.round(np.log(schedule(np.arange(total))) / np.log(0.99))
            interval = max(Fraction(1), every * total)
            np.testing.assert_array_equal(falls, [t // interval for t in range(total)], f"{every} of {total}")


@pytest.mark.parametrize(
    ("every", "total", "fall", "number"), [("4/133", 152, 32, 7), ("5/297", 132, 60, 27), ("10/1169", 1955, 1271, 75)]
)
def test_the_step_of_a_fall_does_not_depend_on_rounding(every, total, fall, number):
    """Two intervals of which float32 rounds a multiple down, and one that is just beyond a step."""
    rate = SCHEDULES["step"](1.0, total, every=float(Fraction(every)), factor=0.99)(fall)
    assert fall // (Fraction(every) * total) == number
    assert float(rate) == pytest.approx(0.99**number, rel=1e-5)


FLOATS = [
    (name, setting)
    for name, make in SCHEDULES.items()
    for setting, field in model_of(make, skip=SCHEDULE_SUPPLIED).model_fields.items()
    if field.annotation is float
]


@pytest.mark.parametrize(("name", "setting"), FLOATS)
def test_the_settings_and_the_rate_of_a_schedule_may_be_traced(name, setting):
    def rates(rate, value):
        return SCHEDULES[name](rate, 10, **{setting: value})(jnp.arange(10))

    values = (1.5, 2.5) if "divisor" in setting else (0.25, 0.5)
    together = jax.jit(jax.vmap(rates))(jnp.array([0.1, 0.2]), jnp.array(values))
    for rate, value, row in zip((0.1, 0.2), values, together, strict=True):
        expected = [rate * FORMULAS[name](t, 10, **{setting: value}) for t in range(10)]
        np.testing.assert_allclose(row, expected, rtol=2e-5, atol=1e-7)


def test_gradients_are_clipped_by_entry_and_then_to_a_norm():
    gradient = np.array([3.0, -0.5, 4.0])
    by_value = np.array([2.0, -0.5, 2.0])
    norm = np.linalg.norm(by_value)
    optimizer = with_clipping(OPTIMIZERS["sgd"](RATE), value=2.0, norm=1.0)
    np.testing.assert_allclose(updated(optimizer, [gradient]), W - RATE * by_value / norm, rtol=1e-6)
    optimizer = with_clipping(OPTIMIZERS["sgd"](RATE), norm=100.0)
    np.testing.assert_allclose(updated(optimizer, [gradient]), W - RATE * gradient, rtol=1e-6)


@pytest.mark.parametrize(("size", "number"), [(1e20, 2), (3e38, 2), (1e18, 2000), (1.8e19, 2000)])
def test_a_norm_that_overflows_is_clipped_to(size, number):
    """In float32 the squares, or only their sum, are infinite, but the gradient is not, and has a direction."""
    gradient = {"w": jnp.full(number, size).at[0].set(0.75 * size), "b": jnp.zeros(1)}
    clipped = with_clipping(optax.identity(), norm=0.5).update(gradient, (optax.EmptyState(), optax.EmptyState()))[0]
    direction = np.array([0.75] + [1.0] * (number - 1))
    np.testing.assert_allclose(clipped["w"], 0.5 * direction / np.linalg.norm(direction), rtol=1e-5)


def test_smaller_gradients_are_clipped_bitwise_as_by_optax(rng):
    for size in (1e-30, 0.1, 1.0, 1e3, 1e9):
        gradient = {"w": jnp.array(size * rng.standard_normal((3, 2)), "float32"), "b": jnp.zeros(1)}
        ours, theirs = with_clipping(optax.identity(), norm=2.0), optax.clip_by_global_norm(2.0)
        for a, b in zip(
            *(jax.tree.leaves(f.update(gradient, f.init(gradient))[0]) for f in (ours, theirs)), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_clipping_does_not_hide_a_gradient_that_is_not_finite(wrong):
    optimizer = with_clipping(optax.identity(), norm=1.0)
    clipped, _ = optimizer.update({"w": jnp.array([1.0, wrong])}, optimizer.init({}))
    assert np.isnan(clipped["w"]).any()


def test_a_network_without_parameters_can_be_clipped():
    optimizer = with_clipping(optax.identity(), norm=1.0)
    assert optimizer.update({}, optimizer.init({}))[0] == {}


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


PYTORCH = [
    ("SGD", {}, "sgd", {}),
    ("SGD", {"momentum": 0.9}, "sgd", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}, "sgd", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {"betas": (0.8, 0.95), "eps": 1e-3}, "adam", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}),
    ("AdamW", {"eps": 1e-3, "weight_decay": 0.1}, "adamw", {"eps": 1e-3, "weight_decay": 0.1}),
    ("Adamax", {"betas": (0.8, 0.95), "eps": 1e-3}, "adamax", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}),
    ("RMSprop", {"alpha": 0.8, "eps": 1e-3}, "rmsprop", {"decay": 0.8, "eps": 1e-3}),
    ("RMSprop", {"alpha": 0.8, "momentum": 0.9}, "rmsprop", {"decay": 0.8, "momentum": 0.9}),
    ("Adagrad", {"initial_accumulator_value": 0.2, "eps": 1e-2}, "adagrad", {"initial_accumulator": 0.2, "eps": 1e-2}),
    ("Adadelta", {"rho": 0.8, "eps": 1e-3}, "adadelta", {"decay": 0.8, "eps": 1e-3}),
]
"""Optimizers that PyTorch and fnet define in the same way."""


@pytest.mark.parametrize(("their_name", "theirs", "name", "settings"), PYTORCH)
def test_the_path_is_that_of_pytorch(their_name, theirs, name, settings, rng):
    torch = pytest.importorskip("torch")
    w = torch.nn.Parameter(torch.tensor(W))
    their_optimizer = getattr(torch.optim, their_name)([w], lr=RATE, **theirs)
    schedule = torch.optim.lr_scheduler.LambdaLR(their_optimizer, lambda step: 1 / (1 + step))
    gradients = rng.standard_normal((20, 3))
    for g in gradients:
        w.grad = torch.tensor(g)
        their_optimizer.step()
        schedule.step()
    optimizer = OPTIMIZERS[name](lambda step: RATE / (1 + step), **settings)
    np.testing.assert_allclose(updated(optimizer, gradients), w.detach().numpy(), rtol=1e-6)
