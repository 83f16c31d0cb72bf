"""Check that random changes of the shipped configs are resolved or refused with a message, in bounded time.

    python experiments/reliability/config_fuzz.py --mutations 4000 --seed 0

A config is changed as text (lines, characters, tokens) or as data (values, types, keys, nesting). Each changed config
must be resolved, and its resolved form too, or raise an error with exit status 2 or 3 and a printable message, within
2 seconds of CPU time. Nothing is trained.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnet.config import yaml
from fnet.config.experiment import dump
from fnet.config.load import resolve
from fnet.core.wording import printable

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

MAX_SECONDS = 2.0
"""Maximum CPU time of one config."""

HANG_SECONDS = 60
"""Wall time after which a config counts as hanging."""


class Raw(str):
    """YAML that is written as it is."""

    __slots__ = ()


NUMBERS = [
    *(0, 1, -1, 2, 3, 7, 2**31, 2**32, 2**62, 2**63, 2**64, 10**9, 10**12, 10**30, -(10**9)),
    *(0.5, 1.0, 1e-45, 1e-300, 1e300, 1e-9, -0.0, 3.5),
]
RAW = """
~|true|no|.nan|.inf|-.inf|1e999|0x1f|0b1|0o7|1_0|2020-99-99|1:30|!!int x|!x y|!!binary aGk=|!!set {a}|&a 3|*a|@|%
!!python/name:os.system|!!python/object/apply:os.system [ls]|[&b [*b]]|{<<: {a: 1}}
"""
TEXTS = """
 |a b|.|..|../x|../../x|a/b|a.b|relu.|.relu|é|日本|😀|[red]|[/]|os.system|/dev/null|~|a=b|none|all|null|classes
