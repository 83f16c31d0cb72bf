"""The progress of training as it is printed: lines without a terminal, a bar on one."""

import numpy as np
from rich.console import Console

from fnet.metrics import ACCURACY
from fnet.report import progress
from fnet.report.progress import TrainingProgress
from fnet.train.loop import Epoch, Segment
from fnet.train.state import Metrics


def segment(epoch, first_step, steps, total):
    return Segment(
        epoch, first_step, total, Metrics(np.full(steps, 0.5), {}, np.zeros(steps), np.ones(steps)), 64, 0.5, None
    )


def epoch(number, step):
    values = {"train_loss": 0.25, "train_accuracy": 0.875, "validation_accuracy": 0.75}
    return Epoch(number, step, values, 0.5, improved=False)


def lines(events, epochs, **settings):
    """The lines that a run without a terminal prints."""
    console = Console(width=200, **settings)
    with console.capture() as capture, TrainingProgress(console, epochs, (ACCURACY,)) as show:
        for event in events:
            show(event)
    return capture.get().splitlines()


def test_an_epoch_is_a_line_with_values_rate_and_time():
    (line,) = lines([segment(1, 0, 4, 8), epoch(1, 4)], 2)
    assert line.startswith(
        "epoch 1/2  train_loss 0.25  train_accuracy 87.5%  validation_accuracy 75.0%  128 examples/s  "
    )
    assert line.endswith(" s left")


def test_long_runs_print_about_twenty_lines():
    events = [event for n in range(1, 101) for event in (segment(n, 4 * n - 4, 4, 400), epoch(n, 4 * n))]
    printed = [int(line.split()[1].split("/")[0]) for line in lines(events, 100)]
    assert printed == [1, *range(5, 101, 5)]


def test_a_long_silence_within_an_epoch_ends_with_a_line(monkeypatch):
    monkeypatch.setattr(progress, "SILENCE", -1.0)
    (line,) = lines([segment(1, 0, 2, 8)], 1)
    assert line.startswith("epoch 1/1  train_loss 0.5  128 examples/s")


def test_a_terminal_shows_a_bar_in_place_of_lines():
    console = Console(width=200, force_terminal=True, color_system=None)
    with console.capture() as capture, TrainingProgress(console, 2, (ACCURACY,)) as show:
        for event in (segment(1, 0, 4, 8), epoch(1, 4), segment(2, 4, 2, 8)):
            show(event)
        show._bar.refresh()
    text = capture.get()
    assert "epoch 2/2" in text
    assert "validation_accuracy 75.0%" in text
