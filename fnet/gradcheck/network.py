"""The gradients of a network's training loss, by hand and by JAX."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.description import Layer, leaves
from fnet.gradcheck.noise import draw_noise
from fnet.gradcheck.report import Report, Row, compare
from fnet.losses import Loss, identified
from fnet.reference import network as reference
from fnet.reference.losses import loss_of
from fnet.regularization import Penalties
from fnet.train.state import Batch
from fnet.train.step import objective, resolve_loss


def check(
    net: Layer,
    loss: str | Loss | Callable[..., jax.Array],
    params: Any,
    state: Any,
    x: Any,
    y: Any,
    *,
    regularization: Penalties = Penalties(),
    key: jax.Array | None = None,
    tolerance: float = 1e-10,
) -> Report:
    """Compares backpropagation by hand with JAX's, for the training loss of one batch.

    Parameters and data are copied to float64 and JAX computes in float64: the same network, with the rounding error
    far below the differences that a mistake makes. The network is in training mode: batch statistics are those of the
    batch, and dropout's masks are drawn once and handed to both sides.

    Args:
        net: the network.
        loss: a name of `fnet.losses.LOSSES`, a function of `fnet.losses`, or a `functools.partial` of one that gives
            it settings, which the hand-written loss is given as well.
        params: its parameters, of any precision.
        state: its non-trainable state.
        x: examples (batch, ...).
        y: targets.
        regularization: penalties on the weights.
        key: that dropout draws with; by default jax.random.key(0).
        tolerance: the greatest relative difference that passes.

    Raises:
        NoReference: when a layer or the loss has no hand-written backward.
        ValueError: for an unknown name of a loss or, in the penalties, of a layer.

    >>> import fnet
    >>> net = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(2))
    >>> params, state = net.init(jax.random.key(0), (4,))
    >>> report = check(net, "cross_entropy", params, state, np.ones((5, 4)), np.array([0, 1, 1, 0, 1]))
    >>> report.ok, [row.name for row in report.rows][3:]
    (True, ['dense_1/w', 'dense_1/b', 'dense_2/w', 'dense_2/b'])
    """
    key = jax.random.key(0) if key is None else key
    noise = draw_noise(net, params, state, x, key)
    params, state, x, y = jax.tree.map(_float64, (params, state, x, y))
    record = resolve_loss(loss)
    name, settings = identified(record.function) or (getattr(loss, "__name__", repr(loss)), {})
    loss_by_hand = functools.partial(loss_of(name), **settings)
    hand = reference.loss_and_gradients(
        net, params, x, y, loss_by_hand, state=state, noise=noise, regularization=regularization
    )
    with jax.enable_x64(True):
        outputs, by_jax = _by_jax(net, record, params, state, x, y, regularization, key)
    value, (of_params, of_x) = by_jax
    rows: list[Row] = [
        compare("outputs", hand.outputs, outputs, tolerance),
        compare("loss", np.asarray(hand.loss), value, tolerance),
        compare("input", hand.x, of_x, tolerance),
    ]
    rows += [compare(name, _leaf(hand.params, name), leaf, tolerance) for name, leaf in leaves(net, of_params)]
    return Report(rows, tolerance)


def _by_jax(net, loss, params, state, x, y, regularization, key):
    evaluate = objective(net, loss, regularization=regularization)
    mask = jnp.ones(len(x), bool)

    @jax.jit
    def run(params, x):
        def value(params, x):
            return evaluate(params, state, Batch(x, y, mask), key)[0]

        outputs, _ = net.apply(params, state, x, train=True, key=key, mask=mask)
        return outputs, jax.value_and_grad(value, argnums=(0, 1))(params, x)

    return jax.tree.map(np.asarray, run(params, x))


def _float64(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array if np.issubdtype(array.dtype, np.integer) else array.astype(np.float64)


def _leaf(tree: Mapping[str, Any], name: str) -> np.ndarray | None:
    """The array under a name such as "dense_1/w", if there is one."""
    node: Any = tree
    for part in name.split("/"):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
