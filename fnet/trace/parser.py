"""Reads expressions such as `sqrt(x**2 + exp(x**2))`.

The text is parsed by Python's own `ast` and then read node by node: what is not on the list of numbers, names,
operators and functions is refused with its place. Nothing is ever evaluated as Python.
"""

import ast
import itertools
import keyword
import math
import string
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from fnet.core.wording import suggestion
from fnet.trace import graph
from fnet.trace.expression import ExpressionError, Program, Step, build, short, written
from fnet.trace.functions import FUNCTIONS
from fnet.trace.graph import Operation

MAX_LENGTH = 20_000
MAX_DEPTH = 150
MAX_STEPS = 300
MAX_ENTRIES = 1_000

CONSTANTS = {"pi": math.pi, "e": math.e}
"""Names with a value of their own, unless a value is given for them."""

_OPERATORS: Mapping[type[ast.operator], Operation] = {
    ast.Add: graph.add,
    ast.Sub: graph.subtract,
    ast.Mult: graph.multiply,
    ast.Div: graph.divide,
    ast.Pow: graph.power,
    ast.MatMult: graph.matmul,
}

_COMMUTATIVE = ("add", "multiply", "max", "min")

_REFUSED: Mapping[type[ast.AST], str] = {
    ast.Attribute: "attributes have no place in an expression; functions are written as in transpose(w)",
    ast.Subscript: "indexing has no place in an expression; give the entries names of their own",
    ast.Compare: "comparisons have no place in an expression; max, min, relu and abs make choices",
    ast.BoolOp: "'and' and 'or' have no place in an expression",
    ast.IfExp: "'if' has no place in an expression; max, min, relu and abs make choices",
    ast.Tuple: "a tuple has no place here; arrays are written as in [1, 2, 3]",
    ast.JoinedStr: "text has no place in an expression",
}

_SIGNS = {
    ast.BitXor: "powers are written with **",
    ast.FloorDiv: "write / for a division",
    ast.Mod: "there is no remainder",
}


def parse(source: str, known: Iterable[str] = ()) -> Program:
    """The program of an expression, or of assignments to names before it: `q = x + y; q * z`.

    Args:
        source: the text.
        known: names that are variables, though they are constants by themselves.

    Raises:
        ExpressionError: for whatever is not allowed.
    """
    source = "\n".join(line.strip() for line in source.strip().splitlines())  # an indented line is no block here
    if not source:
        raise ExpressionError("the expression is empty", source, (0, 1))
    if len(source) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH:,} characters", source, (MAX_LENGTH, MAX_LENGTH))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except SyntaxError as error:
        raise _syntax_error(error, source) from None
    except (RecursionError, MemoryError):
        raise ExpressionError("nested too deeply", source, (0, 1)) from None
    except ValueError as error:
        raise ExpressionError(f"syntax error: {error}", source, (0, 1)) from None
    return _Reader(source, tree, known).program()


def parse_values(texts: Iterable[str]) -> dict[str, np.ndarray]:
    """The values given as "x=2", "x=-2.5e-3", "x=pi/2" or "w=[[1, 2], [3, 4]]".

    Raises:
        ExpressionError: with the place in the text.
    """
    values: dict[str, np.ndarray] = {}
    for text in texts:
        given, equals, value = text.partition("=")
        name = unicodedata.normalize("NFKC", given.strip())
        if not equals or not name.isidentifier() or keyword.iskeyword(name):
            raise ExpressionError("a value is given as NAME=NUMBER, as in x=2", text, (0, len(given)))
        if name in FUNCTIONS:
            raise ExpressionError(f"'{name}' is a function, and cannot be given a value", text, (0, len(given)))
        if name in values:
            raise ExpressionError(f"'{name}' is given two values", text, (0, len(given)))
        if not value.strip():
            raise ExpressionError(f"'{name}' is given no number", text, (len(text), len(text)))
        try:
            program = parse(value)
            for variable, number in program.variables.items():
                raise ExpressionError(f"'{variable}' is no number", program.source, program.steps[number].place)
            values[name] = build(program, {})[-1].value
        except ExpressionError as error:
            before = len(text) - len(value.lstrip())
            place = (error.place[0] + before, error.place[1] + before)
            raise ExpressionError(error.message, text, place) from None
    return values


def check_values(program: Program, values: Mapping[str, np.ndarray]) -> None:
    """That every variable has a value, and every value a variable.

    Raises:
        ExpressionError: when not.
    """
    variables = program.variables
    unused = [name for name in values if name not in variables]
    for name, number in variables.items():
        if name not in values:
            near = suggestion(name, unused, listing=False).replace("did you mean", "is it")
            message = f"no value is given for '{name}': add {name}=…{near}"
            raise ExpressionError(message, program.source, program.steps[number].place)
    for name in unused:
        raise ExpressionError(
            f"the expression has no variable '{name}'{suggestion(name, variables)}",
            f"{name}={short(values[name])}",
            (0, len(name)),
        )
    if not variables:
        raise ExpressionError("there is no variable to take a gradient of", program.source, (0, len(program.source)))


