"""Images in folders and with tables of labels, compared with pixels that are known, and their errors."""

import os
from pathlib import Path

import numpy as np
import pytest
from data.own_files import assert_refused, spec_and_arrays, write
from PIL import Image

from fnet.data import files
from fnet.data.pipeline import split_and_normalize
from fnet.data.source import DataError, Targets

pytestmark = pytest.mark.usefixtures("isolated_folders")


# Folders


@pytest.fixture
def pets(rng):
    """Images of asymmetric noise, which PNG stores losslessly."""
    pixels = rng.integers(0, 256, (4, 5, 6), np.uint8)
    for number, (folder, name) in enumerate((("cat", "2"), ("cat", "10"), ("dog", "1"), ("dog", "3"))):
        Path(folder).mkdir(exist_ok=True)
        Image.fromarray(pixels[number]).save(f"{folder}/{name}.png")
    Path("cat/notes.md").write_text("no image")
    Path(".hidden").mkdir()
    return pixels


def test_images(pets):
    spec, arrays = spec_and_arrays("images", path=".")
    assert (spec.name, spec.shape, spec.size, spec.range) == ("work", (5, 6, 1), 4, (0, 255))
    assert spec.targets.names == ("cat", "dog")
    assert np.array_equal(arrays.x[..., 0], pets[[1, 0, 2, 3]])  # 10.png comes before 2.png
    assert arrays.y.tolist() == [0, 0, 1, 1]
    assert files.format_of(".") == "images"


def test_images_are_resized_and_converted_to_color(pets):
    Image.new("RGB", (8, 8), (255, 128, 0)).save("dog/wide.jpg")
    Image.new("RGBA", (2, 2), (0, 255, 0, 9)).save("dog/x.PNG")
    spec, arrays = spec_and_arrays("images", path=".", size=[3, 4], color="rgb")
    assert spec.shape == (3, 4, 3)
    wide, x = arrays.x[-2:]
    assert np.abs(wide.astype(int) - [255, 128, 0]).max() <= 3
    assert np.array_equal(np.unique(x.reshape(-1, 3), axis=0), [[246, 255, 246]])
    assert (arrays.x[0, ..., 0] == arrays.x[0, ..., 1]).all()
    spec, _ = spec_and_arrays("images", path=".", size=[2, 2])
    assert spec.shape == (2, 2, 1)


def test_an_image_is_rotated_according_to_its_exif_orientation(pets):
    image = Image.fromarray(pets[0].T.copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image.save("cat/10.png", exif=exif)
    _, arrays = spec_and_arrays("images", path=".", size=[5, 6])
    assert np.array_equal(arrays.x[0, ..., 0], np.rot90(pets[0].T, -1))


def test_folders_of_splits(pets):
    for split in ("train", "test"):
        Path(split).mkdir()
    os.system("mv cat dog train && cp -r train/cat test")
    spec, arrays = spec_and_arrays("images", path=".")
    assert spec.splits == (("train", 4), ("test", 2))
    assert arrays.y.tolist() == [0, 0, 1, 1, 0, 0]
    Path("test/cow").mkdir()
    Image.fromarray(pets[0]).save("test/cow/1.png")
    spec, arrays = spec_and_arrays("images", path=".")
    with pytest.raises(DataError, match="class 'cow' is in the test part but not in the training part"):
        split_and_normalize(arrays, spec, ("train", 0.0, "test"), "unit", seed=0)


def test_a_changed_image_is_read_again(pets):
    _, before = spec_and_arrays("images", path=".")
    Image.fromarray(pets[0] // 2).save("cat/2.png")
    os.utime("cat/2.png", (1, 1))
    _, after = spec_and_arrays("images", path=".")
    assert np.array_equal(after.x[1, ..., 0], pets[0] // 2)
    assert not np.array_equal(before.x, after.x)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            "echo no >cat/3.png",
            r"cat/3\.png is damaged or has another format than its name says: it is not a PNG, JPEG, ",
        ),
        (
            "head -c 60 dog/3.png >t; mv t dog/3.png",
            r"dog/3\.png is damaged or has another format than its name says: ",
        ),
        (
            "rm -r dog",
            "contains only one folder, 'cat'; put the images of each class in a folder named after the class",
        ),
        ("rm -r dog cat", "contains no folders; put the images of each class"),
        (
            "mv cat/10.png . && rm -r dog cat",
            r"contains images, but no folders; .*or set data\.labels to a table",
        ),
        ("touch cat/1.heic && rm cat/*.png", r"cat does not contain images .*, but files with \.heic, \.md; add some"),
        ("rm dog/*", r"dog does not contain images .* add some, or remove the folder"),
    ],
)
def test_errors_in_folders_of_images(pets, damage, message):
    assert os.system(damage) == 0
    assert_refused("images", message, path=".")


