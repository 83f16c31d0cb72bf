"""Tables of results."""

import numpy as np
from rich.console import Console

from fnet.metrics import Metric
from fnet.report.console import confusion_table, scores_table


def printed(table):
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return [
        [cell.strip() for cell in line.strip("│┃\n").replace("┃", "│").split("│")]
        for line in capture.get().splitlines()
    ]


def test_few_classes_stand_side_by_side():
    lines = printed(confusion_table(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), ["cat", "dog"]))
    assert ["cat", "1", "1", "50.0%"] in lines
    assert ["dog", "·", "2", "100.0%"] in lines


def test_of_many_classes_the_most_frequent_mistakes_are_listed():
    """20 classes; class 3 is taken for 7 three times of four, class 5 for 3 once of one, the rest is right."""
    names = [" " if k == 3 else "\n" if k == 5 else chr(ord("a") + k) for k in range(20)]
    labels = np.array([*range(20), 3, 3, 3])
    decisions = np.array([k if k != 5 else 3 for k in range(20)] + [7, 7, 7])
    lines = printed(confusion_table(decisions, labels, names))
    assert ["4 of 23 decisions are wrong; most often:"] in lines
    rows = [line for line in lines if len(line) == 4]
    assert rows[1:] == [["' '", "h", "3", "75.0%"], ["'\\n'", "' '", "1", "100.0%"]]


def test_values_are_shown_in_the_format_of_their_metric_whatever_its_name():
    percent = Metric("hits", lambda predictions, targets: targets, higher_is_better=True, format=".1%")
    plain = Metric("accuracy", lambda predictions, targets: targets, higher_is_better=True, format=".2f")
    scores = {"test": {"loss": 0.123456, "hits": 0.98765, "accuracy": 0.98765}}
    lines = printed(scores_table(scores, {"test": 1000}, (percent, plain)))
    assert ["test", "1,000", "0.1235", "98.8%", "0.99"] in lines
