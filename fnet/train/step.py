"""One training step: a pure function of the state and a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fnet.core.layer import Layer
from fnet.core.settings import is_zero
from fnet.core.traversal import WEIGHT_LEAVES, loop_paths
from fnet.data.augment import Augmentation, augmented
from fnet.losses import Loss, resolve_loss
from fnet.regularization import Penalties
from fnet.train.score import apply_to_batch, over_axis, score_sums, value_of, weights_of, without_padding
from fnet.train.state import Batch, Metrics, TrainState, check_network, check_opt_state, optimizer_for

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def penalty_of(params: Any, regularization: Penalties) -> jax.Array:
    """Return the sum over every weight w of l1 sum|w| + (l2/2) sum w^2, with the l1 and l2 of its layer.

    >>> params = {"dense_1": {"w": jnp.array([[3.0, -4.0]]), "b": jnp.array([100.0])}}
    >>> float(penalty_of(params, Penalties(l1=1.0, l2=2.0)))
    32.0
    """
    total = jnp.zeros(())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *layer, name = _names(path)
        if name in WEIGHT_LEAVES:
            l1, l2 = regularization.coefficients_of(tuple(layer))
            if not is_zero(l1):
                total += l1 * jnp.sum(jnp.abs(leaf))
            if not is_zero(l2):
                total += l2 / 2 * jnp.sum(jnp.square(leaf))
    return total


def project_max_norm(params: Any, regularization: Penalties, loops: Sequence[tuple[str, ...]] = ()) -> Any:
    """Return the parameters with every weight column longer than its max_norm scaled down to that length.

    Shorter columns are bitwise unchanged.

    Args:
        params: parameters of a network.
        regularization: the constraint.
        loops: paths of loops over repeated layers, whose weights are stacked along an additional first axis.

    >>> params = {"dense_1": {"w": jnp.array([[3.0, 0.3], [4.0, 0.4]]), "b": jnp.array([100.0, 100.0])}}
    >>> w = project_max_norm(params, Penalties(max_norm=1.0))["dense_1"]["w"]
    >>> [round(float(length), 3) for length in jnp.linalg.norm(w, axis=0)]
    [1.0, 0.5]
    """

    def project(path: Any, leaf: jax.Array) -> jax.Array:
        *layer, name = _names(path)
        max_norm = regularization.max_norm_of(tuple(layer)) if name in WEIGHT_LEAVES else None
        if max_norm is None:
            return leaf
        stacked = sum(tuple(layer[: len(loop)]) == loop for loop in loops)
        squares = jnp.sum(jnp.square(leaf), axis=tuple(range(stacked, leaf.ndim - 1)), keepdims=True)
        # The square root has no derivative at 0, and a step may be differentiated: take it of long columns only.
        scale = max_norm / jnp.sqrt(jnp.maximum(squares, max_norm**2))
        return jnp.where(squares > max_norm**2, leaf * scale, leaf)

    return jax.tree_util.tree_map_with_path(project, params)


def _names(path: Any) -> tuple[str, ...]:
    """Return the names on the path to a leaf of a tree of dicts, the leaf's own name last."""
    return tuple(str(getattr(entry, "key", entry)) for entry in path)


Objective = Callable[[Any, Any, Batch, jax.Array | None], tuple[jax.Array, tuple[Any, Any]]]
"""(params, state, batch, key) -> (loss, (new state, metrics)), with metrics a dict of scalars, or `Metrics`."""


def objective(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array],
    *,
    regularization: Penalties = Penalties(),
    axis_name: str | None = None,
) -> Callable[[Any, Any, Batch, jax.Array | None], tuple[jax.Array, tuple[Any, Metrics]]]:
    """Return the function that training minimizes.

    Args:
        net: the network.
        loss: a name, a function or a record, as for `make_step`.
        regularization: weight penalties.
        axis_name: axis of `jax.shard_map` or `jax.vmap` over which the batch is divided. The function then returns the
            share of one device: the loss and its gradient are the sums of the shares over the axis. The metrics are
            those of the whole batch.

    Returns:
        The pure function (params, state, batch, key) -> (loss + penalty, (new state, metrics)), where the loss is
        sum(w_i m_i L_i) / sum(w_i m_i) over the examples i of the batch, with mask m and weight w, or over their steps
        where the mask or the weight has steps. It is 0 if every example is masked or has the weight 0. Nothing depends
        on the content of masked examples and steps.

    Raises:
        ValueError: when the penalties name a layer that the network does not have.
    """
    check_network(net)
    record = resolve_loss(loss)
    for _, message in regularization.unknown_layers(net):
        raise ValueError(f"regularization: {message}")
    regularization = regularization.for_network(net)

    def evaluate(params, state, batch, key):
        batch = without_padding(batch)
        outputs, state = apply_to_batch(net, params, state, batch, train=True, key=key)
        sums, weight = score_sums(record, outputs, batch)
        weight = over_axis(axis_name, weight)
        share = jax.tree.map(lambda total: total / jnp.where(weight > 0, weight, 1), sums)
        penalty = penalty_of(params, regularization)
        devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
        whole = over_axis(axis_name, share)
        # The penalty is equal on all devices; the maximum says so to shard_map, without rounding.
        equal = penalty if axis_name is None else jax.lax.pmax(jax.lax.stop_gradient(penalty), axis_name)
        values = {
            metric.name: jnp.asarray(value_of(metric, whole.metrics[metric.name]))
            if metric.finish
            else whole.metrics[metric.name]
            for metric in record.metrics
        }
        means = {metric.name: whole.metrics[metric.name] for metric in record.metrics if metric.finish}
        metrics = Metrics(whole.loss, values, equal, weight.astype(jnp.float32), means)
        return share.loss + penalty / devices, (state, metrics)

    return evaluate


