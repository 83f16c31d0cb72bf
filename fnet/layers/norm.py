"""Normalization: entries are centered and scaled by statistics of their own batch, position or group of channels.

Statistics are computed in float32 at least, the mean first and then the variance of the centered values: the difference
E[x^2] - E[x]^2 goes negative in float32. The variance is the biased one throughout.
"""

import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Lt

from fnet.core.constructor import Parts, constructor
from fnet.core.layer import Name, ShapeError

__all__ = ["batch_norm", "group_norm", "layer_norm", "rms_norm"]

Epsilon = Annotated[float, Gt(0)]


@constructor
def batch_norm(
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
    eps: Epsilon = 1e-5,
    scale: bool = True,
    shift: bool = True,
    name: Name = None,
) -> Parts:
    """y = scale * (x - mu) / sqrt(v + eps) + shift, per channel, with the mean mu and the variance v of the batch.

    In training mu and v are those of the channel over the batch and every other axis, and the state follows them:
    mean := momentum * mean + (1 - momentum) * mu, and var likewise with v. Otherwise mu and v are the state's.

    Shapes: (batch, ..., channels) -> the same. Parameters: `scale` (channels,), ones; `shift` (channels,), zeros.
    State: `mean` (channels,), zeros; `var` (channels,), ones.

    A mask, (batch,) or (batch, time), says which entries the statistics count; the outputs of the others are computed
    all the same. When it counts none, the state stays as it is. An input without a time axis, (batch, channels), counts
    the examples of which a (batch, time) mask counts any step.

    Args:
        momentum: the weight of the old value in the running mean and variance.
        eps: added to the variance, so that a constant channel divides by sqrt(eps), not by 0.
        scale: whether y is multiplied by a learned factor per channel.
        shift: whether a learned number per channel is added to y.
        name: replaces the counted name.

    Raises:
        ShapeError: when an example has no axis of channels, or another number than it was initialized for, or when the
            mask does not fit.

    Conventions: v is the biased variance, also in the state, where PyTorch keeps the unbiased one; momentum weighs the
    old value, as in Keras and Flax, where PyTorch's weighs the new one. Over a single value v is 0 and y is shift.

    Source: Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift" (2015).

    >>> import jax, jax.numpy as jnp, fnet
    >>> layer = fnet.batch_norm()
    >>> params, state = layer.init(jax.random.key(0), (1,))
    >>> y, state = layer.apply(params, state, jnp.array([[1.0], [3.0]]), train=True)
    >>> y.round(3).tolist(), state["mean"].round(3).tolist(), state["var"].round(3).tolist()
    ([[-1.0], [1.0]], [0.2...], [1.0])
    """

    def init(key, in_shape):
        params, _ = _init_affine(scale, shift)(key, in_shape)
        channels = in_shape[-1]
        return params, {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}

    def apply(params, state, x, *, train, key=None, mask=None):
        x = jnp.asarray(x)
        channels = len(state["mean"])
        if x.ndim < 2 or x.shape[-1] != channels:
            raise _wrong_channels(channels, x.shape)
        wide = _wide(x)
        if not train:
            return _affine(params, _standardized(wide, state["mean"], state["var"], eps), x), state
        counted = None if mask is None else _counted(mask, x)
        mean, var = _moments(wide, tuple(range(x.ndim - 1)), counted)
        y = _affine(params, _standardized(wide, mean, var, eps), x)

        def running(old, of_batch):
            new = momentum * old + (1 - momentum) * of_batch.reshape(channels)
            return (new if counted is None else jnp.where(counted.any(), new, old)).astype(old.dtype)

        return y, {"mean": running(state["mean"], mean), "var": running(state["var"], var)}

    return Parts(_shape, init, apply)


