"""Seconds that fnet takes for tables of many rows and of many columns, compared with plain pandas.

Each command runs in a process of its own. The first run of a table decodes it, and the second finds it in the cache.

python experiments/benchmarks/tables.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from fnet.data.table import readers

LONG, WIDE = (300_000, 11), (400, 5000)
"""Rows and columns of the tables."""

COMMANDS = {
    "long": (("validate",), ("validate",)),
    "wide": (("train", "train.epochs=20"), ("train", "train.epochs=20"), ("data", "show")),
}
"""The commands that are timed for each table, in this order."""


def write_tables(folder: Path, seed: int) -> None:
    """Write `long.csv` of numbers, counts, names, dates and classes, `wide.csv` of numbers, and their configs."""
    rng = np.random.default_rng(seed)
    rows, columns = LONG
    numbers = rng.normal(size=(rows, columns - 4)).round(4)
    long = pd.DataFrame(numbers, columns=[f"x{number}" for number in range(columns - 4)])
    days = np.datetime64("2020-01-01") + rng.integers(0, 1000, rows)
    long["count"], long["town"] = rng.integers(0, 1000, rows), rng.choice(["Ghent", "Bruges", "Leuven"], rows)
    long["day"] = np.datetime_as_string(days, "D")
    noisy = numbers.sum(axis=1) + rng.normal(size=rows) > 0
    long["y"] = np.where(noisy, "yes", "no")
    long.to_csv(folder / "long.csv", index=False)
    rows, columns = WIDE
    numbers = rng.normal(size=(rows, columns - 1)).round(4)
    wide = pd.DataFrame(numbers, columns=[f"x{number}" for number in range(columns - 1)])
    wide["y"] = np.where(numbers[:, :50].sum(axis=1) + rng.normal(size=rows) > 0, "yes", "no")
    wide.to_csv(folder / "wide.csv", index=False)
    for name in ("long", "wide"):
        model = "[{dense: 16}, relu, {dense: 2}]"
        (folder / f"{name}.yaml").write_text(f"data: {{path: {name}.csv, target: y}}\nmodel: {model}\n")


def seconds_of(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def run(folder: Path, name: str, *command: str) -> None:
    """Run a command of fnet in a process of its own."""
    words, overrides = ([word for word in command if ("=" in word) is chosen] for chosen in (False, True))
    subprocess.run(
        [sys.executable, "-m", "fnet", *words, f"{name}.yaml", *overrides],
        cwd=folder, env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def main() -> None:
    """Print the medians of reading in turns, and the seconds of each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of reading (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the tables (default 0)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tables(folder, arguments.seed)
        print("| table | pandas.read_csv, s | the same with pyarrow, s | fnet, s | fnet / pandas |")
        print("|---|---|---|---|---|")
        for name, (rows, columns) in {"long": LONG, "wide": WIDE}.items():
            path = str(folder / f"{name}.csv")
            kinds = {
                "pandas": lambda path=path: pd.read_csv(path),
                "pyarrow": lambda path=path: pd.read_csv(path, engine="pyarrow"),
                "fnet": lambda path=path: readers.read(path, name="csv"),
            }
            seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(arguments.rounds + 1):
                for kind, function in kinds.items():
                    seconds[kind].append(seconds_of(function))
            medians = {kind: statistics.median(times[1:]) for kind, times in seconds.items()}
            cells = " | ".join(f"{value:.2f}" for value in medians.values())
            print(f"| {rows:,} x {columns:,} | {cells} | {medians['fnet'] / medians['pandas']:.2f} |")
        print("\n| table | command | s |\n|---|---|---|")
        for name, commands in COMMANDS.items():
            for number, command in enumerate(commands):
                elapsed = seconds_of(lambda name=name, command=command: run(folder, name, *command))
                print(f"| {name} | fnet {' '.join(command)}{', first' if number == 0 else ''} | {elapsed:.1f} |")


if __name__ == "__main__":
    main()
