import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnet.gradcheck import compare
from fnet.gradcheck.function import BadFunction

X = np.random.default_rng(0).standard_normal((7, 3))
Y = np.random.default_rng(1).standard_normal((7, 2))

ONES, ZEROS, INTEGERS = np.ones(2), np.zeros(2), np.ones(2, int)


def loss(params):
    """Linear regression with an l2 penalty: mean over examples and outputs."""
    error = X @ params["w"] + params["b"] - Y
    return jnp.mean(error**2) + 0.05 * jnp.sum(params["w"] ** 2)


def by_hand(params):
    error = X @ params["w"] + params["b"] - Y
    return {"w": 2 / error.size * X.T @ error + 0.1 * params["w"], "b": 2 / error.size * error.sum(axis=0)}


@pytest.fixture
def params(rng):
    return {"w": rng.standard_normal((3, 2)), "b": rng.standard_normal(2)}


def test_a_correct_gradient(params):
    report = compare(by_hand(params), loss, params)
    assert report.ok
    assert [(row.name, row.shape, row.checked) for row in report.rows] == [("b", (2,), 2), ("w", (3, 2), 6)]
    assert [row.order for row in report.rows] == [2.0, 2.0]


def test_a_wrong_gradient_is_named(params):
    gradients = by_hand(params)
    report = compare(gradients | {"b": 7 * gradients["b"]}, loss, params)
    assert [(row.name, row.verdict) for row in report.rows] == [("b", "by hand"), ("w", "ok")]
    assert report.rows[0].diagnosis == "norm ratio 7: the same factor in every entry"
    assert report.rows[0].order == pytest.approx(1.0, abs=0.1)
    assert report.rows[0].ratio == pytest.approx(7.0)
    worst = report.rows[0].worst
    assert report.rows[0].values == pytest.approx(
        [7 * gradients["b"][worst], gradients["b"][worst], gradients["b"][worst]], rel=1e-9
    )
    assert "1 of 2 rows differ: b" in str(report)


def test_a_wrong_custom_derivative_is_attributed_to_jax(params):
    @jax.custom_jvp
    def square(x):
        return x**2

    square.defjvp(lambda primals, tangents: (square(*primals), primals[0] * tangents[0]))
    x = np.array([1.0, -2.0, 0.5])
    report = compare(2 * x, lambda x: jnp.sum(square(x)), x)
    assert [(row.name, row.verdict) for row in report.rows] == [("value", "by JAX")]
    assert (
        report.rows[0].diagnosis
        == "norm ratio 1/2: a factor of 2, such as from the derivative of a square or a term counted twice"
    )


def test_a_stopped_gradient_is_detected_by_finite_differences():
    x = np.array([1.0, 2.0])
    report = compare(np.zeros(2), lambda x: jnp.sum(jax.lax.stop_gradient(x) ** 2), x)
    assert [row.verdict for row in report.rows] == ["both"]
    assert report.rows[0].diagnosis.startswith("hand and JAX agree, but not with finite differences")


def test_the_verdict_is_unclear_if_every_entry_lies_on_a_kink():
    report = compare(np.array([-1.0, 0.5]), lambda x: jnp.sum(jnp.abs(x)), np.zeros(2))
    (row,) = report.rows
    assert (row.verdict, row.checked, row.kinks) == ("unclear", 0, 2)
    assert row.diagnosis == "derivative at a kink: every entry that differs lies on one"


def test_large_leaves_are_sampled_including_the_worst_entry(rng):
    x = rng.standard_normal(1000)
    gradients = 2 * x
    gradients[777] += 1e-4
    report = compare(gradients, lambda x: jnp.sum(x**2), x, samples=10)
    (row,) = report.rows
    assert (row.worst, row.checked, row.verdict) == ((777,), 11, "by hand")
    assert row.diagnosis == "1 of 1000 entries is wrong, at [777]"


def test_any_pytree_of_any_precision(rng):
    params = [np.float32(2.0), (rng.standard_normal(2).astype(np.float32), {"c": 3.0})]
    report = compare(
        [2.0, (2 * params[1][0], {"c": 1.0})], lambda p: p[0] * 2 + jnp.sum(p[1][0] ** 2) + p[1][1]["c"], params
    )
    assert report.ok
    assert [row.name for row in report.rows] == ["0", "1/0", "1/1/c"]


