"""From a config file to an experiment that is known to fit together, before any data is read."""

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import optax
from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML

from fnet.config import augmentation, document, schema
from fnet.config.errors import Path, Problem, problems_of
from fnet.config.model import build_network, check_layers, index_misfit, path_of, size_of, sizes_in
from fnet.config.schema import Config, DataSettings, OptimizerSettings, ScheduleSettings
from fnet.core.description import describe
from fnet.core.layer import Layer, ShapeError, walk
from fnet.core.settings import suggestion
from fnet.data import augment, catalog, files
from fnet.data.source import DataError, Spec
from fnet.data.split import PARTS, SplitError, sizes
from fnet.losses import LOSSES, Loss
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES, clipped
from fnet.train.step import resolve_loss


class Experiment(NamedTuple):
    """A config that fits together.

    config: resolved: every default filled in.
    net: the network that it describes.
    spec: what is known of its data.
    """

    config: Config
    net: Layer
    spec: Spec

    def plan(self) -> schema.Plan:
        """How long the run is."""
        train, *_ = sizes(self.config.data.parts(self.spec.splits), self.spec.size, self.spec.splits)
        return self.config.train.plan(train)

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """The optimizer, its schedule stretched over a run of so many steps."""
        return make_optimizer(self.config.optimizer, steps)

    def loss(self) -> Loss:
        """The loss with its settings."""
        settings = self.config.loss
        assert settings is not None  # a resolved config has one
        return resolve_loss(settings.name, settings.own())

    def augmentations(self) -> tuple[augment.Augmentation, ...]:
        """What changes the training images at random."""
        return augment.build(self.config.data.augment)


def load(file: str, overrides: Sequence[str] = ()) -> Experiment:
    """Reads a config and checks all of it.

    Modules beside the file, and in the working folder, can be imported for the dotted paths of a user's own layers.

    Args:
        file: the path of a YAML file.
        overrides: `key=value` each.

    Raises:
        ConfigError: with everything that is wrong, each with its file, line and column.
    """
    source = document.read(file, overrides)
    with _importable(FilePath(file).resolve().parent, FilePath.cwd()):
        return _checked(source, FilePath(file).stem)


@contextlib.contextmanager
def _importable(*folders: FilePath) -> Iterator[None]:
    """Puts folders on the import path, last, so that they hide nothing that is installed."""
    before = list(sys.path)
    sys.path += [str(folder) for folder in folders if str(folder) not in before]
    try:
        yield
    finally:
        sys.path[:] = before


def _checked(source: document.Document, stem: str) -> Experiment:
    wrong_keys = [
        Problem((key,), f"expected text for a key, got {key}", True) for key in source.data if not isinstance(key, str)
    ]
    if wrong_keys:
        raise source.problems(wrong_keys)
    problems = _write_out(source.data)
    data = source.data
    layers = data.get("model")
    problems += _fill_in_sizes(layers, data.get("data"))
    if isinstance(layers, list):
        problems += check_layers(layers, ("model",))
        if not layers:
            problems.append(Problem(("model",), "model: expected at least one layer"))
    if isinstance(data.get("data"), dict) and isinstance(data["data"].get("augment"), list):
        problems += augmentation.check_augmentations(data["data"]["augment"], ("data", "augment"))
    config = None
    try:
        config = Config(**data)
    except ValidationError as error:
        known = {problem.path[0] for problem in problems if problem.path in (("data", "name"), ("data", "path"))}
        problems += [p for p in problems_of(error.errors(), data) if p.path[0] not in known]
    if config is None or problems:
        raise source.problems(problems)
    settings = config.data
    try:
        spec = catalog.source(settings.source, settings.name, settings.own()).spec()
        sizes(settings.parts(spec.splits), spec.size, spec.splits)
    except DataError as error:
        raise source.problems([Problem(("data", error.setting or "name"), f"data: {error}")]) from None
    except SplitError as error:
        raise source.problems([Problem(("data", "split", error.part), str(error))]) from None
    net = build_network(config.model, ("model",))
    if isinstance(net, Problem):
        raise source.problems([net])
    found = list(_misfits(config, net, spec))
    if found:
        raise source.problems(found)
    return Experiment(_resolved(config, net, spec, stem), net, spec)


