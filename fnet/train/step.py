"""One training step: a pure function of the state and a batch."""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fnet.core.layer import Layer
from fnet.core.traversal import WEIGHT_LEAVES
from fnet.data.augment import Augmentation, augmented
from fnet.losses import LOSSES, Loss, identified
from fnet.regularization import Penalties
from fnet.train.state import Batch, Metrics, TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def resolve_loss(
    loss: str | Loss | Callable[..., jax.Array], settings: Mapping[str, Any] = MappingProxyType({})
) -> Loss:
    """A loss with its decision rule and metric, from its name or from a function per example.

    A function that is not one of fnet's has the identity for a decision rule, and its own value for a metric.

    Args:
        loss: a name, a function, or a `functools.partial` of one that gives it settings.
        settings: given to the loss as well.

    Raises:
        ValueError: for an unknown name.

    >>> import fnet
    >>> resolve_loss(functools.partial(fnet.losses.huber, delta=2.0)).metric_name
    'mean_absolute_error'
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"unknown loss '{loss}'; known: {', '.join(LOSSES)}")
        loss = LOSSES[loss]
    if not isinstance(loss, Loss):
        known = identified(loss)
        if known is None:
            loss = Loss(loss, lambda outputs: outputs, "loss", loss, None, "a function of the caller's")
        else:
            loss, settings = LOSSES[known[0]], {**known[1], **settings}
    return loss._replace(function=functools.partial(loss.function, **settings)) if settings else loss


def penalty_of(params: Any, regularization: Penalties) -> jax.Array:
    """Sum over every weight w of l1 sum|w| + (l2/2) sum w^2, with the l1 and l2 of its layer.

    >>> params = {"dense_1": {"w": jnp.array([[3.0, -4.0]]), "b": jnp.array([100.0])}}
    >>> float(penalty_of(params, Penalties(l1=1.0, l2=2.0)))
    32.0
    """
    total = jnp.zeros(())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *layer, name = _names(path)
        if name in WEIGHT_LEAVES:
            l1, l2 = regularization.of(tuple(layer))
            if l1:
                total += l1 * jnp.sum(jnp.abs(leaf))
            if l2:
                total += l2 / 2 * jnp.sum(jnp.square(leaf))
    return total


def limited(params: Any, regularization: Penalties) -> Any:
    """The parameters, every column of a weight that is longer than its max_norm scaled down to that length.

    A column that is not stays as it is, to the bit.

    >>> params = {"dense_1": {"w": jnp.array([[3.0, 0.3], [4.0, 0.4]]), "b": jnp.array([100.0, 100.0])}}
    >>> w = limited(params, Penalties(max_norm=1.0))["dense_1"]["w"]
    >>> [round(float(length), 3) for length in jnp.linalg.norm(w, axis=0)]
    [1.0, 0.5]
    """

    def of_leaf(path: Any, leaf: jax.Array) -> jax.Array:
        *layer, name = _names(path)
        longest = regularization.longest(tuple(layer)) if name in WEIGHT_LEAVES else None
        if longest is None:
            return leaf
        squares = jnp.sum(jnp.square(leaf), axis=tuple(range(leaf.ndim - 1)), keepdims=True)
        # The root of 0 has no derivative, and a step may be differentiated: it is only taken of long columns.
        scale = longest / jnp.sqrt(jnp.maximum(squares, longest**2))
        return jnp.where(squares > longest**2, leaf * scale, leaf)

    return jax.tree_util.tree_map_with_path(of_leaf, params)


def _names(path: Any) -> tuple[str, ...]:
    """The names that lead to a leaf of a tree of dicts, its own last."""
    return tuple(str(getattr(entry, "key", entry)) for entry in path)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """sum(mask * values) / sum(mask); what is masked out does not count, even when it is NaN."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.sum(mask)


