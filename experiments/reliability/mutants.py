"""The strength of the tests: small mistakes are made in a sample of fnet's lines, and the tests must notice them.

A first run records, for each test, the blocks of code that it executes. The tests of a mutant are those that execute
its block, the closest and shortest first. Every mutant runs in a process that is forked from one in which the libraries
are imported, but not fnet. Results are kept, so that a run can be continued.
"""

import argparse
import collections
import contextlib
import hashlib
import importlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mutation
from mutation import ROOT, Mutant

LIBRARIES = (
    "hypothesis",
    "jax",
    "jax.experimental.pallas",
    "jaxtyping",
    "jinja2",
    "matplotlib.figure",
    "optax",
    "pandas",
    "PIL.Image",
    "pydantic",
    "pytest",
    "rich.console",
    "ruamel.yaml",
    "safetensors.numpy",
    "scipy.special",
    "sklearn.datasets",
    "tensorflow_datasets",
    "typer.testing",
)
"""Libraries imported once; fnet is imported by every process itself."""

DOCTESTS = "fnet"
"""The recorded group of all doctests; every other group is a test file."""

FIRST_SECONDS = 20
"""Processor seconds of the closest tests that run first; most mutants fall to them."""

NOTICED = ("killed", "timed out")

START = "import sys; sys.path.insert(0, {!r}); import mutation; sys.path.pop(0); mutation.install_from_environment()"
"""`sitecustomize.py` of the Python processes that tests start, whose fnet is mutated or observed too."""


class Result(NamedTuple):
    """Outcome of a mutant: killed, survived, timed out, or not covered by any test; `by` is the test that failed."""

    path: str
    line: int
    column: int
    description: str
    outcome: str
    by: str
    tests: int
    seconds: float


class Test(NamedTuple):
    """A recorded test: its group, processor seconds, and the blocks that it executed."""

    name: str
    group: str
    seconds: float
    blocks: frozenset[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=300, help="size of the sample")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--under", action="append", help="a folder or file of fnet, such as fnet/train; repeatable")
    parser.add_argument("--only", action="append", help="all mutants of a line, such as fnet/losses.py:30; repeatable")
    parser.add_argument("--resume", action="store_true", help="skip mutants that have a result")
    parser.add_argument("--again", action="store_true", help="run those again that have a result other than killed")
    parser.add_argument("--seconds", type=float, default=90, help="processor seconds of tests per mutant")
    parser.add_argument("--record", action="store_true", help="record every test again, not only changed test files")
    parser.add_argument("--list", action="store_true", help="list the sample without running it")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "fnet-mutants", help="results")
    options = parser.parse_args()
    sample = sample_of(options)
    if options.list:
        for mutant in sample:
            print(name_of(mutant))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    prepare(options.out)
    tests = recorded(options.out, options.record)
    file = options.out / "results.json"
    results = {name_of(result): result for result in map(Result._make, _read(file, []))}
    for number, mutant in enumerate(sample, 1):
        before = results.get(name_of(mutant))
        if before and (options.resume or (options.again and before.outcome in NOTICED)):
            continue
        result = run_mutant(mutant, tests, options.seconds, options.out)
        results[name_of(mutant)] = result
        _write(file, list(results.values()))
        print(f"{number}/{len(sample)} {result.outcome}: {name_of(mutant)} ({result.seconds:.0f} s) {result.by}")
    print_table([results[name_of(mutant)] for mutant in sample])


def name_of(mutant: Mutant | Result) -> str:
    """Return the name by which a mutant is found again."""
    return f"{mutant.path}:{mutant.line}:{mutant.column} {mutant.description}"


def sample_of(options: argparse.Namespace) -> list[Mutant]:
    """Return the sample of mutants: random lines, and a random mutant of each.

    The order depends on the seed and the text of the line, so that most of the sample stays when other lines change.
    """
    lines: dict[tuple, list[Mutant]] = collections.defaultdict(list)
    for file in sorted((ROOT / "fnet").rglob("*.py")):
        path = file.relative_to(ROOT).as_posix()
        if options.under and not any(f"{path}/".startswith(f"{under.rstrip('/')}/") for under in options.under):
            continue
        text = file.read_text(encoding="utf-8").splitlines()
        for mutant in mutation.mutants(path):
            line = text[mutant.line - 1]
            lines[path, line, text[: mutant.line].count(line)].append(mutant)
    if options.only:
        return [m for members in lines.values() for m in members if f"{m.path}:{m.line}" in options.only]
    generators = {key: random.Random(f"{options.seed} {key}") for key in lines}
    order = sorted(lines, key=lambda key: generators[key].random())
    return [generators[key].choice(lines[key]) for key in order[: options.mutants]]


