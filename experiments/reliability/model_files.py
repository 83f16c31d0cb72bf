"""Altered model files: each is refused with one line, or is a valid model; none ends in a traceback.

A small classifier and a small text model are trained. Their files are altered in many ways and given to
`fnet predict`, `fnet evaluate` and `fnet.load`, in one process. What must happen is decided here, not by fnet:

- A file whose bytes were damaged, with the checksum that it had, must be refused.
- A file without a checksum, as an editing program would leave it, must be refused if an array is missing, added,
  renamed, of another shape or kind, or not finite, and if the metadata contradict each other. It is accepted where its
  meaning is unchanged, or where it is another valid model, such as one with another finite weight or class name.
- The three callers agree, except that `fnet evaluate` may refuse a model that disagrees with config.yaml. The
  message is one line that names the file.
"""

import argparse
import copy
import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from typer.testing import CliRunner

import fnet
from fnet.cli.app import app
from fnet.runs.folder import FolderError

CLASSIFIER = """\
data: {name: iris, split: {train: 0.2, validation: 0, test: 0.1}}
model: [{dense: 4}, batch_norm, tanh, {dense: 3}]
loss: {name: cross_entropy, label_smoothing: 0.1}
train: {epochs: 1}
"""
TEXT = """\
data: {name: sentences, samples: 20, block: 4}
model: [{one_hot: 27}, {dense: 27}]
train: {epochs: 1}
"""

DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int32": "I32", "bool": "BOOL"}
VALUES = (None, True, -1, 0, 10**30, 1.5, "x", "", [], ["x"], {}, [[]], float("nan"))
"""The values that replace each value of the metadata."""


class Content(NamedTuple):
    """The content of a model file: arrays by name, and the metadata."""

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]


class Altered(NamedTuple):
    """An altered file.

    name: what was altered.
    data: the bytes of the file.
    accepted: whether it must be accepted (True) or refused (False); None if both are right.
    agrees: whether it still agrees with config.yaml, with which `fnet evaluate` compares it.
    """

    name: str
    data: bytes
    accepted: bool | None = False
    agrees: bool = True