def counted(outputs: jax.Array, targets: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The outputs and targets that a loss is averaged over, and which of them count.

    With a (batch, time) mask and outputs (batch, time, ...) every step is an example of its own, and the three are
    (batch * time, ...). Where the outputs have no time axis, an example counts when any of its steps does.

    Raises:
        ValueError: when outputs, targets and mask have different steps.

    >>> outputs, targets, mask = jnp.zeros((2, 3, 5)), jnp.zeros((2, 3), int), jnp.ones((2, 3), bool)
    >>> [part.shape for part in counted(outputs, targets, mask)]
    [(6, 5), (6,), (6,)]
    """
    if mask.ndim == 1:
        return outputs, targets, mask
    if outputs.ndim < 3:
        return outputs, targets, mask.any(axis=1)
    if not outputs.shape[:2] == targets.shape[:2] == mask.shape:
        raise ValueError(
            f"a mask {mask.shape} of steps needs outputs and targets of the same steps, got {outputs.shape} and "
            f"{targets.shape}"
        )
    outputs, targets = (part.reshape(-1, *part.shape[2:]) for part in (outputs, targets))
    return outputs, targets, mask.reshape(-1)


def objective(
    net: Layer, loss: str | Loss | Callable[..., jax.Array], *, regularization: Penalties = Penalties()
) -> Callable[[Any, Any, Batch, jax.Array | None], tuple[jax.Array, tuple[Any, Metrics]]]:
    """What training minimizes, as a pure function.

    Returns:
        (params, state, batch, key) -> (loss + penalty, (new state, metrics)), where the loss is
        sum(mask * L_i) / sum(mask) over the examples i of the batch, or over their steps where mask and outputs have
        steps.

    Raises:
        ValueError: when the penalties name a layer that the network does not have.
    """
    record = resolve_loss(loss)
    for _, message in regularization.unknown(net):
        raise ValueError(f"regularization: {message}")

    def evaluate(params, state, batch, key):
        outputs, state = net.apply(params, state, batch.x, train=True, key=key, mask=batch.mask)
        outputs, targets, mask = counted(outputs, batch.y, batch.mask)
        data_loss = masked_mean(record.function(outputs, targets), mask)
        metric = masked_mean(record.metric(record.decide(outputs), targets), mask)
        penalty = penalty_of(params, regularization)
        return data_loss + penalty, (state, Metrics(data_loss, metric, penalty, jnp.sum(mask, dtype=jnp.float32)))

    return evaluate


def make_step(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    regularization: Penalties = Penalties(),
    augment: Sequence[Augmentation] = (),
) -> Step:
    """The pure training step: forward, backward, W := W + update(dL/dW).

    Args:
        net: the network.
        loss: a name of `fnet.losses.LOSSES`, or a function (outputs, targets) -> one number per example, such as
            `functools.partial(fnet.losses.huber, delta=2.0)`.
        optimizer: any Optax transformation.
        regularization: penalties on the weights, and how long their columns may be after the update.
        augment: what changes the images before the network sees them, in this order, such as
            `[fnet.data.augment.shift(2)]`; its draws depend on the state's key and step alone.

    Returns:
        (TrainState, Batch) -> (TrainState, Metrics), to be jitted, scanned or vmapped by the caller. The metrics are
        those of the parameters before the update.

    Raises:
        ValueError: for an unknown name of a loss or, in the penalties, of a layer.

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
    evaluate = objective(net, loss, regularization=regularization)

    def step(train_state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(train_state.key, train_state.step)
        if augment:
            batch = batch._replace(x=augmented(augment, batch.x, key))
        gradients, (state, metrics) = jax.grad(evaluate, has_aux=True)(
            train_state.params, train_state.state, batch, key
        )
        updates, opt_state = optimizer.update(gradients, train_state.opt_state, train_state.params)
        params = limited(optax.apply_updates(train_state.params, updates), regularization)
        return TrainState(train_state.step + 1, params, state, opt_state, train_state.key), metrics

    return step