def test_images_of_another_size_are_refused(pets):
    Image.new("L", (6, 7)).save("dog/z.png")
    message = r"dog/z\.png has 7 x 6 pixels, but the first image 5 x 6; set data\.size: \[5, 6\] to resize all images"
    assert assert_refused("images", message, path=".").setting == "size"
    assert_refused("images", "is a file; give the folder that contains one folder per class", path="cat/2.png")


def test_one_number_is_the_edge_of_a_square(pets):
    x = spec_and_arrays("images", path=".", size=3)[1].x
    assert np.array_equal(x, spec_and_arrays("images", path=".", size=[3, 3])[1].x)


# Tables of labels


@pytest.fixture
def photos(rng):
    shades = rng.integers(0, 256, (4, 2, 3), np.uint8)
    Path("photos/deep").mkdir(parents=True)
    for name, shade in zip(["01.png", "02.png", "deep/3.bmp", "unused.png"], shades, strict=True):
        Image.fromarray(shade).save(f"photos/{name}")
    return shades[[1, 2, 0]]


def labels_of(*columns, header="file,label"):
    write("\n".join([header, *columns]) + "\n", "labels.csv")


TABLE = {"path": "photos", "labels": "labels.csv"}


@pytest.mark.parametrize(
    ("header", "columns", "settings", "targets", "y"),
    [
        ("label", ["dog", "cat", "dog"], {}, Targets("classes", 2, ("cat", "dog")), [1, 0, 1]),
        ("label", [7, 3, 7], {}, Targets("classes", 2, ("3", "7")), [1, 0, 1]),
        ("label", [0, 2, 1], {"targets": "classes"}, Targets("classes", 3, ("0", "1", "2")), [0, 2, 1]),
        ("label", ["True", "False", "True"], {}, Targets("classes", 2, ("False", "True")), [1, 0, 1]),
        ("age", [0.5, 2, 1], {"target": "age"}, Targets("values", 1, ("age",)), [[0.5], [2], [1]]),
        ("label", [7, 3, 7], {"targets": "values"}, Targets("values", 1, ("label",)), [[7], [3], [7]]),
        (
            "left,top",
            ["1,2", "3,4", "5,6.5"],
            {"target": ["top", "left"]},
            Targets("values", 2, ("top", "left")),
            [[2, 1], [4, 3], [6.5, 5]],
        ),
        (
            "sun,sea",
            ["1,0", "0,1", "1,1"],
            {"target": ["sun", "sea"], "targets": "labels"},
            Targets("labels", 2, ("sun", "sea")),
            [[1, 0], [0, 1], [1, 1]],
        ),
        (
            "label",
            ["sun|sea", "", "sea | sand"],
            {"targets": "labels"},
            Targets("labels", 3, ("sand", "sea", "sun")),
            [[0, 1, 1], [0, 0, 0], [1, 1, 0]],
        ),
    ],
)
def test_a_table_of_labels(photos, header, columns, settings, targets, y):
    lines = [f"{name},{entry}" for name, entry in zip(["02", "deep/3.bmp", "01.png"], columns, strict=True)]
    labels_of(*lines, header=f"file,{header}")
    spec, arrays = spec_and_arrays("images", **TABLE, **settings)
    assert (spec.name, spec.shape, spec.size, spec.splits) == ("photos", (2, 3, 1), 3, ())
    assert spec.targets == targets
    assert arrays.y.tolist() == y
    assert np.array_equal(arrays.x[..., 0], photos)


