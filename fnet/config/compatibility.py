"""Checks that settings, each valid by itself, are compatible: network, data, loss and training."""

from collections.abc import Iterator, Mapping

from fnet.config import augmentation
from fnet.config.errors import Path, Problem
from fnet.config.experiment import class_weights, dataset, make_optimizer, make_schedule, penalties
from fnet.config.model import index_incompatibility, path_of
from fnet.config.schema import Config
from fnet.core.layer import Layer, Shape, ShapeError, walk
from fnet.core.wording import format_value, nearest
from fnet.data.source import DatasetSpec
from fnet.layers.initializer import check_initializers
from fnet.losses import LOSSES, for_labels
from fnet.train.class_weights import class_names
from fnet.train.early_stopping import recorded_values
from fnet.train.plan import plan

MODEL: Path = ("model",)


def incompatibilities(config: Config, net: Layer, spec: DatasetSpec) -> Iterator[Problem]:
    """Yield the problems of incompatible settings in a valid config.

    Args:
        config: the config.
        net: its network.
        spec: description of its dataset.
    """
    yield from _data_problems(config, spec)
    yield from _network_problems(config, net, spec)
    yield from _regularization_problems(config, net)
    yield from _monitor_problems(config, spec)
    yield from _optimizer_problems(config, spec)


def chosen_loss(config: Config, spec: DatasetSpec, out_shape: Shape) -> str:
    """Return the name of the loss: the config's, or the default for the task.

    The default depends on the targets and, for two classes, on the outputs of the network.
    """
    if config.loss is not None:
        return config.loss.name
    if spec.targets.kind == "values":
        return "mse"
    if spec.targets.kind == "labels":
        return "binary_cross_entropy"
    return "binary_cross_entropy" if spec.targets.number == 2 and out_shape == (1,) else "cross_entropy"


def _data_problems(config: Config, spec: DatasetSpec) -> Iterator[Problem]:
    normalize = config.data.normalize
    if spec.tokens and normalize not in (None, "none"):
        message = f"data.normalize: expected none, because tokens have no scale, got '{normalize}'"
        yield Problem(("data", "normalize"), message, fix="remove the key")
    if config.data.normalize_targets == "standard" and (spec.targets.kind != "values" or spec.targets.shape):
        message = f"data.normalize_targets: expected none, because {spec.name} has {spec.targets}, got 'standard'"
        yield Problem(("data", "normalize_targets"), message, fix="remove the key")
    yield from augmentation.incompatibilities(config.data.augment, spec.shape, ("data", "augment"))


def _network_problems(config: Config, net: Layer, spec: DatasetSpec) -> Iterator[Problem]:
    try:
        out_shape = net.shape(spec.shape)
        check_initializers(net, spec.shape)
    except ShapeError as error:
        path = path_of(config.model, MODEL, net, error.path)
        yield Problem(path, f"{error}; examples of {spec.name} have the shape {spec.shape}")
    else:
        yield from _loss_problems(config, net, spec, chosen_loss(config, spec, out_shape), out_shape)
    message = index_incompatibility(net, spec)
    if message is not None:
        yield Problem(path_of(config.model, MODEL, net, [name for name, _ in net.children][:1]), message)


def _loss_problems(config: Config, net: Layer, spec: DatasetSpec, loss: str, out_shape: Shape) -> Iterator[Problem]:
    suitable = _suitable_losses(spec)
    if loss not in suitable:
        message = f"loss: {loss} is for {LOSSES[loss].summary}, but {spec.name} has {spec.targets}"
        yield Problem(("loss", "name"), message, fix=f"use {' or '.join(suitable)}")
        return
    yield from _output_problems(config, net, spec, loss, out_shape)
    yield from _class_weight_problems(config, spec)
    *_, (path, final) = walk(net)
    if final.kind in ("sigmoid", "softmax") and LOSSES[loss].targets != "values":
        message = f"{'/'.join(path)}: {loss} takes logits, so the network must not end with a {final.kind}"
        yield Problem(path_of(config.model, MODEL, net, path), message, fix="remove it")


