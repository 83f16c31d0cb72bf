"""Check of the gradients of a network's training loss: by hand, by JAX and by finite differences."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnet.core.layer import Layer
from fnet.core.traversal import leaves
from fnet.core.wording import suggestion
from fnet.gradcheck.compare_leaves import ROUNDING, SAMPLES, Part, compare_arrays, compare_leaves, nested
from fnet.gradcheck.diagnosis import Context
from fnet.gradcheck.faulty_layers import find_faulty_layers
from fnet.gradcheck.noise import draw_noise
from fnet.gradcheck.report import Culprit, LeafReport, Report
from fnet.losses import Loss, loss_name_of, resolve_loss
from fnet.reference import network as reference
from fnet.reference.losses import loss_of
from fnet.regularization import Penalties
from fnet.train.state import Batch
from fnet.train.step import objective

TOLERANCES = {"float64": 1e-10, "float32": 1e-3}
"""The default maximum relative difference that passes, by the precision that JAX computes in."""

FORWARD = ("outputs", "loss")
"""The rows that compare forward values."""

REMARKS = {
    "float64": "",
    "float32": "float32 has about 7 significant digits, and sums over a batch or a layer lose some of them: JAX's "
    "gradients are accurate to about 1e-5 of the largest entry, rarely worse than {tolerance:g}. A smaller mistake "
    "shows only in float64.",
}
"""Remarks on the accuracy to expect, by precision."""


class UnknownLeaf(ValueError):
    """The network does not have the requested leaf."""

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
    """Compare backpropagation by hand with JAX and with finite differences, for the training loss of one batch.

    Parameters and data are converted to float64, and JAX computes in float64: the network is the same, and rounding
    errors are far smaller than the effect of a mistake. The network is in training mode: it uses the statistics of the
    batch, and both sides use the same dropout masks. The finite differences are those of JAX's loss. Of the three
    gradients, the two that agree outvote the third. With penalties, the data loss and the penalty are also checked
    separately. If something is wrong, every layer is checked alone, with a random cotangent, to locate the mistake.

    Args:
        net: the network.
        loss: a name of `fnet.losses.LOSSES`, a function of `fnet.losses`, or a `functools.partial` of one with
            settings, which also apply to the hand-written loss.
        params: its parameters, of any precision.
        state: its non-trainable state.
        x: examples (batch, ...).
        y: targets.
        regularization: penalties on the weights.
        key: random key of dropout; by default jax.random.key(0).
        tolerance: the maximum relative difference that passes; by default 1e-10, and 1e-3 in float32.
        samples: the number of entries of each leaf to compare with finite differences; a larger leaf is sampled with a
            fixed seed.
        leaf: the only leaf to report on, such as "dense_2/w"; by default all leaves and the input.
        precision: the precision of JAX's gradients, "float64" or "float32"; the other two gradients are in float64.

    Raises:
        NoReference: if a layer or the loss does not have a hand-written backward pass.
        UnknownLeaf: if the network does not have the requested leaf.
        ValueError: for an unknown loss, or an unknown layer in the penalties.

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
    loss_name, settings = loss_name_of(record.function) or (getattr(loss, "__name__", repr(loss)), {})
    loss_by_hand = functools.partial(loss_of(loss_name), **settings)
    hand = functools.partial(reference.loss_and_gradients, net, params, x, y, loss_by_hand, state=state, noise=noise)
    by_hand = _by_hand(hand, params, regularization)
    names = tuple(name for name, _ in leaves(net, params))
    f = TrainingLoss(net, record, regularization, names, not np.issubdtype(x.dtype, np.integer))
    points = dict(f.leaves(params, x))
    reported = _reported_leaves(points, leaf)
    data = {"state": state, "x": x, "y": y, "key": key}
    by_jax = _by_jax(f, points, data, precision)
    parts = _parts(f, points, by_hand, by_jax)
    rounding = _rounding(parts[0], precision)
    context = _contexts(len(x), by_jax.outputs.shape, parts[-1].by_jax if regularization.penalizes else {})
    rows = _forward_rows(by_hand, by_jax, f.parts, tolerance, rounding)
    rows += compare_leaves(
        f, points, data, parts, samples=samples, tolerance=tolerance, rounding=rounding, context=context
    )
    rows = [row for row in rows if row.name in (*FORWARD, *reported) and not _is_unpenalized(row)]
    rows.sort(key=lambda row: f.parts.index(row.part))
    report = Report(rows, tolerance, precision, remark=REMARKS[precision].format(tolerance=tolerance))
    if report.ok:
        return report
    culprits = find_faulty_layers(net, record, loss_by_hand, params, state, noise, x, y, key, loss_name=loss_name)
    return report._replace(rows=[_attribute(row, culprits) for row in rows], culprits=culprits)


def _by_hand(
    hand: Callable[..., reference.Result], params: Any, regularization: Penalties
) -> dict[str, reference.Result]:
    """Compute values and gradients of every part by hand."""
    total = hand(regularization=regularization)
    if not regularization.penalizes:
        return {"total": total}
    value, gradients = reference.penalty(params, regularization)
    return {"total": total, "data loss": hand(), "penalty": total._replace(loss=value, params=gradients, x=total.x * 0)}


def _parts(
    f: "TrainingLoss", points: Mapping[str, np.ndarray], by_hand: Mapping[str, Any], by_jax: "ByJax"
) -> list[Part]:
    """Pair the gradients of the two sides; a leaf without penalty has the penalty gradient 0."""
    zeros = {name: np.zeros_like(leaf) for name, leaf in points.items()}
    return [
        Part(
            name,
            (zeros if name == "penalty" else {}) | dict(f.leaves(by_hand[name].params, by_hand[name].x)),
            gradient,
        )
        for name, gradient in zip(f.parts, by_jax.gradients, strict=True)
    ]


