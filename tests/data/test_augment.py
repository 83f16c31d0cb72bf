"""Augmentation, compared with NumPy and SciPy on the same random numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import ndimage

import fnet
from fnet.data import augment
from fnet.train import fit, make_step
from fnet.train.state import Batch, init_state

SHAPE = (6, 9, 11, 2)
KEY = jax.random.key(3)


@pytest.fixture
def images(rng):
    return rng.uniform(0.1, 1, SHAPE).astype(np.float32)


def moved(image, down, right):
    """Return the image rolled, with the rows and columns that wrap around set to 0."""
    result = np.roll(image, (down, right), (0, 1))
    result[slice(0, down) if down >= 0 else slice(down, None)] = 0
    result[:, slice(0, right) if right >= 0 else slice(right, None)] = 0
    return result


def resampled(image, rows, columns):
    """Return SciPy's bilinear interpolation of every channel, with 0 outside the image."""
    channels = (
        ndimage.map_coordinates(image[..., c].astype(float), [rows, columns], order=1, mode="grid-constant")
        for c in range(image.shape[-1])
    )
    return np.stack(list(channels), -1)


def draws(augmentation, images):
    return np.asarray(augmentation.transform.draw(KEY, images.shape))


def test_shift_is_a_roll_without_wrapping(images):
    chosen = draws(augment.shift(3), images)
    expected = [moved(image, *by) for image, by in zip(images, chosen, strict=True)]
    assert np.array_equal(augment.shift(3)(KEY, images), expected)
    many = np.asarray(augment.shift(3).transform.draw(KEY, (4000, *SHAPE[1:])))
    assert np.all(np.abs(np.bincount(many[:, 0] + 3, minlength=7) / 4000 - 1 / 7) < 0.02)
    assert abs(np.corrcoef(many.T)[0, 1]) < 0.05


@pytest.mark.parametrize(("axis", "along"), [("horizontal", 1), ("vertical", 0)])
def test_flip_mirrors_the_selected_images(images, axis, along):
    flip = augment.flip(axis=axis)
    chosen = draws(flip, images)
    expected = [np.flip(image, along) if yes else image for image, yes in zip(images, chosen, strict=True)]
    assert np.array_equal(flip(KEY, images), expected)
    assert 0.45 < np.mean(flip.transform.draw(KEY, (4000, 1, 1, 1))) < 0.55
    assert np.array_equal(augment.flip(1.0)(KEY, images), images[:, :, ::-1])


def test_crop_takes_a_window_of_the_padded_image(images):
    crop = augment.crop(3)
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    corners = draws(crop, images)
    expected = [image[r : r + 9, c : c + 11] for image, (r, c) in zip(padded, corners, strict=True)]
    assert np.array_equal(crop(KEY, images), expected)
    many = np.asarray(crop.transform.draw(KEY, (4000, *SHAPE[1:])))
    assert (many.min(), many.max()) == (0, 6)


def test_a_smaller_crop_is_enlarged_to_the_image(images):
    """Pixels are areas: half a pixel of the window's edge maps to half a pixel of the image's."""
    crop = augment.crop(padding=1, size=6)
    result = crop(KEY, images)
    for image, (row, column), got in zip(images, draws(crop, images), result, strict=True):
        rows = row - 1 + (np.arange(9) + 0.5) * 6 / 9 - 0.5
        columns = column - 1 + (np.arange(11) + 0.5) * 6 / 11 - 0.5
        np.testing.assert_allclose(got, resampled(image, *np.meshgrid(rows, columns, indexing="ij")), atol=1e-5)
    many = np.asarray(crop.transform.draw(KEY, (4000, *SHAPE[1:])))
    assert many.max(axis=0).tolist() == [9 + 2 - 6, 11 + 2 - 6]


def test_rotation_is_that_of_scipy(images):
    rotation = augment.rotation(40.0)
    angles = draws(rotation, images)
    assert 40 >= np.abs(angles).max() > 5
    for image, angle, got in zip(images, angles, rotation(KEY, images), strict=True):
        expected = ndimage.rotate(image.astype(float), angle, reshape=False, order=1, mode="grid-constant")
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_rotation_turns_counterclockwise():
    """A pixel to the right of the center moves above it."""
    image = jnp.zeros((1, 3, 3, 1)).at[0, 1, 2, 0].set(1)
    turned = augment.rotation(90.0).transform.apply(image, jnp.array([90.0]))[0, :, :, 0]
    np.testing.assert_allclose(turned, [[0, 1, 0], [0, 0, 0], [0, 0, 0]], atol=1e-6)