def _class_weight_problems(config: Config, spec: DatasetSpec) -> Iterator[Problem]:
    """Yield the problems of class weights that do not match the classes of the data."""
    weights = None if config.loss is None else class_weights(config.loss)
    path, targets = ("loss", "class_weights"), spec.targets
    if weights is None:
        return
    if targets.kind != "classes":
        yield Problem(path, f"loss.class_weights: expected classes, but {spec.name} has {targets}", fix="remove it")
        return
    names = class_names(targets.number, targets.names)
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in names:
                yield Problem(
                    (*path, name),
                    f"loss.class_weights: unknown class {format_value(name)}",
                    at_key=True,
                    suggestion=nearest(name, names),
                    known=names,
                )
        values = [weights.get(name, 1.0) for name in names]
    elif isinstance(weights, str):
        return
    else:
        values = list(weights)
        if len(values) != len(names):
            message = f"loss.class_weights: expected a weight for each of {len(names)} classes, got {len(values)}"
            yield Problem(path, message, fix="give weights by name to change only some, {NAME: WEIGHT}")
            return
    if not any(values):
        yield Problem(path, "loss.class_weights: expected a positive weight, got only 0", fix="make one positive")


def _suitable_losses(spec: DatasetSpec) -> list[str]:
    """Return the losses for the targets of a dataset."""
    targets = spec.targets
    fits = {
        "values": targets.kind == "values",
        "labels": targets.kind == "labels" or (targets.kind == "classes" and targets.number == 2 and not targets.shape),
        "classes": targets.kind == "classes",
    }
    return [name for name, loss in LOSSES.items() if fits.get(loss.targets or "")]


def _output_problems(config: Config, net: Layer, spec: DatasetSpec, loss: str, out_shape: Shape) -> Iterator[Problem]:
    """Yield the problem of a network whose outputs do not have the shape that the loss expects."""
    targets = spec.targets
    units = 1 if LOSSES[loss].targets == "labels" and targets.kind == "classes" else targets.number
    expected = (*targets.shape, units)
    if out_shape == expected:
        return
    last = [name for name, _ in net.children][-1:]
    wanted = f"{units} output{'s' if units > 1 else ''}" if len(expected) == 1 else f"outputs of shape {expected}"
    received = str(out_shape[0]) if len(out_shape) == len(expected) == 1 else f"outputs of shape {out_shape}"
    message = f"{last[0]}: expected {wanted} for {loss}, because {spec.name} has {targets}; got {received}"
    *_, (_, final) = walk(net)
    if targets.shape:
        fix = f"end the network with dense: {units}"
    elif len(out_shape) != 1:
        fix = "put a flatten before the last dense"
    else:
        fix = f"make it dense: {units}" if final.kind == "dense" else f"append dense: {units}"
    yield Problem(path_of(config.model, MODEL, net, last), message, fix=fix)


def _regularization_problems(config: Config, net: Layer) -> Iterator[Problem]:
    for layer, message in penalties(config).unknown_layers(net):
        yield Problem(("regularization", "layers", layer), f"regularization.layers: {message}", at_key=True)


def _monitor_problems(config: Config, spec: DatasetSpec) -> Iterator[Problem]:
    """Yield the problem of early stopping on a value that the run does not record."""
    stopping = config.train.early_stopping
    if stopping is None:
        return
    monitor = stopping.monitor
    loss = LOSSES[chosen_loss(config, spec, ())]
    metrics = (for_labels(loss) if spec.targets.kind == "labels" else loss).metrics
    penalized = penalties(config).penalizes
    with_validation = recorded_values(metrics, validation=True, penalized=penalized)
    known = with_validation
    if not config.data.parts(spec.splits)[1]:
        known = recorded_values(metrics, validation=False, penalized=penalized)
    if monitor not in known:
        reason = ", but data.split has no validation part" if monitor in with_validation else ""
        yield Problem(
            ("train", "early_stopping", "monitor"),
            f"train.early_stopping.monitor: expected a value that the run records, got '{monitor}'{reason}",
            suggestion=nearest(monitor, known),
            known=tuple(known),
        )


def _optimizer_problems(config: Config, spec: DatasetSpec) -> Iterator[Problem]:
    train = config.train
    size = min(fold.sizes(config.seed)[0] for fold in dataset(config.data, spec).folds())
    steps = plan(size, batch_size=train.batch_size, epochs=train.epochs_for(size), steps=train.steps).steps
    try:
        make_schedule(config.optimizer, steps)
    except ValueError as error:
        yield Problem(("optimizer", "schedule"), f"optimizer.schedule: {error}")
        return
    try:
        make_optimizer(config.optimizer, steps)
    except ValueError as error:
        yield Problem(("optimizer",), f"optimizer: {error}")
