"""Does a run survive what ends programs: signals, closed pipes and a full disk?

Every case trains a small network in a process of its own, disturbs it after a random delay, and checks the exit status,
the messages and the run's folder.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from outcome import Outcome, report

from fnet.runs.folder import unfinished

CONFIGS = Path(__file__).parents[2] / "configs"
LONG = "train.epochs=10000000"
HANDLER = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
START = f"{HANDLER}; from fnet.__main__ import main; main()"
"""The command, also where this script was started with Ctrl-C ignored."""


class Case(NamedTuple):
    """One disturbance of one run.

    name: name of the case.
    disturb: (process, run) -> None, called once the process has started.
    statuses: exit statuses that are right.
    check: (run, errors) -> what is wrong, or "".
    overrides: settings of the run.
    config: its config.
    limit: maximum size of every file that the process writes, in bytes, in place of a full disk; None for no limit.
    """

    name: str
    disturb: Callable[[subprocess.Popen, Path], None]
    statuses: tuple[int, ...]
    check: Callable[[Path, str], str]
    overrides: Sequence[str] = (LONG,)
    config: str = "xor-mlp"
    limit: int | None = None


def cases(generator: random.Random) -> list[Case]:
    """Return the cases with random delays."""

    def after_records(*signals: signal.Signals, gap: float = 0.0) -> Callable[[subprocess.Popen, Path], None]:
        delay = generator.uniform(0.0, 0.5)

        def disturb(process: subprocess.Popen, run: Path) -> None:
            wait_for(run, "epoch", process)
            time.sleep(delay)
            for number in signals:
                process.send_signal(number)
                time.sleep(gap)

        return disturb

    def after_seconds(number: signal.Signals) -> Callable[[subprocess.Popen, Path], None]:
        delay = generator.uniform(1.0, 3.0)

        def disturb(process: subprocess.Popen, run: Path) -> None:  # noqa: ARG001
            time.sleep(delay)
            process.send_signal(number)

        return disturb

    def at_the_end(process: subprocess.Popen, run: Path) -> None:
        wait_for(run, "end", process)
        time.sleep(delay_at_the_end)
        process.send_signal(signal.SIGINT)

    def close_pipes(process: subprocess.Popen, run: Path) -> None:
        wait_for(run, "epoch", process)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()

    def nothing(process: subprocess.Popen, run: Path) -> None:
        pass

    delay_at_the_end = generator.uniform(0.0, 0.1)
    short = ["train.epochs=300"]
    gap = generator.uniform(0.0, 0.3)
    return [
        Case("Ctrl-C", after_records(signal.SIGINT), (130,), ends("interrupted", "SIGINT")),
        Case(
            "Ctrl-C twice", after_records(signal.SIGINT, signal.SIGINT, gap=gap), (130,), ends("interrupted", "SIGINT")
        ),
        Case("SIGTERM", after_records(signal.SIGTERM), (143,), ends("interrupted", "SIGTERM")),
        Case("SIGHUP", after_records(signal.SIGHUP), (129,), ends("interrupted", "SIGHUP")),
        Case("SIGKILL", after_records(signal.SIGKILL), (-signal.SIGKILL,), was_killed),
        Case("Ctrl-C at the start", after_seconds(signal.SIGINT), (130,), one_line),
        Case("SIGTERM at the start", after_seconds(signal.SIGTERM), (143, -signal.SIGTERM), one_line),
        Case("Ctrl-C at the end", at_the_end, (0, 130), ends("done", None), short),
        Case("closed pipes", close_pipes, (0,), ends("done", None), short),
        Case("no space for the log", nothing, (3,), has_model, short, limit=1 << 13),
        Case("no space for the model", nothing, (3,), has_reason, ["train.epochs=2"], "digits-mlp", limit=1 << 13),
    ]


def records(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run, without a line that is being written."""
    file = run / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def wait_for(run: Path, event: str, process: subprocess.Popen) -> None:
    """Wait until the log of a run has a record, or the process has ended."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if any(record["event"] == event for record in records(run)):
            return
        time.sleep(0.01)


def ends(stopped: str, name: str | None) -> Callable[[Path, str], str]:
    """Return the check that a run has its last record and its model."""

    def check(run: Path, errors: str) -> str:
        last = records(run)[-1]
        right = last["event"] == "end" and last["stopped"] == stopped and last.get("signal") == name
        return "" if right and has_model(run, errors) == "" else f"last record {last}, {sorted(os.listdir(run))}"

    return check


def has_model(run: Path, errors: str) -> str:
    """Check that the parameters were saved."""
    return "" if (run / "model.safetensors").exists() else f"no model: {errors}"


def has_reason(run: Path, errors: str) -> str:
    """Check that the log and the message say which file could not be written."""
    return "" if records(run)[-1]["event"] == "failed" and "model.safetensors cannot be written" in errors else errors


def was_killed(run: Path, errors: str) -> str:  # noqa: ARG001
    """Check that a killed run is recognized, and that the next run removes its temporary files."""
    why = unfinished(run)
    remains = run / ".model.safetensors-abcd1234"
    remains.write_text("")
    next_run = start("iris-logistic", run.parent, ["train.epochs=1"])
    next_run.communicate()
    return (
        ""
        if why.startswith("it was killed or its disk was full after") and not remains.exists()
        else f"{why}; {sorted(os.listdir(run))}"
    )


def one_line(run: Path, errors: str) -> str:  # noqa: ARG001
    """Check that at most one line was printed on standard error."""
    return "" if errors.count("\n") <= 1 else errors


def start(config: str, out: Path, overrides: Sequence[str], limit: int | None = None) -> subprocess.Popen:
    """Start a run in a process of its own."""

    def limit_files() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    arguments = ["train", str(CONFIGS / f"{config}.yaml"), f"out={out}", *overrides]
    return subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit_files,
        env=os.environ | {"TMPDIR": str(out)},
    )


def problem(case: Case) -> str:
    """Run a case; return what is wrong, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / f"{case.config}-1"
        process = start(case.config, Path(folder), case.overrides, case.limit)
        try:
            case.disturb(process, run)
            if process.stdout is None or process.stdout.closed:
                process.wait(timeout=60)
                errors = ""
            else:
                _, errors = process.communicate(timeout=60)
            if process.returncode not in case.statuses:
                return f"status {process.returncode}: {errors}"
            if "Traceback" in errors or "Exception ignored" in errors:
                return errors
            return case.check(run, errors)
        except (subprocess.TimeoutExpired, IndexError, OSError) as error:
            return repr(error)
        finally:
            process.kill()


def attack(seed: int) -> list[Outcome]:
    """Run all cases, two at a time, and print those that fail."""
    tried = cases(random.Random(seed))
    with ThreadPoolExecutor(2) as pool:
        problems = [*pool.map(problem, tried)]
    failed = [(case.name, text) for case, text in zip(tried, problems, strict=True) if text]
    for name, text in failed:
        print(f"{name}: {text}")
    return [Outcome("signals, pipes and full disks", len(tried), len(failed), seed)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the attack as a command."""
    return report(attack, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
