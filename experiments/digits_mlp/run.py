"""Compare `fnet train configs/digits-mlp.yaml` with scikit-learn's MLPClassifier over paired splits of the digits.

Both models are trained on the same training part and scored on the same test part, so that the variation between splits
cancels in the difference. The validation part is not used here; the settings were chosen on it, with other seeds.
"""

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from fnet.config.load import load
from fnet.data.pipeline import Splits
from fnet.runs.data import load_data
from fnet.runs.experiment import Experiment
from fnet.train import fit
from fnet.train.evaluate import outputs_of
from fnet.train.loop import Epoch, Segment

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "digits-mlp.yaml"

SKLEARN_SETTINGS = {"learning_rate_init": 3e-3, "batch_size": 64, "alpha": 0.0, "max_iter": 200}
"""Settings chosen by validation accuracy, like those of the config. The others are defaults: Adam, ReLU, and stopping
before `max_iter` if the training loss has not improved by 1e-4 for 10 epochs."""


class Fit(NamedTuple):
    """One trained model.

    accuracy: accuracy on the test part.
    seconds: duration of the training call, including compilation.
    steps_seconds: duration of the training steps alone; the same as `seconds` if nothing is compiled.
    """

    accuracy: float
    seconds: float
    steps_seconds: float


class Pair(NamedTuple):
    """Both models on one split."""

    seed: int
    fnet: Fit
    sklearn: Fit

    @property
    def difference(self) -> float:
        """fnet's test accuracy minus scikit-learn's: positive where fnet is better."""
        return self.fnet.accuracy - self.sklearn.accuracy


def fit_fnet(experiment: Experiment, splits: Splits) -> Fit:
    """Train as `fnet train` does, but without scoring the validation part, which does not affect the parameters.

    Raises:
        ValueError: for a config with early stopping, because only one of the models would use the validation part.
    """
    if experiment.early_stopping is not None:
        raise ValueError("the comparison trains both models for a fixed number of epochs; remove train.early_stopping")
    events: list[Segment | Epoch] = []
    began = time.perf_counter()
    fitted = fit(
        experiment.net,
        experiment.loss,
        experiment.optimizer(experiment.plan().steps),
        splits.train,
        epochs=experiment.epochs,
        batch_size=experiment.batch_size,
        seed=experiment.seed,
        regularization=experiment.penalties,
        on_event=events.append,
    )
    seconds = time.perf_counter() - began
    predictions = outputs_of(experiment.net, fitted.params, fitted.state, splits.test.x).argmax(axis=-1)
    steps_seconds = sum(event.seconds for event in events if isinstance(event, Epoch))
    return Fit(float(np.mean(predictions == splits.test.y)), seconds, steps_seconds)


def hidden_sizes(experiment: Experiment) -> tuple[int, ...]:
    """Return the units of every dense layer but the last, with which MLPClassifier builds the same network."""
    units = [int(layer.settings["units"]) for _, layer in experiment.net.children if layer.kind == "dense"]
    return tuple(units[:-1])


def fit_sklearn(hidden: tuple[int, ...], splits: Splits, seed: int) -> Fit:
    """Train MLPClassifier on the same normalized arrays, flattened."""
    x, x_test = (part.x.reshape(part.size, -1) for part in (splits.train, splits.test))
    model = MLPClassifier(hidden, random_state=seed, **SKLEARN_SETTINGS)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter is a chosen setting
        model.fit(x, splits.train.y)
    seconds = time.perf_counter() - began
    return Fit(float(np.mean(model.predict(x_test) == splits.test.y)), seconds, seconds)


