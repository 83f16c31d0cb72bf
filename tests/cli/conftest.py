"""What every test of the command line runs under."""

import signal

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def _surroundings(tmp_path_factory):
    """Fast compilation, whose programs run slower; a cache of this module's own. What changes is put back."""
    names = (
        "jax_disable_most_optimizations",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_raise_persistent_cache_errors",
    )
    before = {name: jax.config.values[name] for name in names}
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        jax.config.update("jax_disable_most_optimizations", True)
        yield
    signal.signal(signal.SIGTERM, handler)
    for name, value in before.items():
        jax.config.update(name, value)
