"""The configs that ship with fnet, for the tests."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(FOLDER.glob("*.yaml"))

SHIPPED = pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
"""Runs a test once per config."""

IRIS, DIABETES, XOR, DIGITS, ELASTIC_NET = (
    FOLDER / f"{name}.yaml"
    for name in ("iris-logistic", "diabetes-linear", "xor-mlp", "digits-mlp", "breast-cancer-elastic-net")
)
