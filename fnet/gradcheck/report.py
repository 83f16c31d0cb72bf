"""What a gradient check found: a row per array, what is wrong, on whose side, and what kind of mistake it is."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Verdict = Literal["ok", "by hand", "by JAX", "both", "unclear", "forward"]
"""Who is wrong. Of three gradients the two that agree outvote the third.

ok: the one by hand and JAX's agree, and so do the differences where they could be formed.
by hand, by JAX: this one disagrees with the other two.
both: the one by hand and JAX's agree, or not, but the differences agree with neither.
unclear: the one by hand and JAX's disagree, and the differences are not exact enough to tell who is right.
forward: the forward values differ, in the rows that compare those.
"""

IN_WORDS: dict[Verdict, str] = {
    "ok": "ok",
    "by hand": "WRONG by hand",
    "by JAX": "WRONG in JAX",
    "both": "WRONG in both",
    "unclear": "UNCLEAR who is wrong",
    "forward": "WRONG forward",
}


class Row(NamedTuple):
    """The comparison of one array: forward values, or a gradient.

    name: "outputs" or "loss" for forward values; "input" or a leaf such as "dense_1/w" for a gradient.
    part: of what it is the gradient: "total" for the training loss, or "data loss" or "penalty".
    shape: of the array.
    absolute: max|a - b| of the one by hand and JAX's.
    relative: max|a - b| / max(|a|, |b|), the greatest over the whole array in both places; 0 when both are all 0.
    cosine: <a, b> / (|a| |b|).
    ratio: |a| / |b|, of the one by hand over JAX's.
    worst: the index of the entry that differs most, and its three values: by hand, by JAX, by differences.
    checked: how many entries were compared with differences.
    kinks: how many more were to be, but lie within the smallest step of a kink.
    order: the exponent p of the Taylor remainder |f(x + h d) - f(x) - h <g, d>| ~ h^p for the gradient by hand: 2 when
        it is right; None where f is linear, or it was not measured. It informs, and never decides.
    verdict: who is wrong, if anyone.
    diagnosis: what kind of mistake it is, or what the numbers alone do not say.
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
        """Whether nothing is wrong with it."""
        return self.verdict == "ok"


class Culprit(NamedTuple):
    """A layer whose own backward pass is wrong, given the right input and a right cotangent.

    layer: its name, such as "block/tanh_1"; "loss" for the loss, "" for the network's outermost container.
    kind: of the layer, or the name of the loss.
    what: which of its results: "input", a leaf such as "w", or "output" for the forward pass.
    verdict, diagnosis: as in a row.
    """

    layer: str
    kind: str
    what: str
    verdict: Verdict
    diagnosis: str

    def __str__(self) -> str:
        """In words.

        >>> str(Culprit("tanh_1", "tanh", "input", "by hand", "sign: the negative of the right one"))
        'tanh_1 (tanh), gradient of the input, wrong by hand: sign: the negative of the right one'
        """
        kind = f" ({self.kind})" if self.layer and self.kind != self.layer else ""
        what = {"input": "gradient of the input", "output": "forward pass"}.get(self.what, f"gradient of {self.what}")
        who = {"unclear": "unclear on whose side", "both": "wrong on both sides", "by JAX": "wrong in JAX"}
        said = who.get(self.verdict, "wrong by hand" if self.verdict == "by hand" else "differs")
        return f"{self.layer or 'the outermost container'}{kind}, {what}, {said}: {self.diagnosis}"


class Report(NamedTuple):
    """The rows of a check, the tolerance that they were held to, and where a mistake comes from.

    rows: forward values first, then the gradients, as the network is described.
    tolerance: the greatest relative difference between the one by hand and JAX's that passes.
    precision: in which JAX computed: "float64" or "float32".
    culprits: when something is wrong, the layers where it begins.
    remark: what else to know, such as the precision that can be expected.
    """

    rows: Sequence[Row]
    tolerance: float
    precision: str = "float64"
    culprits: Sequence[Culprit] = ()
    remark: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(row.ok for row in self.rows)

    @property
    def verdict(self) -> str:
        """One sentence: that everything agrees, or what does not."""
        wrong = [row for row in self.rows if not row.ok]
        names = ", ".join(dict.fromkeys(row.name for row in wrong))
        checked, kinks = (sum(getattr(row, name) for row in self.rows) for name in ("checked", "kinks"))
        if not wrong:
            differences = f"{checked:,} entries with differences" if checked else ""
            skipped = f" ({kinks:,} more lie on a kink)" if kinks else ""
            also = f", and {differences}{skipped}" if differences else ""
            return f"every value and gradient agrees within {self.tolerance:g} (relative, in {self.precision}){also}"
        if any(row.verdict == "forward" for row in wrong):
            forward = ", ".join(row.name for row in wrong if row.verdict == "forward")
            return f"the forward values differ ({forward}): mend these before looking at the gradients"
        return f"{len(wrong)} of {len(self.rows)} rows differ: {names}"

    def __str__(self) -> str:
        """The rows as a table, and the verdict."""
        width = max(len(row.name) for row in self.rows)
        shapes = max(len(str(row.shape)) for row in self.rows)
        lines = [f"{'':<{width}}  {'shape':<{shapes}}  {'absolute':>9}  {'relative':>9}"]
        for part in dict.fromkeys(row.part for row in self.rows):
            lines += [f"{part}:"] if part != "total" else []
            for row in (row for row in self.rows if row.part == part):
                said = IN_WORDS[row.verdict] + (f": {row.diagnosis}" if row.diagnosis else "")
                lines.append(
                    f"{row.name:<{width}}  {row.shape!s:<{shapes}}  {row.absolute:9.2e}  {row.relative:9.2e}  {said}"
                )
        lines.append(self.verdict)
        lines += [f"it begins in {culprit}" for culprit in self.culprits]
        return "\n".join([*lines, self.remark] if self.remark else lines)

    def plain(self) -> dict[str, Any]:
        """Plain data, as `fnet gradcheck --json` prints it."""
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "tolerance": self.tolerance,
            "precision": self.precision,
            "remark": self.remark,
            "rows": [row._asdict() | {"ok": row.ok} for row in self.rows],
            "culprits": [culprit._asdict() for culprit in self.culprits],
        }
