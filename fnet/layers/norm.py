"""Normalization layers: entries are centered and scaled by statistics of a batch, a position or a group of channels.

Statistics are computed in float32 at least, first the mean and then the variance of the centered values: the difference
E[x^2] - E[x]^2 can be negative in float32. The variance is always the biased one.

An optimization barrier before the mean of `layer_norm` and `batch_norm` keeps XLA's compile time proportional to the
number of blocks in a network of residual blocks that begin with a normalization. Without it, XLA computes the sum of
all previous blocks anew in each block, in code that grows with the square of their number.
"""

import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Lt
from jax import lax

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
    axis_name: str | None = None,
    name: Name = None,
) -> Parts:
    """Batch normalization: y = scale * (x - mu) / sqrt(v + eps) + shift, with mean mu and variance v per channel.

    In training mu and v are computed over the batch and all axes except the channels, and update running averages in
    the state: mean := momentum * mean + (1 - momentum) * mu, and var likewise with v. In evaluation mu and v are taken
    from the state.

    Shapes: (batch, ..., channels) -> the same. Parameters: `scale` (channels,), ones; `shift` (channels,), zeros.
    State: `mean` (channels,), zeros; `var` (channels,), ones.

    The statistics are over all entries that a (batch,) or (batch, time) mask marks as real; masked entries have outputs
    as well. If everything is masked, the state does not change. For inputs without a time axis, (batch, channels), an
    example is real if any of its steps in a (batch, time) mask is.

    Inside `jax.shard_map`, `pmap` or `vmap` the batch is the part that one device or member has. With the name of the
    mapped axis in `axis_name`, mu and v are computed over the examples of all of them, and so is the new state, which
    is then equal everywhere. Where this axis is not mapped the batch is whole, and axis_name has no effect.

    Args:
        momentum: weight of the old value in the running mean and variance.
        eps: added to the variance, so that a constant channel is divided by sqrt(eps), not by 0.
        scale: whether to multiply by a learned factor per channel.
        shift: whether to add a learned offset per channel.
        axis_name: name of the mapped axis that divides the batch, or None for statistics of the part alone.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are scalars, their number of channels has changed since initialization, or the mask
            does not match.
        ValueError: when axis_name is not an axis of the mesh of the `jax.shard_map` that it is used in.

    Conventions: v is the biased variance, also in the state, where PyTorch stores the unbiased one. momentum is the
    weight of the old value, as in Keras and Flax; in PyTorch it is the weight of the new one. For a single value v is 0
    and y is shift.

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
        if not train:
            return _affine(params, _standardize(_wide(x), state["mean"], state["var"], eps), x), state
        wide = lax.optimization_barrier(_wide(x))
        real = None if mask is None else _real_entries(mask, x)
        mapped = axis_name if axis_name is not None and _is_mapped(axis_name) else None
        mean, var = _moments(wide, tuple(range(x.ndim - 1)), real, mapped)
        any_real = None if real is None else _reduce(lax.psum, real.any().astype(int), mapped) > 0
        y = _affine(params, _standardize(wide, mean, var, eps), x)

        def updated(old, batch_statistic):
            new = momentum * old + (1 - momentum) * batch_statistic.reshape(channels)
            return (new if any_real is None else jnp.where(any_real, new, old)).astype(old.dtype)

        return y, {"mean": updated(state["mean"], mean), "var": updated(state["var"], var)}

    return Parts(_shape, init, apply)


@constructor
def layer_norm(*, eps: Epsilon = 1e-5, scale: bool = True, shift: bool = True, name: Name = None) -> Parts:
    """Layer normalization: y = scale * (x - mu) / sqrt(v + eps) + shift, with mu and v over the last axis.

    Shapes: (batch, ..., channels) -> the same. Parameters: `scale` (channels,), ones; `shift` (channels,), zeros.

    Args:
        eps: added to the variance, so that a position with equal channels is divided by sqrt(eps), not by 0.
        scale: whether to multiply by a learned factor per channel.
        shift: whether to add a learned offset per channel.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are scalars, or their number of channels has changed since initialization.

    Conventions: v is the biased variance. For images, PyTorch's and Keras's layers agree with this one if they
    normalize the channels. The paper computes the statistics over all entries of an example, as group_norm(1) does.

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
        wide = lax.optimization_barrier(_wide(x))
        return _affine(params, _standardize(wide, *_moments(wide, (-1,)), eps), x), {}

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
    """Group normalization: y = scale * (x - mu) / sqrt(v + eps) + shift, with mu and v per example and group.

    A group consists of channels / groups neighboring channels; mu and v are computed over the channels of a group and
    all axes between the batch and the channels. With one group it is the layer normalization of its paper, with one
    group per channel it is instance normalization.

    Shapes: (batch, ..., channels) -> the same. Parameters: `scale` (channels,), ones; `shift` (channels,), zeros.

    The statistics of an example are over all steps that a (batch, time) mask marks as real; masked steps have outputs
    as well. Examples are independent, so that a (batch,) mask has no effect.

    Args:
        groups: number of groups; it must divide the number of channels.
        eps: added to the variance, so that a constant group is divided by sqrt(eps), not by 0.
        scale: whether to multiply by a learned factor per channel.
        shift: whether to add a learned offset per channel.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are scalars, groups do not divide their channels, the number of channels has changed
            since initialization, or the mask does not match.

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
                f"its groups must divide the number of channels, got {groups} groups and {channels} channels in "
                f"{in_shape}; use a divisor of {channels}"
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
        real = _real_entries(mask, x)[..., None] if steps else None
        axes = (*range(1, x.ndim - 1), x.ndim)
        xhat = _standardize(grouped, *_moments(grouped, axes, real), eps).reshape(x.shape)
        return _affine(params, xhat, x), {}

    return Parts(shape, init, apply)


@constructor
def rms_norm(*, eps: Epsilon = 1e-6, scale: bool = True, name: Name = None) -> Parts:
    """Root mean square normalization: y = scale * x / sqrt(mean(x^2) + eps), with the mean over the last axis.

    Shapes: (batch, ..., channels) -> the same. Parameters: `scale` (channels,), ones.

    Args:
        eps: added to the mean square, so that a position of zeros is divided by sqrt(eps), not by 0.
        scale: whether to multiply by a learned factor per channel.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: when examples are scalars, or their number of channels has changed since initialization.

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
    """Return the `init` of a layer with an optional scale and an optional shift per channel."""

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
    """Raise a ShapeError for an input without channels, or whose channels do not match the parameters."""
    channels = next((len(leaf) for leaf in params.values()), None)
    if x.ndim < 2 or (channels is not None and x.shape[-1] != channels):
        raise _wrong_channels(channels, x.shape)