def test_columns_of_a_table_of_labels(photos):
    labels_of("a;01;x", "b;02;y", header="patient;image;kind")
    data = files.source("images", {**TABLE, "file": "image", "target": "kind"})
    assert data.spec().size == 2
    assert data.column("patient").tolist() == ["a", "b"]
    with pytest.raises(DataError, match=r"labels\.csv has no column 'pateint'; did you mean 'patient'"):
        data.column("pateint")


@pytest.mark.parametrize(
    ("lines", "settings", "message", "setting"),
    [
        (
            ["01,x", "05,y", "06,x", "07.png,y", "../08,x"],
            {},
            r"4 of the 5 images in .*labels\.csv are not files in .*photos: '05', '06', '07\.png', \.\.\.; set",
            "path",
        ),
        (["01,x", "05,y"], {}, "1 of the 2 images in .*photos: '05'; set", "path"),
        (["01,x", "01,y"], {}, "names the image '01' 2 times; an image must have one line", "labels"),
        (["01,x", "02,"], {}, "example 1 has no value for 'label'; fill it in", "labels"),
        (["01,x", "02,x"], {}, "'label' is 'x' in every row; classification needs at least two classes", "target"),
        (["01,x", "02,y"], {"file": "name"}, "no column 'name'; known: file, label; set data.file", "file"),
        (["01,x", "02,y"], {"target": "lable"}, "no column 'lable'; did you mean 'label'.; set data.target", "target"),
        (["01,x", "02,y"], {"targets": "values"}, "numbers in 'label', got text; set data.targets: classes", "targets"),
        ([], {}, "labels.csv does not contain examples", "labels"),
        (["01,x", "02,y"], {"path": "photo"}, "'photo' does not exist in .*; did you mean 'photos'", "path"),
    ],
)
def test_errors_in_tables_of_labels(photos, lines, settings, message, setting):
    labels_of(*lines)
    assert assert_refused("images", message, **{**TABLE, **settings}).setting == setting


def test_images_have_the_form_and_classes_of_the_trained_network(photos, pets):
    """Of three classes, the folders contain two, and the table one."""
    Path("pets").mkdir()
    for name in ("cat", "dog"):
        Path(name).rename(f"pets/{name}")
    spec, arrays = spec_and_arrays("images", path="pets")
    trained = spec._replace(targets=Targets("classes", 3, ("bat", "cat", "dog")), shape=(5, 6, 3))
    same = files.source("images", {"path": "pets"}).like(trained)
    assert same.spec().targets == trained.targets
    assert same.spec().shape == (5, 6, 3)
    assert same.read(0).y.tolist() == [1, 1, 2, 2]
    assert np.array_equal(same.read(0).x, arrays.x.repeat(3, -1))
    labels_of("01,dog", "02,dog")
    trained = trained._replace(shape=(2, 3, 1))
    assert files.source("images", TABLE).like(trained).read(0).y.tolist() == [2, 2]
    trained = trained._replace(targets=Targets("classes", 2, ("bat", "cat")))
    for settings in ({"path": "pets"}, TABLE):
        with pytest.raises(DataError, match=r"'dog'.* (not trained on|not occur in training); known: bat, cat"):
            files.source("images", settings).like(trained).spec()


def test_settings_of_a_table_need_a_table(pets):
    message = r"data\.targets applies to a table of labels; set data\.labels"
    assert assert_refused("images", message, path=".", targets="values").setting == "targets"
