"""Compare the config that `fnet init` writes, without any further setting, with scikit-learn on eleven tables.

The peers are `HistGradientBoosting` and a linear model, `LogisticRegression` or `RidgeCV`, with their default settings.
All are trained on the same training part, encoded and normalized alike, and scored on the same test part.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from tables import TABLES

from fnet.config.load import load
from fnet.config.starter import starter
from fnet.data.source import DataWarning
from fnet.runs.data import load_data
from fnet.runs.run import run

MARGIN = 0.02
"""Difference to the better peer, in accuracy or R², up to which the network counts as equally good."""


class Result(NamedTuple):
    """Mean scores on the test part over the seeds: accuracy for classes, R² for values."""

    table: str
    rows: int
    score: str
    fnet: float
    boosting: float
    linear: float
    seconds: float

    @property
    def best_peer(self) -> float:
        """The score of the better peer."""
        return max(self.boosting, self.linear)


def main() -> None:
    """Print the table of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds: of the split, and of the network")
    parser.add_argument("--tables", nargs="*", default=list(TABLES), choices=list(TABLES), help="tables to try")
    options = parser.parse_args()
    warnings.simplefilter("ignore", DataWarning)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print("| table | rows | score | fnet | boosting | linear | difference to the better | seconds of fnet |")
    print("|---|---|---|---|---|---|---|---|")
    results = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["XDG_CACHE_HOME"] = folder
        for name in options.tables:
            result = compare(name, options.seeds)
            results.append(result)
            scores = (f"{value:.3f}" for value in (result.fnet, result.boosting, result.linear))
            difference = result.fnet - result.best_peer
            cells = [name, f"{result.rows:,}", result.score, *scores, f"{difference:+.3f}", f"{result.seconds:.1f}"]
            print("|", " | ".join(cells), "|", flush=True)
    good = sum(result.fnet >= result.best_peer - MARGIN for result in results)
    print(f"\nfnet is within {MARGIN} of the better peer, or above it, on {good} of {len(results)} tables")


def compare(name: str, seeds: int) -> Result:
    """Return the mean scores for one table."""
    target, make = TABLES[name]
    table = make(np.random.default_rng(0))
    table.to_csv(f"{name}.csv", index=False)
    Path(f"{name}.yaml").write_text(starter(f"{name}.csv", Path.cwd(), target).text)
    scores: list[tuple[float, ...]] = []
    for seed in range(seeds):
        experiment = load(f"{name}.yaml", [f"seed={seed}"])
        before = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            outcome = run(experiment)
        seconds = time.perf_counter() - before
        kind = "accuracy" if experiment.spec.targets.kind == "classes" else "r2"
        splits, _ = load_data(experiment)
        peers = (peer_score(peer, splits) for peer in peers_for(kind, seed))
        scores.append((outcome.scores["test"][kind], *peers, seconds))
    means = (statistics.fmean(values) for values in zip(*scores, strict=True))
    return Result(name, len(table), "accuracy" if kind == "accuracy" else "R²", *means)


def peers_for(kind: str, seed: int) -> tuple[Any, Any]:
    """Return the two peers for classes or values."""
    if kind == "accuracy":
        return HistGradientBoostingClassifier(random_state=seed), LogisticRegression(max_iter=1000)
    return HistGradientBoostingRegressor(random_state=seed), RidgeCV(np.logspace(-3, 3, 13))


def peer_score(peer: Any, splits: Any) -> float:
    """Return the score of a model of scikit-learn on the test part, after training on the training part."""
    train, test = ((np.asarray(part.x), np.asarray(part.y).ravel()) for part in (splits.train, splits.test))
    return float(peer.fit(*train).score(*test))


if __name__ == "__main__":
    main()
