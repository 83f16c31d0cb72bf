"""What every test runs under."""

import jax
import numpy as np
import pytest

import prepared


@pytest.fixture(autouse=True)
def _float32_by_default():
    """A test that leaves 64-bit mode on would change what the next one computes."""
    yield
    assert not jax.config.jax_enable_x64


@pytest.fixture(scope="session", autouse=True)
def tfds_sets(tmp_path_factory):
    """Small sets in place of those of TensorFlow Datasets that shipped configs name; what is decoded is kept apart."""
    folder = tmp_path_factory.mktemp("tfds")
    for name in ("mnist", "fashion_mnist"):
        prepared.prepare_images(folder, name, train=100, test=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture
def rng():
    """NumPy random numbers, the same in every run."""
    return np.random.default_rng(20261121)
