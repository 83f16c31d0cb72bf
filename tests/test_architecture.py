"""Dependencies point one way: every import, including those for type checkers and inside functions."""

import ast
import functools
from pathlib import Path

import pytest

from fnet.layers.vocabulary import FAMILIES
from fnet.reference import rule

ROOT = Path(__file__).parents[1] / "fnet"
FILES = sorted(ROOT.rglob("*.py"))

BELOW = {
    "core": (),
    "regularization": ("core",),
    "metrics": ("core",),
    "losses": ("core", "metrics"),
    "layers": ("core", "losses", "metrics", "regularization"),
    "reference": ("core", "losses", "metrics", "regularization"),
    "trace": ("core", "reference"),
    "data": ("core", "layers"),
    "train": ("core", "layers", "losses", "metrics", "regularization", "data"),
    "gradcheck": ("core", "layers", "reference", "losses", "metrics", "regularization", "data", "train"),
    "runs": ("core", "layers", "reference", "losses", "metrics", "regularization", "data", "train", "gradcheck"),
}
"""The parts of fnet, and those that each may import."""

BELOW["config"] = (*BELOW["runs"], "runs")
BELOW["report"] = (*BELOW["config"], "config", "trace")
BELOW["cli"] = (*BELOW["report"], "report")

EXTERNAL = {
    "core": ("jax", "jaxlib", "optax", "numpy"),
    "regularization": ("jax", "jaxlib", "optax", "numpy"),
    "reference": ("jax", "jaxlib", "optax"),
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
    assert {part_of(path) for path in FILES} - {"__init__", "__main__"} == set(BELOW)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    for module in imports(path):
        package, _, rest = module.partition(".")
        if package == "fnet":
            assert rest.partition(".")[0] in (part, *BELOW[part]), f"{part} imports {module}"
        allowed = EXCEPTIONS.get(path.relative_to(ROOT).as_posix())
        assert package not in EXTERNAL.get(part, ()) or package == allowed, f"{part} imports {module}"


def test_no_part_names_modules_of_others_in_text():
    """A dynamic import is a dependency too."""
    for path in FILES:
        if part_of(path) in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                target = ast.unparse(node.args[0])
                assert "fnet." not in target or f"fnet.{part_of(path)}." in target, f"{path}: {target}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400


def test_both_interpreters_have_the_same_files():
    names = tuple(family.__name__.rpartition(".")[2] for family in FAMILIES)
    assert sorted(names) == sorted(rule.FAMILIES)
    for name in names:
        assert (ROOT / "reference" / f"{name}.py").is_file()


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
