"""The gradients of a network's training loss, by hand, by JAX and by differences."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnet.core.layer import Layer
from fnet.core.traversal import leaves
from fnet.core.wording import suggestion
from fnet.gradcheck.diagnosis import Context
from fnet.gradcheck.examine import ROUNDING, SAMPLES, Part, contrast, examine, nested
from fnet.gradcheck.locate import culprits
from fnet.gradcheck.noise import draw_noise
from fnet.gradcheck.report import Culprit, Report, Row
from fnet.losses import Loss, loss_name_of, resolve_loss
from fnet.reference import network as reference
from fnet.reference.losses import loss_of
from fnet.regularization import Penalties
from fnet.train.state import Batch
from fnet.train.step import objective

TOLERANCES = {"float64": 1e-10, "float32": 1e-3}
"""The greatest relative difference that passes, by the precision that JAX computes in, unless told otherwise."""


class UnknownLeaf(ValueError):
    """A leaf was asked for that the network does not have."""

    exit_status = 2


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
    tolerance: float | None = None,
    samples: int = SAMPLES,
    leaf: str | None = None,
    precision: str = "float64",
) -> Report:
    """Compares backpropagation by hand with JAX's and with differences, for the training loss of one batch.

    Parameters and data are copied to float64 and JAX computes in float64: the same network, with the rounding error
    far below the differences that a mistake makes. The network is in training mode: batch statistics are those of the
    batch, and dropout's masks are drawn once and handed to both sides. Differences are of JAX's loss; of the three
    gradients the two that agree outvote the third. With penalties the data loss and the penalty are checked together
    and apart. When something is wrong, every layer is checked by itself, with a random cotangent, to find where it
    begins.

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
        tolerance: the greatest relative difference that passes; by default 1e-10, and 1e-3 in float32.
        samples: how many entries of each leaf are compared with differences: all, or a seeded sample of a larger leaf.
        leaf: the one leaf to report on, such as "dense_2/w"; by default all, and the input.
        precision: in which JAX computes its gradients, "float64" or "float32". The other two sides stay in float64.

    Raises:
        NoReference: when a layer or the loss has no hand-written backward.
        UnknownLeaf: when the network has no such leaf.
        ValueError: for an unknown name of a loss or, in the penalties, of a layer.

    >>> import fnet
    >>> net = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(2))
    >>> params, state = net.init(jax.random.key(0), (4,))
    >>> report = check(net, "cross_entropy", params, state, np.ones((5, 4)), np.array([0, 1, 1, 0, 1]))
    >>> report.ok, [row.name for row in report.rows][3:]
    (True, ['dense_1/w', 'dense_1/b', 'dense_2/w', 'dense_2/b'])
    """
    key = jax.random.key(0) if key is None else key
    tolerance = TOLERANCES[precision] if tolerance is None else tolerance
    noise = draw_noise(net, params, state, x, key)
    params, state, x, y = jax.tree.map(_float64, (params, state, x, y))
    record = resolve_loss(loss)
    name, settings = loss_name_of(record.function) or (getattr(loss, "__name__", repr(loss)), {})
    loss_by_hand = functools.partial(loss_of(name), **settings)
    hand = functools.partial(reference.loss_and_gradients, net, params, x, y, loss_by_hand, state=state, noise=noise)
    total = hand(regularization=regularization)
    names = tuple(name for name, _ in leaves(net, params))
    f = TrainingLoss(net, record, regularization, names, not np.issubdtype(x.dtype, np.integer))
    data = {"state": state, "x": x, "y": y, "key": key}
    points = dict(f.leaves(params, x))
    wanted = _wanted(points, leaf)
    outputs, values, gradients = _by_jax(f, points, data, precision)
    by_hand = {"total": total}
    if regularization.penalizes:
        of_penalty = reference.penalty(params, regularization)
        by_hand |= {"data loss": hand(), "penalty": total._replace(loss=of_penalty[0], params=of_penalty[1], x=x * 0)}
    parts = [
        Part(part, dict(f.leaves(by_hand[part].params, by_hand[part].x)), gradient)
        for part, gradient in zip(f.parts, gradients, strict=True)
    ]
    if regularization.penalizes:
        none = {name: np.zeros_like(leaf) for name, leaf in points.items()}
        parts[-1] = parts[-1]._replace(by_hand=none | dict(parts[-1].by_hand))
    context = _contexts(len(x), outputs.shape, parts[-1].by_jax if regularization.penalizes else {})
    rounding = ROUNDING if precision == "float64" else 1e-6 * max(np.max(np.abs(g)) for g in parts[0].by_jax.values())
    limits = {"tolerance": tolerance, "rounding": rounding}
    rows = [_forward(contrast("outputs", total.outputs, outputs, **limits))]
    rows += [
        _forward(contrast("loss", np.asarray(by_hand[part].loss), value, **limits))._replace(part=part)
        for part, value in zip(f.parts, values, strict=True)
    ]
    rows += examine(f, points, data, parts, samples=samples, context=context, **limits)
    rows = [row for row in rows if row.name in (*FORWARD, *wanted) and not _idle(row)]
    rows.sort(key=lambda row: f.parts.index(row.part))
    remark = EXPECTED[precision].format(tolerance=tolerance)
    report = Report(rows, tolerance, precision, remark=remark)
    if report.ok:
        return report
    found = culprits(net, record, loss_by_hand, params, state, noise, x, y, key, name=name)
    return report._replace(rows=[_passed_on(row, found) for row in rows], culprits=found)


FORWARD = ("outputs", "loss")
"""The rows that compare forward values."""

EXPECTED = {
    "float64": "",
    "float32": "float32 keeps 7 digits, and sums over a batch or a layer lose some: JAX's gradients are right to about "
    "1e-5 of the largest entry, rarely worse than {tolerance:g}; a mistake smaller than that shows in float64 alone",
}


@dataclasses.dataclass(frozen=True)
class TrainingLoss:
    """The training loss as a function of its leaves, the input among them; equal for equal networks, to compile once.

    Its values are the total and, where there are penalties, the data loss and the penalty.

    names: of the parameters' leaves, in the order of the description.
    with_input: whether it is differentiated with respect to the input too, which integers cannot be.
    """

    net: Layer
    loss: Loss
    regularization: Penalties
    names: tuple[str, ...]
    with_input: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the values."""
        return ("total", "data loss", "penalty") if self.regularization.penalizes else ("total",)

    def leaves(self, params: Any, x: Any) -> list[tuple[str, Any]]:
        """The input, where it counts, and the parameters in the order of the description, under their names."""
        return [("input", x)] * self.with_input + list(leaves(self.net, params))

    def __call__(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """(leaves, {"state", "x", "y", "key"}) -> the values."""
        params, batch = self._given(arrays, data)
        evaluate = objective(self.net, self.loss, regularization=self.regularization)
        total, (_, metrics) = evaluate(params, data["state"], batch, data["key"])
        return jnp.stack([total, metrics.loss, metrics.penalty][: len(self.parts)])

    def outputs(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """The network's outputs."""
        params, batch = self._given(arrays, data)
        return self.net.apply(params, data["state"], batch.x, train=True, key=data["key"], mask=batch.mask)[0]

    def _given(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> tuple[Any, Batch]:
        """The parameters and the batch."""
        x, *arrays = arrays if self.with_input else (data["x"], *arrays)
        return nested(dict(zip(self.names, arrays, strict=True))), Batch(x, data["y"], jnp.ones(len(x), bool))


def _by_jax(f: TrainingLoss, points: Mapping[str, np.ndarray], data: Mapping[str, Any], precision: str):
    """The outputs, the values, and the gradient of each value as a dict of leaves."""
    with jax.enable_x64(precision == "float64"):
        arrays, data = jax.tree.map(lambda a: _as(a, precision), (list(points.values()), data))
        outputs, values, gradients = jax.tree.map(np.asarray, _pulled_back(f, arrays, data))
    return outputs, values, [dict(zip(points, part, strict=True)) for part in zip(*gradients, strict=True)]


@functools.partial(jax.jit, static_argnames="f")
def _pulled_back(f, arrays, data):
    values, pull = jax.vjp(lambda arrays: f(arrays, data), arrays)
    # A loop over the values: the backward pass is compiled once.
    gradients = lax.map(lambda unit: pull(unit)[0], jnp.eye(len(f.parts), dtype=values.dtype))
    return f.outputs(arrays, data), values, gradients


def _as(array: Any, precision: str) -> Any:
    """In the precision, but for integers and random keys."""
    return array.astype(precision) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _contexts(batch: int, outputs: tuple[int, ...], penalty: Mapping[str, np.ndarray]) -> Callable[[str, str], Context]:
    """What a diagnosis may know of a leaf and a part."""
    per_example = math.prod(outputs[1:])
    sizes = {"outputs": per_example, "batch * outputs": batch * per_example}

    def of(name: str, part: str) -> Context:
        return Context(name.rpartition("/")[2], batch, sizes, penalty.get(name) if part == "total" else None)

    return of


def _passed_on(row: Row, found: Sequence[Culprit]) -> Row:
    """A wrong gradient that is no layer's own mistake says so: its numbers are those of a mistake elsewhere."""
    origins = {f"{culprit.layer}/{culprit.what}".lstrip("/") for culprit in found}
    if row.verdict in ("ok", "forward") or not found or row.name in origins:
        return row
    layers = ", ".join(dict.fromkeys(culprit.layer or "the outermost container" for culprit in found))
    return row._replace(diagnosis=f"passed on from {layers}")


def _forward(row: Row) -> Row:
    return row if row.ok else row._replace(verdict="forward")


def _idle(row: Row) -> bool:
    """Whether it says that a leaf without penalty has none."""
    return row.part == "penalty" and row.absolute == 0 and row.values[:2] == (0, 0)


def _wanted(points: Mapping[str, Any], leaf: str | None) -> Sequence[str]:
    if leaf is None:
        return list(points)
    if leaf not in points:
        raise UnknownLeaf(f"the network has no leaf '{leaf}'{suggestion(leaf, points)}")
    return [leaf]


def _float64(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array if np.issubdtype(array.dtype, np.integer) else array.astype(np.float64)
