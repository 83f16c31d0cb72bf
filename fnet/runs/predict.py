"""Predictions of a trained network: for new examples, or as the continuation of a text."""

import codecs
import contextlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.core.wording import format_value
from fnet.data import inputs
from fnet.data.memory import refuse_beyond_memory
from fnet.data.source import DataError, DatasetSpec
from fnet.data.tokens import encode
from fnet.losses import LOSSES, Loss, resolve_loss
from fnet.runs.code import only_trusted
from fnet.runs.folder import FolderError
from fnet.runs.model_check import reason
from fnet.runs.model_file import Model, load_model
from fnet.train.evaluate import make_outputs
from fnet.train.generation import GenerationError, generate

FILE_EXTENSIONS = (".txt", ".csv", ".npy", ".npz")
"""Extensions by which one word is taken as the path of a file, even if the file does not exist, rather than a text."""

MAX_OUTPUTS = 1 << 20
"""Maximum number of outputs of the network that are held as Python numbers, for more than one example."""

BYTES_PER_OUTPUT = 64
"""Memory of an output of the network as a Python number in the dict of a prediction."""


class RequestError(ValueError):
    """Options that the network of a run does not take."""

    exit_status = 2


class Prediction(NamedTuple):
    """The prediction for one example.

    example: the file name or the number of the example.
    decision: the predicted class, or the predicted values by name.
    probabilities: the probabilities of all classes by name, most probable first; empty where the loss defines none.
    identifiers: the entries of the identifier columns of a table, by the name of the column.
    """

    example: str
    decision: str | dict[str, float]
    probabilities: dict[str, float]
    identifiers: Mapping[str, str] = MappingProxyType({})


class Predictions(NamedTuple):
    """The predictions for the examples of a file.

    size: number of examples.
    names: names of the classes, values or labels that are predicted, in their order.
    portions: the predictions in the order of the file, some at a time.
    """

    size: int
    names: tuple[str, ...]
    portions: Iterator[list[Prediction]]


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
            and loss, names a module that is not trusted, or the loss does not predict such targets.
    """
    with only_trusted(run, trust):
        model = load_model(run)
    if model.spec is None or model.loss is None or model.net is None:
        raise FolderError(
            f"the model in {run} does not describe its network, data and loss; train it with `fnet train`"
        )
    return Trained(model.net, model, model.spec, _loss_of(run, model.loss, model.spec))


def _loss_of(run: str | os.PathLike[str], plain: Mapping[str, Any], spec: DatasetSpec) -> Loss:
    """Return the loss of a model, which predicts the targets of its data.

    Raises:
        FolderError: for a loss that is not one of fnet's, and for one whose predictions are not such targets.
    """
    settings: dict[str, Any] = dict(plain)
    name = settings.pop("name")
    if name not in LOSSES:
        raise FolderError(f"the model in {run}: loss.name: expected {', '.join(LOSSES)}, got '{name}'")
    loss = resolve_loss(name, settings)
    kinds = {"values": ("values",), "labels": ("labels",), "classes": ("classes", "distributions", "labels")}
    if loss.targets not in kinds[spec.targets.kind]:
        raise FolderError(
            f"the model in {run}: loss.name: expected a loss for {spec.targets}, got '{name}', for {loss.summary}"
        )
    return loss


def predict(run: Trained, source: str) -> Predictions:
    """Predict the targets of the examples in a file, normalized like the training examples.

    Args:
        run: the network, from `load_trained`.
        source: path of the examples, as for `fnet.data.inputs.open_inputs`; for a network that takes a text, also the
            text itself.

    Raises:
        DataError: when the file does not contain examples that the network takes; also while the portions are read.
        FolderError: when the network cannot be applied to such examples.
    """
    net, model, spec, _ = run
    if not source:
        raise DataError("expected the path of the examples, got empty text")
    if inputs.takes_text(spec) and not _names_a_file(source):
        size, portions = inputs.texts([source], spec, "the text")
    else:
        size, portions = inputs.open_inputs(source, spec)
    x = np.zeros((1, *spec.shape), spec.dtype)
    try:
        jax.eval_shape(lambda x: net.apply(model.params, model.state, x, train=False), x)
    except (TypeError, ValueError, OverflowError) as error:
        raise FolderError(f"the network cannot be applied to examples {spec.shape}: {reason(error)}") from error
    entries = math.prod(net.shape(spec.shape))
    refuse_beyond_memory(
        entries * BYTES_PER_OUTPUT, f"the prediction of {entries:,} outputs", "make the network smaller"
    )
    rows = max(1, MAX_OUTPUTS // entries)
    outputs_of = make_outputs(net, min(size, rows))
    parts = (part for portion in portions for part in portion.divided(rows))
    return Predictions(size, _names(spec), (_predictions(run, part, outputs_of) for part in parts))


def _names_a_file(source: str) -> bool:
    """Return whether an input is a path rather than a text: it exists, or is one word with the extension of a file."""
    with contextlib.suppress(OSError, ValueError):
        if os.path.exists(os.path.expanduser(source)):
            return True
    return len(source.split()) == 1 and os.path.splitext(source)[1].lower() in FILE_EXTENSIONS


def _predictions(run: Trained, portion: inputs.Portion, outputs_of: Callable[..., Any]) -> list[Prediction]:
    _, model, spec, loss = run
    names = portion.examples
    x = portion.x.astype(np.int32) if spec.tokens else model.normalizer(portion.x)
    outputs = jnp.asarray(outputs_of(model.params, model.state, x))
    if spec.targets.kind == "values":
        rows = _value_predictions(names, spec, model.target_normalizer.inverse(np.asarray(outputs)))
    elif spec.targets.kind == "labels":
        rows = _label_predictions(names, spec, loss, outputs)
    else:
        rows = _class_predictions(names, spec, loss, outputs)
    if not portion.identifiers:
        return rows
    columns = [[(name, entry) for entry in entries] for name, entries in portion.identifiers.items()]
    return [row._replace(identifiers=dict(pairs)) for row, *pairs in zip(rows, *columns, strict=True)]


def _value_predictions(names: Sequence[str], spec: DatasetSpec, outputs: np.ndarray) -> list[Prediction]:
    columns = _names(spec)
    rows = outputs.reshape(len(names), -1).tolist()
    return [Prediction(name, dict(zip(columns, row, strict=True)), {}) for name, row in zip(names, rows, strict=True)]


def _names(spec: DatasetSpec) -> tuple[str, ...]:
    """Return the names of the classes, values or labels, each once."""
    unnamed = "output_{}" if spec.targets.kind == "values" else "{}"
    return _distinct(spec.targets.names) or tuple(map(unnamed.format, range(spec.targets.number)))


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return names with their number appended to those that occur more than once.

    >>> _distinct(["crane", "cat", "crane"])
    ('crane (0)', 'cat', 'crane (2)')
    """
    counts = Counter(names)
    return tuple(f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names))


