"""Mutations of Python source by its syntax tree, and an import hook that loads a mutated or an observed fnet.

A mutation is a small mistake: an operator, a comparison, a constant or a condition changes, or a statement goes.
Nothing is changed on disk. Docstrings, annotations, messages, `__all__` and what only type checkers read are left
alone, and so is `strict=` of `zip`, which asserts what the code already ensures.
"""

import ast
import atexit
import builtins
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]

BINARY = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
FUNCTIONS = {"min": "max", "any": "all", "minimum": "maximum", "floor": "ceil", "argmin": "argmax"}
FUNCTIONS |= {new: old for old, new in FUNCTIONS.items()}
SYMBOLS = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.And: "and",
    ast.Or: "or",
}

FUNCTION_TYPES = (ast.FunctionDef, ast.AsyncFunctionDef)


class Mutant(NamedTuple):
    """One mutation: the `index`-th of those that `candidates` finds in a file.

    `block` names the innermost block of a function that executes it, or is empty if it is executed on import.
    """

    path: str
    index: int
    line: int
    column: int
    description: str
    block: str


class Candidate(NamedTuple):
    """A possible mutation of a tree; `apply` changes the tree in place."""

    node: ast.AST
    description: str
    block: str
    apply: Callable[[], None]


def mutants(path: str) -> list[Mutant]:
    """Return all mutants of a file, given relative to the root of the project."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return [
        Mutant(path, index, found.node.lineno, found.node.col_offset + 1, found.description, found.block)  # type: ignore[attr-defined]
        for index, found in enumerate(candidates(tree))
    ]


def mutate(tree: ast.Module, index: int) -> None:
    """Apply the mutation with this index to a tree."""
    list(candidates(tree))[index].apply()
    ast.fix_missing_locations(tree)


def candidates(tree: ast.Module) -> Iterator[Candidate]:
    """Return every possible mutation of a tree, in a fixed order."""
    for name, statements, _ in blocks(tree):
        for place, statement in enumerate(statements):
            yield from _visit(statement, name, _item_setter(statements, place))


def blocks(tree: ast.Module) -> Iterator[tuple[str, list[ast.stmt], bool]]:
    """Return the blocks of statements: their names, statements, and whether they are inside a function.

    The name is the function's, with the number of the block in it. Blocks outside of functions have no name.
    """
    yield from _blocks(tree, "", [0], inside=False)


def _blocks(owner: ast.AST, name: str, counter: list[int], inside: bool) -> Iterator[tuple[str, list[ast.stmt], bool]]:
    for field in ("body", "orelse", "finalbody"):
        statements = getattr(owner, field, None)
        if not isinstance(statements, list):
            continue
        counter[0] += 1
        yield (f"{name}#{counter[0]}" if inside else "", statements, inside) if statements else ("", [], False)
        for statement in statements:
            if isinstance(statement, FUNCTION_TYPES):
                yield from _blocks(statement, f"{name}.{statement.name}", [0], True)
            elif isinstance(statement, ast.ClassDef):
                yield from _blocks(statement, f"{name}.{statement.name}", [0], False)
            elif not _for_type_checkers(statement):
                yield from _blocks(statement, name, counter, inside)
    for branch in (*getattr(owner, "handlers", []), *getattr(owner, "cases", [])):
        yield from _blocks(branch, name, counter, inside)


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _skip(node: ast.AST) -> bool:
    """Return whether nothing below a node is mutated: messages, `__all__`, and what only type checkers read."""
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return True
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return True
    return isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom)) or _for_type_checkers(node)


def _visit(node: ast.AST, block: str, replace: Callable[..., None]) -> Iterator[Candidate]:
    """Return the mutations of a node and of the expressions in it; nested statements belong to their own blocks."""
    if _skip(node):
        return
    for description, new in _mutations(node, block):
        yield Candidate(node, description, block, lambda new=new: replace(new()) if callable(new) else replace(new))
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "type_comment", "ctx", "op", "ops"):
            continue
        if isinstance(value, ast.AST):
            yield from _visit(value, _block_of(node, field, block), _setter(node, field))
        elif isinstance(value, list) and not (
            value and isinstance(value[0], ast.stmt | ast.excepthandler | ast.match_case)
        ):
            for place, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield from _visit(item, _block_of(node, field, block), _item_setter(value, place))


def _block_of(node: ast.AST, field: str, block: str) -> str:
    """Return the block whose execution shows a mutation: for default arguments the body of their function.

    The body of a lambda is a block, with the text of the lambda as its name.
    """
    if isinstance(node, ast.Lambda) and field == "body":
        return f".{ast.unparse(node)}"
    if isinstance(node, FUNCTION_TYPES) and field == "args":
        return f"{block.partition('#')[0]}.{node.name}#1"
    return block


def _setter(owner: ast.AST, field: str) -> Callable[[ast.AST], None]:
    return lambda new: setattr(owner, field, new)


def _item_setter(items: list, place: int) -> Callable[[ast.AST], None]:
    return lambda new: items.__setitem__(place, new)


def _mutations(node: ast.AST, block: str) -> Iterator[tuple[str, Any]]:
    """Return the mutations of one node: descriptions, and replacements or functions that change the node in place."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in BINARY:
        if not _is_type_union(node):
            new = BINARY[type(node.op)]
            yield f"{SYMBOLS[type(node.op)]} becomes {SYMBOLS[new]} in {_text(node)}", _set(node, op=new())
    elif isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for new in COMPARISONS[type(operator)]:
                changed = [*node.ops[:place], new(), *node.ops[place + 1 :]]
                yield f"{SYMBOLS[type(operator)]} becomes {SYMBOLS[new]} in {_text(node)}", _set(node, ops=changed)
    elif isinstance(node, ast.BoolOp):
        old, new = (ast.And, ast.Or) if isinstance(node.op, ast.And) else (ast.Or, ast.And)
        yield f"{SYMBOLS[old]} becomes {SYMBOLS[new]} in {_text(node)}", _set(node, op=new())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield f"{_text(node)} becomes {_text(node.operand)}", node.operand
    elif isinstance(node, ast.Constant):
        yield from _constant(node)
    elif isinstance(node, ast.Call):
        yield from _function(node)
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield f"condition {_text(node.test)} negated", _set(node, test=ast.UnaryOp(ast.Not(), node.test))
    yield from _statement(node, block)


