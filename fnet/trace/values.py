"""Parsing and checks of the values of an expression's variables, such as "x=2"."""

import keyword
import unicodedata
from collections.abc import Iterable, Mapping

import numpy as np

from fnet.core.wording import suggestion
from fnet.trace.expression import ExpressionError, Program, abbreviate, build
from fnet.trace.functions import FUNCTIONS
from fnet.trace.parser import parse


def parse_values(texts: Iterable[str]) -> dict[str, np.ndarray]:
    """Read values such as "x=2", "x=-2.5e-3", "x=pi/2" or "w=[[1, 2], [3, 4]]".

    Raises:
        ExpressionError: if a value is invalid; shows its place in the text.

    >>> parse_values(["x=-2", "w=[1, 2]"])
    {'x': array(-2.), 'w': array([1., 2.])}
    """
    values: dict[str, np.ndarray] = {}
    for text in texts:
        left, equals, right = text.partition("=")
        name = unicodedata.normalize("NFKC", left.strip())
        if not equals or not name.isidentifier() or keyword.iskeyword(name):
            raise ExpressionError("a value is written as NAME=NUMBER, such as x=2", text, (0, len(left)))
        if name in FUNCTIONS:
            raise ExpressionError(f"'{name}' is a function and cannot have a value", text, (0, len(left)))
        if name in values:
            raise ExpressionError(f"'{name}' has two values; remove one of them", text, (0, len(left)))
        if not right.strip():
            raise ExpressionError(f"'{name}' has no value: a number is missing", text, (len(text), len(text)))
        try:
            values[name] = _evaluate(right)
        except ExpressionError as error:
            before = len(text) - len(right.lstrip())
            place = (error.place[0] + before, error.place[1] + before)
            raise ExpressionError(error.message, text, place) from None
    return values


def _evaluate(source: str) -> np.ndarray:
    """Compute an expression without variables."""
    program = parse(source)
    for variable, number in program.variables.items():
        raise ExpressionError(f"'{variable}' is not a number", program.source, program.steps[number].place)
    return build(program, {})[-1].value


def check_values(program: Program, values: Mapping[str, np.ndarray]) -> None:
    """Check that every variable has a value, and that every value belongs to a variable.

    Raises:
        ExpressionError: if a value is missing or extra, or the expression does not have variables.
    """
    variables = program.variables
    unused = [name for name in values if name not in variables]
    for name, number in variables.items():
        if name not in values:
            near = suggestion(name, unused, listing=False)
            message = f"the variable '{name}' has no value: add {name}=…{near}"
            raise ExpressionError(message, program.source, program.steps[number].place)
    for name in unused:
        raise ExpressionError(
            f"the expression has no variable '{name}'{suggestion(name, variables)}",
            f"{name}={abbreviate(values[name])}",
            (0, len(name)),
        )
    if not variables:
        message = "the expression has no variable to take a gradient with respect to"
        raise ExpressionError(message, program.source, (0, len(program.source)))
