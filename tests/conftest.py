"""Fixtures of all tests."""

import os

import jax
import numpy as np
import prepared
import pytest
from shipped import FOLDER

from fnet.train.compile import clear_programs

if jax.__version_info__[:2] == (0, 10):
    # Without XLA's fusion emitters, small programs compile twice as fast. Other versions may not know the flag.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"


@pytest.fixture(autouse=True)
def _float32_by_default():
    """Check that a test does not leave 64-bit mode on, which would change the results of the next test."""
    yield
    assert not jax.config.jax_enable_x64


@pytest.fixture(scope="module", autouse=True)
def _clear_compiled_programs():
    """Clear the caches of programs after every module; thousands of programs would take gigabytes of memory."""
    yield
    jax.clear_caches()
    clear_programs()


@pytest.fixture(scope="session", autouse=True)
def _compile_quickly(tmp_path_factory):
    """Compile without most optimizations, which take more time than they save in programs that run a few times.

    The compilation cache is shared by all workers.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(shared / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


@pytest.fixture(autouse=True)
def _skip_without_external_files(request):
    """Skip tests of a shipped config whose data files are outside the project if these do not exist."""
    config = request.node.callspec.params.get("config") if hasattr(request.node, "callspec") else None
    if getattr(config, "stem", "") == "mnist-idx" and not (FOLDER.parents[1] / "shared/data/mnist-idx").is_dir():
        pytest.skip("the IDX files of MNIST are not in shared/data/mnist-idx beside the project")


@pytest.fixture(scope="session", autouse=True)
def tfds_sets(tmp_path_factory):
    """Prepare small replacements of the TensorFlow Datasets that shipped configs name, with a cache of their own."""
    folder = tmp_path_factory.mktemp("tfds")
    for name in ("mnist", "fashion_mnist"):
        prepared.prepare_images(folder, name, train=100, test=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture
def rng():
    """Return NumPy's random number generator with a fixed seed."""
    return np.random.default_rng(20261121)
