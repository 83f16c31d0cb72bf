"""Commands that succeed: their output and the files in the run's folder."""

import re

import jax
import pytest
from cli.calls import RUN_FILES, output_of, parse_json, records, records_without_times, short_overrides, start_process
from shipped import DIGITS, IRIS, SHIPPED, XOR


@SHIPPED
def test_evaluating_a_run_gives_the_logged_scores(config, tmp_path):
    out = output_of("train", config, "train.epochs=2", f"out={tmp_path}", *short_overrides(config))
    run = tmp_path / f"{config.stem}-1"
    assert f"the run is in {run}" in out
    assert {path.name for path in run.iterdir()} == RUN_FILES

    *epochs, end = records(run)
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert (end["event"], end["stopped"]) == ("end", "done")
    kept = epochs[end["kept_epoch"] - 1]
    assert end["validation_loss"] == pytest.approx(kept["validation_loss"], rel=1e-6)

    result = parse_json(output_of("evaluate", run, "--json"))
    assert set(result["examples"]) == set(result["scores"]) == {"train", "validation", "test"}
    scores = {f"{part}_{name}": value for part, values in result["scores"].items() for name, value in values.items()}
    assert scores == {key: end[key] for key in scores}
    assert result["comparison"] == end["comparison"]
    for baseline in end["comparison"]["baselines"].values():
        assert set(baseline) >= set(result["scores"]["test"])


@SHIPPED
def test_gradients_of_every_shipped_config_agree(config):
    output = parse_json(
        output_of("gradcheck", config, "--json", "--samples", "1", "--examples", "4", *short_overrides(config))
    )
    assert output["ok"] is True
    (report,) = output["checks"]
    rows = [row for row in report["rows"] if row["part"] == "total"]
    names = [row["name"] for row in rows]
    assert names[:2] == ["outputs", "loss"]
    assert names[2:]
    assert all("/" in name or name == "input" for name in names[2:])
    assert all(row["ok"] for row in report["rows"])
    compared = [row for row in report["rows"] if row["part"] in ("total", "data loss", "penalty")]
    assert all(row["checked"] + row["kinks"] for row in compared if row["name"] not in ("outputs", "loss"))


@SHIPPED
def test_every_shipped_config_is_valid_and_resolves_to_a_valid_one(config, tmp_path):
    assert re.fullmatch(
        r".*: ok; training needs at least [\d.]+ .?(B|bytes) of memory\n", output_of("validate", config)
    )
    resolved = tmp_path / config.name
    resolved.write_text(output_of("validate", config, "--resolved"))
    assert output_of("validate", resolved, "--resolved") == resolved.read_text()


@SHIPPED
def test_every_shipped_config_has_a_summary(config):
    total, *layers = parse_json(output_of("summary", config, "--json"))
    assert layers
    assert total["path"] == []
    assert total["parameters"] == sum(layer["parameters"] for layer in layers if len(layer["path"]) == 1)
    text = output_of("summary", config)
    assert f"{total['parameters']:,}" in text
    assert re.search(r"\ntraining needs at least .* of memory \(parameters .*, gradients ", text)


def test_the_summary_counts_the_parameters_of_every_layer():
    """digits-mlp has 64 pixels, 64 hidden units and 10 outputs."""
    total, *layers = parse_json(output_of("summary", DIGITS, "--json"))
    assert [layer["parameters"] for layer in layers] == [0, 64 * 64 + 64, 0, 64 * 10 + 10]
    assert [layer["out_shape"] for layer in layers] == [[64], [64], [64], [10]]
    assert total["parameters"] == 4810


def test_gradcheck_prints_a_table_and_a_verdict():
    out = output_of("gradcheck", XOR)
    assert "xor-mlp: binary_cross_entropy of 64 examples, at initialization" in out
    assert "all values and gradients agree" in out
    assert "dense_2/w" in out


def test_evaluate_shows_which_classes_are_confused(tmp_path):
    output_of("train", IRIS, "train.epochs=2", f"out={tmp_path}")
    out = output_of("evaluate", tmp_path / "iris-logistic-1")
    assert re.search(r"test +│ +15 ", out)
    assert "on the test part:" in out
    assert "true class by row" in out
    assert all(name in out for name in ("setosa", "versicolor", "virginica"))


