"""Optimizers and learning-rate schedules by name, with bounds and descriptions of their settings.

An optimizer is a function of its learning rate (a number, or a schedule from step to number) and its settings.

A schedule is a function of the learning rate, the number T of steps of the whole run, and its settings. It returns a
function from the step t = 0, ..., T - 1 to the rate of its update. The first step has the initial rate, and the last
step t = T - 1 has the final rate; a run of one step has the initial rate. Fractions of a run are not rounded to steps.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Gt, Interval

from fnet.core.settings import is_zero

Rate = Annotated[float, Gt(0)]
Decay = Annotated[float, Interval(ge=0, lt=1)]
Beta = Annotated[float, Interval(ge=0, le=0.999999)]  # 1 - b^t divides, and float32 rounds 0.99999999 to 1
Epsilon = Annotated[float, Ge(1e-37)]  # float32 rounds 1e-46 to 0
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
WarmUp = Annotated[int, Ge(0)]


def sgd(
    learning_rate: Rate = 0.1,
    *,
    momentum: Decay = 0.0,
    nesterov: bool = False,
    momentum_form: Literal["trace", "average"] = "trace",
) -> optax.GradientTransformation:
    """Gradient descent, W := W - learning_rate * m, with momentum.

    Two forms of momentum are common. The trace of Optax and PyTorch is m := momentum * m + g. The average of the
    lectures is m := momentum * m + (1 - momentum) * g, which takes the same path with a learning rate that is
    1 / (1 - momentum) times as large.

    Args:
        learning_rate: alpha, the factor on m in each update.
        momentum: weight of the old m; 0 is plain gradient descent.
        nesterov: replace m in the update by momentum * m + g (Nesterov 1983); trace form only.
        momentum_form: trace (accumulates gradients) or average (moving average of gradients).

    Raises:
        ValueError: for nesterov with the average form.
    """
    if momentum_form == "trace":
        return optax.sgd(learning_rate, None if is_zero(momentum) else momentum, nesterov)
    if nesterov:
        raise ValueError("nesterov requires momentum_form: trace")
    return optax.chain(optax.ema(momentum, debias=False), optax.scale_by_learning_rate(learning_rate))


def adam(
    learning_rate: Rate = 1e-3,
    *,
    b1: Beta = 0.9,
    b2: Beta = 0.999,
    eps: Epsilon = 1e-8,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2014): one rate per parameter, from moving averages of the gradient and its square.

    Args:
        learning_rate: alpha.
        b1: weight of the old average of gradients.
        b2: weight of the old average of squared gradients.
        eps: added to the root of the second average.
        nesterov: use Nesterov momentum (NAdam, Dozat 2016).
    """
    return optax.adam(learning_rate, b1, b2, eps, nesterov=nesterov)


