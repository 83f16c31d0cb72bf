"""The examples in the README and the guide pass a strict type checker, and wrong calls do not.

The types of JAX's and Optax's own functions are partly unknown, so that rules about unknown types are off; parameters
of functions must be annotated.
"""

import json
import subprocess
import sys

import pytest
from test_documentation import GUIDE, README, blocks

pytest.importorskip("pyright")

OFF = (
    "reportMissingTypeStubs",
    "reportUnknownArgumentType",
    "reportUnknownLambdaType",
    "reportUnknownMemberType",
    "reportUnknownParameterType",
    "reportUnknownVariableType",
)
RULES = {"typeCheckingMode": "strict", **dict.fromkeys(OFF, "none")}

WRONG = {
    "train_is_missing": "net.apply(params, state, x)",
    "x_is_missing": "net.apply(params, state, train=True)",
    "train_is_a_number": "net.apply(params, state, x, train=1)",
    "units_are_text": "fnet.dense('3')",
    "unknown_setting": "fnet.dense(3, activation='relu')",
    "layer_is_a_function": "fnet.serial(jax.nn.relu)",
}
"""Calls that are refused, by the name of their file."""

RIGHT = (
    "net.apply(params, state, x, train=True, key=jax.random.key(0))",
    "import numpy as np",
    "fnet.losses.cross_entropy(net.apply(params, state, x, train=False)[0], np.zeros(2, int))",
    "fnet.losses.mse(np.ones((2, 1)), np.ones((2, 1)))",
    "fnet.metrics.accuracy(np.zeros(2, int), np.zeros(2, int))",
    "fnet.train.Batch(np.ones((2, 4)), None, np.ones(2, bool), np.ones(2))",
)
"""Lines that pass."""

SETUP = """import jax, jax.numpy as jnp, fnet
net, x = fnet.serial(fnet.dense(3)), jnp.ones((2, 4))
params, state = net.init(jax.random.key(0), (4,))
"""


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Return the files with errors, each with the messages."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "pyrightconfig.json").write_text(json.dumps(RULES))
    for name, call in WRONG.items():
        (folder / f"{name}.py").write_text(f"{SETUP}{call}\n")
    (folder / "right.py").write_text(SETUP + "\n".join(RIGHT))
    for page in (README, *GUIDE):
        program = ""
        for block in blocks(page):
            if block.language == "python" and block.directive.startswith("file "):
                (folder / block.directive.split()[1]).write_text(block.text)
            elif block.language == "python" and not block.directive.startswith(("in ", "skip")):
                program += block.text
        (folder / f"page_{page.stem}.py").write_text(program)
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, list[str]] = {}
    for entry in json.loads(result.stdout)["generalDiagnostics"]:
        name = entry["file"].rpartition("/")[2].removesuffix(".py")
        found.setdefault(name, []).append(f"line {entry['range']['start']['line'] + 1}: {entry['message']}")
    return found


def test_examples_pass(errors):
    assert {name: messages for name, messages in errors.items() if name not in WRONG} == {}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_do_not(errors, name):
    assert name in errors
