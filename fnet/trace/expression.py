"""An expression as the steps of a computational graph."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fnet.trace import graph
from fnet.trace.graph import Node, Operation, Undefined


class ExpressionError(ValueError):
    """An expression that cannot be used: what is wrong, the line, and a caret under the place."""

    exit_status = 2

    def __init__(self, message: str, source: str, place: tuple[int, int]):
        begin = source.rfind("\n", 0, place[0]) + 1
        line = source[begin:].partition("\n")[0]
        start, stop = place[0] - begin, min(max(place[1], place[0] + 1) - begin, max(len(line), place[0] - begin + 1))
        cut = max(0, start - 60)
        shown = ("…" if cut else "") + line[cut : start + 60] + ("…" if len(line) > start + 60 else "")
        carets = " " * (start - cut + bool(cut)) + "^" * min(stop - start, 60)
        super().__init__(f"{message}\n    {shown}\n    {carets}")
        self.message = message
        self.place = place


class Step(NamedTuple):
    """One value of a program: a variable, a constant or an operation.

    name: as shown: the variable's, the one it was assigned to, a letter, or for a constant how it was written.
    place: where it stands in the source: from, to.
    operation: None for a variable or a constant.
    operands: the numbers of the steps that it is made of.
    value: of a constant.
    varies: whether it depends on a variable.
    """

    name: str
    place: tuple[int, int]
    operation: Operation | None = None
    operands: tuple[int, ...] = ()
    value: np.ndarray | None = None
    varies: bool = False


class Program(NamedTuple):
    """The steps of an expression, each after its operands, the result last. Equal subexpressions share a step."""

    source: str
    steps: tuple[Step, ...]

    @property
    def variables(self) -> dict[str, int]:
        """The number of the step of every variable, in the order of their first use."""
        return {step.name: number for number, step in enumerate(self.steps) if step.varies and step.operation is None}

    def written(self, number: int) -> str:
        """A step's operation on the names of its operands."""
        return written(self.steps, number)

    def derivative(self, number: int, position: int) -> str:
        """How the local derivative of a step with respect to an operand is written."""
        step = self.steps[number]
        assert step.operation is not None
        return step.operation.derivatives[position][0].format(y=step.name, **_operands(self.steps, step))


def written(steps: Sequence[Step], number: int) -> str:
    """A step's operation on the names of its operands.

    >>> from fnet.trace.parser import parse
    >>> program = parse("exp(x**2) + x**2")
    >>> [step.name + ": " + program.written(number) for number, step in enumerate(program.steps) if step.operation]
    ['a: x ** 2', 'b: exp(a)', 'c: b + a']
    """
    step = steps[number]
    return step.operation.form.format(**_operands(steps, step)) if step.operation else step.name


def _operands(steps: Sequence[Step], step: Step) -> dict[str, str]:
    """The names of the operands as {a} and {b}; a constant that is written with an operator stands in brackets."""
    names = {}
    for letter, number in zip("ab", step.operands, strict=False):
        operand = steps[number]
        composed = not operand.varies and (operand.operation is not None or operand.name.startswith("-"))
        names[letter] = f"({operand.name})" if composed else operand.name
    return names


def build(program: Program, values: Mapping[str, np.ndarray]) -> list[Node]:
    """The node of every step, with the variables at these values.

    Raises:
        ExpressionError: for a step without a finite value, for shapes that do not fit, and for a result that is not
            one number.

    >>> from fnet.trace.parser import parse
    >>> nodes = build(parse("(x + y) * z"), {"x": np.array(-2.0), "y": np.array(5.0), "z": np.array(-4.0)})
    >>> float(nodes[-1])
    -12.0
    """
    nodes: list[Node] = []
    variables = {name: graph.variable(value) for name, value in values.items()}
    try:
        for step in program.steps:
            if step.operation is not None:
                nodes.append(step.operation(*(nodes[operand] for operand in step.operands)))
            else:
                nodes.append(variables[step.name] if step.value is None else graph.constant(step.value))
    except ValueError as error:
        raise ExpressionError(str(error), program.source, program.steps[len(nodes)].place) from None
    except Undefined as error:
        step = program.steps[len(nodes)]
        given = [
            f"{_shortened(program.source[slice(*program.steps[operand].place)])} = {short(nodes[operand].value)}"
            for operand in dict.fromkeys(step.operands)
            if program.steps[operand].varies
        ]
        where = f", where {' and '.join(given)}" if given else ""
        raise ExpressionError(f"{error}{where}", program.source, step.place) from None
    return nodes


def short(value: np.ndarray) -> str:
    """A value in a few characters."""
    return f"{value.item():.6g}" if value.ndim == 0 else f"an array of shape {value.shape}"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"