def test_elastic_is_simards_with_scipys_gaussian(images):
    elastic = augment.elastic(alpha=8.0, sigma=1.5)
    fields = draws(elastic, images)
    result = np.asarray(elastic(KEY, images))
    assert np.abs(result - images).max() > 0.3
    for image, field, got in zip(images, fields, result, strict=True):
        down, right = (8 * ndimage.gaussian_filter(f.astype(float), 1.5, mode="constant", truncate=4) for f in field)
        rows, columns = np.mgrid[:9, :11]
        np.testing.assert_allclose(got, resampled(image, rows + down, columns + right), atol=2e-5)


def test_the_numbers_of_elastic_are_uniform_and_independent():
    fields = np.asarray(augment.elastic().transform.draw(KEY, (200, 10, 10, 1)))
    assert fields.shape == (200, 2, 10, 10)
    assert -1 < fields.min() < -0.999 < 0.999 < fields.max() < 1
    assert abs(fields.mean()) < 0.01
    assert abs(fields.var() - 1 / 3) < 0.01
    assert abs(np.corrcoef(fields[:, 0].ravel(), fields[:, 1].ravel())[0, 1]) < 0.03


def test_cutout_sets_a_square_to_zero(images):
    cutout = augment.cutout(4)
    expected = images.copy()
    for image, (row, column) in zip(expected, draws(cutout, images), strict=True):
        image[max(0, row - 2) : row + 2, max(0, column - 2) : column + 2] = 0
    assert np.array_equal(cutout(KEY, images), expected)
    many = np.asarray(cutout.transform.draw(KEY, (4000, *SHAPE[1:])))
    assert (many.min(axis=0).tolist(), many.max(axis=0).tolist()) == ([0, 0], [8, 10])


ALL = ["flip", {"shift": 2}, {"crop": 1}, {"rotation": 15}, {"elastic": {"alpha": 8, "sigma": 2}}, {"cutout": 3}]


def test_every_augmentation_is_in_the_list_of_all():
    assert {augmentation.kind for augmentation in augment.build(ALL)} == set(augment.AUGMENTATIONS)


@pytest.mark.parametrize("data", ALL, ids=str)
def test_every_example_is_changed_independently_and_keeps_its_dtype(data):
    """Equal images become different; equal keys give equal bits; jit and float64 agree up to rounding."""
    (augmentation,) = augment.build([data])
    same = np.broadcast_to(np.random.default_rng(0).uniform(0.1, 1, SHAPE[1:]), (16, *SHAPE[1:])).astype(np.float32)
    result = np.asarray(augmentation(KEY, jnp.asarray(same)))
    assert (result.shape, result.dtype) == (same.shape, np.float32)
    assert len(np.unique(result.reshape(16, -1), axis=0)) >= 2
    assert np.array_equal(augmentation(KEY, jnp.asarray(same)), result)
    assert not np.array_equal(augmentation(jax.random.key(4), jnp.asarray(same)), result)
    with jax.enable_x64(True):
        double = jax.jit(augmentation.__call__)(KEY, jnp.asarray(same, jnp.float64))
        assert double.dtype == jnp.float64
        np.testing.assert_allclose(double, result, atol=2e-5)


def test_an_augmentation_does_not_depend_on_the_others(images):
    """The key depends on the name and its count, not on the position in the list."""
    alone = augment.augmented(augment.build(["flip"]), jnp.asarray(images), KEY)
    beside = augment.augmented(augment.build([{"cutout": 1}, "flip"]), jnp.asarray(images), KEY)
    assert np.mean(np.asarray(alone) == beside) > 0.9
    twice = augment.augmented(augment.build([{"flip": 0.5}, {"flip": 0.5}]), jnp.asarray(images), KEY)
    assert not np.array_equal(twice, images), "the second flip would undo the first if it drew the same"


