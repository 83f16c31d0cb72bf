"""Optax's optimizers and learning-rate schedules by name, with bounds and descriptions of their settings.

An optimizer is a function of its learning rate (a number, or a schedule from step to number) and its settings. A
schedule is a function of the learning rate, the number of steps of the whole run, and its settings. Steps count from 0.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import optax
from annotated_types import Ge, Gt, Interval

from fnet.core.settings import is_zero

Rate = Annotated[float, Gt(0)]
Decay = Annotated[float, Interval(ge=0, lt=1)]
Epsilon = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Steps = Annotated[int, Ge(1)]
Fraction = Annotated[float, Interval(ge=0, le=1)]


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
    b1: Decay = 0.9,
    b2: Decay = 0.999,
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
    b1: Decay = 0.9,
    b2: Decay = 0.999,
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
    learning_rate: Rate = 2e-3, *, b1: Decay = 0.9, b2: Decay = 0.999, eps: Epsilon = 1e-8
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
    learning_rate: Rate = 1e-3, *, b1: Decay = 0.9, b2: Decay = 0.999, eps: Epsilon = 1e-8
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

    Args:
        learning_rate: alpha.
        decay: weight of the old average of squared gradients.
        eps: added to the average, under the root.
        momentum: weight of the old update, as in the trace form of sgd.
    """
    return optax.rmsprop(learning_rate, decay, eps, momentum=None if is_zero(momentum) else momentum)


def adagrad(
    learning_rate: Rate = 1e-2, *, initial_accumulator: NonNegative = 0.1, eps: Epsilon = 1e-7
) -> optax.GradientTransformation:
    """AdaGrad (Duchi, Hazan and Singer 2011): the gradient divided by the root of the sum of its squares so far.

    Args:
        learning_rate: alpha.
        initial_accumulator: initial value of the sum.
        eps: added to the sum, under the root.
    """
    return optax.adagrad(learning_rate, initial_accumulator, eps)


def adadelta(learning_rate: Rate = 1.0, *, decay: Decay = 0.9, eps: Epsilon = 1e-6) -> optax.GradientTransformation:
    """Adadelta (Zeiler 2012): updates in the units of the parameters, from averages of squared gradients and updates.

    Args:
        learning_rate: alpha, a factor on every update.
        decay: weight of the old averages.
        eps: added to both averages.
    """
    return optax.adadelta(learning_rate, decay, eps)


def lion(
    learning_rate: Rate = 1e-4, *, b1: Decay = 0.9, b2: Decay = 0.99, weight_decay: NonNegative = 1e-3
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


def cosine(
    rate: float, steps: int, *, warmup_steps: Annotated[int, Ge(0)] = 0, final_fraction: Fraction = 0.0
) -> optax.Schedule:
    """Cosine decay from the learning rate to a fraction of it (Loshchilov and Hutter 2016), after a warm-up.

    Args:
        warmup_steps: initial steps, over which the rate rises linearly from 0 to the learning rate.
        final_fraction: fraction of the learning rate that the last step reaches.

    Raises:
        ValueError: when the warm-up is as long as the run.
    """
    if not warmup_steps:
        return optax.cosine_decay_schedule(rate, steps, final_fraction)
    _check_warmup(warmup_steps, steps)
    return optax.warmup_cosine_decay_schedule(0.0, rate, warmup_steps, steps, rate * final_fraction)


def exponential(rate: float, steps: int, *, decay: Annotated[float, Interval(gt=0, lt=1)] = 0.1) -> optax.Schedule:
    """learning_rate * decay^(step / steps): a constant factor per step, `decay` over the whole run.

    Args:
        decay: fraction of the learning rate at the end of the run.
    """
    return optax.exponential_decay(rate, steps, decay)


def step(rate: float, steps: int, *, every: Fraction = 1 / 3, factor: Fraction = 0.1) -> optax.Schedule:
    """Step decay: multiply the learning rate by a factor at regular intervals.

    Args:
        every: interval, as a fraction of the whole run.
        factor: factor on the learning rate after each interval.
    """
    interval = max(1, round(every * steps))
    return optax.exponential_decay(rate, interval, factor, staircase=True)


def linear(
    rate: float, steps: int, *, warmup_steps: Annotated[int, Ge(0)] = 0, final_fraction: Fraction = 0.0
) -> optax.Schedule:
    """Linear decay from the learning rate to a fraction of it, after a warm-up.

    Args:
        warmup_steps: initial steps, over which the rate rises linearly from 0 to the learning rate.
        final_fraction: fraction of the learning rate that the last step reaches.

    Raises:
        ValueError: when the warm-up is as long as the run.
    """
    _check_warmup(warmup_steps, steps)
    decay = optax.linear_schedule(rate, rate * final_fraction, steps - warmup_steps)
    if not warmup_steps:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup_steps), decay], [warmup_steps])


def one_cycle(
    rate: float,
    steps: int,
    *,
    rise: Annotated[float, Interval(gt=0, lt=1)] = 0.3,
    initial_divisor: Annotated[float, Ge(1)] = 25.0,
    final_divisor: Annotated[float, Ge(1)] = 1e4,
) -> optax.Schedule:
    """One-cycle policy (Smith and Topin 2017): rise to the learning rate and fall to almost 0, along cosines.

    Args:
        rise: fraction of the run over which the rate rises.
        initial_divisor: divides the learning rate to give the initial rate.
        final_divisor: divides the initial rate to give the final rate.
    """
    return optax.cosine_onecycle_schedule(steps, rate, rise, initial_divisor, final_divisor)


def _check_warmup(warmup_steps: int, steps: int) -> None:
    if warmup_steps >= steps:
        raise ValueError(
            f"warmup_steps: expected fewer than the {steps} steps of the run, got {warmup_steps}; shorten the warm-up"
        )


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
        before.append(optax.clip_by_global_norm(norm))
    return optax.chain(*before, optimizer) if before else optimizer
