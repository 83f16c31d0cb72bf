"""Use of a trained network: `fnet evaluate RUN FILE`, data that has changed, and files of predictions."""

import csv
import errno
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from cli.calls import call, output_of, parse_json

import fnet
from fnet.data.source import DatasetSpec, Targets
from fnet.runs import prediction_file
from fnet.runs.model_file import save_model

pytestmark = pytest.mark.filterwarnings("always::fnet.data.source.DataWarning")

TOWNS = ("Ghent", "Bruges", "Leuven")
HEADER = "id,area,town,kind"


def rows(rng, number, start=0):
    areas = rng.integers(20, 200, number)
    return [f"h{start + k:03},{a},{TOWNS[k % 3]},{'large' if a > 90 else 'small'}" for k, a in enumerate(areas)]


def read_csv(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def write(path, lines, header=HEADER):
    Path(path).write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a table, its config and a run; tests copy nothing and restore what they change."""
    folder = tmp_path_factory.mktemp("use")
    write(folder / "houses.csv", rows(np.random.default_rng(3), 60))
    data = "data: {path: houses.csv, target: kind, columns: {id: identifier}}"
    (folder / "c.yaml").write_text(f"{data}\nmodel: [{{dense: 2}}]\ntrain: {{epochs: 3}}\n")
    output_of("train", folder / "c.yaml", f"out={folder}")
    return folder


@pytest.fixture
def run(trained, monkeypatch, tmp_path):
    """The run, in a temporary current directory; the table is as it was in training afterwards."""
    table = trained / "houses.csv"
    content = table.read_bytes()
    monkeypatch.chdir(tmp_path)
    yield trained / "c-1"
    table.write_bytes(content)


def test_a_file_is_scored_as_its_predictions_say(run, rng):
    """The accuracy is computed from the file of predictions, and the format may differ from that of training."""
    lines = rows(rng, 30)
    write("new.csv", lines)
    table = [dict(zip(HEADER.split(","), line.split(","), strict=True)) for line in lines]
    for entry in table:
        entry["area"] = int(entry["area"])
    Path("new.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in table))
    output_of("predict", run, "new.csv", "--output", "p.csv")
    predictions = [row["prediction"] for row in read_csv("p.csv")]
    expected = np.mean([p == entry["kind"] for p, entry in zip(predictions, table, strict=True)])
    assert 0 < expected < 1
    for name in ("new.csv", "new.jsonl"):
        result = parse_json(output_of("evaluate", run, name, "--json"))
        assert result["examples"] == {"file": 30}
        assert result["scores"]["file"]["accuracy"] == pytest.approx(expected)
    out = output_of("evaluate", run, "new.csv")
    assert "on the file:" in out
    assert "true class by row" in out


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["h1,30,Ghent,huge"], HEADER, r"new\.csv.*'huge'.*known: large, small"),
        (["h1,30,large"], "id,area,kind", r"new\.csv has no column 'town', which the network was trained on"),
        (["h1,large"], "id,kind", r"new\.csv has no columns 'area', 'town', which"),
        (["h1,30,Ghent"], "id,area,town", r"new\.csv has no column 'kind'"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(run, lines, header, message):
    write("new.csv", lines, header)
    result = call("evaluate", run, "new.csv")
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("file", ["gone.csv", "", "https://example.org/new.csv", ".", "x.doc", "x.npy"])
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_other_files_are_refused_in_one_line(run, command, file):
    Path("x.doc").write_text("?")
    np.save("x.npy", np.zeros((2, 9)))
    result = call(command, run, file)
    assert result.exit_code == 2, result.output
    assert re.fullmatch(r"error: .+\n", result.stderr), result.stderr


def test_the_data_of_the_run_may_change(run, trained):
    """The fingerprint tells; the features are those of training, whatever categories and columns there are."""
    before = parse_json(output_of("evaluate", run, "--json"))
    assert before["changed"] is False
    lines = (trained / "houses.csv").read_text().splitlines()[1:]
    write(trained / "houses.csv", [line.replace("h000", "x000") for line in lines])
    assert call("evaluate", run).stderr == ""  # identifiers are not features
    write(trained / "houses.csv", [f"{line},1" for line in lines[:-3]], f"{HEADER},floor")
    result = call("evaluate", run)
    assert result.exit_code == 0, result.output
    assert "the data have changed since training: 57 examples, then 60; the fingerprint differs" in result.stderr
    assert "floor" in result.stderr
    write(trained / "houses.csv", [line.replace("Ghent", "Aalst") for line in lines])
    result = call("evaluate", run, "--json")
    assert parse_json(result.stdout)["changed"] is True
    assert "the number of examples is the same; the fingerprint differs" in result.stderr
    assert "'Aalst'" in result.stderr
    write(trained / "houses.csv", [line.partition(",")[2] for line in lines], "area,town,kind")
    assert call("evaluate", run).stderr == ""
    write(trained / "houses.csv", [line.rpartition(",")[2] for line in lines], "kind")
    result = call("evaluate", run)
    assert result.exit_code == 2
    assert re.search(r"c-1/config\.yaml: data: .*no columns 'area', 'town', which the network was", result.stderr)
    (trained / "houses.csv").unlink()
    result = call("evaluate", run)
    assert result.exit_code == 2
    assert f"'houses.csv' does not exist in {trained}" in result.stderr


@pytest.mark.parametrize("portion", [7, 1000])
def test_predictions_are_written_in_portions(run, rng, monkeypatch, portion):
    """All files contain the same, whatever the portions, in the order of the examples."""
    monkeypatch.setattr("fnet.data.inputs.MAX_ROWS", portion)
    write("new.csv", rows(rng, 20))
    for extension in ("csv", "jsonl", "parquet"):
        if extension == "parquet":
            pytest.importorskip("pyarrow")
        assert (
            output_of("predict", run, "new.csv", "--output", f"p.{extension}")
            == f"20 predictions are in p.{extension}\n"
        )
    expected = parse_json(output_of("predict", run, "new.csv", "--json"))["predictions"]
    table = read_csv("p.csv")
    lines = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert [*table[0]] == ["id", "prediction", "probability large", "probability small"]
    assert [row["id"] for row in table] == [line["id"] for line in lines] == [f"h{k:03}" for k in range(20)]
    for row, line, one in zip(table, lines, expected, strict=True):
        assert row["prediction"] == line["prediction"] == one["decision"]
        assert line["probabilities"] == one["probabilities"]
        for name, p in one["probabilities"].items():
            assert float(row[f"probability {name}"]) == pytest.approx(p, rel=1e-8)
    import pandas as pd

    assert pd.read_parquet("p.parquet").prediction.tolist() == [row["prediction"] for row in table]


def test_a_file_appears_when_it_is_complete(run, rng, monkeypatch):
    """An interruption or a full disk in the second portion leaves the earlier file, and nothing else."""
    write("new.csv", rows(rng, 20))
    Path("p.csv").write_text("earlier")
    monkeypatch.setattr("fnet.data.inputs.MAX_ROWS", 8)
    row_of = prediction_file.row_of
    for error, status in ((KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "No space left on device"), 3)):

        def fail(prediction, names, error=error):
            if prediction.example == "12":
                raise error
            return row_of(prediction, names)

        monkeypatch.setattr(prediction_file, "row_of", fail)
        result = call("predict", run, "new.csv", "--output", "p.csv")
        assert result.exit_code == status
        assert result.stderr.count("\n") == 1
        assert Path("p.csv").read_text() == "earlier"
        assert {path.name for path in Path.cwd().iterdir()} == {"new.csv", "p.csv"}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("new.csv", "--output: 'new.csv' is the file of the examples; choose another name"),
        ("p.xlsx", "--output: expected a file that ends in .csv, .jsonl, .parquet, got 'p.xlsx'"),
        ("no/p.csv", "the predictions cannot be written to 'no/p.csv': the folder"),
        ("folder.csv", "the predictions cannot be written to 'folder.csv': it is not a regular file"),
    ],
)
def test_outputs_that_are_refused(run, rng, output, message):
    write("new.csv", rows(rng, 2))
    Path("folder.csv").mkdir()
    result = call("predict", run, "new.csv", "--output", output)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_entries_that_a_spreadsheet_would_run_are_kept_and_counted(run, rng):
    write("new.csv", [line.replace("h000", "=cmd()").replace("h001", "-7") for line in rows(rng, 3)])
    result = call("predict", run, "new.csv", "--output", "p.csv")
    assert "1 rows contain an entry that begins with =, +, - or @: a spreadsheet runs it as a formula" in result.stderr
    assert [row["id"] for row in read_csv("p.csv")] == ["=cmd()", "-7", "h002"]


@pytest.mark.parametrize("option", ["--temperature", "--length", "--seed"])
def test_options_of_language_models_are_refused_for_others(run, rng, option):
    write("new.csv", rows(rng, 2))
    result = call("predict", run, "new.csv", option, 1)
    assert result.exit_code == 2
    assert re.fullmatch(rf"error: {option} applies to language models, .* predicts 2 classes; .*\n", result.stderr)


def test_a_text_classifier_takes_texts(tmp_path, monkeypatch):
    """A file of lines and a text alone give the same; a text that looks like a path is one."""
    monkeypatch.chdir(tmp_path)
    spec = DatasetSpec("t", (6,), Targets("classes", 2, ("no", "yes")), 9, tokens=True, vocabulary=bytes(range(256)))
    net = fnet.serial(fnet.embedding(256, 3), fnet.flatten(), fnet.dense(2))
    params, state = net.init(jax.random.key(1), spec.shape)
    save_model(tmp_path / "model.safetensors", net, params, state, spec=spec, loss={"name": "cross_entropy"})
    Path("t.txt").write_text("a b\n\nlonger é\n")
    x = np.array([[*b"a b\0\0\0"], [0] * 6, [*b"longer"]], np.int32)
    expected = jax.nn.softmax(net.apply(params, state, x, train=False)[0])[:, 1]
    by_line = parse_json(output_of("predict", ".", "t.txt", "--json"))["predictions"]
    assert [row["probabilities"]["yes"] for row in by_line] == pytest.approx(expected.tolist(), rel=1e-5)
    (alone,) = parse_json(output_of("predict", ".", "longer text", "--json"))["predictions"]
    assert alone["probabilities"] == pytest.approx(by_line[2]["probabilities"])
    result = call("predict", ".", "gone.txt")
    assert result.exit_code == 2
    assert "'gone.txt' does not exist" in result.stderr


def test_arrays_and_folders_of_images_are_scored(tmp_path, monkeypatch, rng):
    """A folder may lack classes, and its classes are found by name; an array has the labels of training."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for kind, level in (("cat", 40), ("dog", 120), ("fox", 220)):
        Path("photos", kind).mkdir(parents=True)
        for k in range(5):
            pixels = np.clip(rng.normal(level, 9, (4, 5)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(f"photos/{kind}/{k}.png")
    Path("i.yaml").write_text("data: {path: photos}\nmodel: [flatten, {dense: 3}]\ntrain: {epochs: 2}\n")
    output_of("train", "i.yaml")
    names = parse_json(output_of("predict", "runs/i-1", "photos", "--json"))["predictions"]
    Path("photos/cat").rename("cat")
    Path("photos/dog").rename("dog")
    expected = np.mean([row["decision"] == "fox" for row in names if row["example"].startswith("fox")])
    result = parse_json(output_of("evaluate", "runs/i-1", "photos", "--json"))
    assert result["examples"] == {"file": 5}
    assert result["scores"]["file"]["accuracy"] == pytest.approx(expected)
    Path("cat").rename("photos/wolf")
    result = call("evaluate", "runs/i-1", "photos")
    assert result.exit_code == 2
    assert re.fullmatch(r"error: .*'wolf'.*\n", result.stderr)
    np.savez("n.npz", x=rng.integers(0, 256, (6, 4, 5), np.uint8), y=np.full(6, 2))
    assert parse_json(output_of("evaluate", "runs/i-1", "n.npz", "--json"))["examples"] == {"file": 6}
