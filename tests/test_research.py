"""The snippets of research code: each runs and passes the check at its own end."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "research"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "checking.py")

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the experiments are not part of the source distribution")


@pytest.fixture(autouse=True)
def _folder_on_path(monkeypatch):
    """Let the scripts import the module beside them, as when they are run."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    sys.modules.pop("checking", None)


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != "data_parallel.py"])
def test_a_snippet_passes_its_check(script, capsys):
    runpy.run_path(str(FOLDER / script), run_name="__main__")
    assert "largest difference" in capsys.readouterr().out


def test_the_step_on_two_devices_passes_its_check():
    """JAX fixes the number of devices at its start, so that this one needs a process of its own."""
    done = subprocess.run(
        [sys.executable, FOLDER / "data_parallel.py"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2 devices")
    assert done.stdout.count("largest difference") == 2


@pytest.mark.parametrize(
    ("value", "printed"),
    [([1.0, 2.1], "1.0e-01"), ([1.0, np.nan], "inf"), ([1.0, 2.0, 3.0], "inf"), ([1.0, -2.0], "4.0e+00")],
)
def test_a_check_that_fails_exits_with_1(value, printed, capsys):
    check = runpy.run_path(str(FOLDER / "checking.py"))["check"]
    with pytest.raises(SystemExit) as stopped:
        check("weights", {"w": np.array(value), "b": 0.0}, {"w": np.array([1.0, 2.0]), "b": 0.0}, tolerance=1e-3)
    assert stopped.value.code == 1
    assert capsys.readouterr().out == f"weights: largest difference {printed}, tolerance 1e-03\n"


def test_a_check_that_holds_returns():
    check = runpy.run_path(str(FOLDER / "checking.py"))["check"]
    check("weights", [np.array([1.0, 2.0])], [np.array([1.0, 2.0009])], tolerance=1e-3)


def test_the_readme_and_the_guide_link_every_snippet():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    guide = (FOLDER.parents[1] / "fnet" / "guide" / "research.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+\.py)\]\(\1\)", text, re.MULTILINE) != []
    assert sorted(re.findall(r"^\| \[(\w+\.py)\]\(\1\)", text, re.MULTILINE)) == SCRIPTS
    assert [name for name in SCRIPTS if f"(../../experiments/research/{name})" not in guide] == []
