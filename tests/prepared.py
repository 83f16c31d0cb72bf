"""Small datasets for the tests, prepared by TensorFlow Datasets without TensorFlow, from encoded image files."""

import io
from pathlib import Path

import numpy as np


def digits(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (size, 28, 28, 1) of ten classes that are easy to tell apart: each class has its own bright row."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % 10
    images = rng.integers(0, 60, (size, 28, 28, 1), np.uint8)
    images[np.arange(size), 4 + 2 * labels] = 250
    return images, labels


def png(image: np.ndarray) -> io.BytesIO:
    """Encode an image (height, width, 1) as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "png")
    file.seek(0)
    return file


def prepare(folder: Path, name: str, features, supervised_keys, splits, file_format: str = "array_record") -> Path:
    """Prepare a dataset with a builder made for it; return the folder of its files.

    Args:
        folder: folder of the prepared datasets.
        name: name of the dataset.
        features: its features by name.
        supervised_keys: keys of the input and the target, or None.
        splits: lists of examples by the name of the split.
        file_format: format of the record files.
    """
    import tensorflow_datasets as tfds

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=supervised_keys
        )

    def _split_generators(self, manager):
        return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def _generate_examples(self, examples):
        yield from enumerate(examples)

    members = {
        "VERSION": tfds.core.Version("1.0.0"),
        "name": name,
        "pkg_dir_path": None,
        "_info": _info,
        "_split_generators": _split_generators,
        "_generate_examples": _generate_examples,
    }
    builder_type = type(name, (tfds.core.GeneratorBasedBuilder,), members, skip_registration=True)
    tfds.disable_progress_bar()
    builder = builder_type(data_dir=str(folder), file_format=file_format)
    builder.download_and_prepare()
    return Path(builder.data_path)


def prepare_images(folder: Path, name: str, file_format: str = "array_record", **sizes: int) -> Path:
    """Prepare a dataset of the images and labels of `digits`, with splits of these sizes."""
    import tensorflow_datasets as tfds

    splits = {}
    for seed, (split, size) in enumerate(sizes.items()):
        images, labels = digits(size, seed)
        splits[split] = [
            {"image": png(image), "label": int(label)} for image, label in zip(images, labels, strict=True)
        ]
    features = {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
    return prepare(folder, name, features, ("image", "label"), splits, file_format)


def settings(folder, **changed):
    """Return the settings of a dataset in a folder, as a config gives them."""
    defaults = {"data_dir": str(folder), "image_key": None, "label_key": None, "text_length": 8, "split": None}
    return defaults | changed


def spec_and_arrays(name, chosen):
    """Return the description and the arrays of a prepared dataset with these settings."""
    from fnet.data import tfds

    source = tfds.source(name, chosen)
    spec, arrays = source.spec(), source.read(seed=0)
    assert arrays.x.shape == (spec.size, *spec.shape)
    return spec, arrays