vocabulary|dense|relu|conv|lstm|digits|adam|cosine|mse|cross_entropy|standard|train|train[:9]|test+test|train[-5:]|train[
train[:99999999999999999999]|train[200%:]|[::]
"""
SCALARS = [
    *(Raw(word) for word in ("", "9" * 5000, *RAW.strip("\n").replace("\n", "|").split("|"))),
    *(
        "",
        "\0",
        "\x1b[31m",
        "\n",
        "\t",
        "\u202e",
        "\ufeff",
        "\ud800",
        "x" * 300,
        *TEXTS.strip("\n").replace("\n", "|").split("|"),
    ),
]
TOKENS = [
    *"{}[]:,-#!'\"|>%?\t\r\0\x1b\x85\u2028\u202e\ufeff\ud800\n1é",
    *(": ", "- ", "  ", "&a ", "*a", "!!str ", "<<: ", "---\n", "...\n"),
]


def mutate(text: str, rng: random.Random) -> str:
    """Return a config with one to three random changes, of the text or of the data."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text = rng.choice((_change_text, _change_data, _change_data))(text, rng)
    return text


def _change_text(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or ["\n"]
    number, place = rng.randrange(len(lines)), rng.randrange(len(text) + 1)
    match rng.randrange(8):
        case 0:
            del lines[number]
        case 1:
            lines.insert(rng.randrange(len(lines) + 1), lines[number])
        case 2:
            other = rng.randrange(len(lines))
            lines[number], lines[other] = lines[other], lines[number]
        case 3:
            lines[number] = rng.choice(("", " ", "  ", "\t")) + lines[number].lstrip() * rng.choice((1, 2))
        case 4:
            return text[:place] + rng.choice(TOKENS) + text[place:]
        case 5:
            return text[:place] + text[place + rng.randrange(1, 12) :]
        case 6:
            return text[:place] + rng.choice("[{") * rng.choice((1, 150)) + text[place:]
        case _:
            return text[:place]
    return "".join(lines)


def _change_data(text: str, rng: random.Random) -> str:
    """Change the data of a config if the text is still valid; the result is written in flow style."""
    try:
        root = yaml.parse(text)
    except yaml.YamlError:
        return _change_text(text, rng)
    data = None if root is None else root.plain()
    places = list(_places(data))
    if not places:
        return _change_text(text, rng)
    holder, key = rng.choice(places)
    other, other_key = rng.choice(places)
    match rng.randrange(9):
        case 0 | 1 | 2:
            holder[key] = _odd_value(holder[key], rng)
        case 3:
            holder[key] = _written(other[other_key])
        case 4:
            del holder[key]
        case 5:
            inside = holder[key]
            holder[key] = rng.choice(([inside], {"layers": [inside]}, {_odd_key(rng): inside}, {"name": inside}))
        case 6 if isinstance(holder, dict):
            holder[_odd_key(rng)] = holder.pop(key)
        case 7 if isinstance(holder, list):
            holder[key:key] = [holder[key]] * rng.choice((1, 3, 50))
        case 8:
            block = rng.choice(({"times": rng.choice(NUMBERS)}, {"times": 1000, "scan": True}, {"times": 300}))
            holder[key] = {"repeat": {**block, "layers": [holder[key]]}}
        case _:
            holder[key], other[other_key] = _written(other[other_key]), _written(holder[key])
    return _to_yaml(data)


def _written(value: Any) -> Raw:
    """Return a value as YAML, so that a mapping is never put into itself."""
    return Raw(_to_yaml(value))


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (list or mapping, index or key) of every value inside."""
    entries = list(data.items()) if isinstance(data, dict) else list(enumerate(data)) if isinstance(data, list) else []
    for key, value in entries:
        yield data, key
        yield from _places(value)


def _odd_value(value: Any, rng: random.Random) -> Any:
    """Return a value to put in place of another one, often of the same type."""
    if rng.random() < 0.5 and isinstance(value, int | float | str):
        return rng.choice(SCALARS if isinstance(value, str) else NUMBERS)
    number, scalar = rng.choice(NUMBERS), rng.choice(SCALARS)
    nested = ([scalar], [number, number], [number] * 3, {_odd_key(rng): scalar}, [[[[number]]]])
    return rng.choice((number, number, scalar, scalar, [], {}, *nested))


def _odd_key(rng: random.Random) -> Any:
    keys = ["", "name", "units", "layers", "data", "times", "<<", "a b", "\x1b[31m", "\u202e", "x" * 300, "é"]
    return rng.choice((*keys, *map(Raw, ("1", "~", "true", ".nan", "[a]", "{a: 1}", "1.5", "2020-01-01"))))


def _to_yaml(value: Any) -> str:
    """Write data in flow style, text in quotes."""
    match value:
        case Raw():
            return str.__str__(value)
        case dict():
            return "{" + ", ".join(f"{_to_yaml(key)}: {_to_yaml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_to_yaml, value)) + "]"
        case float():
            return repr(value).replace("inf", ".inf").replace("nan", ".nan")
        case _:
            return json.dumps(value)


def failure(text: str, file: Path) -> str | None:
    """Return what is wrong with the response to a config, or None.

    Args:
        text: the config.
        file: where to write it.
    """
    start = time.process_time()
    try:
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        config = resolve(str(file)).config
        file.write_text(dump(config), encoding="utf-8")
        if resolve(str(file)).config != config:
            return "the resolved config is resolved to another one"
    except Exception as error:
        status = getattr(error, "exit_status", 3 if isinstance(error, OSError) else None)
        if status not in (2, 3):
            return f"{type(error).__name__}: {printable(str(error))[:200]} at {_place(error)}"
        if not str(error) or any(printable(line) != line for line in str(error).split("\n")):
            return f"not printable: {printable(str(error))[:200]}"
    seconds = time.process_time() - start
    return f"took {seconds:.1f} s" if seconds > MAX_SECONDS else None


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _texts(folder: Path) -> list[str]:
    """Return the shipped configs, with a small file of images in place of data that must be prepared."""
    rng = np.random.default_rng(0)
    np.savez(folder / "images.npz", x=rng.integers(0, 256, (40, 28, 28, 1), np.uint8), y=np.arange(40) % 10)
    texts = []
    for path in CONFIGS:
        root = yaml.parse(path.read_text(encoding="utf-8"))
        assert root is not None
        data = root.plain()
        if isinstance(data["data"], dict) and (data["data"].get("source") == "tfds" or "path" in data["data"]):
            texts.append(_to_yaml({**data, "data": {"path": str(folder / "images.npz")}}))
        else:
            texts.append(path.read_text(encoding="utf-8"))
    return texts


class _Hang(Exception):
    """There was no answer in time."""


def _stop(*_: Any) -> None:
    raise _Hang(f"no answer within {HANG_SECONDS} seconds")


def fuzz(mutations: int, seed: int, folder: Path) -> list[str]:
    """Return the failures of a number of random configs, each with its number and its text.

    Args:
        mutations: number of configs.
        seed: seed of the changes; the config of a number depends on the seed and the number alone.
        folder: an empty folder for the configs.
    """
    texts, failures = _texts(folder), []
    before = signal.signal(signal.SIGALRM, _stop)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(mutations):
                rng = random.Random(f"{seed} {number}")
                text = mutate(rng.choice(texts), rng)
                # Repeated, because an exception inside a callback of a library is lost.
                signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS, 1)
                problem = failure(text, folder / "c.yaml")
                signal.setitimer(signal.ITIMER_REAL, 0)
                if problem is not None:
                    failures.append(f"number {number}: {problem}\n{text[:2000]!r}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    """Print every failure and the totals; return 1 if there is a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=4000, help="the number of configs")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the changes")
    arguments = parser.parse_args(argv)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            failures = fuzz(arguments.mutations, arguments.seed, Path(folder))
        finally:
            os.chdir(here)
    for text in failures:
        print(text)
    print(f"config fuzz: {arguments.mutations:,} tried, {len(failures):,} failed, seed {arguments.seed}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
