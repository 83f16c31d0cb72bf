"""`fnet init`: configs for the user's own data, which train as they are."""

import numpy as np
import pytest
from PIL import Image

from fnet.config.load import load
from fnet.config.starter import config_path, starter
from fnet.data.source import DataError, DataWarning

TABLE = "id,town,area,born,price\n" + "".join(
    f"{n},{'Ghent' if n % 3 else 'Bruges'},{'' if n == 4 else 40 + n * n % 17},2020-0{1 + n % 9}-11,{9 + 3.5 * n}\n"
    for n in range(1, 41)
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def experiment_of(made, folder, name="c.yaml"):
    (folder / name).write_text(made.text)
    return load(str(folder / name))


def test_a_table_is_described_column_by_column(folder):
    (folder / "houses.csv").write_text(TABLE)
    with pytest.warns(DataWarning, match="'id' is taken as an identifier"):
        made = starter("houses.csv", folder)
    experiment = experiment_of(made, folder)  # without a warning, because the config sets the type
    assert (made.target, made.chosen) == ("price", "the last column")
    for line in (
        "  path: houses.csv\n",
        "  target: price  # 1 value; the last column\n",
        "    id: identifier  # 1, 2, 3; 40 different, left out",
        "    town: category  # Ghent, Bruges",
        "    born: date  # ",
        "  missing: mean  # 1 of area are missing; drop leaves these rows out\n",
        "train: 0.7, validation: 0.15, test: 0.15",
    ):
        assert line in made.text
    assert experiment.spec.targets.kind == "values"
    assert experiment.net.shape(experiment.spec.shape) == (1,)
    assert [column.type for column in experiment.spec.columns] == ["identifier", "category", "number", "date"]


def test_the_config_may_lie_in_another_folder(folder):
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    (folder / "a" / "t.csv").write_text("x,label\n" + "1,u\n2,v\n2,u\n" * 6)
    made = starter("a/t.csv", folder / "b")
    assert "  path: ../a/t.csv\n" in made.text
    assert made.target == "label"
    assert experiment_of(made, folder / "b").spec.targets.names == ("u", "v")


def test_names_that_yaml_would_read_as_something_else_are_quoted(folder):
    (folder / "t.csv").write_text('no,"a: b",# c,y\n' + "1,2,5,u\n2,5,7,v\n2,5,7,u\n" * 6)
    assert [column.name for column in experiment_of(starter("t.csv", folder), folder).spec.columns] == [
        "no",
        "a: b",
        "# c",
    ]


def test_the_comment_gives_the_number_of_steps(folder):
    (folder / "t.csv").write_text("x,kind\n" + "1,u\n2,v\n2,u\n" * 41)
    made = starter("t.csv", folder)
    assert f"  # about {experiment_of(made, folder).plan().steps:,} steps\n" in made.text


def test_the_target_can_be_named(folder):
    (folder / "t.csv").write_text("kind,x\n" + "u,1\nv,2\nu,2\n" * 6)
    made = starter("t.csv", folder, "kind")
    assert made.chosen == ""
    assert experiment_of(made, folder).spec.targets.names == ("u", "v")
    with pytest.raises(DataError, match=r"t.csv has no column 'kynd'; did you mean 'kind'\?"):
        starter("t.csv", folder, "kynd")


def test_a_folder_of_images_of_several_sizes(folder):
    rng = np.random.default_rng(0)
    for number in range(12):
        path = folder / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + number, 24, 3), np.uint8)).save(path)
    made = starter("photos", folder)
    assert "  size: [20, 20]  # height and width" in made.text
    experiment = experiment_of(made, folder)
    assert experiment.spec.shape == (20, 20, 3)
    assert experiment.net.shape((20, 20, 3)) == (2,)


@pytest.mark.parametrize("shape", [(5,), (4, 3), (12, 12)])
def test_arrays(folder, shape):
    rng = np.random.default_rng(0)
    np.savez("a.npz", x=rng.standard_normal((30, *shape)), y=np.arange(30) % 3)
    experiment = experiment_of(starter("a.npz", folder), folder)
    assert experiment.net.shape(experiment.spec.shape) == (3,)


def test_a_text(folder):
    (folder / "book.txt").write_text("to be or not to be, that is the question\n" * 40)
    experiment = experiment_of(starter("book.txt", folder), folder)
    assert experiment.spec.is_language


def test_an_existing_config_is_not_replaced(folder):
    assert config_path("data/houses.csv.gz", None, force=False).name == "houses.yaml"
    (folder / "houses.yaml").write_text("")
    with pytest.raises(DataError, match=r"'houses.yaml' exists; choose another file with --output, or .* --force"):
        config_path("houses.csv", None, force=False)
    assert config_path("houses.csv", None, force=True).name == "houses.yaml"


def test_a_target_is_for_tables(folder):
    (folder / "book.txt").write_text("to be or not to be\n" * 40)
    with pytest.raises(DataError, match=r"book.txt is not a table, so that it has no column 'y'"):
        starter("book.txt", folder, "y")