def test_incompatible_images_are_refused():
    for data, shape, message in (
        ("flip", (4,), r"flip: expected images \(height, width, channels\), got examples of shape \(4,\)"),
        (
            {"shift": 8},
            (8, 9, 1),
            "shift: pixels: 8 must be smaller than height and width, but the images have 8 x 9 pixels",
        ),
        (
            {"cutout": 9},
            (8, 9, 1),
            "cutout: size: 9 must be smaller than height and width, but the images have 8 x 9 pixels",
        ),
        (
            {"crop": {"size": 11, "padding": 1}},
            (8, 9, 1),
            "crop: a window of 11 x 11 pixels is larger than the image with its padding of 1, but the images have 8 x",
        ),
    ):
        (augmentation,) = augment.build([data])
        with pytest.raises(augment.AugmentationError, match=message):
            augmentation.check(shape)
    with pytest.raises(augment.AugmentationError, match="images of floating-point numbers, got uint8"):
        augment.augmented([augment.flip()], jnp.zeros((2, 4, 4, 1), "uint8"), KEY)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("flop", "unknown augmentation 'flop'; did you mean 'flip'?"),
        (3, "expected an augmentation, such as flip or {shift: 2}, got 3"),
        (
            {"flip": None, "shift": 1},
            "expected an augmentation, such as flip or {shift: 2}, got a mapping with the keys flip, shift",
        ),
        ({"rotation": 200}, "rotation: degrees: expected a value of at most 180, got 200"),
    ],
)
def test_invalid_items_are_refused(data, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the whole text is compared)
        augment.build([data])
    assert str(error.value) == message


@augment.augmentation
def brighten(amount: float = 0.1):
    """Add a random number to every image: a user's own augmentation."""

    def draw(key, shape):
        return jax.random.uniform(key, shape[:1], "float32", 0, amount)

    return augment.Transform(draw, lambda images, added: images + added[:, None, None, None])


def test_a_users_own_augmentation_is_constructed_described_and_built_like_any_other(images):
    kind = f"{__name__}.brighten"
    (own,) = augment.build([{kind: 0.5}])
    assert augment.describe([own]) == [{kind: {"amount": 0.5}}]
    assert augment.describe(augment.build(augment.describe([own, augment.flip()]))) == [
        {kind: {"amount": 0.5}},
        {"flip": {"rate": 0.5, "axis": "horizontal"}},
    ]
    assert not np.array_equal(augment.augmented([own], jnp.asarray(images), KEY), images)
    with pytest.raises(ValueError, match="brighten: amount: expected a number, got 'much'"):
        augment.build([{kind: "much"}])
    with pytest.raises(ValueError, match=r"'fnet\.dense' is not a constructor of augmentations; decorate it with"):
        augment.build(["fnet.dense"])


def seen_by_the_step(augmentations, x, step=0, mask=None):
    """Return the mean of the images that the network receives, which is the gradient of its weights, and the state."""
    net = fnet.serial(fnet.flatten(), fnet.dense(1, bias=False, init="ones"))
    take = make_step(net, lambda outputs, targets: outputs[:, 0], optax.sgd(1.0), augment=augmentations)
    start = init_state(net, optax.sgd(1.0), jax.random.key(7), x.shape[1:])._replace(step=jnp.int32(step))
    mask = jnp.ones(len(x), bool) if mask is None else mask
    after, _ = jax.jit(take)(start, Batch(jnp.asarray(x), jnp.zeros(len(x)), mask))
    return np.asarray(start.params["dense_1"]["w"] - after.params["dense_1"]["w"]).reshape(x.shape[1:]), start


def test_the_step_augments_by_seed_and_step_and_leaves_the_mask(images):
    augmentations = [augment.shift(2), augment.flip()]
    mask = jnp.arange(len(images)) < 4
    for step in (0, 5):
        mean, start = seen_by_the_step(augmentations, images, step, mask)
        key = jax.random.fold_in(start.key, step)
        expected = np.asarray(augment.augmented(augmentations, jnp.asarray(images), key))[:4].mean(axis=0)
        np.testing.assert_allclose(mean, expected, atol=1e-5)


def test_training_with_augmentations_is_repeatable(rng):
    """Two runs with the same seed give bitwise equal parameters, different from those without augmentations."""
    x, y = rng.uniform(size=(10, 6, 6, 1)).astype(np.float32), np.arange(10) % 2
    net = fnet.serial(fnet.flatten(), fnet.dense(2))
    settings = {"epochs": 2, "batch_size": 4, "augment": [augment.shift(1), augment.flip()]}
    once, again = (fit(net, "cross_entropy", optax.sgd(0.1), (x, y), **settings) for _ in range(2))
    plain = fit(net, "cross_entropy", optax.sgd(0.1), (x, y), epochs=2, batch_size=4)
    assert np.array_equal(once.params["dense_1"]["w"], again.params["dense_1"]["w"])
    assert not np.array_equal(once.params["dense_1"]["w"], plain.params["dense_1"]["w"])


def test_fit_refuses_examples_that_cannot_be_augmented():
    with pytest.raises(augment.AugmentationError, match="flip: expected images"):
        fit(
            fnet.serial(fnet.dense(1)),
            "mse",
            optax.sgd(0.1),
            (np.ones((3, 2)), np.ones((3, 1))),
            augment=[augment.flip()],
        )
