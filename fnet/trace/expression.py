"""Expressions as programs: the steps of a computational graph before values are assigned to its variables."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fnet.trace.nodes import Node, Operation, Undefined, constant, variable

CONTEXT = 60
"""Number of characters of a long line that an error shows before and after the place."""


class ExpressionError(ValueError):
    """An expression is invalid; the message ends with the line and carets under the place.

    message: what is wrong.
    place: half-open range [start, stop) of characters in the source.
    """

    exit_status = 2

    def __init__(self, message: str, source: str, place: tuple[int, int]):
        super().__init__(f"{message}\n{_excerpt(source, place)}")
        self.message = message
        self.place = place


def _excerpt(source: str, place: tuple[int, int]) -> str:
    """Write the line of a place, truncated if it is long, with carets under the place.

    >>> print(_excerpt("q = x; sine(q)", (7, 11)))
        q = x; sine(q)
               ^^^^
    """
    begin = source.rfind("\n", 0, place[0]) + 1
    line = source[begin:].partition("\n")[0]
    start, stop = place[0] - begin, min(max(place[1], place[0] + 1) - begin, max(len(line), place[0] - begin + 1))
    cut = max(0, start - CONTEXT)
    text = ("…" if cut else "") + line[cut : start + CONTEXT] + ("…" if len(line) > start + CONTEXT else "")
    carets = " " * (start - cut + bool(cut)) + "^" * min(stop - start, CONTEXT)
    return f"    {text}\n    {carets}"


class Step(NamedTuple):
    """One value of a program: a variable, a constant or an operation.

    name: the variable's name, the name it was assigned to, or a letter; for a constant, its text.
    place: half-open range [start, stop) of characters in the source.
    operation: None for a variable or a constant.
    operands: the numbers of the steps that it is computed from.
    value: the value of a constant, else None.
    varies: whether it depends on a variable.
    """

    name: str
    place: tuple[int, int]
    operation: Operation | None = None
    operands: tuple[int, ...] = ()
    value: np.ndarray | None = None
    varies: bool = False


class Program(NamedTuple):
    """The steps of an expression, each after its operands; the last is the result.

    Equal subexpressions share a step.
    """

    source: str
    steps: tuple[Step, ...]

    @property
    def variables(self) -> dict[str, int]:
        """Return the number of each variable's step, by name, in the order of first use."""
        return {step.name: number for number, step in enumerate(self.steps) if step.varies and step.operation is None}

    def formula(self, number: int) -> str:
        """Write a step as an operation on the names of its operands."""
        return formula_of(self.steps, number)

    def derivative_formula(self, number: int, position: int) -> str:
        """Write the local derivative of a step with respect to one of its operands."""
        step = self.steps[number]
        assert step.operation is not None
        return step.operation.derivatives[position][0].format(y=step.name, **_operand_names(self.steps, step))


def formula_of(steps: Sequence[Step], number: int) -> str:
    """Write a step as an operation on the names of its operands.

    >>> from fnet.trace.parser import parse
    >>> program = parse("exp(x**2) + x**2")
    >>> [step.name + ": " + program.formula(number) for number, step in enumerate(program.steps) if step.operation]
    ['a: x ** 2', 'b: exp(a)', 'c: b + a']
    """
    step = steps[number]
    return step.operation.formula.format(**_operand_names(steps, step)) if step.operation else step.name


def _operand_names(steps: Sequence[Step], step: Step) -> dict[str, str]:
    """Name the operands {a} and {b}; a constant that contains an operator is put in parentheses."""
    names = {}
    for letter, number in zip("ab", step.operands, strict=False):
        operand = steps[number]
        composed = not operand.varies and (operand.operation is not None or operand.name.startswith("-"))
        names[letter] = f"({operand.name})" if composed else operand.name
    return names


def build(program: Program, values: Mapping[str, np.ndarray]) -> list[Node]:
    """Compute the node of every step, with the variables at these values.

    Raises:
        ExpressionError: for a step whose value is not finite or not defined for the shapes of its operands.

    >>> from fnet.trace.parser import parse
    >>> nodes = build(parse("(x + y) * z"), {"x": np.array(-2.0), "y": np.array(5.0), "z": np.array(-4.0)})
    >>> float(nodes[-1])
    -12.0
    """
    nodes: list[Node] = []
    variables = {name: variable(value) for name, value in values.items()}
    try:
        for step in program.steps:
            if step.operation is not None:
                nodes.append(step.operation(*(nodes[operand] for operand in step.operands)))
            else:
                nodes.append(variables[step.name] if step.value is None else constant(step.value))
    except ValueError as error:
        raise ExpressionError(str(error), program.source, program.steps[len(nodes)].place) from None
    except Undefined as error:
        step = program.steps[len(nodes)]
        message = f"{error}{_where(program, step, nodes)}"
        raise ExpressionError(message, program.source, step.place) from None
    return nodes


def _where(program: Program, step: Step, nodes: Sequence[Node]) -> str:
    """Write the values of a step's varying operands, such as ", where x - 2 = 0"."""
    operands = [operand for operand in dict.fromkeys(step.operands) if program.steps[operand].varies]
    values = [f"{_source_of(program, operand)} = {abbreviate(nodes[operand].value)}" for operand in operands]
    return f", where {' and '.join(values)}" if values else ""


def _source_of(program: Program, number: int) -> str:
    """Return a step's text in the source, truncated to 40 characters."""
    text = " ".join(program.source[slice(*program.steps[number].place)].split())
    return text if len(text) <= 40 else text[:39] + "…"


def abbreviate(value: np.ndarray) -> str:
    """Write a number with 6 significant digits, and an array as its shape."""
    return f"{value.item():.6g}" if value.ndim == 0 else f"an array of shape {value.shape}"
