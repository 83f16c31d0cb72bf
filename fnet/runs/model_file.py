"""The model file: parameters and state of a trained network, and everything else that prediction needs."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialized

from fnet.core.description import describe
from fnet.core.layer import Layer, walk
from fnet.core.wording import format_value, shorten
from fnet.data.memory import refuse_beyond_memory
from fnet.data.normalize import IDENTITY, Normalizer
from fnet.data.source import DatasetSpec
from fnet.runs import model_check
from fnet.runs.code import only_trusted
from fnet.runs.files import write
from fnet.runs.folder import FolderError, why_unfinished

PARTS = ("params", "state", "normalization", "target_normalization")
"""The first part of the names of the arrays."""

DTYPES = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "BF16", "F32", "F64", "C64")
"""The dtypes of safetensors that NumPy and JAX have in common."""


class MainProgramWarning(UserWarning):
    """A model file describes a layer that only the program that wrote it can load."""


class Model(NamedTuple):
    """The content of a model file.

    net: the network; None if the file does not describe it.
    params: the parameters.
    state: the non-trainable state.
    normalizer: the normalization of examples, with the statistics of the training part.
    spec: description of the dataset that the network was trained on, if known.
    loss: the name of the loss and its settings, if known.
    in_shape: shape of one example, if known without a dataset.
    target_normalizer: the normalization of targets that are values, likewise; its inverse maps outputs to predictions.
    """

    net: Layer | None
    params: Any
    state: Any
    normalizer: Normalizer = IDENTITY
    spec: DatasetSpec | None = None
    loss: Mapping[str, Any] | None = None
    in_shape: Any = None
    target_normalizer: Normalizer = IDENTITY


def save_model(path: Path, net: Layer, params: Any, state: Any, **about: Any) -> None:
    """Write parameters and state as safetensors, under names such as "params/dense_1/w".

    Args:
        path: path of the file.
        net: the network.
        params: its parameters.
        state: its non-trainable state.
        about: normalizer, target_normalizer, spec and loss of `Model`, if known.
    """
    try:
        network = describe(net)
    except ValueError:
        network = None
    _write(path, Model(net, params, state, **about), network)


def save(path: str | os.PathLike[str], net: Layer, params: Any, state: Any, in_shape: Any = None) -> None:
    """Write a network with its parameters and state to a file, which `load` reads.

    The file contains the network's description and the arrays in the safetensors format, under names such as
    "params/dense_1/w", and a checksum. It is replaced only when it is complete.

    Args:
        path: path of the file, by convention ending in .safetensors; its folder must exist.
        net: the network.
        params: its parameters.
        state: its non-trainable state.
        in_shape: shape of one example, or a dict or tuple of shapes. With it, the names, shapes and dtypes of all
            parameters are checked, here and by `load`; without it, only the names of layers.

    Raises:
        OSError: when the file cannot be written.
        ValueError: when the network cannot be described, because it contains a layer made by hand, or the parameters
            or the state are not those of the network, or are not finite.

    >>> import tempfile, fnet
    >>> net = fnet.serial(fnet.dense(3), fnet.relu())
    >>> params, state = net.init(jax.random.key(0), (2,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnet.save(f"{folder}/net.safetensors", net, params, state, in_shape=(2,))
    ...     again, loaded, _ = fnet.load(f"{folder}/net.safetensors")
    >>> again == net, bool((loaded["dense_1"]["w"] == params["dense_1"]["w"]).all())
    (True, True)
    """
    network, model = describe(net), Model(net, params, state, in_shape=in_shape)
    model_check.check_size(network)
    _check(net, in_shape, {name: array for part in PARTS[:2] for name, array in _arrays_of(model, part).items()})
    _write(Path(path), model, network)


def _check(net: Layer, in_shape: Any, arrays: model_check.Arrays) -> None:
    """Check parameters and a state by name, as far as the shape of an example is known."""
    if in_shape is None:
        model_check.check_names(net, arrays)
    else:
        model_check.check_arrays(net, in_shape, arrays)


def _write(path: Path, model: Model, network: Any) -> None:
    assert model.net is not None
    local = sorted({layer.kind for _, layer in walk(model.net) if layer.kind.startswith("__main__.")})
    if local:
        warnings.warn(
            f"{path} can only be loaded by this program, which defines {', '.join(local)} itself; define layers in a "
            "module that other programs can import",
            MainProgramWarning,
            stacklevel=3,
        )
    arrays = {name: array for part in PARTS for name, array in _arrays_of(model, part).items()}
    about: dict[str, Any] = {"network": network, "spec": model.spec and model.spec.plain(), "loss": model.loss}
    if model.in_shape is not None:
        about["in_shape"] = model.in_shape
    # A single entry, because safetensors writes several in an order that differs between processes.
    metadata = json.dumps({**about, "sha256": _checksum(arrays, json.loads(json.dumps(about)))})
    write(path, serialized(arrays, {"fnet": metadata}))


def _arrays_of(model: Model, part: str) -> dict[str, np.ndarray]:
    """Return the arrays of a part of a model by name.

    Raises:
        ValueError: when it does not consist of nested dicts of arrays.
    """
    normalizers = {"normalization": model.normalizer, "target_normalization": model.target_normalizer}
    tree = normalizers[part]._asdict() if part in normalizers else getattr(model, part)
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        keys = [key for entry in path if isinstance(key := getattr(entry, "key", None), str)]
        if not keys or len(keys) < len(path) or not all(key and "/" not in key for key in keys):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{part}: expected nested dicts with names without '/', such as those of net.init, got {part}{where}"
            )
        # safetensors writes the memory of an array in its own order, which may be that of Fortran.
        arrays["/".join((part, *keys))] = np.asarray(leaf, order="C")
    return arrays


def _checksum(arrays: model_check.Arrays, about: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and values of arrays, and of what is known about them."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def load(run: str | os.PathLike[str], *, trust: Iterable[str] = ()) -> tuple[Layer, Any, Any]:
    """Return the network of a run with its final (best) parameters and state.

    A layer or function of your own is imported only from a module that you trust, or used if its module is loaded, as
    `fnet.build` says.

    Args:
        run: folder of the run, or a file that `save` wrote.
        trust: modules that may be imported, each with its submodules.

    Returns:
        (net, params, state), as from `net.init`.

    Raises:
        FolderError: when there is no model, its file is damaged or inconsistent, it names a module that is not trusted,
            or the network has no description, because it contains a layer without a constructor.
    """
    with only_trusted(run, trust):
        model = load_model(run)
    if model.net is None:
        raise FolderError(
            f"the model in {run} does not describe its network; build the network yourself, and use load_model"
        )
    return model.net, model.params, model.state


def load_model(run: str | os.PathLike[str]) -> Model:
    """Return the content of a run's model file, which is complete and consistent, with the network that it describes.

    The parameters and the state have the names, shapes and dtypes that the network initializes, and are finite. The
    normalization is complete, the outputs match the targets, and the checksum, if there is one, is right.

    Args:
        run: folder of the run, or the file.

    Raises:
        FolderError: when there is no model, or its file is damaged or inconsistent; names the entry.
    """
    if not os.fspath(run):
        raise FolderError("expected the folder of a run, got empty text")
    path = _existing(Path(run) if Path(run).suffix == ".safetensors" else Path(run) / "model.safetensors")
    try:
        return _model(*_content(path))
    except SafetensorError as error:
        raise FolderError(f"{path} is damaged or not a safetensors file: {model_check.reason(error)}") from None
    except (OSError, ValueError, RecursionError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else model_check.reason(error)
        raise FolderError(f"{path}: {text}") from None


def _content(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays in a file by name, and its metadata.

    Raises:
        SafetensorError, ValueError: for a damaged file, and for one that fnet did not write.
    """
    with safe_open(path, framework="numpy") as file:  # checks the header, its size, and the size of the file
        header = _header(path)
        metadata = (header.pop("__metadata__", None) or {}).get("fnet")
        if metadata is None:
            raise ValueError(
                "it was not written by fnet, or by an older version: expected fnet's metadata, got a file without it"
            )
        about = _json(metadata, "the metadata")
        for name, entry in header.items():
            _check_entry(name, entry["dtype"], header)
        refuse_beyond_memory(path.stat().st_size, str(path), "use a machine with more memory")
        arrays = {name: file.get_tensor(name) for name in header}
    known = {"network", "spec", "loss"}
    if not isinstance(about, dict) or not known <= about.keys() <= known | {"in_shape", "sha256"}:
        received = ", ".join(about) if isinstance(about, dict) else type(about).__name__
        raise ValueError(
            f"the metadata: expected network, spec, loss and sha256, got {shorten(received, 100)}; another version of "
            "fnet wrote it"
        )
    checksum = about.pop("sha256", None)
    if checksum is not None and checksum != _checksum(arrays, about):
        raise ValueError(
            "sha256: the checksum differs, so the file has changed since it was written; use an undamaged copy, or, if "
            "it was changed on purpose, remove sha256 from fnet's metadata"
        )
    return arrays, about


def _header(path: Path) -> dict[str, Any]:
    """Return the header of a file whose header safetensors has checked."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return _json(file.read(length), "the header")


def _json(text: str | bytes, what: str) -> Any:
    """Return the value of JSON without duplicate keys, NaN and infinity."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            seen = set[str]()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            raise ValueError(f"{what}: expected each entry once, got {format_value(twice)} twice")
        return mapping

    def refuse(constant: str) -> Any:
        raise ValueError(f"{what}: expected finite numbers, got {constant}")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{what}: expected JSON, got {model_check.reason(error)}") from None


def _check_entry(name: str, dtype: str, header: Mapping[str, Any]) -> None:
    """Check the name and the dtype of an array."""
    keys, shown = name.split("/"), shorten(name)
    if keys[0] not in PARTS or len(keys) < 2 or not all(keys):
        raise ValueError(f"{shown}: expected a name such as params/dense_1/w, beginning with {', '.join(PARTS)}")
    if any("/".join(keys[:number]) in header for number in range(2, len(keys))):
        raise ValueError(f"{shown}: expected an array or a group of arrays under a name, got both")
    if dtype not in DTYPES:
        raise ValueError(f"{shown}: expected a dtype among {', '.join(DTYPES)}, got {dtype}")


def _model(arrays: dict[str, np.ndarray], about: Mapping[str, Any]) -> Model:
    """Return the model with these arrays and this metadata.

    Raises:
        ValueError: when they are not consistent.
    """
    network, plain, loss = about["network"], about["spec"], about["loss"]
    net = None if network is None else model_check.network_of(network)
    spec = None if plain is None else model_check.spec_of(plain)
    if loss is not None:
        model_check.check_loss(loss)
    in_shape = model_check.shape_of(about.get("in_shape")) if spec is None else spec.shape
    parts = {part: {n: a for n, a in arrays.items() if n.startswith(f"{part}/")} for part in PARTS}
    trained = parts["params"] | parts["state"]
    if net is None:
        for name, array in trained.items():
            model_check.check_finite(name, array)
    else:
        if spec is not None:
            model_check.check_outputs(net, spec, loss)
        _check(net, in_shape, trained)
    return Model(
        net,
        _tree(trained, "params"),
        _tree(trained, "state"),
        model_check.normalizer_of(parts["normalization"], spec),
        spec,
        loss,
        in_shape,
        model_check.target_normalizer_of(parts["target_normalization"], spec),
    )


def _tree(arrays: model_check.Arrays, part: str) -> dict[str, Any]:
    """Return the arrays of a part as nested dicts of JAX's arrays."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        first, *keys, leaf = name.split("/")
        if first == part:
            node = tree
            for key in keys:
                node = node.setdefault(key, {})
            node[leaf] = jnp.asarray(array)
    return tree


def _existing(path: Path) -> Path:
    """Return the path of a model file that exists.

    Raises:
        FolderError: when it does not exist.
    """
    if path.is_file():
        return path
    run = path.parent
    if path.name != "model.safetensors":
        raise FolderError(f"the file {path} does not exist")
    if run.is_file():
        reason = "it is a file, not a folder"
    else:
        missing = "it does not contain model.safetensors" if run.is_dir() else "there is no such folder"
        reason = why_unfinished(run) or missing
    raise FolderError(f"{run} is not a finished run: {reason}")
