"""The model file: parameters and state of a trained network, and everything else that prediction needs."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialized

from fnet.core.description import describe
from fnet.core.layer import Layer
from fnet.core.wording import suggestion
from fnet.data.normalize import IDENTITY, Normalizer
from fnet.data.source import DatasetSpec
from fnet.layers.vocabulary import build
from fnet.runs.code import only_trusted
from fnet.runs.files import write
from fnet.runs.folder import FolderError


class Model(NamedTuple):
    """The content of a model file.

    network: the network's description from `fnet.describe`; None if it has none.
    params: the parameters.
    state: the non-trainable state.
    normalizer: the normalization of examples, with the statistics of the training part.
    spec: description of the dataset that the network was trained on, if known.
    loss: the name of the loss and its settings, if known.
    """

    network: Any
    params: Any
    state: Any
    normalizer: Normalizer = IDENTITY
    spec: DatasetSpec | None = None
    loss: Mapping[str, Any] | None = None


def save_model(path: Path, net: Layer, params: Any, state: Any, **about: Any) -> None:
    """Write parameters and state as safetensors, under names such as "params/dense_1/w".

    Args:
        path: path of the file.
        net: the network.
        params: its parameters.
        state: its non-trainable state.
        about: normalizer, spec and loss of `Model`, if known.
    """
    try:
        network = describe(net)
    except ValueError:
        network = None
    _write(path, Model(network, params, state, **about))


def save(path: str | os.PathLike[str], net: Layer, params: Any, state: Any) -> None:
    """Write a network with its parameters and state to a file, which `load` reads.

    The file contains the network's description and the arrays in the safetensors format, under names such as
    "params/dense_1/w". It is replaced only when it is complete.

    Args:
        path: path of the file, by convention ending in .safetensors; its folder must exist.
        net: the network.
        params: its parameters.
        state: its non-trainable state.

    Raises:
        OSError: when the file cannot be written.
        ValueError: when the network cannot be described, because it contains a layer made by hand, or the parameters
            or the state have names that the network does not.

    >>> import tempfile, fnet
    >>> net = fnet.serial(fnet.dense(3), fnet.relu())
    >>> params, state = net.init(jax.random.key(0), (2,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnet.save(f"{folder}/net.safetensors", net, params, state)
    ...     again, loaded, _ = fnet.load(f"{folder}/net.safetensors")
    >>> again == net, bool((loaded["dense_1"]["w"] == params["dense_1"]["w"]).all())
    (True, True)
    """
    for what, tree in (("params", params), ("state", state)):
        _check_names(what, net, tree)
    _write(Path(path), Model(describe(net), params, state))


def _check_names(what: str, net: Layer, tree: Mapping[str, Any]) -> None:
    """Check that the entries of containers are those of their layers.

    Raises:
        ValueError: when one is not.
    """
    children = dict(net.children)
    for name, part in tree.items():
        if name in children:
            _check_names(what, children[name], part)
        elif children and isinstance(part, Mapping):
            raise ValueError(f"{what}: the network does not have a layer '{name}'{suggestion(name, children)}")


def _write(path: Path, model: Model) -> None:
    params, state, network = model.params, model.state, model.network
    trees = {"params": params, "state": state, "normalization": model.normalizer._asdict()}
    tensors = {
        "/".join((part, *(key.key for key in keys))): np.asarray(leaf)
        for part, tree in trees.items()
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    # A single entry, because safetensors writes several in an order that differs between processes.
    metadata = {"network": network, "spec": model.spec and model.spec.plain(), "loss": model.loss}
    write(path, serialized(tensors, {"fnet": json.dumps(metadata)}))


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
        FolderError: when there is no readable model, or it names a module that is not trusted.
        ValueError: when the network has no description, because it contains a layer without a constructor.
    """
    with only_trusted(run, trust):
        model = load_model(run)
        if model.network is None:
            raise ValueError(
                f"the model in {run} does not describe its network; build the network yourself, and use load_model"
            )
        return build_network(run, model.network), model.params, model.state


def build_network(run: str | os.PathLike[str], description: Any) -> Layer:
    """Return the network that a model file describes.

    Args:
        run: folder of the run, or the file, for messages.
        description: the network's description.

    Raises:
        FolderError: when it does not describe a network, or names a module that is not trusted.
    """
    try:
        return build(description)
    except ValueError as error:
        raise FolderError(f"the network of {run} cannot be built: {error}") from error


def load_model(run: str | os.PathLike[str]) -> Model:
    """Return the content of a run's model file.

    Args:
        run: folder of the run, or the file.

    Raises:
        FolderError: when there is no readable model.
    """
    path = _existing(Path(run) if Path(run).suffix == ".safetensors" else Path(run) / "model.safetensors")
    trees: dict[str, dict[str, Any]] = {"params": {}, "state": {}, "normalization": IDENTITY._asdict()}
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = (file.metadata() or {}).get("fnet")
            for name in file.keys() if metadata else ():
                part, *keys, leaf = name.split("/")
                node = trees[part]
                for key in keys:
                    node = node.setdefault(key, {})
                node[leaf] = file.get_tensor(name)
        if metadata is None:
            raise FolderError(
                f"{path} was not written by fnet, or by an older version: it does not contain fnet's metadata"
            )
        about = json.loads(metadata)
        if about["spec"] and about["spec"].keys() != DatasetSpec.__annotations__.keys():
            raise FolderError(f"{path} was written by another version of fnet: its description of the data differs")
        params, state = jax.tree.map(jax.numpy.asarray, (trees["params"], trees["state"]))
        spec = about["spec"] and DatasetSpec.from_plain(about["spec"])
        return Model(about["network"], params, state, Normalizer(**trees["normalization"]), spec, about["loss"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{path} cannot be read: {error}") from None


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
        reason = "it does not contain model.safetensors" if run.is_dir() else "there is no such folder"
    raise FolderError(f"{run} is not a finished run: {reason}")
