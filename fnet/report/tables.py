"""The tables of `fnet summary`, `fnet train`, `fnet evaluate` and `fnet predict`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from fnet.core.wording import DIGITS, format_score, printable
from fnet.metrics import Metric
from fnet.report.summary import SummaryRow
from fnet.report.text import visible

if TYPE_CHECKING:
    from fnet.runs.folds import Estimate
    from fnet.runs.predict import Prediction
    from fnet.runs.remarks import Comparison

MAX_CLASSES = 12
"""With more classes, the confusion table becomes a list of mistakes."""

MAX_MISTAKES = 15
"""The number of pairs of classes in the list of mistakes."""

MAX_PREDICTIONS = 50
"""The number of predictions that a table shows."""


def summary_table(rows: Sequence[SummaryRow], in_shape: tuple[int, ...]) -> Table:
    """Return a table of the layers of a network with their output shapes, parameters and FLOPs, and the totals."""
    table = Table(
        title=f"input {in_shape}", title_justify="left", title_style="", footer_style="bold", show_footer=True
    )
    total, *layers = rows
    table.add_column("layer", "total")
    table.add_column("kind and settings", overflow="fold")
    table.add_column("output", str(total.out_shape), no_wrap=True)
    table.add_column("parameters", f"{total.parameters:,}", justify="right")
    table.add_column("FLOPs", f"{total.flops:,}", justify="right")
    for row in layers:
        name = "  " * (len(row.path) - 1) + row.path[-1]
        table.add_row(
            Text(printable(name)),
            Text(printable(row.layer)),
            str(row.out_shape),
            f"{row.parameters:,}",
            f"{row.flops:,}",
        )
    return table


def scores_table(
    scores: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int], metrics: Sequence[Metric]
) -> Table:
    """Return a table of the loss and the metrics for every part of the data, each metric in its format."""
    formats = {metric.name: metric.format for metric in metrics}
    table = Table()
    table.add_column("part")
    table.add_column("examples", justify="right")
    for name in next(iter(scores.values())):
        table.add_column(name.replace("_", " "), justify="right")
    for part, values in scores.items():
        cells = (format_score(value, formats.get(name, DIGITS)) for name, value in values.items())
        table.add_row(part, f"{sizes[part]:,}", *cells)
    return table


def comparison_text(comparison: "Comparison") -> str:
    """Return the baselines of a run on one line, and the remarks on one line each."""
    measure = comparison.measure
    scores = [(baseline.text, baseline.scores[measure.name]) for baseline in comparison.baselines]
    shown = [f"{text} {format_score(score, measure.format)}" for text, score in scores]
    name = measure.name.replace("_", " ")
    lines = [f"for comparison, {name} on the {comparison.part} part: {', '.join(shown)}"]
    if comparison.balanced_accuracy is not None:
        lines[0] += f"; balanced accuracy of the network {comparison.balanced_accuracy:.1%}"
    lines[0] += f"; {comparison.skipped}" if comparison.skipped else ""
    return printable("\n".join([*lines, *(f"note: {remark}" for remark in comparison.remarks)]), multiline=True)


def folds_table(estimates: Mapping[str, Mapping[str, "Estimate"]], metrics: Sequence[Metric]) -> Table:
    """Return a table of mean and standard deviation over the folds of the loss and the metrics of every part."""
    formats = {metric.name: metric.format for metric in metrics}
    table = Table()
    table.add_column("part")
    for name in next(iter(estimates.values())):
        table.add_column(name.replace("_", " "), justify="right")
    for part, values in estimates.items():
        cells = (map(format_score, estimate, [formats.get(name, DIGITS)] * 2) for name, estimate in values.items())
        table.add_row(part, *map(" ± ".join, cells))
    return table


def confusion_table(predictions: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Table:
    """Return the confusion matrix with true classes as rows and predictions as columns; the last column is the recall,
    "–" for a class without examples.

    With many classes, the table is a list of the most frequent mistakes.
    """
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (labels, predictions), 1)
    if len(names) > MAX_CLASSES:
        return _mistakes_table(counts, names)
    table = Table(title="true class by row, predicted class by column", title_justify="left", title_style="")
    table.add_column("")
    for name in names:
        table.add_column(Text(visible(name)), justify="right")
    table.add_column("correct", justify="right")
    for number, (name, row) in enumerate(zip(names, counts, strict=True)):
        cells = [
            Text(str(n) if n else "·", "bold" if i == number else "red" if n else "dim") for i, n in enumerate(row)
        ]
        recall = f"{100 * row[number] / row.sum():.1f}%" if row.any() else "–"
        table.add_row(Text(visible(name)), *cells, recall)
    return table


def labels_table(predictions: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Table:
    """Return a table of the accuracy, the precision, the recall and the F1 score of every label.

    A ratio whose denominator is 0 is shown as a dash: the precision of a label that is never predicted, the recall of
    one that no example has, and the F1 score of one for which both hold.

    Args:
        predictions: 0 or 1 for every example and label.
        labels: the targets, likewise.
        names: names of the labels.
    """
    table = Table(title="labels", title_justify="left", title_style="")
    table.add_column("label")
    for column in ("examples", "predicted", "accuracy", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    both, predicted, true = (counts.sum(axis=0) for counts in (predictions * labels, predictions, labels))
    accuracy = (predictions == labels).mean(axis=0)
    for number, name in enumerate(names):
        hits, claims, real = int(both[number]), int(predicted[number]), int(true[number])
        ratios = ((hits, claims), (hits, real), (2 * hits, claims + real))
        cells = (f"{100 * part / whole:.1f}%" if whole else "–" for part, whole in ratios)
        table.add_row(Text(visible(name)), f"{real:,}", f"{claims:,}", f"{100 * accuracy[number]:.1f}%", *cells)
    return table


def _mistakes_table(counts: np.ndarray, names: Sequence[str]) -> Table:
    """Return a table of the pairs of classes (true, predicted) that are confused most often."""
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_MISTAKES]
    title = f"{wrong.sum():,} of {counts.sum():,} predictions are wrong; the most frequent mistakes:"
    table = Table(title=title, title_justify="left", title_style="")
    table.add_column("true class")
    table.add_column("predicted as")
    table.add_column("count", justify="right")
    table.add_column("share of the true class", justify="right")
    for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[true, predicted]:
            share = 100 * wrong[true, predicted] / counts[true].sum()
            pair = (Text(visible(names[int(label)])) for label in (true, predicted))
            table.add_row(*pair, f"{wrong[true, predicted]:,}", f"{share:.1f}%")
    return table


def predictions_table(predictions: "Sequence[Prediction]", size: int) -> Table:
    """Return a table of the first predictions, with the probabilities of the three most likely classes.

    Args:
        predictions: the first predictions, or all.
        size: number of examples in the file.
    """
    table = Table(caption_justify="left", caption_style="")
    if not predictions:
        table.add_column("example")
        return table
    first = predictions[0]
    for name in first.identifiers or ("example",):
        table.add_column(Text(visible(name)))
    if isinstance(first.decision, dict):
        for name in first.decision:
            table.add_column(Text(visible(name)), justify="right")
    else:
        table.add_column("prediction")
    if first.probabilities:
        table.add_column("probabilities")
    for example, decision, probabilities, identifiers in predictions[:MAX_PREDICTIONS]:
        values = (
            [format_score(value, ",.6g") for value in decision.values()]
            if isinstance(decision, dict)
            else [visible(decision)]
        )
        most_likely = [f"{visible(name)} {100 * p:.1f}%" for name, p in list(probabilities.items())[:3]]
        names = map(visible, identifiers.values() if identifiers else [example])
        cells = [*names, *values, *(["  ".join(most_likely)] if most_likely else [])]
        table.add_row(*map(Text, cells))
    if size > MAX_PREDICTIONS:
        table.caption = f"the first {MAX_PREDICTIONS} of {size:,}; --json prints all, --output FILE writes all"
    return table
