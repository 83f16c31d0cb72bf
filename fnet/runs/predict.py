"""What a trained network says of new examples, or how it goes on with a text."""

import codecs
import itertools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnet.data import inputs
from fnet.data.source import DataError, Spec
from fnet.data.tokens import encode
from fnet.core.layer import Layer
from fnet.layers.vocabulary import build
from fnet.train.generation import generate
from fnet.train.evaluate import outputs_of
from fnet.runs.folder import FolderError
from fnet.runs.model_file import Model, load_model
from fnet.train.step import resolve_loss


class Prediction(NamedTuple):
    """Of one example.

    example: its file, or its number.
    decision: the name of the class, or the values by their names.
    probabilities: of all classes by name, the likeliest first; none where the loss knows no probabilities.
    """

    example: str
    decision: str | dict[str, float]
    probabilities: dict[str, float]


class Trained(NamedTuple):
    """A run's network with all that predicting needs."""

    net: Layer
    model: Model
    spec: Spec


def trained(run: str | os.PathLike[str]) -> Trained:
    """The trained network of a run.

    Raises:
        FolderError: when the folder holds no readable model, or one that does not say what it was trained on.
    """
    model = load_model(run)
    if model.spec is None or model.loss is None or model.network is None:
        raise FolderError(f"the model in {run} does not say what it was trained on; only `fnet train` writes that")
    return Trained(build(model.network), model, model.spec)


def predict(run: Trained, path: str) -> list[Prediction]:
    """The decisions of a network on the examples in a file, normalized as those that it was trained on.

    Args:
        run: from `trained`.
        path: of the examples, as for `fnet.data.inputs.read`.

    Raises:
        DataError: when the file does not hold examples that the network takes.
    """
    net, model, spec = run
    x, names = inputs.read(path, spec)
    settings: dict[str, Any] = dict(model.loss or {})
    loss = resolve_loss(settings.pop("name"), settings)
    x = x.astype(np.int32) if spec.tokens else model.normalizer(x)
    outputs = jnp.asarray(outputs_of(net, model.params, model.state, x))
    if spec.targets.kind == "values":
        columns = spec.targets.names or tuple(f"output_{number}" for number in range(outputs.shape[-1]))
        rows = np.asarray(outputs, np.float64).reshape(len(names), -1)
        values = [dict(zip(columns, row.tolist(), strict=True)) for row in rows]
        return [Prediction(name, row, {}) for name, row in zip(names, values, strict=True)]
    classes = spec.targets.names or tuple(map(str, range(spec.targets.number)))
    decisions = np.asarray(loss.decide(outputs)).reshape(len(names)).astype(int)
    shares: list[dict[str, float]] = [{}] * len(names)
    if loss.probabilities is not None:
        p = np.asarray(loss.probabilities(outputs), np.float64).reshape(len(names), -1)
        p = np.concatenate([1 - p, p], axis=1) if loss.targets == "labels" else p
        shares = [{classes[k]: float(row[k]) for k in np.argsort(-row, kind="stable")} for row in p]
    decided = zip(names, decisions, shares, strict=True)
    return [Prediction(name, classes[decision], share) for name, decision, share in decided]


def continuation(run: Trained, prompt: str, *, length: int, temperature: float, seed: int) -> Iterator[str]:
    """The text that follows a prompt, piece by piece.

    Args:
        run: from `trained`, of a network that foretells the next token.
        prompt: what to go on from.
        length: tokens to add.
        temperature: as for `fnet.generate`.
        seed: of the draws.

    Raises:
        DataError: for a character that the training text does not have.
        GenerationError: for an empty prompt, a negative temperature, or a network that looks at later tokens.
    """
    net, model, spec = run
    vocabulary = spec.vocabulary
    assert vocabulary is not None
    if isinstance(vocabulary, str) and not set(prompt) <= set(vocabulary):
        unknown = ", ".join(map(repr, sorted(set(prompt) - set(vocabulary))))
        known = "".join(filter(str.isprintable, vocabulary))
        raise DataError(
            f"the prompt has {unknown}, which the text that the network was trained on has not; leave it out, or train "
            f"on a text that has it; known: {known}"
        )
    tokens = generate(
        net,
        model.params,
        model.state,
        encode(prompt, vocabulary),
        window=spec.shape[0],
        temperature=temperature,
        seed=seed,
    )
    chosen = itertools.islice(tokens, length)
    if isinstance(vocabulary, bytes):
        return codecs.iterdecode((bytes([token]) for token in chosen), "utf-8", errors="replace")
    return (vocabulary[token] for token in chosen)
