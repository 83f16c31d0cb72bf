"""Parameters and state have JAX's default float type, and the values do not depend on it."""

import jax
import numpy as np
import pytest
from layers.cases import FIRST


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST.keys())
def test_parameters_have_the_default_float_type(case):
    """Under jax_enable_x64 every leaf is float64, with the values drawn in float32."""
    net, key = case.make(), jax.random.key(3)
    single = net.init(key, case.in_shape)
    with jax.enable_x64(True):
        double = net.init(key, case.in_shape)
    assert jax.tree.structure(single) == jax.tree.structure(double)
    for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(double), strict=True):
        assert (a.dtype, b.dtype) == (np.float32, np.float64)
        assert np.array_equal(np.asarray(a, np.float64), b)