def dump(config: Config) -> str:
    """The config as YAML, every value written out."""
    data = config.model_dump(mode="json")
    schedule = _ordered(config.optimizer.schedule, data["optimizer"]["schedule"])
    data["optimizer"] = _ordered(config.optimizer, data["optimizer"]) | {"schedule": schedule}
    data["data"] = _ordered(config.data, data["data"])
    yaml, text = YAML(), io.StringIO()
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.dump(data, text)
    return text.getvalue()


def _ordered(settings: DataSettings | OptimizerSettings | ScheduleSettings, data: dict[str, Any]) -> dict[str, Any]:
    """A section with what it is first, then its own settings, then those that all its kind take."""
    first = [tag for tag in ("source", "name") if tag in data]
    return {key: data[key] for key in (*first, *settings.own(), *data)}


def make_optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """The optimizer of the settings for a run of so many steps.

    Raises:
        ValueError: for settings that exclude each other.
    """
    own = settings.own()
    schedule = SCHEDULES[settings.schedule.name](own.pop("learning_rate"), steps, **settings.schedule.own())
    optimizer = OPTIMIZERS[settings.name](schedule, **own)
    return clipped(optimizer, norm=settings.clip_norm, value=settings.clip_value)


def _write_out(data: dict[str, Any]) -> list[Problem]:
    """Writes the short forms out in place: a name alone, a name without its source, settings without a name."""
    for section in (data, data.get("optimizer")):
        for key in ("data", "loss", "optimizer", "schedule"):
            if isinstance(section, dict) and isinstance(section.get(key), str):
                section[key] = {"name": section[key]}
    optimizer = data.get("optimizer")
    if isinstance(optimizer, dict):
        data["optimizer"] = {"name": "adam"} | optimizer
    settings = data.get("data")
    if not isinstance(settings, dict) or "source" in settings:
        return []
    if "name" not in settings and isinstance(settings.get("path"), str):
        try:
            settings = {"name": files.format_of(settings["path"])} | settings
        except DataError as error:
            return [Problem(("data", "path"), f"data.path: {error}")]
    if "name" not in settings:
        return [Problem(("data", "name"), "'data.name' is required, but not given")]
    source = catalog.source_of(settings["name"])
    if source is None:
        known = [known for names in catalog.SOURCES.values() for known in names]
        name = str(settings["name"])
        other = "" if "did you mean" in suggestion(name, known) else "; one of TensorFlow Datasets needs source: tfds"
        return [Problem(("data", "name"), f"unknown data set '{name}'{suggestion(name, known)}{other}")]
    data["data"] = {"source": source} | settings
    return []


def _fill_in_sizes(layers: Any, settings: Any) -> list[Problem]:
    """Writes numbers, in place, for the words that stand for a size of the data; what is wrong with them."""
    places = list(sizes_in(layers, ("model",)))
    if not places:
        return []
    spec = None
    with contextlib.suppress(ValidationError, DataError):  # which are reported where they belong
        chosen: DataSettings = TypeAdapter(schema.Data).validate_python(settings)
        spec = catalog.source(chosen.source, chosen.name, chosen.own()).spec()
    problems = []
    for (*inner, key), word in places:
        size = 1 if spec is None else size_of(word, spec)
        if isinstance(size, str):
            problems.append(Problem((*inner, key), size))
            size = 1
        holder = layers
        for part in inner[1:]:
            holder = holder[part]
        holder[key] = size
    return problems


