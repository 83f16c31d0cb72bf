"""What keeps weights small: penalties added to the loss, and a greatest length of the weights into a unit.

Plain data that both interpreters of a network read. This module imports neither JAX nor NumPy.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated

from annotated_types import Ge, Gt

from fnet.core.layer import Layer, walk
from fnet.core.settings import checked
from fnet.core.wording import suggestion

Weight = Annotated[float, Ge(0)]
Length = Annotated[float, Gt(0)]

VALUES = ("l1", "l2", "max_norm")
"""What can be set for single layers as well."""


@dataclasses.dataclass(frozen=True)
class Penalties:
    """l1 sum|w| + (l2/2) sum w^2, summed over the weights w, and the constraint |column| <= max_norm on each of them.

    Weights are the leaves named w or u, not biases or scales. A column of a weight is what one unit receives through
    it, and its length |column| the Euclidean norm over all axes but the last.

    Args:
        l1: weight of sum|w|, whose derivative at 0 is taken to be 0.
        l2: weight of sum w^2 / 2. Keras has no half: its l2 is half of this one.
        layers: values that replace these for the weights under a path, such as {"dense_1": {"l2": 1e-3}}. A path is
            the names that lead to a layer, joined by "/"; a container's covers all that it contains. For each value by
            itself the longest path wins; None is no value.
        max_norm: columns that are longer after an update are scaled down to this length (Srebro and Shraibman 2005;
            Hinton et al. 2012); None for no constraint.

    Raises:
        ValueError: for a value out of bounds, or an unknown one of a layer.

    >>> penalties = Penalties(l2=1e-4, layers={"block": {"l1": 0.1}, "block/dense_2": {"l2": 0.5, "max_norm": 3.0}})
    >>> [penalties.of(path) for path in (("dense_1",), ("block", "dense_1"), ("block", "dense_2"))]
    [(0.0, 0.0001), (0.1, 0.0001), (0.1, 0.5)]
    >>> penalties.longest(("dense_1",)), penalties.longest(("block", "dense_2"))
    (None, 3.0)
    """

    l1: Weight = 0.0
    l2: Weight = 0.0
    layers: Mapping[str, Mapping[str, float | None]] = dataclasses.field(default_factory=dict)
    max_norm: Length | None = None

    def __post_init__(self):
        checked(Penalties, {value: getattr(self, value) for value in VALUES})
        layers = {path: _given(path, entry) for path, entry in self.layers.items()}
        object.__setattr__(self, "layers", MappingProxyType(layers))

    def __hash__(self) -> int:
        layers = frozenset((path, frozenset(entry.items())) for path, entry in self.layers.items())
        return hash((self.l1, self.l2, layers, self.max_norm))

    @property
    def penalizes(self) -> bool:
        """Whether there is a penalty at all."""
        return any(entry.get(value) for entry in (vars(self), *self.layers.values()) for value in ("l1", "l2"))

    def of(self, path: tuple[str, ...]) -> tuple[float, float]:
        """The l1 and l2 of the weights of the layer that the names lead to."""
        return self._nearest(path, "l1") or 0.0, self._nearest(path, "l2") or 0.0

    def longest(self, path: tuple[str, ...]) -> float | None:
        """The max_norm of the weights of the layer that the names lead to."""
        return self._nearest(path, "max_norm")

    def _nearest(self, path: tuple[str, ...], value: str) -> float | None:
        """A value as the longest path that has it says, or else as it is for all."""
        for length in range(len(path), 0, -1):
            entry = self.layers.get("/".join(path[:length]), {})
            if value in entry:
                return entry[value]
        return getattr(self, value)

    def unknown(self, net: Layer) -> Iterator[tuple[str, str]]:
        """The paths that lead to no layer of the network, each with a message that says so.

        >>> import fnet
        >>> dict(Penalties(layers={"dens_1": {"l2": 1.0}}).unknown(fnet.serial(fnet.dense(3))))
        {'dens_1': "no layer is called 'dens_1'; did you mean 'dense_1'?"}
        """
        known = ["/".join(path) for path, _ in walk(net) if path]
        for path in self.layers:
            if path not in known:
                yield path, f"no layer is called '{path}'{suggestion(path, known)}"


def _given(path: str, entry: Mapping[str, float | None]) -> Mapping[str, float]:
    """The values of a layer's entry that are given, checked."""
    for value in entry:
        if value not in VALUES:
            raise ValueError(f"Penalties: layers: {path}: unknown key '{value}'{suggestion(value, VALUES)}")
    given = {value: number for value, number in entry.items() if number is not None}
    try:
        checked(Penalties, given)
    except ValueError as error:
        raise ValueError(f"{error}, in the layer '{path}'") from None
    return MappingProxyType(given)
