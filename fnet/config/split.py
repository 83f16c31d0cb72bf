"""The schema of `data.split`: how a dataset is divided into parts."""

from typing import Annotated, Any

from annotated_types import Ge, Interval, MinLen
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from fnet.core.settings import Strict
from fnet.data.split import PARTS, Rules, SplitSizes, default_parts

Fraction = Annotated[float, Interval(ge=0, lt=1)]
SplitNames = Annotated[str, MinLen(1)]
Parts = tuple[float | str, float | str, float | str]
"""The training, validation and test part."""


class Split(Strict, frozen=True):
    """Fractions of the examples, stratified by class, or names of the source's own splits.

    A name may be a slice or a sum: "test", "train[:90%]", "train[1000:]+extra". Fractions apply to the examples that no
    part names. If any part is written, an omitted one is empty, but for the training part, which is then the rest.
    """

    train: Annotated[float, Interval(gt=0, le=1)] | SplitNames | None = Field(
        default=None, description="part that the network is trained on"
    )
    validation: Fraction | SplitNames | None = Field(
        default=None, description="part for choosing settings and for early stopping"
    )
    test: Fraction | SplitNames | None = Field(default=None, description="part for the final scores only")
    group: SplitNames | None = Field(
        default=None, description="column, such as patient, whose equal values stay in the same part; not a feature"
    )
    by: SplitNames | None = Field(
        default=None, description="column, such as date, in whose order fractions are cut: training first, test last"
    )
    stratify: bool | None = Field(
        default=None,
        description="whether each part has its share of each class, or of each tenth of a value; by default of each "
        "class",
    )
    cross_validation: Annotated[int, Ge(2)] | None = Field(
        default=None,
        description="number of folds, in place of train and validation; each fold is the validation part of one run",
    )
    fold: Annotated[int, Ge(1)] | None = Field(
        default=None, description="run this fold of cross_validation alone; from 1; by default all in turn"
    )

    @model_validator(mode="after")
    def _sum_to_at_most_one(self):
        fractions = {part: value for part in PARTS if isinstance(value := getattr(self, part), float)}
        total = sum(fractions.values())
        terms = " + ".join(f"{part:g} ({name})" for name, part in fractions.items())
        if total > 1 + 1e-9:
            raise ValueError(f"expected fractions that sum to at most 1, got {terms} = {total:g}; make them smaller")
        if self.train is None and total > 1 - 1e-9:
            raise ValueError(f"expected a rest for training, got {terms} = {total:g}; make them smaller")
        return self

    @model_validator(mode="after")
    def _rules_fit_together(self):
        set_rules = [name for name in ("group", "by", "cross_validation") if getattr(self, name) is not None]
        if self.by is not None and len(set_rules) > 1:
            other = next(name for name in set_rules if name != "by")
            raise ValueError(f"expected either by or {other}, got both; remove one of them")
        if self.by is not None and self.stratify:
            raise ValueError("expected either by or stratify, got both; remove one of them")
        if self.cross_validation is not None:
            parts = [part for part in ("train", "validation") if getattr(self, part) is not None]
            if parts:
                what = f"expected no {' and '.join(parts)} beside cross_validation, whose folds take the place of both"
                raise ValueError(f"{what}; remove {'it' if len(parts) == 1 else 'them'}")
        elif self.fold is not None:
            raise ValueError("expected cross_validation beside fold; add it, or remove fold")
        if self.fold is not None and self.fold > (self.cross_validation or 0):
            raise ValueError(f"expected a fold from 1 to {self.cross_validation}, got {self.fold}; make it smaller")
        return self

    @model_serializer(mode="wrap")
    def _without_omitted(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only the keys that are set."""
        return {key: value for key, value in serialize(self).items() if value is not None}

    @property
    def names_parts(self) -> bool:
        """Whether any part is written."""
        return any(getattr(self, part) is not None for part in PARTS)

    def parts(self, source_splits: SplitSizes) -> Parts:
        """Return the training, validation and test part, for a source with these splits."""
        default = default_parts(source_splits)
        if self.cross_validation is not None:
            test = self.test
            if test is None:
                test = default[2] if isinstance(default[2], str) else 0.0
            rest = 1.0 if isinstance(test, str) else 1 - test
            return rest - rest / self.cross_validation, rest / self.cross_validation, test
        if not self.names_parts:
            return default
        rest = 1 - sum(part for part in (self.validation, self.test) if isinstance(part, float))
        return self.train or round(rest, 12), self.validation or 0.0, self.test or 0.0

    def rules(self) -> Rules:
        """Return the rules beside the fractions."""
        return Rules(self.group, self.by, self.stratify, self.cross_validation, self.fold)
