"""Parser of expressions such as `sqrt(x**2 + exp(x**2))`.

Python's own `ast` parses the text, and the tree is read node by node: anything other than numbers, names, and the known
operators and functions is an error that shows its place. Nothing is ever evaluated as Python.
"""

import ast
import itertools
import keyword
import math
import string
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from fnet.core.wording import suggestion
from fnet.trace import nodes
from fnet.trace.expression import ExpressionError, Program, Step, formula_of
from fnet.trace.functions import FUNCTIONS
from fnet.trace.nodes import Operation

MAX_LENGTH = 20_000
MAX_DEPTH = 150
MAX_STEPS = 300
MAX_ENTRIES = 1_000

CONSTANTS = {"pi": math.pi, "e": math.e}
"""Predefined constants; a variable with the same name replaces the constant."""

_OPERATORS: Mapping[type[ast.operator], Operation] = {
    ast.Add: nodes.add,
    ast.Sub: nodes.subtract,
    ast.Mult: nodes.multiply,
    ast.Div: nodes.divide,
    ast.Pow: nodes.power,
    ast.MatMult: nodes.matmul,
}

_COMMUTATIVE = ("add", "multiply", "max", "min")

_REFUSED: Mapping[type[ast.AST], str] = {
    ast.Attribute: "attributes are not allowed in an expression; call a function instead, such as transpose(w)",
    ast.Subscript: "indexing is not allowed in an expression; use one name per entry",
    ast.Compare: "comparisons are not allowed in an expression; use max, min, relu or abs",
    ast.BoolOp: "'and' and 'or' are not allowed in an expression",
    ast.IfExp: "'if' is not allowed in an expression; use max, min, relu or abs",
    ast.Tuple: "a tuple is not allowed in an expression; arrays are written as [1, 2, 3]",
    ast.JoinedStr: "text is not allowed in an expression",
}

_OPERATOR_HINTS = {
    ast.BitXor: "powers are written with **",
    ast.FloorDiv: "division is written with /",
    ast.Mod: "the remainder is not supported",
}


def parse(source: str, variables: Iterable[str] = ()) -> Program:
    """Parse an expression, which assignments to names may precede: `q = x + y; q * z`.

    Args:
        source: the text.
        variables: names of variables; they replace predefined constants, such as "e".

    Raises:
        ExpressionError: for anything that is not allowed; shows its place.
    """
    source = "\n".join(line.strip() for line in source.strip().splitlines())  # indentation has no meaning here
    if not source:
        raise ExpressionError("the expression is empty", source, (0, 1))
    if len(source) > MAX_LENGTH:
        message = f"the expression has {len(source):,} characters; the limit is {MAX_LENGTH:,}"
        raise ExpressionError(message, source, (MAX_LENGTH, MAX_LENGTH))
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
    return _Reader(source, tree, variables).program()


def _syntax_error(error: SyntaxError, source: str) -> ExpressionError:
    """Convert Python's error to one with a place in the source and a hint for expressions."""
    lines = source.splitlines()
    row = min(max((error.lineno or 1) - 1, 0), len(lines) - 1)
    start = sum(len(line) + 1 for line in lines[:row]) + min(max((error.offset or 1) - 1, 0), len(lines[row]))
    same_row = error.end_lineno == error.lineno
    stop = start + max((error.end_offset or 0) - (error.offset or 0), 1) if same_row else start + 1
    message = (error.msg or "invalid syntax").partition(". Perhaps")[0].partition(". Maybe")[0]
    if message == "invalid decimal literal":
        message = "a product is written with *, such as 2*x"
    elif "too many nested parentheses" in message:
        message = "nested too deeply"
    elif "integer string conversion" in message:
        message = "the number has too many digits"
    return ExpressionError(f"syntax error: {message}", source, (start, stop))


