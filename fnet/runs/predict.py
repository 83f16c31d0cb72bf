"""Predictions of a trained network: for new examples, or as the continuation of a text."""

import codecs
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.data import inputs
from fnet.data.source import DataError, DatasetSpec
from fnet.data.tokens import encode
from fnet.losses import Loss, resolve_loss
from fnet.runs.code import only_trusted
from fnet.runs.folder import FolderError
from fnet.runs.model_file import Model, build_network, load_model
from fnet.train.evaluate import outputs_of
from fnet.train.generation import generate


class Prediction(NamedTuple):
    """The prediction for one example.

    example: the file name or the number of the example.
    decision: the predicted class, or the predicted values by name.
    probabilities: the probabilities of all classes by name, most probable first; empty where the loss defines none.
    """

    example: str
    decision: str | dict[str, float]
    probabilities: dict[str, float]


class Trained(NamedTuple):
    """The trained network of a run, with everything that prediction needs.

    net: the network.
    model: the content of its model file.
    spec: description of the dataset that it was trained on.
    loss: the loss that it was trained with.
    """

    net: Layer
    model: Model
    spec: DatasetSpec
    loss: Loss


def load_trained(run: str | os.PathLike[str], *, trust: Iterable[str] = ()) -> Trained:
    """Load the trained network of a run.

    Args:
        run: folder of the run.
        trust: modules of layers of one's own that may be imported, each with its submodules.

    Raises:
        FolderError: when the folder does not contain a readable model, or the model does not describe its network, data
            and loss, or names a module that is not trusted.
    """
    with only_trusted(run, trust):
        model = load_model(run)
        if model.spec is None or model.loss is None or model.network is None:
            raise FolderError(
                f"the model in {run} does not describe its network, data and loss; train it with `fnet train`"
            )
        net = build_network(run, model.network)
    settings: dict[str, Any] = dict(model.loss)
    return Trained(net, model, model.spec, resolve_loss(settings.pop("name"), settings))


def predict(run: Trained, path: str) -> list[Prediction]:
    """Predict the targets of the examples in a file, normalized like the training examples.

    Args:
        run: the network, from `load_trained`.
        path: path of the examples, as for `fnet.data.inputs.read`.

    Raises:
        DataError: when the file does not contain examples that the network takes.
    """
    net, model, spec, loss = run
    x, names = inputs.read(path, spec)
    x = x.astype(np.int32) if spec.tokens else model.normalizer(x)
    outputs = jnp.asarray(outputs_of(net, model.params, model.state, x))
    if spec.targets.kind == "values":
        return _value_predictions(names, spec, outputs)
    return _class_predictions(names, spec, loss, outputs)


def _value_predictions(names: Sequence[str], spec: DatasetSpec, outputs: jax.Array) -> list[Prediction]:
    columns = spec.targets.names or tuple(f"output_{number}" for number in range(outputs.shape[-1]))
    rows = np.asarray(outputs, np.float64).reshape(len(names), -1).tolist()
    return [Prediction(name, dict(zip(columns, row, strict=True)), {}) for name, row in zip(names, rows, strict=True)]


def _class_predictions(names: Sequence[str], spec: DatasetSpec, loss: Loss, outputs: jax.Array) -> list[Prediction]:
    classes = spec.targets.names or tuple(map(str, range(spec.targets.number)))
    predictions = np.asarray(loss.predict(outputs)).reshape(len(names)).astype(int)
    probabilities = _class_probabilities(classes, loss, outputs)
    return [
        Prediction(name, classes[decision], row)
        for name, decision, row in zip(names, predictions, probabilities, strict=True)
    ]


def _class_probabilities(classes: tuple[str, ...], loss: Loss, outputs: jax.Array) -> list[dict[str, float]]:
    """Return the probabilities of all classes for every example, most probable first."""
    if loss.probabilities is None:
        return [{}] * len(outputs)
    p = np.asarray(loss.probabilities(outputs), np.float64).reshape(len(outputs), -1)
    p = np.concatenate([1 - p, p], axis=1) if loss.targets == "labels" else p
    return [{classes[k]: float(row[k]) for k in np.argsort(-row, kind="stable")} for row in p]


def continue_text(run: Trained, prompt: str, *, length: int, temperature: float, seed: int) -> Iterator[str]:
    """Yield the text that follows a prompt, token by token.

    Args:
        run: the network, from `load_trained`; it predicts the next token.
        prompt: the text to continue.
        length: number of tokens to generate.
        temperature: sampling temperature; 0 is greedy.
        seed: seed of the sampling.

    Raises:
        DataError: for a character that does not occur in the training text.
        GenerationError: for an empty prompt, a negative temperature, or a network whose outputs depend on later tokens.
    """
    vocabulary = run.spec.vocabulary
    assert vocabulary is not None
    if isinstance(vocabulary, str):
        _check_characters(prompt, vocabulary)
    tokens = generate(
        run.net,
        run.model.params,
        run.model.state,
        encode(prompt, vocabulary),
        window=run.spec.shape[0],
        temperature=temperature,
        seed=seed,
    )
    sampled = itertools.islice(tokens, length)
    if isinstance(vocabulary, bytes):
        return codecs.iterdecode((bytes([token]) for token in sampled), "utf-8", errors="replace")
    return (vocabulary[token] for token in sampled)


def _check_characters(prompt: str, vocabulary: str) -> None:
    """Check that every character of a prompt occurs in the vocabulary.

    Raises:
        DataError: for characters that do not occur in it.
    """
    unknown = ", ".join(map(repr, sorted(set(prompt) - set(vocabulary))))
    if unknown:
        known = "".join(filter(str.isprintable, vocabulary))
        raise DataError(
            f"the prompt contains {unknown}, which the training text does not contain; remove them, or train on a "
            f"text that contains them; known: {known}"
        )