@pytest.mark.parametrize(
    ("gradients", "f", "params", "message"),
    [
        (ONES, lambda x: x**2, ONES, r"must return one number of shape \(\), but returns \(2,\); take its sum"),
        (ONES, lambda x: (x.sum(), x), ONES, r"must return one number of shape \(\), but returns \(\), \(2,\)"),
        (ONES, lambda x: jnp.argmax(x), ONES, "returns a value of dtype int64: only a real number has a gradient"),
        (ONES, lambda x: x.sum(), INTEGERS, "value has dtype int64: gradients exist only with respect to real"),
        (ONES, lambda x: float(x[0]), ONES, "cannot trace the function: it converts a traced array"),
        (ONES, lambda x: x[0] if x[0] > 0 else 0.0, ONES, "use jax.numpy and jnp.where"),
        (ONES, lambda x: np.sin(x).sum(), ONES, "passes a traced array to NumPy; use jax.numpy instead"),
        (ONES, lambda x: jnp.sum(jnp.sqrt(x)), ZEROS, r"not differentiable .* to value\[0\] is inf"),
        (ONES, lambda x: jnp.sum(jnp.log(x)), ZEROS, "the function is -inf at the parameters"),
        ({"v": 1.0}, lambda p: p["w"], {"w": 1.0}, "structure of the parameters: missing: w; not parameters: v"),
        ([1.0], lambda p: p[0] * p[1], [1.0, 2.0], "structure of the parameters: missing: 1"),
        ({}, lambda p: 1.0, {}, "an empty tree: there is nothing to differentiate with respect to"),
        ("a", lambda p: 1.0, "a", "value has dtype <U1: gradients exist only with respect to real and complex numbers"),
    ],
)  # fmt: skip
def test_functions_that_cannot_be_compared_raise(gradients, f, params, message):
    with pytest.raises(BadFunction, match=message):
        compare(gradients, f, params)


def test_a_gradient_of_the_wrong_shape(params):
    gradients = by_hand(params)
    report = compare(gradients | {"w": gradients["w"].T}, loss, params)
    assert report.rows[1].diagnosis == "transposed: (2, 3) instead of (3, 2)"
    assert re.search(r"w +\(3, 2\) +inf +inf +WRONG by hand: transposed", str(report))


def long_sum(w):
    """A sum of 10^4 terms that nearly cancel in the gradient with respect to w[0]."""
    t = jnp.linspace(-1.0, 1.0, 10_001)
    return jnp.sum(jnp.sin(3 * t + w[0]) * w[1] + 100 * jnp.cos(t * w[1]) * w[2])


LONG = {
    "a long sum": (long_sum, np.array([0.0, 1.5, 0.25])),
    "a mean of squares": (
        lambda w: jnp.mean((jnp.linspace(0, 9, 10_000)[:, None] * w - 3) ** 2),
        np.array([0.3, 1e-3]),
    ),
    "log-sum-exp": (lambda w: jnp.log(jnp.sum(jnp.exp(w * jnp.arange(4.0)))), np.array([0.5, -2.0, 3.0, 1.0])),
    "zero by symmetry": (lambda w: jnp.sum(jnp.cos(50 * (w - jnp.mean(w)))) * 1e3, np.array([0.7, 0.2, -0.4, 0.15])),
    "one term in a large constant": (lambda w: 1e4 + jnp.sum(w**3), np.array([0.1, 2.0])),
}


def gradient_of(f, w, precision):
    with jax.enable_x64(precision == "float64"):
        return np.asarray(jax.grad(f)(jnp.asarray(w, precision)))


@pytest.mark.parametrize(("f", "w"), LONG.values(), ids=LONG)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_correct_float32_gradient_is_never_wrong(f, w, precision):
    """The gradient by hand is the float32 or the float64 one; JAX's is the float32 one."""
    report = compare(gradient_of(f, w, precision), f, w, precision="float32")
    assert report.ok, str(report)
    assert (report.precision, report.tolerance) == ("float32", 1e-4)


@pytest.mark.parametrize(("f", "w"), LONG.values(), ids=LONG)
def test_a_wrong_gradient_is_found_in_float32(f, w):
    gradient = gradient_of(f, w, "float64").copy()
    gradient[-1] += 0.01 * np.abs(gradient).max()
    report = compare(gradient, f, w, precision="float32")
    assert [row.verdict for row in report.rows] == ["by hand"]


def test_arrays_that_the_function_captures_are_converted(params):
    """The function was compared in float64 before, with the same float64 arrays."""
    assert compare(by_hand(params), loss, params).ok
    report = compare(by_hand(params), loss, params, precision="float32")
    assert report.ok, str(report)
    assert 1e-9 < max(row.relative for row in report.rows) < 1e-5


def test_float32_rounding_is_not_a_mistake_in_float64():
    """In float64, the rounding of a gradient that was computed in float32 shows, unless the tolerance allows it."""
    f, w = LONG["a mean of squares"]
    gradient = gradient_of(f, w, "float32")
    assert not compare(gradient, f, w).ok
    assert compare(gradient, f, w, tolerance=1e-4).ok


