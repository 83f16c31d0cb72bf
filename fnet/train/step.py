"""One training step: a pure function of the state and a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fnet.description import WEIGHT_LEAVES, Layer
from fnet.losses import LOSSES, Loss
from fnet.train.state import Batch, Metrics, TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def resolve_loss(loss: str | Loss | Callable[..., jax.Array]) -> Loss:
    """A loss with its decision rule and metric, from its name or from a function per example.

    A function that is not one of fnet's has the identity for a decision rule, and its own value for a metric.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"unknown loss '{loss}'; known: {', '.join(LOSSES)}")
        return LOSSES[loss]
    for known in LOSSES.values():
        if known.function is loss:
            return known
    return Loss(loss, lambda outputs: outputs, "loss", loss, None, "a function of the caller's")


def penalty_of(params: Any, l1: float, l2: float) -> jax.Array:
    """l1 * sum|w| + (l2/2) * sum w^2 over every weight: the leaves named w or u, not biases or scales.

    >>> params = {"dense_1": {"w": jnp.array([[3.0, -4.0]]), "b": jnp.array([100.0])}}
    >>> float(penalty_of(params, l1=1.0, l2=2.0))
    32.0
    """
    weights = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if isinstance(path[-1], jax.tree_util.DictKey) and path[-1].key in WEIGHT_LEAVES
    ]
    total = jnp.zeros(())
    for w in weights:
        if l1:
            total += l1 * jnp.sum(jnp.abs(w))
        if l2:
            total += l2 / 2 * jnp.sum(jnp.square(w))
    return total


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """sum(mask * values) / sum(mask); what is masked out does not count, even when it is NaN."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.sum(mask)


def objective(
    net: Layer, loss: str | Loss | Callable[..., jax.Array], *, l1: float = 0.0, l2: float = 0.0
) -> Callable[[Any, Any, Batch, jax.Array | None], tuple[jax.Array, tuple[Any, Metrics]]]:
    """What training minimises, as a pure function.

    Returns:
        (params, state, batch, key) -> (loss + penalty, (new state, metrics)), where the loss is
        sum(mask * L_i) / sum(mask) over the examples i of the batch.
    """
    record = resolve_loss(loss)

    def evaluate(params, state, batch, key):
        outputs, state = net.apply(params, state, batch.x, train=True, key=key, mask=batch.mask)
        data_loss = masked_mean(record.function(outputs, batch.y), batch.mask)
        metric = masked_mean(record.metric(record.decide(outputs), batch.y), batch.mask)
        penalty = penalty_of(params, l1, l2)
        return data_loss + penalty, (state, Metrics(data_loss, metric, penalty))

    return evaluate


def make_step(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
) -> Step:
    """The pure training step: forward, backward, W := W + update(dL/dW).

    Args:
        net: the network.
        loss: a name of `fnet.losses.LOSSES`, or a function (outputs, targets) -> one number per example.
        optimizer: any Optax transformation.
        l1: weight of the penalty sum|w|.
        l2: weight of the penalty sum w^2 / 2.

    Returns:
        (TrainState, Batch) -> (TrainState, Metrics), to be jitted, scanned or vmapped by the caller. The metrics are
        those of the parameters before the update.

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
    evaluate = objective(net, loss, l1=l1, l2=l2)

    def step(train_state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(train_state.key, train_state.step)
        gradients, (state, metrics) = jax.grad(evaluate, has_aux=True)(
            train_state.params, train_state.state, batch, key
        )
        updates, opt_state = optimizer.update(gradients, train_state.opt_state, train_state.params)
        params = optax.apply_updates(train_state.params, updates)
        return TrainState(train_state.step + 1, params, state, opt_state, train_state.key), metrics

    return step
