"""Weight penalties and the max-norm constraint, as plain data.

Both interpreters of a network read it. This module imports neither JAX nor NumPy.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any

from annotated_types import Ge, Gt

from fnet.core.layer import Layer, walk
from fnet.core.settings import check_settings, is_zero
from fnet.core.traversal import frozen_paths
from fnet.core.wording import suggestion

Weight = Annotated[float, Ge(0)]
Length = Annotated[float, Gt(0)]

LAYER_SETTINGS = ("l1", "l2", "max_norm")
"""Settings of `Penalties` that single layers can replace."""


@dataclasses.dataclass(frozen=True)
class Penalties:
    """l1 sum|w| + (l2/2) sum w^2, summed over the weights w, and the constraint |column| <= max_norm on each of them.

    Weights are the leaves named w or u, not biases or scales. A column of a weight contains the incoming weights of one
    unit, and its length |column| is the Euclidean norm over all axes but the last.

    Args:
        l1: weight of sum|w|, whose derivative at 0 is taken to be 0.
        l2: weight of sum w^2 / 2. Keras omits the 1/2: its l2 is half of this one.
        layers: values that replace these for single layers, by path, such as {"dense_1": {"l2": 1e-3}}. A path is the
            names that lead to a layer, joined by "/"; the path of a container covers all layers inside. The longest
            path wins, for each value separately; None leaves a value unchanged.
        max_norm: maximum length of a column; longer ones are scaled down to it after each update (Srebro and Shraibman
            2005; Hinton et al. 2012). None for no constraint.

    Attributes:
        frozen: paths of the frozen layers of a network, which have neither penalty nor constraint.

    Raises:
        ValueError: for a value out of bounds, and for an unknown value of a layer.

    >>> penalties = Penalties(l2=1e-4, layers={"block": {"l1": 0.1}, "block/dense_2": {"l2": 0.5, "max_norm": 3.0}})
    >>> [penalties.coefficients_of(path) for path in (("dense_1",), ("block", "dense_1"), ("block", "dense_2"))]
    [(0.0, 0.0001), (0.1, 0.0001), (0.1, 0.5)]
    >>> penalties.max_norm_of(("dense_1",)), penalties.max_norm_of(("block", "dense_2"))
    (None, 3.0)
    """

    l1: Weight = 0.0
    l2: Weight = 0.0
    layers: Mapping[str, Mapping[str, float | None]] = dataclasses.field(default_factory=dict)
    max_norm: Length | None = None
    frozen: tuple[tuple[str, ...], ...] = dataclasses.field(default=(), init=False)

    def __post_init__(self):
        check_settings(Penalties, {name: getattr(self, name) for name in LAYER_SETTINGS})
        layers = {path: _checked_layer(path, settings) for path, settings in self.layers.items()}
        object.__setattr__(self, "layers", MappingProxyType(layers))

    def __hash__(self) -> int:
        layers = frozenset((path, frozenset(settings.items())) for path, settings in self.layers.items())
        return hash((self.l1, self.l2, layers, self.max_norm, self.frozen))

    def __reduce__(self) -> tuple[Any, ...]:
        layers = {path: dict(settings) for path, settings in self.layers.items()}
        return _restored, (self.l1, self.l2, layers, self.max_norm, self.frozen)

    def for_network(self, net: Layer) -> "Penalties":
        """Return the penalties of a network, whose frozen layers have none."""
        return _restored(self.l1, self.l2, self.layers, self.max_norm, frozen_paths(net))

    @property
    def penalizes(self) -> bool:
        """Whether any weight has a penalty; one with a traced number counts."""
        every = (vars(self), *self.layers.values())
        return any(not is_zero(settings.get(name, 0)) for settings in every for name in ("l1", "l2"))

    def coefficients_of(self, path: tuple[str, ...]) -> tuple[float, float]:
        """Return the l1 and l2 of the weights of the layer at a path."""
        l1, l2 = (self._value_at(path, name) for name in ("l1", "l2"))
        return 0.0 if l1 is None else l1, 0.0 if l2 is None else l2

    def max_norm_of(self, path: tuple[str, ...]) -> float | None:
        """Return the max_norm of the weights of the layer at a path."""
        return self._value_at(path, "max_norm")

    def _value_at(self, path: tuple[str, ...], name: str) -> float | None:
        """Return a value from the longest path that sets it, else the one for all layers; None in a frozen layer."""
        if any(path[: len(frozen)] == frozen for frozen in self.frozen):
            return None
        for length in range(len(path), 0, -1):
            settings = self.layers.get("/".join(path[:length]), {})
            if name in settings:
                return settings[name]
        return getattr(self, name)

    def unknown_layers(self, net: Layer) -> Iterator[tuple[str, str]]:
        """Yield the paths that do not lead to a layer of the network, each with an error message.

        >>> import fnet
        >>> dict(Penalties(layers={"dens_1": {"l2": 1.0}}).unknown_layers(fnet.serial(fnet.dense(3))))
        {'dens_1': "no layer is called 'dens_1'; did you mean 'dense_1'?"}
        """
        known = ["/".join(path) for path, _ in walk(net) if path]
        for path in self.layers:
            if path not in known:
                yield path, f"no layer is called '{path}'{suggestion(path, known)}"


def _restored(l1: float, l2: float, layers: Any, max_norm: float | None, frozen: Any) -> Penalties:
    """Return the penalties with these fields."""
    penalties = Penalties(l1, l2, layers, max_norm)
    object.__setattr__(penalties, "frozen", frozen)
    return penalties


def _checked_layer(path: str, settings: Mapping[str, float | None]) -> Mapping[str, float]:
    """Return the checked values of a layer, which replace those for all layers."""
    for name in settings:
        if name not in LAYER_SETTINGS:
            raise ValueError(f"Penalties: layers: {path}: unknown key '{name}'{suggestion(name, LAYER_SETTINGS)}")
    values = {name: value for name, value in settings.items() if value is not None}
    try:
        check_settings(Penalties, values)
    except ValueError as error:
        raise ValueError(f"{error}, in the layer '{path}'") from None
    return MappingProxyType(values)
