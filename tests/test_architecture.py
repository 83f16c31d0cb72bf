"""Dependencies point one way: every import, including those for type checkers and inside functions."""

import ast
import functools
import re
from pathlib import Path

import pytest

from fnet.core.families import FAMILIES

ROOT = Path(__file__).parents[1] / "fnet"
FILES = sorted(ROOT.rglob("*.py"))

IMPORTS = {
    "core": set(),
    "regularization": {"core"},
    "metrics": {"core"},
    "losses": {"metrics"},
    "layers": {"core"},
    "reference": {"core", "regularization"},
    "trace": {"core", "reference"},
    "data": {"core"},
    "train": {"core", "losses", "metrics", "regularization", "data"},
    "gradcheck": {"core", "losses", "regularization", "reference", "train"},
    "runs": {"core", "losses", "metrics", "regularization", "layers", "data", "train", "gradcheck"},
    "config": {"core", "losses", "regularization", "layers", "data", "train", "runs"},
    "report": {"core", "metrics", "data", "train", "gradcheck", "trace", "runs", "config"},
    "cli": {"core", "data", "trace", "runs", "config", "report"},
}
"""The parts of fnet from the bottom to the top, and those below that each imports."""

EXTERNAL = {
    "core": ("jax", "jaxlib", "optax", "numpy"),
    "regularization": ("jax", "jaxlib", "optax", "numpy"),
    "reference": ("jax", "jaxlib", "optax"),
    "trace": ("jax", "jaxlib", "optax"),
    "data": ("jax", "jaxlib", "optax"),
}
"""Libraries that a part may not import."""

EXCEPTIONS = {"data/augment.py": "jax", "trace/compare.py": "jax"}
"""Augmentation runs inside the compiled step; the comparison computes gradients by JAX."""


@functools.cache
def imports(path: Path) -> list[str]:
    """Return the modules that a file imports anywhere, including imports for type checkers only."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.extend(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            modules.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return modules


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_part_has_a_rule():
    assert {part_of(path) for path in FILES} - {"__init__", "__main__"} == set(IMPORTS)


def test_every_part_imports_parts_below_it():
    order = list(IMPORTS)
    assert all(order.index(target) < order.index(part) for part, targets in IMPORTS.items() for target in targets)
    found = {part: set() for part in IMPORTS}
    for path in FILES:
        if part_of(path) in IMPORTS:
            modules = (module.partition(".") for module in imports(path))
            found[part_of(path)] |= {rest.partition(".")[0] for package, _, rest in modules if package == "fnet"}
    assert {part: targets - {part} for part, targets in found.items()} == IMPORTS


def test_the_guide_lists_the_parts_from_the_top_to_the_bottom():
    table = (ROOT / "guide" / "extending.md").read_text(encoding="utf-8").partition("## An activation")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [*reversed(IMPORTS)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_that_a_part_does_without(path):
    allowed = EXCEPTIONS.get(path.relative_to(ROOT).as_posix())
    packages = {module.partition(".")[0] for module in imports(path)} - {allowed}
    assert packages.isdisjoint(EXTERNAL.get(part_of(path), ()))


def test_no_part_names_modules_of_others_in_text():
    """A dynamic import is a dependency too."""
    for path in FILES:
        if part_of(path) in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                target = ast.unparse(node.args[0])
                assert "fnet." not in target or f"fnet.{part_of(path)}." in target, f"{path}: {target}"


UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
"""Modules that run code while they read a file, or can be told to."""


def unsafe(node: ast.AST) -> bool:
    """Return whether a piece of code reads data as code."""
    match node:
        case ast.Call(func=ast.Name(id="eval" | "exec" | "compile" | "__import__")):
            return True
        case ast.Call(func=ast.Attribute(attr="read_pickle" | "load_module" | "run_path" | "run_module")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="np"), attr="load"), keywords=keywords):
            return not any(ast.unparse(keyword) == "allow_pickle=False" for keyword in keywords)
        case ast.Call(keywords=keywords):
            words = {ast.unparse(keyword) for keyword in keywords}
            return any(word.startswith("allow_pickle=") and word != "allow_pickle=False" for word in words) or bool(
                words & {"typ='unsafe'", "weights_only=False"}
            )
    return False


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_read_as_data(path):
    """Nothing unpickles or evaluates what a file contains."""
    assert {module.partition(".")[0] for module in imports(path)}.isdisjoint(UNSAFE_MODULES)
    assert [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if unsafe(node)] == []


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "read(path, allow_pickle=allowed)",
        "pd.read_pickle(path)",
        "YAML(typ='unsafe')",
    ],
)
def test_reading_data_as_code_is_found(code):
    assert unsafe(ast.parse(code, mode="eval").body)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400


def test_both_interpreters_have_the_same_files():
    shared = {"__init__", "conv_primitives", "initializer", "masking", "recurrent_scan", "sharding", "vocabulary"}
    assert {path.stem for path in (ROOT / "layers").glob("*.py")} == {*FAMILIES, *shared}
    assert {path.stem for path in (ROOT / "reference").glob("*.py")} == {
        *FAMILIES,
        "__init__",
        "losses",
        "masking",
        "network",
        "rule",
    }


def test_type_checkers_see_every_family_of_layers():
    """At run time the public layers are derived from the families; a type checker needs their imports."""
    starred = {module.split(".")[2] for module in imports(ROOT / "__init__.py") if module.endswith(".*")}
    assert starred == set(FAMILIES)


def test_imports_are_acyclic():
    modules = {".".join(("fnet", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}

    def imported(name: str) -> set[str]:
        """Return the modules that a module imports: `fnet.a.b` for fnet.a.b and for fnet.a.b.c, a name inside it."""
        targets = {target if target in modules else target.rpartition(".")[0] for target in imports(modules[name])}
        return (targets & modules.keys()) - {name}

    dependencies = {name: imported(name) for name in modules}

    def reachable(name: str, seen: set[str]) -> set[str]:
        for target in dependencies[name] - seen:
            seen.add(target)
            reachable(target, seen)
        return seen

    assert [name for name in modules if name in reachable(name, set())] == []
