"""Tables of results; names may contain anything."""

import numpy as np
import pytest
from report.printed import rows

from fnet.metrics import ACCURACY, RMSE, Metric
from fnet.report.summary import SummaryRow
from fnet.report.tables import (
    MAX_PREDICTIONS,
    comparison_text,
    confusion_table,
    folds_table,
    predictions_table,
    scores_table,
    summary_table,
)
from fnet.report.text import format_values
from fnet.runs.baseline import Baseline
from fnet.runs.folds import Estimate
from fnet.runs.predict import Prediction
from fnet.runs.remarks import Comparison

ODD_NAMES = {"[red]": "[red]", "[/b]": "[/b]", " ": "' '", "": "''", "a\n": "'a\\n'", "\x1b[31m": "'\\x1b[31m'"}
"""Names with brackets or control characters, or that are blank, and how each is printed."""


def test_few_classes_are_shown_as_a_confusion_matrix():
    table = rows(confusion_table(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), ["cat", "dog"]))
    assert ["cat", "1", "1", "50.0%"] in table
    assert ["dog", "·", "2", "100.0%"] in table


def test_with_many_classes_the_most_frequent_mistakes_are_listed():
    """Of 20 classes, class 3 is predicted as 7 in three of four cases, and class 5 as 3 in its only case."""
    names = [" " if k == 3 else "\n" if k == 5 else chr(ord("a") + k) for k in range(20)]
    labels = np.array([*range(20), 3, 3, 3])
    predictions = np.array([k if k != 5 else 3 for k in range(20)] + [7, 7, 7])
    table = rows(confusion_table(predictions, labels, names))
    assert ["4 of 23 predictions are wrong; the most frequent mistakes:"] in table
    assert ["true class", "predicted as", "count", "share of the true class"] in table
    assert [line for line in table if len(line) == 4][1:] == [
        ["' '", "h", "3", "75.0%"],
        ["'\\n'", "' '", "1", "100.0%"],
    ]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_of_classes(name):
    few = rows(confusion_table(np.array([0, 1]), np.array([0, 0]), [name, "other"]))
    assert ["", ODD_NAMES[name], "other", "correct"] in few
    assert [ODD_NAMES[name], "1", "1", "50.0%"] in few
    many = rows(confusion_table(np.array([1]), np.array([0]), [name, *map(str, range(12))]))
    assert [ODD_NAMES[name], "0", "1", "100.0%"] in many


@pytest.mark.parametrize("classes", [2, 20])
def test_a_part_without_examples(classes):
    table = rows(confusion_table(np.array([], int), np.array([], int), list(map(str, range(classes)))))
    assert (["1", "·", "·", "–"] in table) if classes == 2 else (table[0][0].startswith("0 of 0 predictions"))


def test_scores():
    table = rows(scores_table({"train": {"loss": 0.123456, "accuracy": 0.987}}, {"train": 1234}, (ACCURACY,)))
    assert [line for line in table if len(line) == 4] == [
        ["part", "examples", "loss", "accuracy"],
        ["train", "1,234", "0.1235", "98.7%"],
    ]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_in_predictions(name):
    table = rows(predictions_table([Prediction(name, name, {name: 0.75, "b": 0.25})], 1))
    assert [ODD_NAMES[name], ODD_NAMES[name], f"{ODD_NAMES[name]} 75.0%  b 25.0%"] in table
    table = rows(predictions_table([Prediction("1", {name: 0.5}, {})], 1))
    assert ["example", ODD_NAMES[name]] in table
    assert ["1", "0.5"] in table


def test_many_and_no_predictions():
    table = rows(predictions_table([Prediction(str(k), "a", {}) for k in range(MAX_PREDICTIONS)], 1234))
    assert " ".join(line[0] for line in table).endswith(
        f"the first {MAX_PREDICTIONS} of 1,234; --json prints all, --output FILE writes all"
    )
    assert "example" in rows(predictions_table([], 0))[1]


def test_a_summary():
    layers = [SummaryRow((), "serial", (2,), 8, 14), SummaryRow(("block", "[b]_1"), "dense: 2", (2,), 8, 14)]
    table = rows(summary_table(layers, (3,)))
    assert ["input (3,)"] in table
    assert ["[b]_1", "dense: 2", "(2,)", "8", "14"] in table
    assert ["total", "", "(2,)", "8", "14"] in table


def test_values_have_the_format_of_their_metric_regardless_of_its_name():
    percent = Metric("hits", lambda predictions, targets: targets, higher_is_better=True, format=".1%")
    plain = Metric("accuracy", lambda predictions, targets: targets, higher_is_better=True, format=".2f")
    scores = {"test": {"loss": 0.123456, "hits": 0.98765, "accuracy": 0.98765}}
    table = rows(scores_table(scores, {"test": 1000}, (percent, plain)))
    assert ["test", "1,000", "0.1235", "98.8%", "0.99"] in table


def test_the_columns_of_predictions_are_named():
    table = rows(predictions_table([Prediction("7", "cat", {"cat": 0.75, "dog": 0.25})], 1))
    assert ["example", "prediction", "probabilities"] in table
    assert ["example", "prediction"] in rows(predictions_table([Prediction("7", "cat", {})], 1))


def test_large_values_are_written_without_an_exponent_everywhere():
    values = {"loss": 0.5, "rmse": 35_360.4}
    assert ["test", "1,000", "0.5", "35,360"] in rows(scores_table({"test": values}, {"test": 1000}, (RMSE,)))
    estimates = {"test": {"rmse": Estimate(35_360.4, 1234.5)}}
    assert ["test", "35,360 ± 1,234"] in rows(folds_table(estimates, (RMSE,)))
    baseline = Baseline("mean", "the training mean", np.zeros((1, 1)), values)
    text = comparison_text(Comparison("test", RMSE, (baseline,)))
    assert text == "for comparison, rmse on the test part: the training mean 35,360"
    assert format_values(values, {}) == "loss 0.5  rmse 35,360"
    assert ["0", "1,312,345"] in rows(predictions_table([Prediction("0", {"price": 1_312_345.0}, {})], 1))