class _Reader:
    """Read an `ast` tree into steps; equal subexpressions become one step."""

    def __init__(self, source: str, tree: ast.Module, variables: Iterable[str]):
        self._source = source
        self._tree = tree
        self._lines = source.split("\n")
        self._constants = {name: value for name, value in CONSTANTS.items() if name not in set(variables)}
        self._steps: list[Step] = []
        self._numbers: dict[object, int] = {}
        self._assigned: dict[str, int] = {}
        self._depth = 0

    def program(self) -> Program:
        *assignments, last = self._tree.body
        places = {}
        for statement in assignments:
            if not isinstance(statement, ast.Assign):
                raise self._error("this line has no effect: give it a name, such as q = x + y", statement)
            name, number = self._assignment(statement)
            places[name] = number, self._place(statement)
        if isinstance(last, ast.Assign):
            _, result = self._assignment(last)
        elif isinstance(last, ast.Expr):
            result = self._read(last.value)
        else:
            raise self._refused(last)
        dependencies = self._dependencies(result)
        for name, (number, place) in places.items():
            if number not in dependencies:
                raise ExpressionError(f"'{name}' is not used in the result; use it or remove it", self._source, place)
        return Program(self._source, self._named_steps(result))

    def _assignment(self, statement: ast.Assign) -> tuple[str, int]:
        target = statement.targets[0]
        if len(statement.targets) > 1 or not isinstance(target, ast.Name):
            raise self._error("assign to one name at a time, such as q = x + y", target)
        name = target.id
        if name in FUNCTIONS:
            raise self._error(f"'{name}' is a function; choose another name", target)
        if name in self._assigned or name in (step.name for step in self._steps if step.varies):
            raise self._error(f"'{name}' already has a value; choose another name", target)
        number = self._assigned[name] = self._read(statement.value)
        step = self._steps[number]
        if not step.name or step.value is not None:
            self._steps[number] = step._replace(name=name)
        return name, number

    def _dependencies(self, result: int) -> set[int]:
        """Return the numbers of the steps that the result depends on, including its own."""
        dependencies = {result}
        for number in range(result, -1, -1):
            if number in dependencies:
                dependencies.update(self._steps[number].operands)
        return dependencies

    def _named_steps(self, result: int) -> tuple[Step, ...]:
        """Return the steps up to the result, each with a name: a letter, or for a constant its text."""
        used_names = {node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)}
        letters = (name for name in _letters() if name not in used_names and not keyword.iskeyword(name))
        steps = self._steps[: result + 1]
        for number, step in enumerate(steps):
            if not step.name:
                steps[number] = step._replace(name=next(letters) if step.varies else formula_of(steps, number))
        return tuple(steps)

    def _read(self, node: ast.expr) -> int:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"nested too deeply: the limit is {MAX_DEPTH} levels", node)
        number = self._read_one(node)
        self._depth -= 1
        return number

    def _read_one(self, node: ast.expr) -> int:
        match node:
            case ast.Constant():
                return self._constant(node, self._real(node))
            case ast.Name():
                return self._name(node)
            case ast.List():
                return self._constant(node, self._array(node))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as operand):
                return self._constant(node, -self._real(operand))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._read(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._apply(node, nodes.negative, [self._read(operand)])
            case ast.BinOp(left=left, op=op, right=right):
                if type(op) not in _OPERATORS:
                    hint = _OPERATOR_HINTS.get(type(op), "the operators are + - * / ** @")
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
            raise self._error(f"{name} does not take named arguments", node.keywords[0].value)
        function, arguments = FUNCTIONS[name], list(map(self._read, node.args))
        most = max(function.operations)
        if arguments:
            missing_defaults = function.defaults[len(function.defaults) - most + len(arguments) :]
            arguments += [self._default(default, node) for default in missing_defaults]
        if len(arguments) not in function.operations:
            counts = " or ".join(map(str, sorted({*function.operations, most - len(function.defaults)})))
            plural = "" if counts == "1" else "s"
            raise self._error(f"{name} takes {counts} argument{plural}, but got {len(node.args)}", node)
        return self._apply(node, function.operations[len(arguments)], arguments)

    def _default(self, value: float, node: ast.Call) -> int:
        return self._number_of(str(value), Step(str(value), self._place(node), value=np.array(value)))

    def _name(self, node: ast.Name) -> int:
        if node.id in self._assigned:
            return self._assigned[node.id]
        if node.id in FUNCTIONS:
            raise self._error(f"'{node.id}' is a function: write {node.id}(…)", node)
        if node.id in self._constants:
            return self._constant(node, np.array(self._constants[node.id]))
        return self._number_of(("variable", node.id), Step(node.id, self._place(node), varies=True))

    def _constant(self, node: ast.expr, value: np.ndarray) -> int:
        text = ast.unparse(node) if value.ndim == 0 or value.size <= 6 else f"array{value.shape}"
        return self._number_of((value.shape, value.tobytes()), Step(text, self._place(node), value=value))

    def _apply(self, node: ast.expr, operation: Operation, operands: Sequence[int]) -> int:
        key = sorted(operands) if operation.name in _COMMUTATIVE else operands
        varies = any(self._steps[operand].varies for operand in operands)
        step = Step("", self._place(node), operation, tuple(operands), varies=varies)
        return self._number_of((operation.name, operation.formula, *key), step)

    def _number_of(self, key: object, step: Step) -> int:
        """Return the number of the earlier step with this key, or append the step."""
        if key not in self._numbers:
            if len(self._steps) == MAX_STEPS:
                message = f"the expression has too many steps; the limit is {MAX_STEPS:,}"
                raise ExpressionError(message, self._source, step.place)
            self._numbers[key] = len(self._steps)
            self._steps.append(step)
        return self._numbers[key]

    def _real(self, node: ast.Constant) -> np.ndarray:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise self._error(f"{ast.unparse(node)} is not allowed in an expression: it is not a real number", node)
        try:
            value = np.array(float(node.value))
        except OverflowError:
            value = np.array(math.inf)
        if np.isinf(value):
            raise self._error("the number exceeds the largest float64, 1.8e308", node)
        return value

    def _array(self, node: ast.List) -> np.ndarray:
        """Read a vector [1, 2] or a matrix [[1, 2], [3, 4]]."""
        rows = [entry.elts if isinstance(entry, ast.List) else [entry] for entry in node.elts]
        nested = [isinstance(entry, ast.List) for entry in node.elts]
        if not rows or not all(rows):
            raise self._error("the array is empty: it must have at least one entry", node)
        if any(nested) and (not all(nested) or len({len(row) for row in rows}) > 1):
            raise self._error("the rows of an array must have the same length", node)
        if sum(map(len, rows)) > MAX_ENTRIES:
            raise self._error(f"the array has too many entries; the limit is {MAX_ENTRIES:,}", node)
        values = np.array([[self._entry(entry) for entry in row] for row in rows])
        return values if all(nested) else values[:, 0]

    def _entry(self, node: ast.expr) -> float:
        match node:
            case ast.Constant():
                return self._real(node).item()
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as operand):
                return -self._real(operand).item()
        raise self._error("the entries of an array must be numbers", node)

    def _refused(self, node: ast.AST) -> ExpressionError:
        message = "this is not allowed in an expression; use numbers, names, + - * / ** @ and functions"
        return self._error(_REFUSED.get(type(node), message), node)

    def _error(self, message: str, node: ast.AST) -> ExpressionError:
        return ExpressionError(message, self._source, self._place(node))

    def _place(self, node: ast.AST) -> tuple[int, int]:
        """Return the place of a node in the source in characters; `ast` counts the bytes of a line."""

        def offset(line: int, column: int) -> int:
            before = sum(len(text) + 1 for text in self._lines[: line - 1])
            return before + len(self._lines[line - 1].encode()[:column].decode())

        place = node.lineno, node.col_offset, node.end_lineno, node.end_col_offset  # pyright: ignore
        return offset(*place[:2]), offset(*place[2:])


def _letters() -> Iterator[str]:
    """Generate a, b, …, z, a1, b1, …"""
    for suffix in itertools.count():
        yield from (letter + (str(suffix) if suffix else "") for letter in string.ascii_lowercase)
