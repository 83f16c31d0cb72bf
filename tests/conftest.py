"""What every test runs under."""

import jax
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _float32_by_default():
    """A test that leaves 64-bit mode on would change what the next one computes."""
    yield
    assert not jax.config.jax_enable_x64


@pytest.fixture
def rng():
    """NumPy random numbers, the same in every run."""
    return np.random.default_rng(20261121)
