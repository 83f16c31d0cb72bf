"""With data.order: content, a run does not depend on the order of the examples in its source."""

import jax
import numpy as np
import pytest

from fnet.config.load import load
from fnet.data.arrays import Arrays
from fnet.data.pipeline import by_content
from fnet.runs.data import load_data
from fnet.runs.run import run

MODEL = "model: [flatten, {dense: 3}]\ntrain: {epochs: 2, batch_size: 8}"


@pytest.fixture
def images(rng):
    """Images of three classes; one image occurs twice."""
    x = rng.integers(0, 256, (40, 4, 4), np.uint8)
    x[7] = x[30]
    y = rng.integers(0, 3, 40)
    y[7] = y[30]
    return x, y


def trained(tmp_path, data):
    """Train, and return the parameters and the scores."""
    (tmp_path / "c.yaml").write_text(f"data: {data}\n{MODEL}\nout: {tmp_path}\n")
    outcome = run(load(str(tmp_path / "c.yaml")))
    return jax.tree.map(np.asarray, outcome.fitted.params), outcome.scores


def test_examples_in_another_order_give_the_same_run(images, tmp_path, rng):
    x, y = images
    other = rng.permutation(30)
    for name, order in (("a", np.arange(30)), ("b", other)):
        np.savez(tmp_path / f"{name}.npz", x_train=x[order], y_train=y[order], x_test=x[30:], y_test=y[30:])
    split = "split: {train: train, test: test}"
    first, second, unordered, streamed = (
        trained(tmp_path, f"{{path: {tmp_path / name}.npz, {split}, {rest}}}")
        for name, rest in (
            ("a", "order: content"),
            ("b", "order: content"),
            ("b", "order: source"),
            ("b", "order: content, stream: true"),
        )
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(np.testing.assert_array_equal, first, streamed)
    assert not np.array_equal(first[0]["dense_1"]["w"], unordered[0]["dense_1"]["w"])


def test_the_order_is_a_permutation_that_depends_on_examples_and_targets(images):
    """Equal examples are adjacent, other labels give another order, and it is not the order of the source."""
    x, y = images
    order = by_content(Arrays(x, y))
    assert sorted(order) == list(range(40))
    assert list(order) != list(range(40))
    assert abs(list(order).index(7) - list(order).index(30)) == 1
    assert list(by_content(Arrays(x, (y + 1) % 3))) != list(order)


def test_the_default_is_the_order_of_the_source(images, tmp_path):
    x, y = images
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    (tmp_path / "c.yaml").write_text(
        f"data: {{path: {tmp_path / 'a.npz'}, normalize: none, split: {{train: train, test: test}}}}\n{MODEL}\n"
    )
    splits, _ = load_data(load(str(tmp_path / "c.yaml")))
    np.testing.assert_array_equal(splits.train.x[..., 0], x)