def prepare(out: Path) -> None:
    """Import the libraries, and set what all processes share: the compilation cache, and folders away from the user's.

    Tests take the folder above their own for the compilation cache, as the workers of pytest-xdist do.
    """
    os.chdir(ROOT)
    os.environ |= {
        "PYTEST_XDIST_WORKER": "mutants",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(out / "hypothesis"),
        "XDG_CACHE_HOME": str(out / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    for name in LIBRARIES:
        importlib.import_module(name)
    assert "fnet" not in sys.modules


def recorded(out: Path, everything: bool) -> list[Test]:
    """Return the record of all tests, after recording those whose files changed."""
    groups = [DOCTESTS, *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests").rglob("test_*.py")))]
    tests = []
    for group in groups:
        data = record_file(out, group, everything)
        names = data.get("blocks", [])
        collected = data.get("collected", [])
        tests.extend(
            Test(name, group, entry["seconds"], frozenset(names[i] for i in (*collected, *entry["blocks"])))
            for name, entry in data.get("tests", {}).items()
            if entry["passed"]
        )
    return tests


def record_file(out: Path, group: str, again: bool) -> dict:
    """Return the record of one group, after recording it if its file changed."""
    file = out / "record" / (group.replace("/", ".") + ".json")
    file.parent.mkdir(exist_ok=True)
    digest = "" if group == DOCTESTS else hashlib.sha256((ROOT / group).read_bytes()).hexdigest()
    data = _read(file, {})
    if not again and data.get("hash") == digest:
        return data
    before = time.monotonic()
    in_child(out, 1800, lambda _: record_group(file, group))
    data = _read(file, {}) | {"hash": digest}
    _write(file, data)
    failed = [name for name, entry in data.get("tests", {}).items() if not entry["passed"]]
    print(f"recorded {group} ({time.monotonic() - before:.0f} s)", *failed, flush=True)
    return data


def record_group(file: Path, group: str) -> int:
    """Run the tests of one group, and write what each executes."""
    observed = Path(os.environ["FNET_MUTANTS"], "observed")
    observed.mkdir()
    os.environ["FNET_OBSERVED"] = str(observed)
    plugin = _Recorder(mutation.install_observer(), observed)
    status = run_tests([group], plugin)
    places: dict[str, int] = {}
    tests = {
        name: {
            "seconds": plugin.seconds[name],
            "passed": name not in plugin.failed,
            "blocks": [places.setdefault(block, len(places)) for block in sorted(executed)],
        }
        for name, executed in plugin.executed.items()
    }
    collected = [places.setdefault(block, len(places)) for block in sorted(plugin.collected)]
    _write(file, {"blocks": list(places), "collected": collected, "tests": tests})
    return status


def run_tests(files: list[str], plugin: object) -> int:
    """Run the tests of files, or all doctests, in this process."""
    import pytest

    doctests = ["--doctest-modules"] if any(file.startswith("fnet") for file in files) else []
    folder = f"{os.environ['FNET_MUTANTS']}/tests"
    arguments = [
        "-q",
        "-x",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        f"--basetemp={folder}",
        *doctests,
    ]
    if isinstance(plugin, _Recorder):
        arguments.remove("-x")
    return pytest.main([*arguments, *files], plugins=[plugin])


class _Recorder:
    """Plugin that records the blocks and processor seconds of each test, with those of the processes that it starts.

    Blocks executed while a file is collected, such as those that make its parameters, count for all of its tests.
    """

    def __init__(self, observer: mutation.Observer, observed: Path):
        self.observer = observer
        self.observed = observed
        self.collected = observer.executed
        self.executed: dict[str, set[str]] = {}
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.observer.executed = self.executed[nodeid] = set()
        self.seconds[nodeid] = -_processor_seconds()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.seconds[nodeid] += _processor_seconds()
        for file in self.observed.iterdir():
            self.observer.executed.update(file.read_text().splitlines())
            file.unlink()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.outcome != "passed":
            self.failed.add(report.nodeid)


class _Selection:
    """Plugin that runs the selected tests in their order, reports each, and ends the process when one takes too long.

    A test may take ten times as long as when it was recorded.
    """

    def __init__(self, tests: list[Test], connection: int):
        self.tests = {test.name: (place, test.seconds) for place, test in enumerate(tests)}
        self.connection = connection

    def report(self, *words: object) -> None:
        os.write(self.connection, (" ".join(map(str, words)) + "\n").encode())

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.tests), key=lambda item: self.tests[item.nodeid][0]
        )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        seconds = self.tests[nodeid][1]
        signal.setitimer(signal.ITIMER_PROF, 60 + 10 * seconds)
        signal.setitimer(signal.ITIMER_REAL, 300 + 50 * seconds)
        self.report("started", nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.report("failed", report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.report("failed", "collection of", report.nodeid)


def _processor_seconds() -> float:
    return sum(os.times()[:4])


def run_mutant(mutant: Mutant, recorded: list[Test], seconds: float, out: Path) -> Result:
    """Run the tests of a mutant, the closest first, until one fails or the budget is spent."""
    before = _processor_seconds()
    outcome, by, count = "not covered", "", 0
    for tests in batches(mutant, recorded, seconds):
        count += len(tests)
        outcome, by = run_batch(mutant, tests, out)
        if outcome != "survived":
            break
    return Result(*mutant[:1], *mutant[2:5], outcome, by, count, round(_processor_seconds() - before, 1))


def batches(mutant: Mutant, recorded: list[Test], seconds: float) -> list[list[Test]]:
    """Return the tests of a mutant in batches: those closest, further ones, and whole files of tests that execute it.

    Code that is executed only on import, or not by any test, is tested by the tests that execute its module, then by
    all others.
    """
    block = mutant.path + mutant.block
    tests = [test for test in recorded if block in test.blocks] if mutant.block else []
    groups = {test.group for test in tests} or {test.group for test in recorded}
    tests = tests or [test for test in recorded if any(b.startswith(f"{mutant.path}.") for b in test.blocks)]
    names = {test.name for test in tests}
    wide = [test for test in recorded if test.group in groups and test.name not in names]
    found: list[list[Test]] = [[], [], []]
    spent = 0.0
    for place, test in enumerate([*ordered(mutant.path, tests), *ordered(mutant.path, wide)]):
        spent += test.seconds
        if spent > seconds and place:
            break
        found[2 if place >= len(tests) else int(spent > FIRST_SECONDS)].append(test)
    return [batch for batch in found if batch]


def ordered(path: str, tests: list[Test]) -> list[Test]:
    """Return tests by file, the closest and then the shortest first."""
    seconds: collections.Counter[str] = collections.Counter()
    for test in tests:
        seconds[test.name.partition("::")[0]] += test.seconds  # type: ignore[assignment]

    def rank(test: Test) -> tuple:
        file = test.name.partition("::")[0]
        return distance(path, test.name), seconds[file], file, test.seconds

    return sorted(tests, key=rank)


def distance(path: str, test: str) -> int:
    """Return how far a test is from a file, by their names alone."""
    _, *folders, name = path.removesuffix(".py").split("/")
    file = test.partition("::")[0]
    if file == path:
        return 0
    words = set(name.split("_"))
    near = words & set(Path(file).stem.split("_"))
    same = file.split("/")[1:-1] == folders
    return 1 if same and near else 2 if same or near else 3


def run_batch(mutant: Mutant, tests: list[Test], out: Path) -> tuple[str, str]:
    """Run tests of one mutant in a process of their own, and return the outcome and the test that failed."""
    files = list(dict.fromkeys(test.name.partition("::")[0] for test in tests))

    def child(connection: int) -> int:
        os.environ |= {"FNET_MUTANT": mutant.path, "FNET_MUTANT_INDEX": str(mutant.index)}
        mutation.install_mutant(mutant.path, mutant.index)
        return run_tests(files, _Selection(tests, connection))

    limit = 600 + 20 * sum(test.seconds for test in tests)
    lines, timed_out = in_child(out, limit, child)
    failed = [line.partition(" ")[2] for line in lines if line.startswith("failed ")]
    started = [line.partition(" ")[2] for line in lines if line.startswith("started ")]
    if failed:
        return "killed", failed[0]
    if lines and lines[-1] == "finished 0":
        return "survived", ""
    if timed_out:
        return "timed out", started[-1] if started else "collection"
    return "killed", started[-1] if started else "collection"


def in_child(out: Path, limit: float, function: Callable[[int], object]) -> tuple[list[str], bool]:
    """Run a function in a forked process of its own group, and return the lines that it reported, and if it was ended.

    The function gets the file descriptor to which it reports. The last line is "finished" and what the function
    returned. Its output goes to a file, `output.txt`. All processes that it started end with it.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(dir=out, prefix="process-", ignore_cleanup_errors=True) as folder:
        process = os.fork()
        if not process:
            try:
                os.setsid()
                os.close(reading)
                output = os.open(out / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(output, 1)
                os.dup2(output, 2)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                start = Path(folder, "start")
                start.mkdir()
                (start / "sitecustomize.py").write_text(START.format(str(Path(__file__).parent)))
                os.environ |= {"FNET_MUTANTS": folder, "PYTHONPATH": f"{start}:{ROOT}"}
                (out / "compiled").mkdir(exist_ok=True)
                Path(folder, "compiled").symlink_to(out / "compiled")
                os.write(writing, f"finished {function(writing):d}\n".encode())
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        os.close(writing)
        text, ended = _read_until(reading, time.monotonic() + limit)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
    stopped = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
    return text.splitlines(), ended or stopped


def _read_until(reading: int, end: float) -> tuple[str, bool]:
    """Return what is read until the other side closes, and whether the time ended before."""
    import select

    text = b""
    with os.fdopen(reading, "rb", buffering=0) as file:
        while time.monotonic() < end:
            if select.select([file], [], [], max(0.0, min(5.0, end - time.monotonic())))[0]:
                part = file.read(65536)
                text += part
                if not part or text.splitlines()[-1].startswith(b"finished"):
                    return text.decode(), False
    return text.decode(), True


def print_table(results: list[Result]) -> None:
    """Print the results by package, and the mutants that no test noticed, those not explained in `mutants.md` last."""
    packages = collections.defaultdict(list)
    for result in results:
        packages["/".join(result.path.split("/")[:2]).removesuffix(".py")].append(result.outcome)
    print("\n| package | mutants | killed | timed out | survived | not covered |\n|---|---|---|---|---|---|")
    for package, outcomes in [*sorted(packages.items()), ("all", [result.outcome for result in results])]:
        counts = [outcomes.count(outcome) for outcome in ("killed", "timed out", "survived", "not covered")]
        print(f"| {package} | {len(outcomes)} |", " | ".join(map(str, counts)), "|")
    unnoticed = [result for result in results if result.outcome not in NOTICED]
    explanations = Path(__file__).with_suffix(".md").read_text(encoding="utf-8").partition("## Noticed")[0]
    explained = [result for result in unnoticed if row_of(result) in explanations]
    print(f"\n{len(results) - len(unnoticed)} of {len(results)} noticed, {len(explained)} of the others explained")
    for result in [*explained, *(result for result in unnoticed if result not in explained)]:
        print(f"{'explained' if result in explained else result.outcome}: {name_of(result)}\n    {row_of(result)}")


def row_of(result: Result) -> str:
    """Return the start of a mutant's row in `mutants.md`: it names the text of the line, not its number."""
    line = (ROOT / result.path).read_text(encoding="utf-8").splitlines()[result.line - 1].strip()
    cells = (result.path, f"`{line}`", f"`{result.description}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _read(file: Path, default: Any) -> Any:
    return json.loads(file.read_text()) if file.exists() else default


def _write(file: Path, data: Any) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(data))
    partial.replace(file)


if __name__ == "__main__":
    main()