@constructor
def layer_norm(*, eps: Epsilon = 1e-5, scale: bool = True, shift: bool = True, name: Name = None) -> Parts:
    """y = scale * (x - mu) / sqrt(v + eps) + shift, with mu and v over the last axis, at every position by itself.

    Shapes: (batch, ..., channels) -> the same. Parameters: `scale` (channels,), ones; `shift` (channels,), zeros.

    Args:
        eps: added to the variance, so that equal channels divide by sqrt(eps), not by 0.
        scale: whether y is multiplied by a learned factor per channel.
        shift: whether a learned number per channel is added to y.
        name: replaces the counted name.

    Raises:
        ShapeError: when an example has no axis of channels, or another number than it was initialized for.

    Conventions: v is the biased variance. For images this is the form of PyTorch's and Keras's layers given the
    channels; the paper takes the statistics over all of an example, which here is group_norm(1).

    Source: Ba, Kiros and Hinton, "Layer normalization" (2016).

    >>> import jax, jax.numpy as jnp, fnet
    >>> layer = fnet.layer_norm()
    >>> params, state = layer.init(jax.random.key(0), (2,))
    >>> y, _ = layer.apply(params, state, jnp.array([[1.0, 3.0], [30.0, 10.0]]), train=False)
    >>> y.round(3).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """

    def apply(params, state, x, *, train, key=None, mask=None):
        x = jnp.asarray(x)
        _check_channels(params, x)
        wide = _wide(x)
        return _affine(params, _standardized(wide, *_moments(wide, (-1,)), eps), x), {}

    return Parts(_shape, _init_affine(scale, shift), apply)


@constructor
def group_norm(
    groups: Annotated[int, Ge(1)],
    *,
    eps: Epsilon = 1e-5,
    scale: bool = True,
    shift: bool = True,
    name: Name = None,
) -> Parts:
    """y = scale * (x - mu) / sqrt(v + eps) + shift, with mu and v over a group of channels of one example.

    The channels fall into groups of channels / groups neighbors; mu and v are taken over the channels of a group and
    over every axis between the batch and the channels. One group of all channels is the paper's layer normalization,
    groups of one channel are instance normalization.

    Shapes: (batch, ..., channels) -> the same. Parameters: `scale` (channels,), ones; `shift` (channels,), zeros.

    The statistics of an example count the steps that a mask (batch, time) says are real; the outputs of the others are
    computed all the same. Examples do not meet, so a mask (batch,) changes nothing.

    Args:
        groups: number of groups, which divides the number of channels.
        eps: added to the variance, so that a constant group divides by sqrt(eps), not by 0.
        scale: whether y is multiplied by a learned factor per channel.
        shift: whether a learned number per channel is added to y.
        name: replaces the counted name.

    Raises:
        ShapeError: when an example has no axis of channels, or a number that the groups do not divide, or another
            number than it was initialized for, or when the mask does not fit.

    Source: Wu and He, "Group normalization" (2018).

    >>> import jax, jax.numpy as jnp, fnet
    >>> layer = fnet.group_norm(2)
    >>> params, state = layer.init(jax.random.key(0), (4,))
    >>> y, _ = layer.apply(params, state, jnp.array([[1.0, 3.0, 30.0, 10.0]]), train=False)
    >>> y.round(3).tolist()
    [[-1.0, 1.0, 1.0, -1.0]]
    """

    def shape(in_shape):
        channels = _shape(in_shape)[-1]
        if channels % groups:
            raise ShapeError(
                f"expects a number of channels that its {groups} groups divide, got {channels} channels in "
                f"{in_shape}; take a number of groups that divides {channels}"
            )
        return in_shape

    def init(key, in_shape):
        return _init_affine(scale, shift)(key, shape(in_shape))

    def apply(params, state, x, *, train, key=None, mask=None):
        x = jnp.asarray(x)
        _check_channels(params, x)
        shape(x.shape[1:])
        grouped = _wide(x).reshape(*x.shape[:-1], groups, -1)
        steps = mask is not None and jnp.ndim(mask) == 2 and x.ndim > 2
        counted = _counted(mask, x)[..., None] if steps else None
        axes = (*range(1, x.ndim - 1), x.ndim)
        xhat = _standardized(grouped, *_moments(grouped, axes, counted), eps).reshape(x.shape)
        return _affine(params, xhat, x), {}

    return Parts(shape, init, apply)


