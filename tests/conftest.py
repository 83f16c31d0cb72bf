"""What every test runs under."""

import os
from pathlib import Path

import jax
import numpy as np
import prepared
import pytest

if jax.__version_info__[:2] == (0, 10):
    # Without XLA's fusion emitters, small programs compile twice as fast. Other versions may not know the flag.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"


@pytest.fixture(autouse=True)
def _float32_by_default():
    """A test that leaves 64-bit mode on would change what the next one computes."""
    yield
    assert not jax.config.jax_enable_x64


@pytest.fixture(scope="module", autouse=True)
def _compiled_programs_go():
    """Thousands of them would take gigabytes by the end."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def _compilation_is_quick(tmp_path_factory):
    """Compile without most optimizations, which cost more than they save in programs that run a few times.

    A program that one worker has compiled is loaded by the others.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(shared / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


@pytest.fixture(autouse=True)
def _files_outside_the_project(request):
    """A shipped config over files that lie outside the project is tested where they are."""
    config = request.node.callspec.params.get("config") if hasattr(request.node, "callspec") else None
    if getattr(config, "stem", "") == "mnist-idx" and not Path("../shared/data/mnist-idx").is_dir():
        pytest.skip("the IDX files of MNIST are not in ../shared/data/mnist-idx, seen from the working folder")


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