def _wrong_channels(channels, received):
    if channels is None:
        return ShapeError(f"expects (batch, ..., channels), got {received}; put a reshape before it")
    return ShapeError(
        f"expects (batch, ..., {channels}), the shape that it was initialized for, got {received}; "
        "put the channels last, or initialize it for this shape"
    )


def _wide(x):
    """Return x in float32, or in its own dtype if that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _real_entries(mask: Any, x: jax.Array) -> jax.Array:
    """Return the mask as Booleans that broadcast against x: (batch, 1, ..., 1) or (batch, time, 1, ..., 1)."""
    real = jnp.asarray(mask, bool)
    if real.ndim == 2 and x.ndim == 2:
        real = real.any(axis=1)
    if not 1 <= real.ndim <= 2 or real.shape != x.shape[: real.ndim]:
        raise ShapeError(
            f"expects a mask (batch,) or (batch, time) that matches its input {x.shape}, got {jnp.shape(mask)}; "
            "make the mask as long as the input of this layer"
        )
    return real.reshape(*real.shape, *[1] * (x.ndim - real.ndim))


def _moments(x, axes, real=None, axis_name=None):
    """Return the mean and the biased variance of the real entries over the axes, which are retained with length 1.

    With the name of a mapped axis they are over the entries of all its members. Without real entries both are 0.
    """
    count = 1
    if real is not None:
        repeats = math.prod(x.shape[axis] for axis in axes if real.shape[axis] == 1)
        number = _reduce(lax.psum, jnp.sum(real, axes, keepdims=True, dtype=x.dtype), axis_name)
        count = jnp.maximum(repeats * number, 1)

    def average(values):
        if real is None:
            return _reduce(lax.pmean, jnp.mean(values, axes, keepdims=True), axis_name)
        return _reduce(lax.psum, jnp.sum(values, axes, keepdims=True, where=real), axis_name) / count

    mean = average(x)
    return mean, average((x - mean) ** 2)


def _reduce(collective, value, axis_name):
    """Return the sum or mean of a value over a mapped axis, or the value itself if there is none."""
    return value if axis_name is None else collective(value, axis_name)


def _is_mapped(axis_name: str) -> bool:
    """Return whether an axis of this name is mapped here: by `jax.shard_map`, `pmap` or `vmap`.

    Raises:
        ValueError: inside `jax.shard_map` over a mesh without this axis.
    """
    try:
        lax.axis_size(axis_name)
    except NameError:
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.manual_axes and axis_name not in mesh.axis_names:
            raise ValueError(
                f"batch_norm: expected an axis of the mesh of this shard_map {mesh.axis_names} as its axis_name, "
                f"got {axis_name!r}; use the one that divides the batch"
            ) from None
        return False
    return True


def _standardize(x, mean, var, eps):
    return (x - mean) * jax.lax.rsqrt(var + eps)


def _affine(params, xhat, x):
    """Return scale * xhat + shift in the dtype of x; either parameter may be absent."""
    y = xhat * params["scale"] if "scale" in params else xhat
    y = y + params["shift"] if "shift" in params else y
    return y.astype(jnp.result_type(x, 0.0))
