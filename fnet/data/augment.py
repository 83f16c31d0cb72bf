"""Augmentation: random changes of the training images, by pure functions inside the compiled step.

An augmentation is defined by a function of its settings that returns how to draw its random numbers, and how to apply
them to images (n, height, width, channels). The random key comes from the training step. Every example is changed
independently, and pixels outside the image are 0.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval

from fnet.core.constructor import Call, make_constructor
from fnet.core.description import Registry, describe_item
from fnet.core.layer import Shape
from fnet.core.traversal import key_number


class AugmentationError(ValueError):
    """An augmentation cannot be applied to examples of this shape or type."""

    exit_status = 2


class Transform(NamedTuple):
    """The functions of an augmentation, which the body of its constructor returns.

    draw: (key, (n, height, width, channels)) -> random numbers, one row per image, float32 or integers.
    apply: (images, random numbers) -> images of the same shape.
    incompatibility: (height, width) -> the reason why images of this size cannot be augmented, or None.
    """

    draw: Callable[[jax.Array, Shape], Any]
    apply: Callable[[jax.Array, Any], jax.Array]
    incompatibility: Callable[[int, int], str | None] = lambda height, width: None


class Augmentation(NamedTuple):
    """An augmentation with its settings, made by one of the constructors below.

    kind: name of its constructor.
    settings: all settings by name.
    transform: its functions.
    """

    kind: str
    settings: Mapping[str, Any]
    transform: Transform

    def __call__(self, key: jax.Array, images: jax.Array) -> jax.Array:
        """Return the images (n, height, width, channels), each changed independently at random."""
        return self.transform.apply(images, self.transform.draw(key, images.shape))

    def check(self, shape: Shape) -> None:
        """Check the shape of one example.

        Raises:
            AugmentationError: if the example is not an image, or too small.
        """
        if len(shape) != 3:
            raise AugmentationError(
                f"{self.kind}: expected images (height, width, channels), got examples of shape {shape}"
            )
        reason = self.transform.incompatibility(*shape[:2])
        if reason is not None:
            raise AugmentationError(f"{self.kind}: {reason}, but the images have {shape[0]} x {shape[1]} pixels")


P = ParamSpec("P")


def augmentation(body: Callable[P, Transform]) -> Callable[P, Augmentation]:
    """Turn a function of settings that returns a `Transform` into a constructor of augmentations.

    The settings are checked against the signature, like those of a layer.

    >>> shift(pixels=0)
    Traceback (most recent call last):
    ValueError: shift: pixels: expected a value of at least 1, got 0
    """
    return make_constructor(body, Augmentation, _augmentation)


def _augmentation(call: Call, transform: Transform) -> Augmentation:
    return Augmentation(call.kind, call.settings, transform)


@augmentation
def shift(pixels: Annotated[int, Ge(1)] = 2) -> Transform:
    """Shift images by whole pixels, uniformly up to `pixels` along both axes; pixels outside the image are 0.

    Args:
        pixels: maximum shift.
    """

    def draw(key, shape):
        return jax.random.randint(key, (shape[0], 2), -pixels, pixels + 1, "int32")

    def apply(images, shifts):
        return _windows(_padded(images, pixels), pixels - shifts, images.shape)

    return Transform(draw, apply, _check_smaller("pixels", pixels))


@augmentation
def flip(
    rate: Annotated[float, Interval(gt=0, le=1)] = 0.5, axis: Literal["horizontal", "vertical"] = "horizontal"
) -> Transform:
    """Flip images at random.

    Args:
        rate: probability that an image is flipped.
        axis: horizontal swaps left and right, vertical swaps top and bottom.
    """

    def draw(key, shape):
        return jax.random.uniform(key, shape[:1], "float32") < rate

    def apply(images, flipped):
        return jnp.where(flipped[:, None, None, None], jnp.flip(images, 2 if axis == "horizontal" else 1), images)

    return Transform(draw, apply)


@augmentation
def crop(padding: Annotated[int, Ge(0)] = 4, size: Annotated[int, Ge(1)] | None = None) -> Transform:
    """Crop a window at a random position from images padded with zeros.

    A window whose size differs from that of the image is resized to it by bilinear interpolation.

    Args:
        padding: width of the padding, in pixels.
        size: height and width of the window; by default those of the image.
    """

    def cut(shape):
        return (size or shape[1], size or shape[2])

    def draw(key, shape):
        positions = [extent + 2 * padding - part + 1 for extent, part in zip(shape[1:3], cut(shape), strict=True)]
        return jax.random.randint(key, (shape[0], 2), 0, jnp.array(positions), "int32")

    def apply(images, corner):
        height, width = images.shape[1:3]
        if cut(images.shape) == (height, width):
            return _windows(_padded(images, padding), corner, images.shape)
        scaled = ((jnp.arange(extent) + 0.5) * (size / extent) - 0.5 for extent in (height, width))
        rows, columns = (corner[:, axis, None] - padding + s for axis, s in enumerate(scaled))
        grid = (len(images), height, width)
        return bilinear(images, jnp.broadcast_to(rows[:, :, None], grid), jnp.broadcast_to(columns[:, None, :], grid))

    def incompatibility(height, width):
        if size is not None and size > min(height, width) + 2 * padding:
            return f"a window of {size} x {size} pixels is larger than the image with its padding of {padding}"
        return None

    return Transform(draw, apply, incompatibility)


@augmentation
def rotation(degrees: Annotated[float, Interval(gt=0, le=180)] = 15.0) -> Transform:
    """Rotate images about their center by an angle uniform in [-degrees, degrees], with bilinear interpolation.

    Args:
        degrees: maximum angle; positive angles are counterclockwise when row 0 is shown at the top.
    """

    def draw(key, shape):
        return jax.random.uniform(key, shape[:1], "float32", -degrees, degrees)

    def apply(images, angles):
        height, width = images.shape[1:3]
        angles = jnp.deg2rad(angles.astype(images.dtype))[:, None, None]
        down = jnp.arange(height)[None, :, None] - (height - 1) / 2
        right = jnp.arange(width)[None, None, :] - (width - 1) / 2
        cosine, sine = jnp.cos(angles), jnp.sin(angles)
        return bilinear(
            images,
            cosine * down + sine * right + (height - 1) / 2,
            cosine * right - sine * down + (width - 1) / 2,
        )

    return Transform(draw, apply)


@augmentation
def elastic(alpha: Annotated[float, Gt(0)] = 34.0, sigma: Annotated[float, Gt(0)] = 4.0) -> Transform:
    """Elastic deformation: y[p] = x[p + alpha (G_sigma * u)[p]], with bilinear interpolation.

    The field u contains two numbers for every pixel, down and right, uniform in (-1, 1) in steps of 2^-15; G_sigma is
    the Gaussian, truncated at 4 sigma. Some implementations scale the smoothed field to norm 1 before multiplying it by
    alpha, which gives alpha a different meaning.
    Source: Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document
    analysis", ICDAR 2003, whose settings for MNIST are the defaults.

    Args:
        alpha: scale of the displacements, in pixels, before smoothing reduces them.
        sigma: standard deviation of the Gaussian, in pixels; the larger it is, the smoother the displacements.
    """

    def draw(key, shape):
        # Sampling the field dominates the cost: 16 random bits per number halve it.
        bits = jax.random.bits(key, (shape[0], 2, *shape[1:3]), "uint16")
        return (bits.astype(jnp.float32) + 0.5) / 2**15 - 1

    def apply(images, field):
        height, width = images.shape[1:3]
        down, right = (_gaussian(extent, sigma).astype(images.dtype) for extent in (height, width))
        # In full precision, because a GPU's default precision would displace pixels.
        smooth = jnp.einsum(
            "ij,nfjk,lk->fnil", down, field.astype(images.dtype), right, precision=jax.lax.Precision.HIGHEST
        )
        rows, columns = alpha * smooth
        return bilinear(images, rows + jnp.arange(height)[:, None], columns + jnp.arange(width))

    return Transform(draw, apply)


@augmentation
def cutout(size: Annotated[int, Ge(1)] = 8) -> Transform:
    """Cutout: set a square to 0, centered at a random pixel, so that part of it may lie outside the image.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.

    Args:
        size: side length of the square, in pixels.
    """

    def draw(key, shape):
        return jax.random.randint(key, (shape[0], 2), 0, jnp.array(shape[1:3]), "int32")

    def apply(images, center):
        first = center - size // 2
        inside = []
        for axis, extent in enumerate(images.shape[1:3]):
            offset = jnp.arange(extent) - first[:, axis, None]
            inside.append((offset >= 0) & (offset < size))
        rows, columns = inside
        return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], 0, images)

    return Transform(draw, apply, _check_smaller("size", size))


def augmented(augmentations: Sequence[Augmentation], images: jax.Array, key: jax.Array) -> jax.Array:
    """Return the images after applying all augmentations in order.

    The random key of the second `shift` is derived from the names "augment" and "shift_2", so that its random numbers
    do not depend on the other augmentations.

    Raises:
        AugmentationError: for examples that are not images, are too small, or are not floating-point.
    """
    if augmentations and not jnp.issubdtype(images.dtype, jnp.floating):
        raise AugmentationError(f"augmentation expects images of floating-point numbers, got {images.dtype}")
    key = jax.random.fold_in(key, key_number("augment"))
    counts: dict[str, int] = {}
    for augment in augmentations:
        augment.check(images.shape[1:])
        counts[augment.kind] = counts.get(augment.kind, 0) + 1
        name = f"{augment.kind}_{counts[augment.kind]}"
        images = augment(jax.random.fold_in(key, key_number(name)), images)
    return images


def bilinear(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Return images sampled at fractional positions by bilinear interpolation, 0 outside the images.

    Args:
        images: (n, height, width, channels).
        rows, columns: (n, height, width), the position at which each pixel of the result is sampled.
    """
    n, height, width, channels = images.shape
    flat = images.reshape(n, height * width, channels)
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = rows - top, columns - left
    result = jnp.zeros_like(images)
    for row, row_weight in ((top, 1 - down), (top + 1, down)):
        for column, column_weight in ((left, 1 - right), (left + 1, right)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = jnp.where(inside, row * width + column, 0).astype(jnp.int32).reshape(n, -1, 1)
            value = jnp.take_along_axis(flat, index, 1).reshape(images.shape)
            result += jnp.where(inside, row_weight * column_weight, 0)[..., None].astype(images.dtype) * value
    return result


def _padded(images: jax.Array, pixels: int) -> jax.Array:
    return jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))


