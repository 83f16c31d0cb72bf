"""What a gradient check found: one row for the forward values, one for the input, one per parameter leaf."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """The comparison of one array computed by hand with the same computed by JAX.

    name: "outputs", "loss", "input", or the leaf, as in "dense_1/w".
    shape: of the array.
    absolute: max|a - b|.
    relative: max|a - b| / max(|a|, |b|), the greatest over the whole array in both places; 0 when both are all 0.
    ok: whether they agree.
    remark: what the numbers alone do not say.
    """

    name: str
    shape: tuple[int, ...]
    absolute: float
    relative: float
    ok: bool
    remark: str = ""


class Report(NamedTuple):
    """The rows of a check, and the tolerance that they were held to."""

    rows: Sequence[Row]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every row agrees."""
        return all(row.ok for row in self.rows)

    @property
    def verdict(self) -> str:
        """One sentence: that everything agrees, or what does not."""
        wrong = [row.name for row in self.rows if not row.ok]
        if not wrong:
            return f"every value and gradient agrees within {self.tolerance:g} (relative, in float64)"
        forward = [name for name in wrong if name in FORWARD]
        if forward:
            return f"the forward values differ ({', '.join(forward)}): mend these before looking at the gradients"
        return f"{len(wrong)} of {len(self.rows)} rows differ: {', '.join(wrong)}"

    def __str__(self) -> str:
        """The rows as a table, and the verdict."""
        width = max(len(row.name) for row in self.rows)
        shapes = max(len(str(row.shape)) for row in self.rows)
        lines = [f"{'':<{width}}  {'shape':<{shapes}}  {'absolute':>9}  {'relative':>9}"]
        lines += [
            f"{row.name:<{width}}  {row.shape!s:<{shapes}}  {row.absolute:9.2e}  {row.relative:9.2e}  "
            f"{'ok' if row.ok else 'WRONG'} {row.remark}".rstrip()
            for row in self.rows
        ]
        return "\n".join([*lines, self.verdict])


FORWARD = ("outputs", "loss")
"""The rows that compare forward values."""

ROUNDING = 1e-13
"""Differences up to this are rounding, whatever the size of the gradient: it may itself be zero but for rounding."""


def compare(name: str, by_hand: np.ndarray | None, by_jax: np.ndarray, tolerance: float) -> Row:
    """The row of two arrays.

    >>> compare("w", np.array([1.0, 2.0]), np.array([1.0, 4.0]), 1e-10)
    Row(name='w', shape=(2,), absolute=2.0, relative=0.5, ok=False, remark='')
    """
    by_jax = np.asarray(by_jax)
    infinite = float("inf")
    if by_hand is None:
        return Row(name, by_jax.shape, infinite, infinite, False, "no gradient by hand")
    by_hand = np.asarray(by_hand)
    if by_hand.shape != by_jax.shape:
        return Row(name, by_jax.shape, infinite, infinite, False, f"of shape {by_hand.shape} by hand")
    if not (np.isfinite(by_hand).all() and np.isfinite(by_jax).all()):
        return Row(name, by_jax.shape, infinite, infinite, False, "NaN or infinite")
    absolute = float(np.max(np.abs(by_hand - by_jax), initial=0))
    largest = float(max(np.max(np.abs(by_hand), initial=0), np.max(np.abs(by_jax), initial=0)))
    relative = absolute / largest if largest else 0.0
    if relative > tolerance and absolute <= ROUNDING:
        return Row(name, by_jax.shape, absolute, relative, True, "0 but for rounding")
    return Row(name, by_jax.shape, absolute, relative, relative <= tolerance)