def kinked(w):
    return jnp.sum(jnp.abs(w) + jax.nn.relu(2 * w) + w**2)


def test_entries_on_a_kink_are_excluded():
    """At 0 any slope from -1 to 3 may serve as the derivative; JAX takes 0 for |w|."""
    w = np.array([1.0, 0.0, -2.0, 0.0])
    gradient = np.array([5.0, 0.5, -5.0, 3.0])
    included = compare(gradient, kinked, w)
    assert [row.verdict for row in included.rows] == ["unclear"]
    report = compare(gradient, kinked, w, kinks="exclude")
    assert report.ok, str(report)
    assert (report.rows[0].checked, report.rows[0].kinks) == (2, 2)
    assert "2 entries agree with finite differences (2 more lie on a kink)" in report.verdict


def test_mistakes_beside_a_kink_are_found():
    w = np.array([1.0, 0.0, -2.0, 0.0])
    report = compare(np.array([5.0, 0.5, -5.1, 3.0]), kinked, w, kinks="exclude")
    (row,) = report.rows
    assert (row.verdict, row.worst, row.kinks) == ("by hand", (2,), 2)
    assert row.values == pytest.approx((-5.1, -5.0, -5.0), rel=1e-9)


def test_all_kinks_of_a_large_leaf_are_examined(rng):
    w = rng.standard_normal(1000)
    w[::3] = 0.0
    gradient = np.sign(w) + 2 * (w > 0) + 2 * w
    gradient[::3] = 0.75
    report = compare(gradient, kinked, w, kinks="exclude", samples=5)
    assert report.ok, str(report)
    assert report.rows[0].kinks >= 334
    gradient[1] += 1e-3
    assert compare(gradient, kinked, w, kinks="exclude", samples=5).rows[0].worst == (1,)


def test_entries_at_the_edge_of_the_domain_are_excluded():
    """JAX's derivatives of sqrt at 0 and of |w|^(1/2) at 0 are infinite and NaN."""
    w = np.array([4.0, 0.0, 1.0])
    gradient = np.array([0.25, 0.0, 0.5])
    for f in (lambda w: jnp.sum(jnp.sqrt(w)), lambda w: jnp.sum(jnp.sqrt(jnp.abs(w)))):
        with pytest.raises(BadFunction, match=r"not differentiable .* to value\[1\] is .*; kinks='exclude' skips such"):
            compare(gradient, f, w)
        report = compare(gradient, f, w, kinks="exclude")
        assert report.ok, str(report)
        assert (report.rows[0].checked, report.rows[0].kinks) == (2, 1)


def complex_loss(params):
    z, w = params["z"], params["w"]
    return jnp.sum(jnp.abs(z**2 + w) ** 2) + jnp.sum(jnp.imag(z) * 3.0)


def test_complex_leaves_are_compared_by_real_pairs(rng):
    """L = |z^2 + w|^2 + 3 y: with u = z^2 + w, dL/dx - i dL/dy = 2 conj(u) 2 z - 3i and dL/dw = 2 Re(u)."""
    z, w = rng.standard_normal(3) + 1j * rng.standard_normal(3), rng.standard_normal(3)
    u = z**2 + w
    gradients = {"z": 4 * np.conj(u) * z - 3j, "w": 2 * u.real}
    report = compare(gradients, complex_loss, {"z": z, "w": w})
    assert report.ok, str(report)
    assert [row.name for row in report.rows] == ["w", "z/real", "z/imaginary"]
    conjugate = compare(gradients | {"z": np.conj(gradients["z"])}, complex_loss, {"z": z, "w": w})
    assert [(row.name, row.verdict) for row in conjugate.rows if not row.ok] == [("z/imaginary", "by hand")]
    assert "sign flipped" in str(conjugate)
    single = compare(gradients, complex_loss, {"z": z.astype(np.complex64), "w": w}, precision="float32")
    assert single.ok, str(single)


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("precision", "f32", "'float64' or 'float32', got 'f32'; did you mean 'float32'"),
        ("kinks", "excluded", "'include' or 'exclude', got 'excluded'; did you mean 'exclude'"),
    ],
)
def test_unknown_settings_are_refused(setting, value, expected):
    with pytest.raises(ValueError, match=rf"^compare: {setting}: expected {expected}\?$"):
        compare(np.ones(2), jnp.sum, np.ones(2), **{setting: value})


def test_a_gradient_of_another_shape_is_wrong_beside_kinks():
    report = compare(np.array([5.0, 0.5]), kinked, np.array([1.0, 0.0, -2.0, 0.0]), kinks="exclude")
    (row,) = report.rows
    assert (row.verdict, row.diagnosis) == ("by hand", "wrong shape: (2,) instead of (4,)")