def test_validate_reads_no_data(monkeypatch):
    monkeypatch.setattr("fnet.data.sklearn.SklearnSource.read", lambda *_: pytest.fail("data was read"))
    output_of("validate", DIGITS)


def test_the_schema_is_json():
    assert parse_json(output_of("schema"))["title"] == "fnet config"


def test_explain_prints_type_default_and_meaning():
    out = output_of("explain", "dense.units")
    assert all(word in out for word in ("dense.units", "whole number, at least 1", "required", "number of outputs"))
    assert "optimizer" in output_of("explain")


def test_overrides_reach_the_run(tmp_path):
    output_of("train", IRIS, "train.epochs=1", "optimizer.learning_rate=1e-2", "name=mine", f"out={tmp_path}")
    text = (tmp_path / "mine-1" / "config.yaml").read_text()
    assert "learning_rate: 0.01\n" in text
    assert "epochs: 1\n" in text


def test_the_number_of_a_run_is_one_more_than_the_largest(tmp_path):
    for taken in ("iris-logistic-7", "iris-logistic-2", "iris-logistic-x", "iris-logistic-mlp-9"):
        (tmp_path / taken).mkdir()
    output_of("train", IRIS, "train.epochs=1", f"out={tmp_path}")
    output_of("train", IRIS, "train.epochs=1", f"out={tmp_path}")
    assert {"iris-logistic-8", "iris-logistic-9"} == {run.parent.name for run in tmp_path.glob("*/model.safetensors")}


def test_the_environment_of_a_run_is_recorded(tmp_path):
    output_of("train", IRIS, "train.epochs=1", "seed=5", f"out={tmp_path}")
    environment = parse_json((tmp_path / "iris-logistic-1" / "environment.json").read_text())
    assert environment["seed"] == 5
    assert environment["versions"]["jax"] == jax.__version__
    assert environment["devices"]
    assert re.fullmatch(r"[0-9a-f]{64}", environment["data"])


def test_steps_are_logged_every_log_every_steps(tmp_path):
    output_of("train", XOR, "train.epochs=2", "train.batch_size=50", "train.log_every=3", f"out={tmp_path}")
    steps = [record["step"] for record in records(tmp_path / "xor-mlp-1") if record["event"] == "step"]
    assert steps == [3, 6, 9, 12, 15]


def test_early_stopping_names_the_best_epoch(tmp_path):
    arguments = ("train.epochs=200", "train.early_stopping.patience=1", "optimizer.learning_rate=5")
    out = output_of("train", IRIS, *arguments, f"out={tmp_path}")
    end = records(tmp_path / "iris-logistic-1")[-1]
    assert end["stopped"] == "early"
    assert re.search(
        rf"stopped early after {end['kept_epoch'] + 1} of 200 epochs; the parameters are of epoch {end['kept_epoch']}",
        out,
    )


# Repeated runs


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """Return the runs of three processes: two with the same config, and one with the resolved config of the first."""
    out = tmp_path_factory.mktemp("repeated")
    runs = [out / f"xor-mlp-{number}" for number in (1, 2, 3)]
    overrides = ["train.epochs=3", "train.log_every=1", "seed=3", f"out={out}"]
    for arguments in ([XOR, *overrides], [XOR, *overrides], [runs[0] / "config.yaml"]):
        train = start_process("train", *arguments)
        _, errors = train.communicate(timeout=120)
        assert train.returncode == 0, errors
    return runs


def test_two_processes_with_the_same_config_give_bitwise_equal_losses(repeated):
    first, second, _ = repeated
    assert len(records_without_times(first)) == 3 * 13 + 3 + 1
    assert records_without_times(second) == records_without_times(first)
    assert (second / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()


def test_the_resolved_config_of_a_run_gives_the_same_losses(repeated):
    first, _, third = repeated
    assert records_without_times(third) == records_without_times(first)
    assert (third / "config.yaml").read_text() == (first / "config.yaml").read_text()


def test_another_seed_gives_other_losses(tmp_path):
    for seed in (3, 4):
        output_of("train", XOR, "train.epochs=1", f"seed={seed}", f"out={tmp_path}")
    assert records_without_times(tmp_path / "xor-mlp-1") != records_without_times(tmp_path / "xor-mlp-2")