def _label_predictions(names: Sequence[str], spec: DatasetSpec, loss: Loss, outputs: jax.Array) -> list[Prediction]:
    labels = _names(spec)
    predictions = np.asarray(loss.predict(outputs)).astype(int).tolist()
    probabilities = _probabilities(labels, loss, outputs)
    return [
        Prediction(name, dict(zip(labels, row, strict=True)), p)
        for name, row, p in zip(names, predictions, probabilities, strict=True)
    ]


def _class_predictions(names: Sequence[str], spec: DatasetSpec, loss: Loss, outputs: jax.Array) -> list[Prediction]:
    classes = _names(spec)
    predictions = np.asarray(loss.predict(outputs)).reshape(len(names)).astype(int)
    probabilities = _probabilities(classes, loss, outputs)
    return [
        Prediction(name, classes[decision], row)
        for name, decision, row in zip(names, predictions, probabilities, strict=True)
    ]


def _probabilities(names: tuple[str, ...], loss: Loss, outputs: jax.Array) -> list[dict[str, float]]:
    """Return the probabilities of all classes or labels for every example, most probable first.

    One output of a loss of labels is the probability of the second of two classes.
    """
    if loss.probabilities is None:
        return [{}] * len(outputs)
    p = np.asarray(loss.probabilities(outputs), np.float64).reshape(len(outputs), -1)
    p = np.concatenate([1 - p, p], axis=1) if len(names) == 2 and p.shape[1] == 1 else p
    return [{names[k]: float(row[k]) for k in np.argsort(-row, kind="stable")} for row in p]


def continue_text(run: Trained, prompt: str, *, length: int, temperature: float, seed: int) -> Iterator[str]:
    """Yield the text that follows a prompt, token by token.

    Args:
        run: the network, from `load_trained`; it predicts the next token.
        prompt: the text to continue.
        length: number of tokens to generate, at least 1.
        temperature: sampling temperature; 0 is greedy.
        seed: seed of the sampling.

    Raises:
        DataError: for a character that does not occur in the training text, or text that is not valid Unicode.
        GenerationError: for a length below 1, and as for `fnet.generate`.
    """
    vocabulary = run.spec.vocabulary
    assert vocabulary is not None
    if length < 1:
        raise GenerationError(f"length: expected a whole number of at least 1, got {format_value(length)}")
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
    sampled = (token for _, token in zip(range(length), tokens, strict=False))
    if isinstance(vocabulary, bytes):
        return codecs.iterdecode((bytes([token]) for token in sampled), "utf-8", errors="replace")
    return (vocabulary[token] for token in sampled)


def _check_characters(prompt: str, vocabulary: str | bytes) -> None:
    """Check that every character of a prompt occurs in the vocabulary, or that it can be encoded as bytes.

    Raises:
        DataError: for characters that do not occur in it.
    """
    if isinstance(vocabulary, bytes):
        # The command line represents bytes that are not UTF-8 by halves of surrogate pairs.
        if any("\ud800" <= character <= "\udfff" for character in prompt):
            raise DataError("the prompt: expected UTF-8 text, got bytes that are not UTF-8")
        return
    unknown = ", ".join(map(repr, sorted(set(prompt) - set(vocabulary))))
    if unknown:
        known = "".join(filter(str.isprintable, vocabulary))
        raise DataError(
            f"the prompt contains {unknown}, which the training text does not contain; remove them, or train on a "
            f"text that contains them; known: {known}"
        )
