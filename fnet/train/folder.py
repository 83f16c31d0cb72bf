"""A run's folder: what is written there, and how it is read back."""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialized

from fnet.data.normalize import AS_THEY_ARE, Normalizer
from fnet.data.source import Spec
from fnet.description import Layer, build, describe


class FolderError(OSError):
    """A run's folder that cannot be made, or is not one."""

    exit_status = 2


def create(out: str, name: str) -> Path:
    """Makes the next folder out/name-1, out/name-2, ...; two processes never get the same.

    Raises:
        FolderError: when it cannot be made.
    """
    parent = Path(out)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [path.name.removeprefix(f"{name}-") for path in parent.glob(f"{_escaped(name)}-*")]
        number = max((int(ending) for ending in taken if ending.isdecimal()), default=0) + 1
        while True:
            try:
                (parent / f"{name}-{number}").mkdir()
                return parent / f"{name}-{number}"
            except FileExistsError:
                number += 1
    except OSError as error:
        raise FolderError(
            f"the output folder '{out}' cannot be written: {error.strerror}; set another with out=…"
        ) from None


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def write(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all: to a temporary name beside it first, which then takes its place."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class OutputError(OSError):
    """What was asked for cannot be written where it was asked for."""

    exit_status = 2


def save(file: str, content: str | bytes, what: str) -> None:
    """Writes what the user asked for, whole or not at all.

    Args:
        file: where to.
        content: what to write.
        what: it is, as the message calls it: "page".

    Raises:
        OutputError: when it cannot be written.
    """
    path = Path(file).resolve()
    if path.exists() and not path.is_file():
        raise OutputError(f"the {what} cannot be written to '{file}': it is no regular file")
    try:
        write(path, content)
    except OSError as error:
        raise OutputError(f"the {what} cannot be written to '{file}': {error.strerror}") from None


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Appends one line of JSON, in one write."""
    with path.open("a", encoding="utf-8") as file:
        file.write(to_json(record) + "\n")


def to_json(value: Any) -> str:
    """JSON on one line; it knows no NaN and no infinity, which become null.

    >>> to_json({"loss": float("nan"), "rows": [1, float("inf")]})
    '{"loss": null, "rows": [1, null]}'
    """

    def finite(value: Any) -> Any:
        match value:
            case float():
                return value if math.isfinite(value) else None
            case Mapping():
                return {key: finite(entry) for key, entry in value.items()}
            case list() | tuple():
                return [finite(entry) for entry in value]
            case _:
                return value

    return json.dumps(finite(value), allow_nan=False)


def environment(*, seed: int, fingerprint: str) -> dict[str, Any]:
    """Where and with what a run was made."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: metadata.version(name) for name in ("fnet", "jax", "jaxlib", "optax", "numpy")},
        "devices": [str(device) for device in jax.devices()],
        "seed": seed,
        "git": _git_commit(),
        "data": fingerprint,
    }


def _git_commit() -> dict[str, Any] | None:
    """The commit of the working folder, and whether files differ from it; None where there is no repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


class Model(NamedTuple):
    """What is kept of a trained network.

    network: its description, as from `fnet.describe`; None for a network made by hand, which has none.
    params, state: as from `net.init`.
    normalizer: what examples go through before the network sees them, with the statistics of the training part.
    spec: what is known of the examples that it was trained on, if they came from a source.
    loss: the name of the loss and its settings, if it was one of fnet's.
    """

    network: Any
    params: Any
    state: Any
    normalizer: Normalizer = AS_THEY_ARE
    spec: Spec | None = None
    loss: Mapping[str, Any] | None = None


def save_model(path: Path, net: Layer, params: Any, state: Any, **about: Any) -> None:
    """Writes parameters and state as safetensors, under names such as "params/dense_1/w", with what belongs to them.

    Args:
        path: of the file.
        net: the network.
        params, state: of the network.
        about: the normalizer, spec and loss of `Model`, where there are such.
    """
    try:
        network = describe(net)
    except ValueError:
        network = None
    model = Model(network, params, state, **about)
    trees = {"params": params, "state": state, "normalization": model.normalizer._asdict()}
    tensors = {
        "/".join((part, *(key.key for key in keys))): np.asarray(leaf)
        for part, tree in trees.items()
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    # One entry: safetensors writes several in an order that differs between processes, and equal runs give equal files.
    plain = {"network": network, "spec": model.spec and model.spec.plain(), "loss": model.loss}
    write(path, serialized(tensors, {"fnet": json.dumps(plain)}))


def load(run: str | os.PathLike[str]) -> tuple[Layer, Any, Any]:
    """The network of a run with its final (best) parameters and state.

    Args:
        run: the run's folder.

    Returns:
        (net, params, state), as from `net.init`.

    Raises:
        FolderError: when the folder holds no readable model.
        ValueError: when the network was made by hand and so has no description.
    """
    model = load_model(run)
    if model.network is None:
        raise ValueError(f"the network of {run} was made by hand and has no description; build it, and use load_model")
    return build(model.network), model.params, model.state


def load_model(run: str | os.PathLike[str]) -> Model:
    """Everything that a run keeps of its trained network.

    Raises:
        FolderError: when the folder holds no readable model.
    """
    path = Path(run) / "model.safetensors"
    if not path.is_file():
        what = "it holds no model.safetensors" if Path(run).is_dir() else "there is no such folder"
        if Path(run).is_file():
            what = "it is a file, not a folder"
        raise FolderError(f"{run} is not a finished run: {what}")
    trees: dict[str, dict[str, Any]] = {"params": {}, "state": {}, "normalization": AS_THEY_ARE._asdict()}
    try:
        with safe_open(path, framework="numpy") as file:
            said = (file.metadata() or {}).get("fnet")
            if said is None:
                raise FolderError(
                    f"{path} was not written by fnet, or by an older version: it does not say what it holds"
                )
            plain = json.loads(said)
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                part, *keys, leaf = name.split("/")
                node = trees[part]
                for key in keys:
                    node = node.setdefault(key, {})
                node[leaf] = file.get_tensor(name)
        params, state = jax.tree.map(jax.numpy.asarray, (trees["params"], trees["state"]))
        spec = plain["spec"] and Spec.of_plain(plain["spec"])
        return Model(plain["network"], params, state, Normalizer(**trees["normalization"]), spec, plain["loss"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{path} cannot be read: {error}") from None