def adamw(
    learning_rate: Rate = 1e-3,
    *,
    b1: Beta = 0.9,
    b2: Beta = 0.999,
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 1e-4,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017) on every parameter.

    Args:
        learning_rate: alpha.
        b1: weight of the old average of gradients.
        b2: weight of the old average of squared gradients.
        eps: added to the root of the second average.
        weight_decay: each update also subtracts learning_rate * weight_decay * W.
    """
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)


def adamax(
    learning_rate: Rate = 2e-3, *, b1: Beta = 0.9, b2: Beta = 0.999, eps: Epsilon = 1e-8
) -> optax.GradientTransformation:
    """Adamax (Kingma and Ba 2014): Adam with a decaying maximum of |gradient| instead of its root mean square.

    Args:
        learning_rate: alpha.
        b1: weight of the old average of gradients.
        b2: decay of the maximum.
        eps: added to the size of the gradient.
    """
    return optax.adamax(learning_rate, b1, b2, eps)


def radam(
    learning_rate: Rate = 1e-3, *, b1: Beta = 0.9, b2: Beta = 0.999, eps: Epsilon = 1e-8
) -> optax.GradientTransformation:
    """Rectified Adam (Liu et al. 2019): Adam that is not adaptive while the variance of its second average is large.

    Args:
        learning_rate: alpha.
        b1: weight of the old average of gradients.
        b2: weight of the old average of squared gradients.
        eps: added to the root of the second average.
    """
    return optax.radam(learning_rate, b1, b2, eps)


def rmsprop(
    learning_rate: Rate = 1e-3, *, decay: Decay = 0.9, eps: Epsilon = 1e-8, momentum: Decay = 0.0
) -> optax.GradientTransformation:
    """RMSProp (Hinton 2012): the gradient divided by the root of a moving average of its square.

    v := decay * v + (1 - decay) * g^2 and m := momentum * m + g / (sqrt(v) + eps), from v = m = 0, then
    W := W - learning_rate * m, as in PyTorch. Optax adds eps under the root by default, and multiplies by the learning
    rate before the momentum.

    Args:
        learning_rate: alpha.
        decay: weight of the old average of squared gradients.
        eps: added to the root of the average.
        momentum: weight of the old m, as in the trace form of sgd.
    """
    trace = optax.identity() if is_zero(momentum) else optax.trace(momentum)
    scale = optax.scale_by_rms(decay, eps, eps_in_sqrt=False)
    return optax.chain(scale, trace, optax.scale_by_learning_rate(learning_rate))


def adagrad(
    learning_rate: Rate = 1e-2, *, initial_accumulator: NonNegative = 0.1, eps: Epsilon = 1e-7
) -> optax.GradientTransformation:
    """AdaGrad (Duchi, Hazan and Singer 2011): the gradient divided by the root of the sum of its squares so far.

    s := s + g^2, then W := W - learning_rate * g / (sqrt(s) + eps), as in PyTorch, where s is initially 0. Optax adds
    eps under the root.

    Args:
        learning_rate: alpha.
        initial_accumulator: initial value of the sum.
        eps: added to the root of the sum.
    """

    def init(params: Any) -> Any:
        return jax.tree.map(lambda p: jnp.full_like(p, initial_accumulator), params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:  # noqa: ARG001
        sums = jax.tree.map(lambda s, g: s + jnp.square(g), state, updates)
        return jax.tree.map(lambda s, g: g / (jnp.sqrt(s) + eps), sums, updates), sums

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(learning_rate))


def adadelta(learning_rate: Rate = 1.0, *, decay: Decay = 0.9, eps: Epsilon = 1e-6) -> optax.GradientTransformation:
    """Adadelta (Zeiler 2012): updates in the units of the parameters, from averages of squared gradients and updates.

    Args:
        learning_rate: alpha, a factor on every update.
        decay: weight of the old averages.
        eps: added to both averages.
    """
    return optax.adadelta(learning_rate, decay, eps)


def lion(
    learning_rate: Rate = 1e-4, *, b1: Beta = 0.9, b2: Beta = 0.99, weight_decay: NonNegative = 1e-3
) -> optax.GradientTransformation:
    """Lion (Chen et al. 2023): updates by the sign of an interpolated momentum.

    Args:
        learning_rate: alpha, the magnitude of the change of every entry.
        b1: weight of the momentum in the update.
        b2: weight of the old momentum in the new one.
        weight_decay: each update also subtracts learning_rate * weight_decay * W.
    """
    return optax.lion(learning_rate, b1, b2, weight_decay=weight_decay)


DEFAULT_OPTIMIZER = "adam"

OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = MappingProxyType(
    {f.__name__: f for f in (sgd, adam, adamw, adamax, radam, rmsprop, adagrad, adadelta, lion)}
)
"""The optimizers by name."""


def constant(rate: float, steps: int) -> optax.Schedule:  # noqa: ARG001
    """Constant learning rate."""
    return optax.constant_schedule(rate)


def cosine(rate: float, steps: int, *, warmup_steps: WarmUp = 0, final_fraction: Fraction = 0.0) -> optax.Schedule:
    """Cosine decay from the learning rate to a fraction of it (Loshchilov and Hutter 2016), after a warm-up.

    rate * (f + (1 - f) * (1 + cos(pi * p)) / 2), where f is the final fraction and p = (t - w) / (T - 1 - w) rises
    from 0 at the step t = w after a warm-up of w steps to 1 at the last step t = T - 1. With f = 0 the last step
    changes nothing. PyTorch's and Optax's cosine reaches f where T - 1 is passed as the number of its steps.

    Args:
        warmup_steps: initial steps w, with the rate * t / w: the first has the rate 0.
        final_fraction: fraction of the learning rate that the last step reaches.

    Raises:
        ValueError: when the warm-up is as long as the run.

    >>> [round(float(cosine(1.0, 5)(t)), 3) for t in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    return _after_warmup(rate, steps, warmup_steps, final_fraction, lambda p: (1 + jnp.cos(jnp.pi * p)) / 2)


def linear(rate: float, steps: int, *, warmup_steps: WarmUp = 0, final_fraction: Fraction = 0.0) -> optax.Schedule:
    """Linear decay from the learning rate to a fraction of it, after a warm-up.

    rate * (f + (1 - f) * (1 - p)), where f is the final fraction and p = (t - w) / (T - 1 - w) rises from 0 at the
    step t = w after a warm-up of w steps to 1 at the last step t = T - 1. With f = 0 the last step changes nothing.

    Args:
        warmup_steps: initial steps w, with the rate * t / w: the first has the rate 0.
        final_fraction: fraction of the learning rate that the last step reaches.

    Raises:
        ValueError: when the warm-up is as long as the run.

    >>> [round(float(linear(1.0, 6, warmup_steps=2, final_fraction=0.4)(t)), 3) for t in range(6)]
    [0.0, 0.5, 1.0, 0.8, 0.6, 0.4]
    """
    return _after_warmup(rate, steps, warmup_steps, final_fraction, lambda p: 1 - p)


def exponential(rate: float, steps: int, *, decay: Annotated[float, Interval(gt=0, lt=1)] = 0.1) -> optax.Schedule:
    """Exponential decay: multiply the learning rate by the same factor in every step.

    rate * decay^p, where p = t / (T - 1) rises from 0 at the first step to 1 at the last step t = T - 1.

    Args:
        decay: fraction of the learning rate that the last step has.

    >>> [round(float(exponential(1.0, 3, decay=0.01)(t)), 3) for t in range(3)]
    [1.0, 0.1, 0.01]
    """
    # The logarithm of a number is taken in float64: float32 rounds 1e-300 to 0.
    log = math.log(decay) if isinstance(decay, int | float) else jnp.log(decay)
    return lambda step: rate * jnp.exp(_progress(step, 0, steps) * log)


def step(rate: float, steps: int, *, every: Fraction = 1 / 3, factor: Fraction = 0.1) -> optax.Schedule:
    """Step decay: multiply the learning rate by a factor at regular intervals.

    rate * factor^k, where k = floor(t / n) is the number of whole intervals of n = max(1, every * T) steps before the
    step t. The j-th fall is at the first step t >= j * n: two falls for an interval of 1/3, and none for 1.

    Args:
        every: interval, as a fraction of the whole run; at least one step.
        factor: factor on the learning rate after each interval.

    >>> [round(float(step(1.0, 7)(t)), 3) for t in range(7)]
    [1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    """

    def schedule(step: Any) -> jax.Array:
        # Float32 can round the quotient of a whole number of intervals to just below that number.
        return rate * jnp.power(factor, jnp.floor(step / jnp.maximum(every * steps, 1) * (1 + 2**-21)))

    return schedule


def one_cycle(
    rate: float,
    steps: int,
    *,
    rise: Annotated[float, Interval(gt=0, lt=1)] = 0.3,
    initial_divisor: Annotated[float, Ge(1)] = 25.0,
    final_divisor: Annotated[float, Ge(1)] = 1e4,
) -> optax.Schedule:
    """One-cycle policy (Smith and Topin 2017): rise to the learning rate and fall to almost 0, along cosines.

    With p = t / (T - 1), which is 0 at the first and 1 at the last step, the rate is that of the first step,
    a = rate / initial_divisor, at p = 0, the learning rate at p = rise, and b = a / final_divisor at p = 1. In between
    it is a + (rate - a) * (1 - cos(pi * p / rise)) / 2 and b + (rate - b) * (1 - cos(pi * (1 - p) / (1 - rise))) / 2.
    The peak can lie between two steps. PyTorch's has its peak at step pct_start * T - 1; Optax's has it at
    floor(pct_start * T), and its end at t = T, after the run.

    Args:
        rise: fraction of the run over which the rate rises.
        initial_divisor: divides the learning rate to give the initial rate.
        final_divisor: divides the initial rate to give the final rate.

    >>> [round(float(one_cycle(1.0, 6, rise=0.4, initial_divisor=5, final_divisor=2)(t)), 3) for t in range(6)]
    [0.2, 0.6, 1.0, 0.775, 0.325, 0.1]
    """
    first = rate / initial_divisor
    last = first / final_divisor

    def schedule(step: Any) -> jax.Array:
        p = _progress(step, 0, steps)
        rising = first + (rate - first) * (1 - jnp.cos(jnp.pi * p / rise)) / 2
        falling = last + (rate - last) * (1 - jnp.cos(jnp.pi * (1 - p) / (1 - rise))) / 2
        return jnp.where(p < rise, rising, falling)

    return schedule


def _after_warmup(
    rate: float, steps: int, warmup_steps: int, final_fraction: float, decay: Callable[[jax.Array], jax.Array]
) -> optax.Schedule:
    """Return a linear warm-up followed by a decay from 1 to 0, scaled to end at the final fraction of the rate."""
    if warmup_steps >= steps:
        raise ValueError(
            f"warmup_steps: expected fewer than the {steps} steps of the run, got {warmup_steps}; shorten the warm-up"
        )

    def schedule(step: Any) -> jax.Array:
        falling = rate * (final_fraction + (1 - final_fraction) * decay(_progress(step, warmup_steps, steps)))
        return jnp.where(step < warmup_steps, rate * step / warmup_steps, falling) if warmup_steps else falling

    return schedule


def _progress(step: Any, first: int, steps: int) -> jax.Array:
    """Return (t - first) / (T - 1 - first), between 0 and 1: 0 at the first step and 1 at the last, if they differ."""
    return jnp.clip((step - first) / float(max(steps - 1 - first, 1)), 0, 1)


SCHEDULES: Mapping[str, Callable[..., optax.Schedule]] = MappingProxyType(
    {f.__name__: f for f in (constant, cosine, exponential, step, linear, one_cycle)}
)
"""The schedules by name."""

SCHEDULE_SUPPLIED = ("rate", "steps")
"""The parameters of the schedules that are not settings."""


def with_clipping(
    optimizer: optax.GradientTransformation, *, norm: float | None = None, value: float | None = None
) -> optax.GradientTransformation:
    """Return the optimizer applied to gradients clipped elementwise to [-value, value], then to a global norm."""
    before = []
    if value is not None:
        before.append(optax.clip(value))
    if norm is not None:
        before.append(_clip_by_global_norm(norm))
    return optax.chain(*before, optimizer) if before else optimizer


def _clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Return `optax.clip_by_global_norm` for entries whose squares may overflow.

    Optax divides by an infinite norm there, so that a gradient of 1e20 in float32 becomes 0. Smaller gradients give
    bitwise the same result.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:  # noqa: ARG001
        sizes = jax.tree.map(lambda g: jnp.max(jnp.abs(g), initial=0), updates)
        size = jnp.asarray(jax.tree.reduce(jnp.maximum, sizes, 0.0))
        # Float32 squares entries up to 1.8e19. Entries above 4e9 are divided by 1e24, whose inverse is a normal number.
        limit = jnp.finfo(size.dtype).max
        scale = jnp.where(size > limit**0.25, limit**0.625, 1).astype(size.dtype)
        norm = optax.tree.norm(jax.tree.map(lambda g: g / scale, updates))
        # max_norm is divided rather than the norm multiplied, because norm * scale may overflow as well.
        small = norm < max_norm / scale
        return jax.tree.map(lambda g: jnp.where(small, g, g / scale / norm * max_norm).astype(g.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
