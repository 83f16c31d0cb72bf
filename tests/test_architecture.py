"""Arrows point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "fnet"
FILES = sorted(ROOT.rglob("*.py"))

FORBIDDEN = {
    "description.py": ("jax", "numpy", "fnet.layers", "fnet.reference", "fnet.train", "fnet.config"),
    "construction.py": ("jax", "numpy", "fnet.layers", "fnet.reference", "fnet.train", "fnet.config"),
    "settings.py": ("jax", "numpy", "fnet."),
    "wiring.py": ("jax", "numpy", "fnet.layers", "fnet.reference", "fnet.train", "fnet.config"),
    "feature_extraction.py": ("fnet.layers", "fnet.reference", "fnet.train", "fnet.config"),
    "regularization.py": ("jax", "numpy", "fnet.layers", "fnet.reference", "fnet.train", "fnet.config"),
    "generation.py": ("fnet.layers", "fnet.reference", "fnet.train", "fnet.config", "fnet.data"),
    "command.py": ("numpy", "fnet.train", "fnet.config", "fnet.report"),
    "data_commands.py": ("fnet.train.run",),
    "losses.py": ("fnet.layers", "fnet.reference", "fnet.train", "fnet.config", "fnet.data"),
    "metrics.py": ("fnet.",),
    "layers": ("fnet.reference", "fnet.losses", "fnet.train", "fnet.config", "fnet.data", "fnet.gradcheck"),
    "reference": ("jax", "jaxlib", "optax", "fnet.layers", "fnet.losses", "fnet.train", "fnet.config", "fnet.data"),
    "data": ("jax", "fnet.layers", "fnet.train", "fnet.config", "fnet.reference", "fnet.gradcheck"),
    "gradcheck": ("fnet.config", "fnet.data", "fnet.report"),
    "train": ("fnet.report", "fnet.config"),
    "config": ("fnet.report", "fnet.reference", "fnet.gradcheck"),
    "report": (),
}


def imports(path: Path) -> list[str]:
    """The modules that a file imports when it runs; what only a type checker sees does not count."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            found.extend(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def test_every_part_has_a_rule():
    parts = {path.relative_to(ROOT).parts[0] for path in FILES} - {"__init__.py", "cli.py"}
    assert parts == set(FORBIDDEN)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT).parts[0]
    for module in imports(path):
        for forbidden in (*FORBIDDEN.get(part, ()), *(() if part == "cli.py" else ("fnet.cli",))):
            inside = module == forbidden.rstrip(".") or module.startswith(forbidden.rstrip(".") + ".")
            allowed = forbidden == "fnet." and module.startswith("fnet.metrics") and part == "losses.py"
            allowed |= forbidden == "jax" and path.name == "augment.py"  # it runs inside the compiled step
            assert not inside or allowed, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 450


@pytest.mark.parametrize("family", sorted(p.name for p in (ROOT / "layers").glob("*.py")))
def test_both_interpreters_have_the_same_files(family):
    if family not in ("__init__.py", "initializer.py", "convolution.py", "masking.py", "recurrence.py"):
        assert (ROOT / "reference" / family).is_file()
