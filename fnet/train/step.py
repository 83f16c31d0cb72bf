"""One training step: a pure function of the state and a batch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fnet.core.layer import Layer
from fnet.core.traversal import WEIGHT_LEAVES
from fnet.data.augment import Augmentation, augmented
from fnet.losses import Loss, resolve_loss
from fnet.regularization import Penalties
from fnet.train.state import Batch, Metrics, TrainState

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
            if l1:
                total += l1 * jnp.sum(jnp.abs(leaf))
            if l2:
                total += l2 / 2 * jnp.sum(jnp.square(leaf))
    return total


def project_max_norm(params: Any, regularization: Penalties) -> Any:
    """Return the parameters with every weight column longer than its max_norm scaled down to that length.

    Shorter columns are bitwise unchanged.

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
        squares = jnp.sum(jnp.square(leaf), axis=tuple(range(leaf.ndim - 1)), keepdims=True)
        # The square root has no derivative at 0, and a step may be differentiated: take it of long columns only.
        scale = max_norm / jnp.sqrt(jnp.maximum(squares, max_norm**2))
        return jnp.where(squares > max_norm**2, leaf * scale, leaf)

    return jax.tree_util.tree_map_with_path(project, params)


def _names(path: Any) -> tuple[str, ...]:
    """Return the names on the path to a leaf of a tree of dicts, the leaf's own name last."""
    return tuple(str(getattr(entry, "key", entry)) for entry in path)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Return sum(mask * values) / sum(mask); masked values do not contribute, even if they are NaN."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.sum(mask)


def flatten_steps(outputs: jax.Array, targets: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the outputs, targets and mask that a loss is averaged over, with one entry per example or per step.

    With a (batch, time) mask and outputs (batch, time, ...), every step counts as an example, and the three have the
    shape (batch * time, ...). Outputs without a time axis keep their shape; an example is real if any of its steps is.

    Raises:
        ValueError: when outputs, targets and mask differ in the number of steps.

    >>> outputs, targets, mask = jnp.zeros((2, 3, 5)), jnp.zeros((2, 3), int), jnp.ones((2, 3), bool)
    >>> [part.shape for part in flatten_steps(outputs, targets, mask)]
    [(6, 5), (6,), (6,)]
    """
    if mask.ndim == 1:
        return outputs, targets, mask
    if outputs.ndim < 3:
        return outputs, targets, mask.any(axis=1)
    if not outputs.shape[:2] == targets.shape[:2] == mask.shape:
        raise ValueError(
            f"a mask {mask.shape} of steps requires outputs and targets with the same steps, got {outputs.shape} and "
            f"{targets.shape}"
        )
    outputs, targets = (part.reshape(-1, *part.shape[2:]) for part in (outputs, targets))
    return outputs, targets, mask.reshape(-1)


class Score(NamedTuple):
    """A loss and its metrics by name: one value per example each, or their means."""

    loss: jax.Array
    metrics: dict[str, jax.Array]


def score_examples(loss: Loss, outputs: jax.Array, targets: jax.Array) -> Score:
    """Return the loss and the metrics of every example."""
    predictions = loss.predict(outputs)
    metrics = {metric.name: metric.function(predictions, targets) for metric in loss.metrics}
    return Score(loss.function(outputs, targets), metrics)


def objective(
    net: Layer, loss: str | Loss | Callable[..., jax.Array], *, regularization: Penalties = Penalties()
) -> Callable[[Any, Any, Batch, jax.Array | None], tuple[jax.Array, tuple[Any, Metrics]]]:
    """Return the function that training minimizes.

    Returns:
        The pure function (params, state, batch, key) -> (loss + penalty, (new state, metrics)), where the loss is
        sum(mask * L_i) / sum(mask) over the examples i of the batch, or over their steps where mask and outputs have
        steps.

    Raises:
        ValueError: when the penalties name a layer that the network does not have.
    """
    record = resolve_loss(loss)
    for _, message in regularization.unknown_layers(net):
        raise ValueError(f"regularization: {message}")

    def evaluate(params, state, batch, key):
        outputs, state = net.apply(params, state, batch.x, train=True, key=key, mask=batch.mask)
        outputs, targets, mask = flatten_steps(outputs, batch.y, batch.mask)
        scores = score_examples(record, outputs, targets)
        score = jax.tree.map(lambda values: masked_mean(values, mask), scores)
        penalty = penalty_of(params, regularization)
        metrics = Metrics(score.loss, score.metrics, penalty, jnp.sum(mask, dtype=jnp.float32))
        return score.loss + penalty, (state, metrics)

    return evaluate


def make_step(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    regularization: Penalties = Penalties(),
    augment: Sequence[Augmentation] = (),
) -> Step:
    """Return the pure training step: forward, backward, W := W + update(dL/dW).

    Args:
        net: the network.
        loss: a name in `fnet.losses.LOSSES`, a function (outputs, targets) -> one number per example, such as
            `functools.partial(fnet.losses.huber, delta=2.0)`, or a `fnet.losses.Loss`, which names its metrics too.
        optimizer: any Optax transformation.
        regularization: weight penalties, and the max-norm constraint to apply after the update.
        augment: augmentations of the images, applied in this order before the network, such as
            `[fnet.data.augment.shift(2)]`; their randomness depends only on the key and the step of the state.

    Returns:
        The function (TrainState, Batch) -> (TrainState, Metrics), for the caller to jit, scan or vmap. The metrics are
        those before the update.

    Raises:
        ValueError: for an unknown loss, and for penalties of a layer that the network does not have.

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
        params = project_max_norm(optax.apply_updates(train_state.params, updates), regularization)
        return TrainState(train_state.step + 1, params, state, opt_state, train_state.key), metrics

    return step