def _rounding(total: Part, precision: str) -> float:
    """Return the absolute difference that counts as rounding."""
    if precision == "float64":
        return ROUNDING
    return 1e-6 * max(np.max(np.abs(gradient)) for gradient in total.by_jax.values())


def _forward_rows(
    by_hand: Mapping[str, Any], by_jax: "ByJax", parts: Sequence[str], tolerance: float, rounding: float
) -> list[LeafReport]:
    """Compare the outputs and the value of every part."""
    rows = [compare_arrays("outputs", by_hand["total"].outputs, by_jax.outputs, tolerance, rounding)]
    rows += [
        compare_arrays("loss", np.asarray(by_hand[part].loss), value, tolerance, rounding)._replace(part=part)
        for part, value in zip(parts, by_jax.values, strict=True)
    ]
    return [row if row.ok else row._replace(verdict="forward") for row in rows]


@dataclasses.dataclass(frozen=True)
class TrainingLoss:
    """The training loss as a function of the parameters' leaves and the input.

    Its values are the total and, with penalties, the data loss and the penalty. It is hashable, so that it is
    compiled once per network.

    names: names of the parameters' leaves, in the order of the description.
    with_input: whether to differentiate with respect to the input; an input of integers cannot be differentiated.
    """

    net: Layer
    loss: Loss
    regularization: Penalties
    names: tuple[str, ...]
    with_input: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the values."""
        return ("total", "data loss", "penalty") if self.regularization.penalizes else ("total",)

    def leaves(self, params: Any, x: Any) -> list[tuple[str, Any]]:
        """List the input, if differentiated, and the parameters, with their names, in the order of the description."""
        return [("input", x)] * self.with_input + list(leaves(self.net, params))

    def __call__(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """Map (leaves, {"state", "x", "y", "key"}) to the values."""
        params, batch = self._arguments(arrays, data)
        evaluate = objective(self.net, self.loss, regularization=self.regularization)
        total, (_, metrics) = evaluate(params, data["state"], batch, data["key"])
        return jnp.stack([total, metrics.loss, metrics.penalty][: len(self.parts)])

    def outputs(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """Return the network's outputs."""
        params, batch = self._arguments(arrays, data)
        return self.net.apply(params, data["state"], batch.x, train=True, key=data["key"], mask=batch.mask)[0]

    def _arguments(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> tuple[Any, Batch]:
        """Return the parameters and the batch."""
        x, *arrays = arrays if self.with_input else (data["x"], *arrays)
        return nested(dict(zip(self.names, arrays, strict=True))), Batch(x, data["y"], jnp.ones(len(x), bool))


class ByJax(NamedTuple):
    """The outputs, the value of every part, and the gradient of each value as a dict of leaves."""

    outputs: np.ndarray
    values: np.ndarray
    gradients: list[dict[str, np.ndarray]]


def _by_jax(f: TrainingLoss, points: Mapping[str, np.ndarray], data: Mapping[str, Any], precision: str) -> ByJax:
    with jax.enable_x64(precision == "float64"):
        arrays, data = jax.tree.map(lambda a: _as(a, precision), (list(points.values()), data))
        outputs, values, gradients = jax.tree.map(np.asarray, _values_and_gradients(f, arrays, data))
    return ByJax(outputs, values, [dict(zip(points, part, strict=True)) for part in zip(*gradients, strict=True)])


@functools.partial(jax.jit, static_argnames="f")
def _values_and_gradients(f, arrays, data):
    values, pull = jax.vjp(lambda arrays: f(arrays, data), arrays)
    # In a loop over the values the backward pass is compiled only once.
    gradients = lax.map(lambda unit: pull(unit)[0], jnp.eye(len(f.parts), dtype=values.dtype))
    return f.outputs(arrays, data), values, gradients


def _as(array: Any, precision: str) -> Any:
    """Convert real numbers to the precision; integers and random keys stay as they are."""
    return array.astype(precision) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _contexts(batch: int, outputs: tuple[int, ...], penalty: Mapping[str, np.ndarray]) -> Callable[[str, str], Context]:
    """Return a function from a leaf and a part to the context of a diagnosis."""
    per_example = math.prod(outputs[1:])
    sizes = {"outputs": per_example, "batch * outputs": batch * per_example}

    def context_of(name: str, part: str) -> Context:
        return Context(name.rpartition("/")[2], batch, sizes, penalty.get(name) if part == "total" else None)

    return context_of


def _attribute(row: LeafReport, culprits: Sequence[Culprit]) -> LeafReport:
    """Replace the diagnosis of a gradient that is wrong only because of a mistake in another layer."""
    origins = {f"{culprit.layer}/{culprit.what}".lstrip("/") for culprit in culprits}
    if row.verdict in ("ok", "forward") or not culprits or row.name in origins:
        return row
    layers = ", ".join(dict.fromkeys(culprit.layer or "the outermost container" for culprit in culprits))
    return row._replace(diagnosis=f"propagated from {layers}")


def _is_unpenalized(row: LeafReport) -> bool:
    """Return whether the row compares the penalty gradient of a leaf without penalty."""
    return row.part == "penalty" and row.absolute == 0 and row.values[:2] == (0, 0)


def _reported_leaves(points: Mapping[str, Any], leaf: str | None) -> Sequence[str]:
    if leaf is None:
        return list(points)
    if leaf not in points:
        raise UnknownLeaf(f"the network does not have a leaf '{leaf}'{suggestion(leaf, points)}")
    return [leaf]


def _float64(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array if np.issubdtype(array.dtype, np.integer) else array.astype(np.float64)
