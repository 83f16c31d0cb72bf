"""The scripts of the experiments, for the tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "experiments"


def load_script(name: str) -> ModuleType:
    """Return a script of the experiments as a module; skip the test where there are no experiments."""
    script = FOLDER / name
    if not script.exists():
        pytest.skip("the experiments are not part of the source distribution")
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