def _checked(custom: Objective, axis_name: str | None) -> Objective:
    """Return an objective of the caller's that receives no padding, and whose result is checked."""

    def evaluate(params, state, batch, key):
        batch = without_padding(batch)
        loss, state, metrics = _parts_of(custom(params, state, batch, key))
        if not isinstance(metrics, Metrics):
            whole = over_axis(axis_name, jax.lax.stop_gradient(loss))
            weight = over_axis(axis_name, jnp.sum(weights_of(batch), dtype=jnp.float32))
            metrics = Metrics(whole, dict(over_axis(axis_name, metrics)), jnp.zeros(()), weight)
        return loss, (state, metrics)

    return evaluate


def _parts_of(result: Any) -> tuple[jax.Array, Any, Metrics | Mapping[str, Any]]:
    """Return the loss, the state and the metrics that a caller's objective returned.

    Raises:
        ValueError: when it returned something else.
    """
    match result:
        case (loss, (state, Metrics() | Mapping() as metrics)):
            pass
        case _:
            raise ValueError(
                "objective: expected (loss, (state, metrics)), where metrics is a dict of scalars that may be empty, "
                f"got {_kind(result)}"
            )
    named = metrics.metrics if isinstance(metrics, Metrics) else metrics
    for name in ("loss", "penalty"):
        if name in named:
            raise ValueError(
                f"objective: '{name}' cannot be the name of a metric, because the step records its own {name}; rename "
                "the metric"
            )
    for name, value in {"the loss": loss, **{f"the metric '{name}'": value for name, value in named.items()}}.items():
        if _kind(value) != "a number":
            raise ValueError(
                f"objective: {name} must be one number for the whole batch, got {_kind(value)}; take a mean, such as "
                "fnet.train.weighted_mean(values, batch)"
            )
    return loss, state, metrics


