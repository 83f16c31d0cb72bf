"""Run every attack of this folder, one after the other, and write their outcomes into the table of README.md."""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from outcome import SKIPPED, Outcome

FOLDER = Path(__file__).parent
SCRIPTS = (
    "config_fuzz.py",
    "model_files.py",
    "data_files.py",
    "cache_flips.py",
    "signals.py",
    "differential.py",
    "random_networks.py",
)
"""The scripts with short runs. 500 random networks, and mutants.py, take much longer and are started by hand."""

LIMIT = 300
"""Seconds after which a script counts as failed."""

LINE = re.compile(r"(?P<attack>.+): (?P<tried>[\d,]+) tried, (?P<failed>[\d,]+) failed, seed (?P<seed>-?\d+)")
START, END = "<!-- table -->", "<!-- end of table -->"


class Result(NamedTuple):
    """What a script printed, and how it ended."""

    script: str
    outcomes: list[Outcome]
    skipped: str | None
    problem: str | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the script ended normally and no case failed."""
        return self.problem is None and not any(outcome.failed for outcome in self.outcomes)

    @property
    def rows(self) -> list[str]:
        """The rows of the table, the first with the time of the script."""
        cells = [f"{o.attack} | {o.tried:,} | {o.failed:,} | {o.seed}" for o in self.outcomes]
        cells += [f"{text} | | | " for text in (self.skipped, self.problem) if text is not None]
        seconds = [f"{self.seconds:.0f}", *[""] * (len(cells) - 1)]
        link = f"[{self.script}]({self.script})"
        return [f"| {link} | {cell} | {number} |" for cell, number in zip(cells, seconds, strict=True)]


def run(script: str, seed: int) -> Result:
    """Run a script in a process of its own, and show what it prints."""
    start = time.perf_counter()
    command = [sys.executable, str(FOLDER / script), "--seed", str(seed)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        code, output, error = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        code, output, error = None, "", ""
    print(output, end="", flush=True)
    lines = output.splitlines()
    outcomes = [
        Outcome(match["attack"], *(int(match[key].replace(",", "")) for key in ("tried", "failed", "seed")))
        for match in map(LINE.fullmatch, lines)
        if match
    ]
    skipped = problem = None
    if code is None:
        problem = f"**not finished after {LIMIT} s**"
    elif code == SKIPPED:
        skipped = lines[-1]
    elif not outcomes or code != any(outcome.failed for outcome in outcomes):
        print(error, file=sys.stderr)
        problem = f"**ended with exit status {code}**"
    return Result(script, outcomes, skipped, problem, time.perf_counter() - start)


def table(results: Sequence[Result]) -> str:
    """Return the outcomes as a Markdown table."""
    head = ["| script | attack | tried | failed | seed | seconds |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(row for result in results for row in result.rows)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run all scripts, write the table, and return 1 if a case failed or a script did not run to its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random cases (default 0)")
    seed = parser.parse_args(argv).seed
    results = [run(script, seed) for script in SCRIPTS]
    text = table(results)
    readme = FOLDER / "README.md"
    before, rest = readme.read_text().split(START)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}")
    print(f"{text}\n{sum(result.seconds for result in results):.0f} s")
    return int(not all(result.ok for result in results))


if __name__ == "__main__":
    sys.exit(main())