def _statement(node: ast.AST, block: str) -> Iterator[tuple[str, Any]]:
    gone = isinstance(node, ast.Return) and not block.endswith("#1")
    gone = gone or isinstance(node, ast.Raise | ast.Break | ast.Continue | ast.Delete | ast.AugAssign)
    gone = gone or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript):
        gone = True
    if gone:
        yield f"{_text(node)} deleted", ast.Pass()


def _is_type_union(node: ast.BinOp | ast.AugAssign) -> bool:
    """Return whether `|` joins types, as in `isinstance(x, list | tuple)`."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.BitOr):
        return False
    return any(map(_is_type, (node.left, node.right)))


def _is_type(node: ast.expr) -> bool:
    node = node.value if isinstance(node, ast.Subscript) else node
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    builtin = isinstance(getattr(builtins, name, None), type)
    return _is(node, None) or builtin or name == "ndarray" or name[:1].isupper() != name.isupper()


def _constant(node: ast.Constant) -> Iterator[tuple[str, ast.Constant]]:
    value = node.value
    if isinstance(value, bool):
        yield f"{value} becomes {not value}", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield f"{value} becomes {value + 1}", ast.Constant(value + 1)


def _function(node: ast.Call) -> Iterator[tuple[str, Any]]:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in FUNCTIONS:
        field = "attr" if isinstance(function, ast.Attribute) else "id"
        yield f"{_text(function)} becomes {FUNCTIONS[name]}", _set(function, node, **{field: FUNCTIONS[name]})


def _set(node: Any, result: Any = None, **fields: Any) -> Callable[[], ast.AST]:
    """Return a function that sets fields of a node and returns the node that replaces the mutated one."""

    def change() -> ast.AST:
        for field, value in fields.items():
            setattr(node, field, value)
        return result or node

    return change


def _is(node: ast.AST, value: Any) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else text[:57] + "..."


class Finder(importlib.abc.MetaPathFinder):
    """Import hook that changes the syntax trees of fnet's files before they are compiled."""

    def __init__(self, transform: Callable[[str, ast.Module], bool]):
        """`transform` gets a file's path relative to the root, and changes the tree in place; False leaves it alone."""
        self.transform = transform

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] != "fnet":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path or [str(ROOT)], target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self.transform)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, transform: Callable[[str, ast.Module], bool]):
        super().__init__(name, path)
        self.transform = transform

    def get_code(self, fullname: str) -> Any:
        tree = ast.parse(Path(self.path).read_text(encoding="utf-8"))
        if not self.transform(Path(self.path).relative_to(ROOT).as_posix(), tree):
            return super().get_code(fullname)
        return compile(tree, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: Any) -> None:
        observer = getattr(builtins, "__block__", None)
        if observer is None:
            super().exec_module(module)
        else:
            with observer.importing():
                super().exec_module(module)


def install_mutant(path: str, index: int) -> None:
    """Load fnet with one mutation from here on; fnet is not imported before."""

    def transform(loaded: str, tree: ast.Module) -> bool:
        if loaded == path:
            mutate(tree, index)
        return loaded == path

    sys.meta_path.insert(0, Finder(transform))


class Observer:
    """Records which blocks of fnet's functions are executed, except while a module of fnet is imported."""

    def __init__(self) -> None:
        self.executed: set[str] = set()
        self.depth = 0

    def __call__(self, block: str) -> None:
        if not self.depth:
            self.executed.add(block)

    def importing(self) -> "Observer":
        return self

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


def install_observer() -> Observer:
    """Load fnet with a call at the start of every block of its functions, and return what records these calls."""
    observer = Observer()
    builtins.__block__ = observer  # type: ignore[attr-defined]

    def transform(path: str, tree: ast.Module) -> bool:
        for name, statements, inside in list(blocks(tree)):
            if inside:
                docstring = isinstance(statements[0], ast.Expr) and isinstance(statements[0].value, ast.Constant)
                call = ast.Expr(ast.Call(ast.Name("__block__", ast.Load()), [ast.Constant(f"{path}{name}")], []))
                statements.insert(1 if docstring and len(statements) > 1 else 0, ast.copy_location(call, statements[0]))
        for node, name in [(node, ast.unparse(node)) for node in ast.walk(tree) if isinstance(node, ast.Lambda)]:
            call = ast.Call(ast.Name("__block__", ast.Load()), [ast.Constant(f"{path}.{name}")], [])
            node.body = ast.copy_location(ast.BoolOp(ast.Or(), [call, node.body]), node.body)  # the call returns None
        ast.fix_missing_locations(tree)
        return True

    sys.meta_path.insert(0, Finder(transform))
    return observer


def install_from_environment() -> None:
    """Install in a started process what the process that runs the tests has; write there what was observed."""
    if "FNET_MUTANT" in os.environ:
        install_mutant(os.environ["FNET_MUTANT"], int(os.environ["FNET_MUTANT_INDEX"]))
    elif "FNET_OBSERVED" in os.environ:
        observer = install_observer()
        file = Path(os.environ["FNET_OBSERVED"], str(os.getpid()))
        atexit.register(lambda: file.write_text("\n".join(observer.executed)))
