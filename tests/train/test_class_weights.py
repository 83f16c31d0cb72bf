"""Class weights, against scikit-learn and a loss computed by hand."""

import numpy as np
import optax
import pytest
from sklearn.utils.class_weight import compute_class_weight

import fnet
from fnet.data.stream import Stream, View
from fnet.train.class_weights import class_counts, class_weights, example_weights
from fnet.train.loop import fit


def test_balanced_weights_are_those_of_scikit_learn(rng):
    labels = rng.choice(4, 50, p=[0.5, 0.3, 0.15, 0.05])
    counts = class_counts(labels, 4)
    np.testing.assert_array_equal(counts, np.bincount(labels, minlength=4))
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(class_weights("balanced", counts, ()), expected, rtol=1e-6)


def test_a_class_without_examples_does_not_change_the_other_weights():
    """As in scikit-learn, K is the number of the classes that occur."""
    weights = class_weights("balanced", np.array([3, 0, 1]), ())
    np.testing.assert_allclose(
        weights[[0, 2]], compute_class_weight("balanced", classes=np.array([0, 2]), y=np.array([0, 0, 0, 2]))
    )


@pytest.mark.parametrize(
    ("setting", "expected"), [([1.0, 3.0], [1.0, 3.0]), ({"yes": 3.0}, [1.0, 3.0]), ({"no": 0.5}, [0.5, 1.0])]
)
def test_weights_by_order_and_by_name(setting, expected):
    assert class_weights(setting, np.array([9, 1]), ("no", "yes")).tolist() == expected


def test_classes_without_names_are_named_by_their_number():
    assert class_weights({"1": 3.0}, np.array([9, 1]), ()).tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([0, 1, 1]), [1.0, 4.0, 4.0]),
        (np.array([[0.0], [1.0]], np.float32), [1.0, 4.0]),
        (np.array([[0, 1, 0]]), [[1.0, 4.0, 1.0]]),
    ],
    ids=["classes", "binary labels", "sequence"],
)
def test_every_label_has_the_weight_of_its_class(labels, expected):
    assert example_weights(labels, [1.0, 4.0], 2, ()).tolist() == expected
    assert np.asarray(example_weights(View(labels), [1.0, 4.0], 2, ())).tolist() == expected


def test_the_loss_is_the_weighted_mean(rng):
    """The recorded loss of the first full-batch step is sum(w L) / sum(w) at the initial parameters."""
    x, y = rng.standard_normal((7, 3)).astype(np.float32), np.array([0, 0, 0, 1, 2, 0, 1])
    params = {"w": rng.standard_normal((3, 3)).astype(np.float32), "b": rng.standard_normal(3).astype(np.float32)}
    weights = example_weights(y, "balanced", 3, ())
    settings = {"weights": weights, "params": params, "state": {}, "epochs": 1, "batch_size": "all"}
    fitted = fit(fnet.dense(3), "cross_entropy", optax.sgd(0.1), (x, y), **settings)
    z = x @ params["w"] + params["b"]
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(7), y]
    w = np.array([7 / (3 * n) for n in (4, 2, 1)])[y]
    np.testing.assert_allclose(fitted.history[0].values["train_loss"], (w * losses).sum() / w.sum(), rtol=1e-5)
    stream = Stream(x, View(y))
    settings["weights"] = example_weights(stream.y, "balanced", 3, ())
    streamed = fit(fnet.dense(3), "cross_entropy", optax.sgd(0.1), stream, **settings)
    np.testing.assert_array_equal(streamed.params["w"], fitted.params["w"])