def _misfits(config: Config, net: Layer, spec: Spec):
    """What does not fit together: shapes, the last layer, the loss, layers by name, what is monitored, the schedule."""
    model: Path = ("model",)
    if spec.tokens and config.data.normalize not in (None, "none"):
        yield Problem(("data", "normalize"), "data.normalize: token numbers have no scale to normalize; leave it out")
    yield from augmentation.misfits(config.data.augment, spec.shape, ("data", "augment"))
    try:
        out_shape = net.shape(spec.shape)
    except ShapeError as error:
        yield Problem(path_of(config.model, model, net, error.path), f"{error}; {spec.name} has examples {spec.shape}")
    else:
        yield from _loss_misfits(config, net, spec, out_shape)
    misfit = index_misfit(net, spec)
    if misfit is not None:
        yield Problem(path_of(config.model, model, net, [name for name, _ in net.children][:1]), misfit)
    for layer, message in config.regularization.penalties().unknown(net):
        yield Problem(("regularization", "layers", layer), f"regularization.layers: {message}", at_key=True)
    stopping = config.train.early_stopping
    if stopping is not None:
        metric = LOSSES[_loss_name(config, spec, ())].metric_name
        monitors = [f"train_{value}" for value in ("loss", metric)]
        if config.data.parts(spec.splits)[1]:
            monitors += [f"validation_{value}" for value in ("loss", metric)]
        if stopping.monitor not in monitors:
            what = f"nothing records '{stopping.monitor}' in this run{suggestion(stopping.monitor, monitors)}"
            yield Problem(("train", "early_stopping", "monitor"), what)
    try:
        make_optimizer(config.optimizer, Experiment(config, net, spec).plan().steps)
    except ValueError as error:
        section = ("optimizer", "schedule") if str(error).startswith("warmup") else ("optimizer",)
        yield Problem(section, f"{'.'.join(section)}: {error}")


def _loss_misfits(config: Config, net: Layer, spec: Spec, out_shape: tuple[int, ...]):
    targets = spec.targets
    loss = _loss_name(config, spec, out_shape)
    names = [name for name, _ in net.children][-1:]
    last = path_of(config.model, ("model",), net, names)
    fits = {
        "values": targets.kind == "values",
        "labels": targets.kind == "classes" and targets.number == 2 and not targets.shape,
        "classes": targets.kind == "classes",
    }
    suitable = [name for name, known in LOSSES.items() if fits.get(known.targets or "")]
    if loss not in suitable:
        yield Problem(
            ("loss", "name"),
            f"loss: {loss} is for {LOSSES[loss].summary}, but {spec.name} has {targets}; use {' or '.join(suitable)}",
        )
        return
    wanted = (*targets.shape, 1 if LOSSES[loss].targets == "labels" else targets.number)
    if out_shape != wanted and targets.shape:
        found = f"{names[0]} gives outputs of shape {out_shape}, but {spec.name} has {targets}"
        yield Problem(last, f"{found}, so the network must give {wanted}: end it with dense: {targets.number}")
    elif out_shape != wanted:
        reason = f"{spec.name} has {targets}, so with {loss} the network must give {wanted[0]} output"
        found = f"gives {out_shape[0]}" if len(out_shape) == 1 else f"gives outputs of shape {out_shape}"
        *_, (_, final) = walk(net)
        mend = f"make it dense: {wanted[0]}" if final.kind == "dense" else f"append dense: {wanted[0]}"
        if len(out_shape) != 1:
            mend = "put a flatten before the last dense"
        yield Problem(last, f"{names[0]} {found}, but {reason}{'s' if wanted[0] > 1 else ''}; {mend}")
    *_, (path, final) = walk(net)
    if final.kind in ("sigmoid", "softmax") and LOSSES[loss].targets != "values":
        where = path_of(config.model, ("model",), net, path)
        yield Problem(where, f"{'/'.join(path)}: {loss} takes logits, from before any {final.kind}; remove it")


def _loss_name(config: Config, spec: Spec, out_shape: tuple[int, ...]) -> str:
    return config.loss.name if config.loss is not None else default_loss(spec, out_shape)


def default_loss(spec: Spec, out_shape: tuple[int, ...]) -> str:
    """The loss for a task when the config names none: by the targets, and for two classes by the outputs."""
    if spec.targets.kind == "values":
        return "mse"
    return "binary_cross_entropy" if spec.targets.number == 2 and out_shape == (1,) else "cross_entropy"


def _resolved(config: Config, net: Layer, spec: Spec, stem: str) -> Config:
    name = default_loss(spec, net.shape(spec.shape))
    data = catalog.source(config.data.source, config.data.name, config.data.own())
    normalization = config.data.normalize or data.default_normalization(spec)
    split = schema.Split(**dict(zip(PARTS, config.data.parts(spec.splits), strict=True)))
    augmentations = [{chosen.kind: dict(chosen.settings)} for chosen in augment.build(config.data.augment)]
    return config.model_copy(
        update={
            "name": config.name or stem,
            "data": config.data.model_copy(
                update={"normalize": normalization, "split": split, "augment": augmentations}
            ),
            "model": describe(net),
            "loss": config.loss or schema.loss(name).model_validate({"name": name}),
        }
    )