@constructor
def rms_norm(*, eps: Epsilon = 1e-6, scale: bool = True, name: Name = None) -> Parts:
    """y = scale * x / sqrt(mean(x^2) + eps), with the mean over the last axis, at every position by itself.

    Shapes: (batch, ..., channels) -> the same. Parameters: `scale` (channels,), ones.

    Args:
        eps: added to the mean square, so that zeros divide by sqrt(eps), not by 0.
        scale: whether y is multiplied by a learned factor per channel.
        name: replaces the counted name.

    Raises:
        ShapeError: when an example has no axis of channels, or another number than it was initialized for.

    Source: Zhang and Sennrich, "Root mean square layer normalization" (2019), which has no eps.

    >>> import jax, jax.numpy as jnp, fnet
    >>> layer = fnet.rms_norm()
    >>> params, state = layer.init(jax.random.key(0), (2,))
    >>> y, _ = layer.apply(params, state, jnp.array([[1.0, 7.0]]), train=False)
    >>> y.round(3).tolist()
    [[0.2..., 1.4...]]
    """

    def apply(params, state, x, *, train, key=None, mask=None):
        x = jnp.asarray(x)
        _check_channels(params, x)
        wide = _wide(x)
        xhat = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + eps)
        return _affine(params, xhat, x), {}

    return Parts(_shape, _init_affine(scale, shift=False), apply)


def _shape(in_shape):
    if not in_shape:
        raise ShapeError(
            "expects examples with at least one axis, (..., channels), got scalars; put a reshape before it"
        )
    return in_shape


def _init_affine(scale, shift):
    """The `init` of a layer with a factor and a summand per channel, each of them or not."""

    def init(key, in_shape):
        channels = _shape(in_shape)[-1]
        params = {}
        if scale:
            params["scale"] = jnp.ones(channels)
        if shift:
            params["shift"] = jnp.zeros(channels)
        return params, {}

    return init


def _check_channels(params, x):
    """Raises the ShapeError for an input without channels, or with another number than the parameters were made for."""
    channels = next((len(leaf) for leaf in params.values()), None)
    if x.ndim < 2 or (channels is not None and x.shape[-1] != channels):
        raise _wrong_channels(channels, x.shape)


def _wrong_channels(channels, received):
    if channels is None:
        return ShapeError(f"expects (batch, ..., channels), got {received}; put a reshape before it")
    return ShapeError(
        f"expects (batch, ..., {channels}), as it was initialized for, got {received}; "
        "put the channels last, or initialize it for this shape"
    )


def _wide(x):
    """x in float32, or in its own precision where that is higher."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _counted(mask: Any, x: jax.Array) -> jax.Array:
    """The mask as booleans that broadcast against x: (batch, 1, ..., 1) or (batch, time, 1, ..., 1)."""
    counted = jnp.asarray(mask, bool)
    if counted.ndim == 2 and x.ndim == 2:
        counted = counted.any(axis=1)
    if not 1 <= counted.ndim <= 2 or counted.shape != x.shape[: counted.ndim]:
        raise ShapeError(
            f"expects a mask (batch,) or (batch, time) that fits its input {x.shape}, got {jnp.shape(mask)}; "
            "give the mask the length that the input has here"
        )
    return counted.reshape(*counted.shape, *[1] * (x.ndim - counted.ndim))


def _moments(x, axes, counted=None):
    """The mean and the biased variance over the axes, which stay with length 1, of the entries that count.

    Where none does, both are 0.
    """
    if counted is None:
        mean = jnp.mean(x, axes, keepdims=True)
        return mean, jnp.mean((x - mean) ** 2, axes, keepdims=True)
    repeats = math.prod(x.shape[axis] for axis in axes if counted.shape[axis] == 1)
    number = jnp.maximum(repeats * jnp.sum(counted, axes, keepdims=True, dtype=x.dtype), 1)
    mean = jnp.sum(x, axes, keepdims=True, where=counted) / number
    return mean, jnp.sum((x - mean) ** 2, axes, keepdims=True, where=counted) / number


def _standardized(x, mean, var, eps):
    return (x - mean) * jax.lax.rsqrt(var + eps)


def _affine(params, xhat, x):
    """scale * xhat + shift, of those that there are, in the precision of x."""
    y = xhat * params["scale"] if "scale" in params else xhat
    y = y + params["shift"] if "shift" in params else y
    return y.astype(jnp.result_type(x, 0.0))