def _kind(value: Any) -> str:
    """Return what a value is, as in an error message.

    >>> _kind((jnp.ones(()), ({}, None, jnp.ones((2, 3)))))
    '(a number, (a dict, None, an array of shape (2, 3)))'
    """
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return f"({', '.join(map(_kind, value))})"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"an array of shape {shape}" if shape else "a number"
    if value is None or isinstance(value, int | float):
        return "None" if value is None else "a number"
    return "a dict" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def make_step(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array] | None,
    optimizer: optax.GradientTransformation,
    *,
    objective: Objective | None = None,
    regularization: Penalties = Penalties(),
    augment: Sequence[Augmentation] = (),
    ema: float | None = None,
    axis_name: str | None = None,
) -> Step:
    """Return the pure training step: forward, backward, W := W + update(dL/dW).

    Args:
        net: the network.
        loss: a name in `fnet.losses.LOSSES`, a function (outputs, targets) -> one number per example, such as
            `functools.partial(fnet.losses.huber, delta=2.0)`, or a `fnet.losses.Loss`, which names its metrics too.
            None with an objective.
        optimizer: any Optax transformation. If the network has frozen layers, it applies to the other layers only, and
            its state is that of `init_state`.
        objective: the function to minimize in place of the mean of a loss per example: (params, state, batch, key) ->
            (loss, (new state, metrics)), where the metrics are a dict of scalars. It contains its own penalties, and
            takes means by `weighted_mean`.
        regularization: weight penalties, and the max-norm constraint to apply after the update.
        augment: augmentations of the images, applied in this order before the network, such as
            `[fnet.data.augment.shift(2)]`; their randomness depends only on the key and the step of the state.
        ema: decay of the moving average of the parameters, average := ema * average + (1 - ema) * params after every
            step; it begins as the initial parameters, as in `init_state(..., averaged=True)`.
        axis_name: axis of `jax.shard_map` or `jax.vmap` over which the batch is divided. Loss, metrics and gradient are
            those of the whole batch, and every device makes the same update; dropout differs between devices. A custom
            objective returns its shares of the loss and the metrics, which are summed over the axis.

    Returns:
        The function (TrainState, Batch) -> (TrainState, Metrics), for the caller to jit, scan or vmap. The metrics are
        those before the update.

    Raises:
        ValueError: for an unknown loss, an objective and a loss at once, an optimizer that is not one, a decay out of
            bounds, and penalties of a layer that the network does not have. When the step is called or traced: for a
            training state that is not one of this network and optimizer, or an objective that returns something else.

    >>> import fnet
    >>> from fnet.train.state import init_state
    >>> net, optimizer = fnet.serial(fnet.dense(1)), optax.sgd(0.1)
    >>> step = jax.jit(make_step(net, "mse", optimizer))
    >>> before = init_state(net, optimizer, jax.random.key(0), (2,))
    >>> batch = Batch(jnp.ones((4, 2)), jnp.ones((4, 1)), jnp.ones(4, bool))
    >>> after, first = step(before, batch)
    >>> _, second = step(after, batch)
    >>> bool(second.loss < first.loss), int(after.step)
    (True, 1)
    """
    optimizer = optimizer_for(net, optimizer)
    if isinstance(ema, int | float) and not 0 < ema < 1:
        raise ValueError(f"ema: expected a number between 0 and 1, such as 0.999, got {ema:g}")
    evaluate = _resolved(net, loss, objective, regularization, axis_name)
    constraint = regularization.for_network(net)
    loops = loop_paths(net)

    def step(train_state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        _check_arguments(train_state, batch, averaged=ema is not None)
        check_opt_state(optimizer, train_state)
        key = jax.random.fold_in(train_state.key, train_state.step)
        params = train_state.params
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
            params = _own_copies(params, axis_name)
        if augment:
            batch = batch._replace(x=augmented(augment, batch.x, key))
        gradients, (state, metrics) = jax.grad(evaluate, has_aux=True)(params, train_state.state, batch, key)
        gradients = over_axis(axis_name, gradients)
        updates, opt_state = optimizer.update(gradients, train_state.opt_state, train_state.params)
        params = project_max_norm(optax.apply_updates(train_state.params, updates), constraint, loops)
        average = train_state.average if ema is None else _averaged(train_state, params, ema)
        return TrainState(train_state.step + 1, params, state, opt_state, train_state.key, average), metrics

    return step


def _check_arguments(train_state: Any, batch: Any, *, averaged: bool) -> None:
    """Check the types of the arguments of a step.

    Raises:
        ValueError: when they are not a training state and a batch, or the state lacks the average of the parameters.
    """
    if not isinstance(train_state, TrainState):
        raise ValueError(
            f"step: expected a fnet.train.TrainState as the first argument, got {_kind(train_state)}; make one with "
            "fnet.train.init_state(net, optimizer, key, in_shape)"
        )
    if not isinstance(batch, Batch):
        raise ValueError(f"step: expected a fnet.train.Batch(x, y, mask) as the second argument, got {_kind(batch)}")
    if averaged and train_state.average is None:
        raise ValueError(
            "ema: the training state has no average of the parameters; make it with fnet.train.init_state(..., "
            "averaged=True)"
        )


def _own_copies(params: Any, axis_name: str) -> Any:
    """Return the parameters as copies of each device, so that a gradient is that of its share of the loss alone.

    Otherwise `jax.shard_map`, unless its `check_vma` is off, would sum the gradients of equal parameters itself.
    """
    if axis_name not in jax.typeof(jax.lax.axis_index(axis_name)).mat.varying:
        return params
    return jax.tree.map(lambda leaf: jax.lax.pcast(leaf, axis_name, to="varying"), params)


def _resolved(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array] | None,
    custom: Objective | None,
    regularization: Penalties,
    axis_name: str | None,
) -> Objective:
    """Return the function to minimize."""
    if custom is not None and loss is not None:
        raise ValueError(
            "make_step: expected either a loss or an objective, got both; pass None as the loss, or drop objective="
        )
    if loss is not None:
        return objective(net, loss, regularization=regularization, axis_name=axis_name)
    if custom is None:
        raise ValueError("expected a loss, such as 'mse', or an objective, got None for both")
    if regularization.penalizes:
        raise ValueError("l1 and l2 penalties apply to a loss, but an objective is given; add them to the objective")
    return _checked(custom, axis_name)


def _averaged(before: TrainState, params: Any, ema: float) -> Any:
    """Return the moving average of the parameters after a step."""
    return jax.tree.map(lambda old, new: ema * old + (1 - ema) * new, before.average, params)