def compare(seed: int, overrides: Sequence[str]) -> Pair:
    """Train both models on the split of one seed, which also determines their weights and order of examples."""
    experiment = load(str(CONFIG), [*overrides, f"seed={seed}"])
    splits, _ = load_data(experiment)
    return Pair(seed, fit_fnet(experiment, splits), fit_sklearn(hidden_sizes(experiment), splits, seed))


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation (1/(n-1)) of at least two values."""
    return statistics.fmean(values), statistics.stdev(values)


def summary(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the published numbers: accuracies in percent, differences in percentage points, and seconds per fit."""
    numbers: dict[str, float] = {"splits": len(pairs)}
    models: dict[str, Callable[[Pair], Fit]] = {"fnet": lambda pair: pair.fnet, "sklearn": lambda pair: pair.sklearn}
    for name, model in models.items():
        fits = [model(pair) for pair in pairs]
        mean, std = mean_and_std([100 * fit.accuracy for fit in fits])
        numbers |= {f"{name}_accuracy_mean": mean, f"{name}_accuracy_deviation": std}
        numbers[f"{name}_seconds"] = statistics.fmean(fit.seconds for fit in fits)
        numbers[f"{name}_steps_seconds"] = statistics.fmean(fit.steps_seconds for fit in fits)
    differences = [100 * pair.difference for pair in pairs]
    mean, std = mean_and_std(differences)
    return numbers | {
        "difference_mean": mean,
        "difference_deviation": std,
        "difference_standard_error": std / math.sqrt(len(pairs)),
        "fnet_better": sum(d > 0 for d in differences),
        "sklearn_better": sum(d < 0 for d in differences),
    }


def table(numbers: dict[str, float]) -> str:
    """Return the summary as the Markdown table of the README."""
    rows = [
        "| | mean test accuracy | standard deviation | seconds per fit | of which training steps |",
        "|---|---|---|---|---|",
    ]
    for name, label in (("fnet", "fnet"), ("sklearn", "scikit-learn MLPClassifier")):
        accuracy = f"{numbers[f'{name}_accuracy_mean']:.2f} % | {numbers[f'{name}_accuracy_deviation']:.2f}"
        rows.append(
            f"| {label} | {accuracy} | {numbers[f'{name}_seconds']:.2f} | {numbers[f'{name}_steps_seconds']:.2f} |"
        )
    ties = numbers["splits"] - numbers["fnet_better"] - numbers["sklearn_better"]
    difference = (
        f"fnet - scikit-learn, paired: {numbers['difference_mean']:+.2f} points, standard deviation "
        f"{numbers['difference_deviation']:.2f}, standard error {numbers['difference_standard_error']:.2f}\n"
        f"{numbers['splits']} splits: fnet better in {numbers['fnet_better']}, scikit-learn in "
        f"{numbers['sklearn_better']}, equal in {ties}"
    )
    return "\n".join([*rows, "", difference])


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Compare fnet with scikit-learn's MLPClassifier on the digits.")
    parser.add_argument("--splits", type=int, default=20, help="number of splits, with seeds 0, 1, ... (default 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every split and the summary to this file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that override those of the config")
    arguments = parser.parse_args()
    if arguments.splits < 2:
        parser.error("--splits must be at least 2, to have a standard deviation")
    return arguments


def main() -> None:
    """Run the comparison and print it."""
    arguments = parse()
    pairs = []
    for seed in range(arguments.splits):
        pair = compare(seed, arguments.overrides)
        pairs.append(pair)
        print(
            f"seed {seed:2}: fnet {pair.fnet.accuracy:7.2%} in {pair.fnet.seconds:.2f} s, "
            f"scikit-learn {pair.sklearn.accuracy:7.2%} in {pair.sklearn.seconds:.2f} s, "
            f"difference {100 * pair.difference:+.2f} points",
            flush=True,
        )
    numbers = summary(pairs)
    print(f"\n{table(numbers)}")
    if arguments.json is not None:
        rows = [{"seed": p.seed, "fnet": p.fnet._asdict(), "sklearn": p.sklearn._asdict()} for p in pairs]
        arguments.json.write_text(json.dumps({"summary": numbers, "splits": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