def _syntax_error(error: SyntaxError, source: str) -> ExpressionError:
    lines = source.splitlines()
    row = min(max((error.lineno or 1) - 1, 0), len(lines) - 1)
    start = sum(len(line) + 1 for line in lines[:row]) + min(max((error.offset or 1) - 1, 0), len(lines[row]))
    same_row = error.end_lineno == error.lineno
    stop = start + max((error.end_offset or 0) - (error.offset or 0), 1) if same_row else start + 1
    what = (error.msg or "invalid syntax").partition(". Perhaps")[0].partition(". Maybe")[0]
    if what == "invalid decimal literal":
        what = "a product is written with *, as in 2*x"
    elif "too many nested parentheses" in what:
        what = "nested too deeply"
    elif "integer string conversion" in what:
        what = "the number has too many digits"
    return ExpressionError(f"syntax error: {what}", source, (start, stop))


class _Reader:
    """Reads a tree of `ast` into steps; an operation that stands there already is used again."""

    def __init__(self, source: str, tree: ast.Module, known: Iterable[str]):
        self._source = source
        self._tree = tree
        self._lines = source.split("\n")
        self._constants = {name: value for name, value in CONSTANTS.items() if name not in set(known)}
        self._steps: list[Step] = []
        self._found: dict[object, int] = {}
        self._assigned: dict[str, int] = {}
        self._depth = 0

    def program(self) -> Program:
        *before, last = self._tree.body
        places = {}
        for statement in before:
            if not isinstance(statement, ast.Assign):
                raise self._error("this line has no effect: give it a name, as in q = x + y", statement)
            name, number = self._assignment(statement)
            places[name] = number, self._place(statement)
        if isinstance(last, ast.Assign):
            self._assignment(last)
            result = self._assigned[last.targets[0].id]  # pyright: ignore[reportAttributeAccessIssue]
        elif isinstance(last, ast.Expr):
            result = self._read(last.value)
        else:
            raise self._refused(last)
        used = self._used(result)
        for name, (number, place) in places.items():
            if number not in used:
                raise ExpressionError(f"'{name}' is not used in the result", self._source, place)
        return Program(self._source, self._named(result))

    def _assignment(self, statement: ast.Assign) -> tuple[str, int]:
        target = statement.targets[0]
        if len(statement.targets) > 1 or not isinstance(target, ast.Name):
            raise self._error("one name is assigned at a time, as in q = x + y", target)
        name = target.id
        if name in FUNCTIONS:
            raise self._error(f"'{name}' is a function; choose another name", target)
        if name in self._assigned or name in (step.name for step in self._steps if step.varies):
            raise self._error(f"'{name}' has a value already; choose another name", target)
        number = self._assigned[name] = self._read(statement.value)
        step = self._steps[number]
        if not step.name or step.value is not None:
            self._steps[number] = step._replace(name=name)
        return name, number

    def _used(self, result: int) -> set[int]:
        used = {result}
        for number in range(result, -1, -1):
            if number in used:
                used.update(self._steps[number].operands)
        return used

    def _named(self, result: int) -> tuple[Step, ...]:
        """The steps up to the result, with a letter for each that has no name; a constant is named as it is written."""
        taken = {node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)}
        letters = (word for word in _words() if word not in taken and not keyword.iskeyword(word))
        steps = self._steps[: result + 1]
        for number, step in enumerate(steps):
            if not step.name:
                steps[number] = step._replace(name=next(letters) if step.varies else written(steps, number))
        return tuple(steps)

    def _read(self, node: ast.expr) -> int:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"nested too deeply: at most {MAX_DEPTH} operations stand inside one another", node)
        number = self._read_one(node)
        self._depth -= 1
        return number

    def _read_one(self, node: ast.expr) -> int:
        match node:
            case ast.Constant():
                return self._constant(node, self._number(node))
            case ast.Name():
                return self._name(node)
            case ast.List():
                return self._constant(node, self._array(node))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as operand):
                return self._constant(node, -self._number(operand))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._read(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._apply(node, graph.negative, [self._read(operand)])
            case ast.BinOp(left=left, op=op, right=right):
                if type(op) not in _OPERATORS:
                    hint = _SIGNS.get(type(op), "the operators are + - * / ** @")
                    raise self._error(f"unknown operator: {hint}", node)
                return self._apply(node, _OPERATORS[type(op)], [self._read(left), self._read(right)])
            case ast.Call():
                return self._call(node)
        raise self._refused(node)

    def _call(self, node: ast.Call) -> int:
        if not isinstance(node.func, ast.Name):
            if isinstance(node.func, ast.Attribute):
                raise self._refused(node.func)
            raise self._error("only a function can be called; a product is written with *", node.func)
        name = node.func.id
        if name not in FUNCTIONS:
            raise self._error(f"unknown function '{name}'{suggestion(name, FUNCTIONS)}", node.func)
        if node.keywords:
            raise self._error(f"{name} takes no named arguments", node.keywords[0].value)
        function, arguments = FUNCTIONS[name], list(map(self._read, node.args))
        counts = function.operations
        wanted = max(counts)
        for default in function.defaults[len(function.defaults) - wanted + len(arguments) :]:
            if arguments:
                arguments.append(
                    self._new(str(default), Step(str(default), self._place(node), value=np.array(default)))
                )
        if len(arguments) not in counts:
            numbers = " or ".join(map(str, sorted({*counts, wanted - len(function.defaults)})))
            plural = "" if numbers == "1" else "s"
            raise self._error(f"{name} takes {numbers} argument{plural}, but got {len(node.args)}", node)
        return self._apply(node, counts[len(arguments)], arguments)

    def _name(self, node: ast.Name) -> int:
        if node.id in self._assigned:
            return self._assigned[node.id]
        if node.id in FUNCTIONS:
            raise self._error(f"'{node.id}' is a function: write {node.id}(…)", node)
        if node.id in self._constants:
            return self._constant(node, np.array(self._constants[node.id]))
        return self._new(("variable", node.id), Step(node.id, self._place(node), varies=True))

    def _constant(self, node: ast.expr, value: np.ndarray) -> int:
        text = ast.unparse(node) if value.ndim == 0 or value.size <= 6 else f"array{value.shape}"
        return self._new((value.shape, value.tobytes()), Step(text, self._place(node), value=value))

    def _apply(self, node: ast.expr, operation: Operation, operands: Sequence[int]) -> int:
        key = sorted(operands) if operation.name in _COMMUTATIVE else operands
        varies = any(self._steps[operand].varies for operand in operands)
        step = Step("", self._place(node), operation, tuple(operands), varies=varies)
        return self._new((operation.name, operation.form, *key), step)

    def _new(self, key: object, step: Step) -> int:
        """The number of the step, or of the equal one that stands there already."""
        if key not in self._found:
            if len(self._steps) == MAX_STEPS:
                raise ExpressionError(f"an expression has at most {MAX_STEPS:,} steps", self._source, step.place)
            self._found[key] = len(self._steps)
            self._steps.append(step)
        return self._found[key]

    def _number(self, node: ast.Constant) -> np.ndarray:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise self._error(f"{ast.unparse(node)} has no place in an expression: it is no real number", node)
        try:
            value = np.array(float(node.value))
        except OverflowError:
            value = np.array(math.inf)
        if np.isinf(value):
            raise self._error("the number exceeds the largest in float64, 1.8e308", node)
        return value

    def _array(self, node: ast.List) -> np.ndarray:
        """Numbers in brackets, or rows of them."""
        rows = [entry.elts if isinstance(entry, ast.List) else [entry] for entry in node.elts]
        nested = [isinstance(entry, ast.List) for entry in node.elts]
        if not rows or not all(rows):
            raise self._error("an array has at least one entry", node)
        if any(nested) and (not all(nested) or len({len(row) for row in rows}) > 1):
            raise self._error("the rows of an array have one length", node)
        if sum(map(len, rows)) > MAX_ENTRIES:
            raise self._error(f"an array has at most {MAX_ENTRIES:,} entries", node)
        values = np.array([[self._entry(entry) for entry in row] for row in rows])
        return values if all(nested) else values[:, 0]

    def _entry(self, node: ast.expr) -> float:
        match node:
            case ast.Constant():
                return self._number(node).item()
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as operand):
                return -self._number(operand).item()
        raise self._error("the entries of an array are numbers", node)

    def _refused(self, node: ast.AST) -> ExpressionError:
        message = "there are numbers, names, + - * / ** @ and functions"
        return self._error(_REFUSED.get(type(node), f"this has no place in an expression: {message}"), node)

    def _error(self, message: str, node: ast.AST) -> ExpressionError:
        return ExpressionError(message, self._source, self._place(node))

    def _place(self, node: ast.AST) -> tuple[int, int]:
        """From where to where a node stands in the source, in characters; `ast` counts the bytes of a line."""

        def offset(line: int, column: int) -> int:
            before = sum(len(text) + 1 for text in self._lines[: line - 1])
            return before + len(self._lines[line - 1].encode()[:column].decode())

        place = node.lineno, node.col_offset, node.end_lineno, node.end_col_offset  # pyright: ignore
        return offset(*place[:2]), offset(*place[2:])


def _words() -> Iterator[str]:
    """a, b, …, z, a1, b1, …"""
    for round_ in itertools.count():
        yield from (letter + (str(round_) if round_ else "") for letter in string.ascii_lowercase)
