"""Differential tests against PyTorch: random layers, losses, optimizers and schedules, in float64 on both sides.

A case fails if a value, a gradient, a new state, a parameter after 20 steps or a learning rate differs by more than
1e-9, relative to the largest entry of the array. Where the definitions of the two libraries differ, the settings are
translated, or the definition is written with PyTorch's operations.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from outcome import Outcome, Skipped, report

TOLERANCE = 1e-9

Values = Mapping[str, np.ndarray]


class Case(NamedTuple):
    """A computation on both sides, which give arrays of the same names.

    Args:
        what: text that describes the case in a message.
        ours: computes the arrays with fnet.
        theirs: computes them with PyTorch.
    """

    what: str
    ours: Callable[[], Values]
    theirs: Callable[[], Values]


def attack(seed: int) -> list[Outcome]:
    """Compare random cases of every family, and print those that differ.

    Raises:
        Skipped: without PyTorch.
    """
    if importlib.util.find_spec("torch") is None:
        raise Skipped("the differential tests need PyTorch; install the extra 'bench'")
    import differential_layers
    import differential_training

    families = {**differential_layers.FAMILIES, **differential_training.FAMILIES}
    outcomes = []
    for number, (name, (cases, make)) in enumerate(families.items()):
        failed = 0
        for i in range(cases):
            problem = _problem(make, np.random.default_rng([seed, number, i]))
            if problem:
                failed += 1
                print(f"{name}, case {i}, seed {seed}: {problem}", flush=True)
        outcomes.append(Outcome(f"PyTorch: {name}", cases, failed, seed))
        jax.clear_caches()
    return outcomes


def _problem(make: Callable[[np.random.Generator], Case], rng: np.random.Generator) -> str | None:
    """Return what differs in a case, or None."""
    case = make(rng)
    try:
        with jax.enable_x64(True):
            ours = case.ours()
        theirs = case.theirs()
    except Exception as error:
        return f"{case.what}: {type(error).__name__}: {error}"
    if ours.keys() != theirs.keys():
        return f"{case.what}: {sorted(ours)} and {sorted(theirs)}"
    for name, a in ours.items():
        b = theirs[name]
        if np.shape(a) != np.shape(b):
            return f"{case.what}: {name} has the shapes {np.shape(a)} and {np.shape(b)}"
        difference, size = np.max(np.abs(a - b), initial=0), np.max(np.abs(b), initial=0)
        if not difference <= TOLERANCE * max(1, size):
            return f"{case.what}: {name} differs by {difference:.1e} of {size:.1e}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the differential tests as a command, and return its exit status."""
    # Every case is compiled for a single comparison, so that optimization costs more time than it saves.
    jax.config.update("jax_disable_most_optimizations", True)
    return report(attack, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
