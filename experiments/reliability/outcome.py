"""How an attack reports what it found: one `Outcome` per family of cases, printed as a line of standard output."""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

SKIPPED = 4
"""Exit status of an attack that cannot run because an optional package is missing."""


class Outcome(NamedTuple):
    """The number of cases of one family of an attack, and how many of them failed.

    Args:
        attack: name of the family, such as "altered model files", for a table.
        tried: number of cases.
        failed: number of cases in which a guarantee did not hold.
        seed: seed of the random cases; 0 where nothing is random. The same seed gives the same cases.
    """

    attack: str
    tried: int
    failed: int
    seed: int

    def __str__(self) -> str:
        return f"{self.attack}: {self.tried:,} tried, {self.failed:,} failed, seed {self.seed}"


class Skipped(Exception):
    """An attack cannot run; the message says which optional package to install."""


def report(
    attack: Callable[[int], list[Outcome]], description: str | None, argv: Sequence[str] | None = None, seed: int = 0
) -> int:
    """Run an attack as a command, print its outcomes, and return the exit status.

    Args:
        attack: function of a seed, such as `attack` of a script.
        description: help text of the command.
        argv: arguments of the command; None for those of the process.
        seed: default of `--seed`.

    Returns:
        0 if no case failed, 1 if one failed, and `SKIPPED` if the attack cannot run.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=seed, help=f"seed of the random cases (default {seed})")
    try:
        outcomes = attack(parser.parse_args(argv).seed)
    except Skipped as skipped:
        print(f"skipped: {skipped}")
        return SKIPPED
    for outcome in outcomes:
        print(outcome, flush=True)
    return int(any(outcome.failed for outcome in outcomes))
