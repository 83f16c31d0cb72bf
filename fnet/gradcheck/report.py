"""The result of a gradient check: a report per array, with the side that is wrong and the kind of mistake."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

Verdict = Literal["ok", "by hand", "by JAX", "both", "unclear", "forward"]
"""Which gradient is wrong: of three gradients, the two that agree outvote the third.

ok: the gradient by hand agrees with JAX's, and with the finite differences where they were computed.
by hand, by JAX: this gradient disagrees with the other two.
both: the finite differences agree with neither gradient, whether or not the two agree with each other.
unclear: the gradient by hand disagrees with JAX's, and the finite differences are not accurate enough to decide.
forward: the forward values differ; only for rows that compare forward values.
"""

VERDICT_TEXTS: dict[Verdict, str] = {
    "ok": "ok",
    "by hand": "WRONG by hand",
    "by JAX": "WRONG in JAX",
    "both": "WRONG in both",
    "unclear": "UNCLEAR which is wrong",
    "forward": "WRONG forward",
}


EXTRA_PARTS = {
    "state": "new state",
    "dropout": "dropout rates",
    "evaluation": "evaluation mode",
    "masked": "one example masked",
    "masked steps": "random steps masked",
}
"""The parts that are summarized if all of their rows are right, with their headings.

state: the new state in training mode.
dropout: the fraction of entries that every dropout layer keeps, and its scale, with statistical limits.
evaluation, masked, masked steps: the data loss in evaluation mode, with a mask of examples, and with a mask of steps.
"""


class Summary(NamedTuple):
    """A part whose rows are all right: its name, the number of its rows, and their largest differences.

    Rows with a remark, such as "equal up to measured rounding", do not count in the relative difference.
    """

    part: str
    rows: int
    absolute: float
    relative: float

    @property
    def size(self) -> str:
        """Return the number of rows in words."""
        return f"{self.rows} row{'s' * (self.rows != 1)}"


class LeafReport(NamedTuple):
    """The comparison of one array: forward values, or the gradient with respect to a leaf.

    name: "outputs" or "loss" for forward values; "input" or a leaf such as "dense_1/w" for a gradient.
    part: the value whose gradient it is: "total" for the training loss, or "data loss" or "penalty"; or one of
        `EXTRA_PARTS`.
    shape: shape of the array.
    absolute: max|a - b|, where a is computed by hand and b by JAX.
    relative: max|a - b| / max(|a|, |b|), each maximum taken over the whole array; 0 if both are all 0.
    cosine: <a, b> / (|a| |b|).
    ratio: |a| / |b|.
    worst: the index of the entry that differs most.
    values: the values of that entry by hand, by JAX and by finite differences.
    checked: the number of entries compared with finite differences.
    kinks: the number of sampled entries that were skipped because they lie within the smallest step of a kink.
    order: the exponent p of the Taylor remainder |f(x + h d) - f(x) - h <g, d>| ~ h^p of the gradient g by hand: 2 if
        it is correct; None if f is linear, or if it was not measured. It does not affect the verdict.
    verdict: which side is wrong, if any.
    diagnosis: the kind of mistake, or a remark on the numbers.
    """

    name: str
    shape: tuple[int, ...]
    absolute: float
    relative: float
    verdict: Verdict
    part: str = "total"
    cosine: float | None = None
    ratio: float | None = None
    worst: tuple[int, ...] | None = None
    values: tuple[float | None, float | None, float | None] = (None, None, None)
    checked: int = 0
    kinks: int = 0
    order: float | None = None
    diagnosis: str = ""

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return self.verdict == "ok"


class Culprit(NamedTuple):
    """A layer whose own forward or backward pass is wrong, even with the correct input and cotangent.

    layer: its name, such as "block/tanh_1"; "loss" for the loss, "" for the outermost container.
    kind: the kind of the layer, or the name of the loss.
    what: the result that is wrong: the gradient of "input" or of a leaf such as "w", "output" for the forward pass, or
        "state: mean" for an entry of the new state.
    verdict, diagnosis: as in `LeafReport`.
    """

    layer: str
    kind: str
    what: str
    verdict: Verdict
    diagnosis: str

    def __str__(self) -> str:
        """Describe the mistake in words.

        >>> str(Culprit("tanh_1", "tanh", "input", "by hand", "sign flipped: every entry is negated"))
        'tanh_1 (tanh), gradient of the input, wrong by hand: sign flipped: every entry is negated'
        """
        kind = f" ({self.kind})" if self.layer and self.kind != self.layer else ""
        other = self.what if self.what.startswith("state: ") else f"gradient of {self.what}"
        what = {"input": "gradient of the input", "output": "forward pass"}.get(self.what, other)
        verdict = {
            "by hand": "wrong by hand",
            "by JAX": "wrong in JAX",
            "both": "wrong in both",
            "unclear": "unclear which side is wrong",
        }.get(self.verdict, "differs from JAX's")
        return f"{self.layer or 'the outermost container'}{kind}, {what}, {verdict}: {self.diagnosis}"


class Report(NamedTuple):
    """The result of a gradient check.

    rows: the comparisons: forward values first, then the gradients in the order of the network's description.
    tolerance: the maximum relative difference that passes between the gradient by hand and JAX's.
    precision: the precision of JAX's gradients, "float64" or "float32".
    culprits: if something is wrong, the layers that cause it.
    remark: a note on the result, such as the accuracy to expect.
    """

    rows: Sequence[LeafReport]
    tolerance: float
    precision: str = "float64"
    culprits: Sequence[Culprit] = ()
    remark: str = ""

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return all(row.ok for row in self.rows)

    @property
    def listed(self) -> list[LeafReport]:
        """Return the rows that tables list: all but those of extra parts in which all rows are right."""
        parts = {summary.part for summary in self.summaries}
        return [row for row in self.rows if row.part not in parts]

    @property
    def summaries(self) -> list[Summary]:
        """Summarize the extra parts in which all rows are right."""
        summaries: list[Summary] = []
        for part in EXTRA_PARTS:
            rows = [row for row in self.rows if row.part == part]
            if rows and all(row.ok for row in rows):
                absolute = max(row.absolute for row in rows)
                relative = max([row.relative for row in rows if not row.diagnosis], default=0.0)
                summaries.append(Summary(part, len(rows), absolute, relative))
        return summaries

    @property
    def verdict(self) -> str:
        """Return a sentence that says that everything agrees, or what does not."""
        wrong = [row for row in self.rows if not row.ok]
        if not wrong:
            agreement = f"all values and gradients agree within {self.tolerance:g} (relative, {self.precision})"
            return agreement + self._counts()
        forward = ", ".join(_label(row) for row in wrong if row.verdict == "forward")
        if forward:
            return f"the forward values differ ({forward}): fix these before looking at the gradients"
        return f"{len(wrong)} of {len(self.rows)} rows differ: {', '.join(dict.fromkeys(map(_label, wrong)))}"

    def _counts(self) -> str:
        """Write how many entries were compared with finite differences."""
        checked, kinks = sum(row.checked for row in self.rows), sum(row.kinks for row in self.rows)
        if not checked:
            return ""
        skipped = f" ({kinks:,} more lie on a kink)" if kinks else ""
        return f"; {checked:,} entries agree with finite differences{skipped}"

    def __str__(self) -> str:
        """Format the rows as a table, followed by the verdict, the culprits and the remark."""
        lines = [*self._table(), self.verdict, *(f"the mistake is in {culprit}" for culprit in self.culprits)]
        return "\n".join([*lines, self.remark] if self.remark else lines)

    def _table(self) -> Iterator[str]:
        listed, summaries = self.listed, self.summaries
        names = max([len(row.name) for row in listed] + [len(summary.part) for summary in summaries])
        shapes = max([len(str(row.shape)) for row in listed] + [len(summary.size) for summary in summaries])
        yield f"{'':<{names}}  {'shape':<{shapes}}  {'absolute':>9}  {'relative':>9}"
        for part in dict.fromkeys(row.part for row in listed):
            if part != "total":
                yield f"{EXTRA_PARTS.get(part, part)}:"
            for row in (row for row in listed if row.part == part):
                numbers = f"{row.absolute:9.2e}  {row.relative:9.2e}"
                diagnosis = f": {row.diagnosis}" if row.diagnosis else ""
                text = f"{VERDICT_TEXTS[row.verdict]}{diagnosis}"
                yield f"{row.name:<{names}}  {row.shape!s:<{shapes}}  {numbers}  {text}"
        for summary in summaries:
            numbers = f"{summary.absolute:9.2e}  {summary.relative:9.2e}"
            yield f"{summary.part:<{names}}  {summary.size:<{shapes}}  {numbers}  ok"

    def plain(self) -> dict[str, Any]:
        """Return the report as plain data, as `fnet gradcheck --json` prints it."""
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "tolerance": self.tolerance,
            "precision": self.precision,
            "remark": self.remark,
            "rows": [row._asdict() | {"ok": row.ok} for row in self.rows],
            "culprits": [culprit._asdict() for culprit in self.culprits],
        }


def _label(row: LeafReport) -> str:
    """Return the name of a row, with the mode if it is not the training loss of all examples."""
    return f"{row.name} ({row.part})" if row.part in ("evaluation", "masked", "masked steps") else row.name