def _windows(images: jax.Array, corner: jax.Array, shape: Shape) -> jax.Array:
    """Return the window of a shape from every image, with its upper left pixel at the corner (n, 2)."""
    corner = jnp.pad(corner, ((0, 0), (0, 1)))
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, at, shape[1:]))(images, corner)


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """Return the (size, size) matrix that smooths a vector with a Gaussian; entries outside the vector are 0."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    near = np.abs(distance) <= radius
    return np.where(near, weights[np.clip(distance + radius, 0, 2 * radius)] / weights.sum(), 0)


def _check_smaller(name: str, value: int) -> Callable[[int, int], str | None]:
    """Return the check that a setting is smaller than the height and width of the image."""
    return lambda height, width: (
        None if value < min(height, width) else f"{name}: {value} must be smaller than height and width"
    )


AUGMENTATIONS: Mapping[str, Callable[..., Augmentation]] = MappingProxyType(
    {construct.__name__: construct for construct in (shift, flip, crop, rotation, elastic, cutout)}
)
"""The constructors by kind."""

REGISTRY = Registry("augmentation", "flip or {shift: 2}", "fnet.data.augment.augmentation", Augmentation, AUGMENTATIONS)

constructor_of = REGISTRY.constructor_of


def build(items: Sequence[Any]) -> tuple[Augmentation, ...]:
    """Return the augmentations of a config's list: flip, {shift: 2} or {elastic: {alpha: 34}}.

    >>> [augmentation.kind for augmentation in build(["flip", {"shift": 2}])]
    ['flip', 'shift']

    Raises:
        ValueError: for a malformed item, an unknown kind, or an invalid setting.
    """
    return tuple(map(REGISTRY.build, items))


def describe(augmentations: Sequence[Augmentation]) -> list[Any]:
    """Return augmentations as plain data for YAML; the inverse of `build`."""
    return [describe_item(augmentation.kind, augmentation.settings) for augmentation in augmentations]