def read(data: bytes) -> Content:
    """Return the content of a file, read without safetensors."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    about = json.loads(header.pop("__metadata__")["fnet"])
    kinds = {short: long for long, short in DTYPES.items()}
    arrays = {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }
    return Content(arrays, about)


def written(content: Content, *, header: Callable[[str], str] = str, about: str | None = None) -> bytes:
    """Return the bytes of a file.

    Args:
        content: its content.
        header: a change of the text of the header.
        about: the text of the metadata, if it is not JSON of those in the content.
    """
    body, entries = b"", {}
    for name, array in content.arrays.items():
        start, body = len(body), body + array.tobytes()
        entries[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, len(body)],
        }
    entries["__metadata__"] = {"fnet": json.dumps(content.about) if about is None else about}
    text = header(json.dumps(entries)).encode()
    return len(text).to_bytes(8, "little") + text + body


def altered_arrays(content: Content) -> Iterator[Altered]:
    """Yield files in which one array is not what the network initializes."""
    arrays, about = content

    def file(name: str, changed: dict[str, np.ndarray], accepted: bool | None = False) -> Altered:
        return Altered(name, written(Content(changed, about)), accepted)

    for name, array in arrays.items():
        rest = {other: value for other, value in arrays.items() if other != name}
        part, _, place = name.partition("/")
        yield file(f"{name}: dropped", rest)
        for renamed in (
            f"{name}_2",
            f"{name}/w",
            f"{place}",
            f"{part}/../{place}",
            f"{part}//{place}",
            f"/{name}",
            "params",
        ):
            yield file(f"{name}: renamed to {renamed}", {**rest, renamed: array})
        yield file(f"{name}: moved", {**rest, f"{'state' if part == 'params' else 'params'}/{place}": array})
        yield file(f"{name}: copied", {**arrays, f"{name}_2": array})
        yield file(f"{name}: group and array", {**arrays, f"{name}/w": array})
        yield file(f"{name}: deep", {**arrays, f"{name}{'/a' * 5000}": array})
        wrong = [array[None, None], np.concatenate([np.atleast_1d(array)] * 2), np.zeros((0, 10**9), array.dtype)]
        if array.ndim == 2 and array.shape[0] != array.shape[1]:
            wrong.append(np.ascontiguousarray(array.T))
        for value in wrong:
            yield file(f"{name}: shape {value.shape}", {**rest, name: value})
        for dtype in ("int32", "bool", "float16"):
            yield file(f"{name}: {dtype}", {**rest, name: array.astype(dtype)})
        other = "float32" if array.dtype == np.float64 else "float64"
        yield file(f"{name}: {other}", {**rest, name: array.astype(other)}, True)
        numbers = [np.nan, np.inf, -np.inf] + ([0.0, -1.0] if name.endswith("normalization/scale") else [])
        for number in numbers:
            value = array.copy()
            value[(0,) * array.ndim] = number
            yield file(f"{name}: {number}", {**rest, name: value})
        if part in ("params", "state"):
            yield file(f"{name}: too large for float32", {**rest, name: array.astype(np.float64) + 1e300})
        value = array * array.dtype.type(1.25)
        is_fixed = (part == "normalization" and about["spec"]["tokens"]) or (  # tokens are not normalized
            part == "target_normalization" and about["spec"]["targets"]["kind"] != "values"
        )
        yield file(f"{name}: another value", {**rest, name: value}, not is_fixed or bool((value == array).all()))
    yield file("no arrays", {})
    yield file("another order", dict(reversed(arrays.items())), True)
    yield file("another part", {**arrays, "optimizer/w": np.zeros(2, np.float32)})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in plain data; of a list, only of its first entry."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def replaced(about: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> dict[str, Any]:
    """Return a copy of the metadata after a change of the container at a path, which receives the last key."""
    about = copy.deepcopy(about)
    node = about
    for key in path[:-1]:
        node = node[key]
    change(node, path[-1])
    return about


def altered_metadata(content: Content) -> Iterator[Altered]:
    """Yield files in which one value of the metadata is replaced or missing, or one entry is added."""
    arrays, about = content
    for path in places(about):
        where = ".".join(map(str, path))
        for value in VALUES:
            changed = replaced(about, path, lambda node, key, value=value: node.__setitem__(key, value))
            if json.dumps(changed) != json.dumps(about):
                yield Altered(
                    f"{where} = {value!r}", written(Content(arrays, changed)), may_be(path, value), agrees=False
                )
        optional = path[0] == "network" or path == ("loss", "label_smoothing")  # settings have defaults
        changed = replaced(about, path, lambda node, key: node.__delitem__(key))
        yield Altered(f"{where} is missing", written(Content(arrays, changed)), None if optional else False)
        if isinstance(path[-1], str) and path[0] != "network":
            changed = replaced(about, path, lambda node, key: node.update({f"{key}_2": 1}))
            yield Altered(f"{where}_2 is added", written(Content(arrays, changed)))


def may_be(path: tuple[Any, ...], value: Any) -> bool | None:
    """Return whether a value of the metadata may be this one; None where the network decides."""
    is_text, is_size = isinstance(value, str), type(value) is int and value >= 0
    match path:
        case ("network", *_) | ("loss",) | ("spec",):
            return None
        case ("spec", "name") | ("spec", "targets", "names", 0):
            return is_text
        case ("spec", "size"):
            return is_size
        case ("spec", "tokens" | "ordered" | "has_missing"):
            return None if value is True else False
        case ("spec", "range" | "vocabulary"):
            return None if value is None or is_text else False  # a text model becomes one for files of tokens
        case ("spec", "splits" | "columns") | ("spec", "targets", "names"):
            return value == []
        case ("loss", "label_smoothing"):
            return value == 0 and value is not False
        case ("loss", "name"):
            return None if is_text else False
        case ("spec", "targets", "shape"):
            return None if value == [] else False
        case _:
            return False


def altered_text(content: Content, data: bytes) -> Iterator[Altered]:
    """Yield files whose header or length is wrong."""
    arrays, about = content
    length = int.from_bytes(data[:8], "little")
    for size in (0, 1, 7, 8, 9, 8 + length // 2, 8 + length, 9 + length, (8 + length + len(data)) // 2, len(data) - 1):
        yield Altered(f"cut after {size} bytes", data[:size])
    for number in (0, 1, length - 1, length + 1, len(data), 2**31, 10**12, 2**63, 2**64 - 1):
        yield Altered(f"a header of {number} bytes", number.to_bytes(8, "little") + data[8:])
    yield Altered("a byte too many", data + b"\0")
    yield Altered("the bytes of another file", b"PK\3\4" + data)
    yield Altered("zeros", bytes(len(data)))
    texts: dict[str, Callable[[str], str]] = {
        "an array twice": lambda text: text[:-1] + f", {text[1 : text.index('}') + 1]}}}",
        "metadata twice": lambda text: text[:-1] + ', "__metadata__": {"fnet": "{}"}}',
        "no metadata": lambda text: text.replace("__metadata__", "params/x"),
        "metadata null": lambda text: text[: text.index('"__metadata__"')] + '"__metadata__": null}',
        "metadata of another program": lambda text: text.replace('"fnet":', '"pt":'),
        "another offset": lambda text: text.replace('"data_offsets": [0,', '"data_offsets": [4,', 1),
        "an offset of 10^30": lambda text: text.replace('"data_offsets": [0,', f'"data_offsets": [{10**30},', 1),
        "a size of 2^63": lambda text: text.replace('"shape": [', f'"shape": [{2**63}, ', 1),
        "a negative size": lambda text: text.replace('"shape": [', '"shape": [-', 1),
        "an unknown dtype": lambda text: text.replace('"F32"', '"F33"', 1),
        "a dtype of 8 bits": lambda text: text.replace('"F32"', '"F8_E4M3"', 1),
        "a header that is a list": lambda text: f"[{text}]",
        "a header that is not closed": lambda text: text[:-1],
        "a header nested 100,000 times": lambda text: "[" * 100_000,
        "no header": lambda text: "{}",
    }  # fmt: skip
    for name, change in texts.items():
        yield Altered(name, written(content, header=change))
    yield Altered("spaces behind the header", written(content, header=lambda text: text + " " * 64), True)
    plain = json.dumps(about)

    def before(layer: str) -> str:
        return plain.replace('"network": [', f'"network": [{layer}, ')

    metadata = {
        "empty": "",
        "a list": "[]",
        "a number of 5,000 digits": "1" * 5000,
        "an entry twice": '{"network": null, ' + plain[1:],
        "not closed": plain[:-1],
        "nested 100,000 times": "[" * 100_000 + "]" * 100_000,
        "a network nested 100,000 times": before("[" * 100_000 + "]" * 100_000),
        "a network nested 900 times": before("[" * 900 + '"relu"' + "]" * 900),
        "a network of a million layers": before('"relu",' * 999_999 + '"relu"'),
        "a setting of 10 million letters": before('"' + "x" * 10_000_000 + '"'),
        "NaN": plain.replace('"loss": {', '"loss": {"delta": NaN, '),
    }  # fmt: skip
    for name, text in metadata.items():
        yield Altered(f"metadata: {name}", written(content, about=text))
    for item in (
        {"dense": 10**10},
        {"dense": 10**30},
        {"dense": {"units": 4, "init": "os.system"}},
        {"os.system": "true"},
        "__main__.layer",
        {"reshape": [10**9, 10**9]},
        {"name": "x"},
        {"dense": {"units": 3, "name": "a/../b"}},
        {1.5: 2},
    ):
        changed = {**about, "network": [*about["network"][:-1], item, about["network"][-1]]}
        yield Altered(f"network: {item}", written(Content(arrays, changed)))


def flipped(data: bytes, flips: int, rng: np.random.Generator, accepted: bool | None) -> Iterator[Altered]:
    """Yield files with one changed byte, half of them in the header."""
    end = 8 + int.from_bytes(data[:8], "little")
    for number in range(flips):
        position = int(rng.integers(0, end) if number % 2 else rng.integers(end, len(data)))
        bits = int(rng.integers(1, 256))
        changed = bytes([data[position] ^ bits])
        name = f"byte {position} of {len(data)} xor {bits}, {'without' if accepted is None else 'with'} checksum"
        yield Altered(name, data[:position] + changed + data[position + 1 :], accepted)


class Trained(NamedTuple):
    """A trained run, and an input that `fnet predict` takes."""

    folder: Path
    source: str


def train(folder: Path, name: str, config: str) -> Path:
    """Train a config and return the folder of the run."""
    (folder / f"{name}.yaml").write_text(config)
    result = CliRunner().invoke(app, ["train", str(folder / f"{name}.yaml"), f"out={folder / 'runs'}"])
    if result.exit_code:
        raise RuntimeError(result.output)
    return folder / "runs" / f"{name}-1"


def outcome(run: Trained, altered: Altered) -> tuple[str, bool]:
    """Return why the file was handled wrongly, or empty text, and whether it was accepted."""
    (run.folder / "model.safetensors").write_bytes(altered.data)
    accepted = {}
    for name, arguments in (("predict", [run.source, "--json"]), ("evaluate", ["--json"])):
        result = CliRunner().invoke(app, [name, str(run.folder), *arguments])
        if result.exit_code not in (0, 2):
            return f"{name}: exit {result.exit_code}\n{result.stderr[-2000:]}", False
        lines = result.stderr.splitlines()
        # Another valid model may not take the input.
        names = [str(run.folder), *([run.source] if altered.accepted is None else [])]
        named = len(lines) == 1 and len(lines[0]) <= 1000 and any(name in lines[0] for name in names)
        if result.exit_code == 2 and not named:
            return f"{name}: not one line that names the file: {result.stderr[:1000]}", False
        accepted[name] = result.exit_code == 0
        if altered.accepted is None and accepted[name] and name == "predict":
            json.loads(result.stdout, parse_constant=lambda constant: {}[constant])
    try:
        fnet.load(run.folder)
        accepted["load"] = True
    except FolderError:
        accepted["load"] = False
    except Exception:
        return f"load: {traceback.format_exc()}", False
    if altered.accepted and not altered.agrees:
        del accepted["evaluate"]
    if altered.accepted is not None and set(accepted.values()) != {altered.accepted}:
        return f"expected {'accepted' if altered.accepted else 'refused'}, got {accepted}", False
    return "", all(accepted.values())


def main(argv: list[str]) -> int:
    """Alter, try and count the files; print every wrong outcome, and return 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random bytes")
    parser.add_argument("--flips", type=int, default=60, help="files with a random byte, with and without checksum")
    parser.add_argument("--every", type=int, default=4, help="try every n-th of the other files")
    parser.add_argument("--list", action="store_true", help="also list the files that were accepted")
    arguments = parser.parse_args(argv)
    rng = np.random.default_rng(arguments.seed)
    tried = failed = valid = 0
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        np.save(folder / "x.npy", np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 2.7, 4.9, 1.8]]))
        runs = [
            Trained(train(folder, "classifier", CLASSIFIER), str(folder / "x.npy")),
            Trained(train(folder, "text", TEXT), "the dog"),
        ]
        for run in runs:
            data = (run.folder / "model.safetensors").read_bytes()
            content = read(data)
            unsigned = Content(content.arrays, {key: value for key, value in content.about.items() if key != "sha256"})
            written_again = [Altered("unchanged", data, True), Altered("without checksum", written(unsigned), True)]
            systematic = [*altered_arrays(unsigned), *altered_metadata(unsigned), *altered_text(unsigned, data)]
            files = written_again + systematic[:: arguments.every]
            files += flipped(data, arguments.flips, rng, False)
            files += flipped(written(unsigned), arguments.flips, rng, None)
            for altered in files:
                problem, accepted = outcome(run, altered)
                tried += 1
                valid += accepted
                if problem:
                    failed += 1
                    print(f"{run.folder.name}: {altered.name}: {problem}", flush=True)
                elif accepted and arguments.list:
                    print(f"{run.folder.name}: {altered.name}: accepted", flush=True)
    print(f"{tried - valid - failed:,} refused, {valid:,} accepted as valid models")
    print(f"model files: {tried:,} tried, {failed:,} failed, seed {arguments.seed}")
    return int(failed > 0)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main(sys.argv[1:]))
