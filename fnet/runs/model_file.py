"""The file of a trained network: parameters, state and what predicting needs, readable anywhere."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialized

from fnet.core.description import describe
from fnet.core.layer import Layer
from fnet.data.normalize import AS_THEY_ARE, Normalizer
from fnet.data.source import Spec
from fnet.layers.vocabulary import build
from fnet.runs.files import write
from fnet.runs.folder import FolderError


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
