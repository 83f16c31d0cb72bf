"""What the user writes in `data.split` is all there is; rules by a column; sizes that are known before training."""

import re
import warnings

import numpy as np
import pytest

from fnet.config.errors import ConfigError
from fnet.data.source import DataWarning
from fnet.runs.data import load_data
from fnet.runs.evaluation import evaluate

LAYERS = "\nmodel: [flatten, {dense: classes}]\ntrain: {epochs: 2, batch_size: 8}\n"
IRIS = "data: {name: iris, split: SPLIT}" + LAYERS
TABLE = "data: {path: t.npz, split: SPLIT}" + LAYERS


@pytest.fixture
def patients(tmp_path):
    """Write t.npz: 60 examples of 13 patients, with a date each, four examples per date."""
    rng = np.random.default_rng(8)
    patient = np.sort(rng.integers(0, 13, 60))
    arrays = {"x": rng.standard_normal((60, 3)), "y": patient % 2, "patient": patient.astype(str)}
    date = np.array("2024-01-01", "datetime64[D]") + rng.permutation(60) // 4
    np.savez(tmp_path / "t.npz", **arrays, date=date.astype(str), target=rng.standard_normal(60))
    return {**arrays, "date": date}


def sizes(experiment):
    splits, _ = load_data(experiment)
    assert experiment.sizes == tuple(part.size for part in splits[:3])
    return list(experiment.sizes)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("{train: 0.5, validation: 0.5}", [75, 75, 0]),
        ("{train: 1.0}", [150, 0, 0]),
        ("{validation: 0.2, test: 0.2}", [90, 30, 30]),
        ("{test: 0.2}", [120, 0, 30]),
        ("{validation: 0.1}", [135, 15, 0]),
        ("{validation: 0}", [150, 0, 0]),
        ("{stratify: false}", [120, 15, 15]),
        ("null", [120, 15, 15]),
        ("{cross_validation: 4, fold: 2}", [113, 37, 0]),
        ("{cross_validation: 4, test: 0.2, fold: 4}", [90, 30, 30]),
        ("{cross_validation: 150}", [149, 1, 0]),
    ],
)
def test_an_omitted_part_is_empty(load_text, split, expected):
    """No example is unused, so there is no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sizes(load_text(IRIS.replace("SPLIT", split))) == expected


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("{train: 0.6, test: 0.2}", "data.split: 30 of 150 examples (20 %) are in no part"),
        ("{train: 0.5}", "data.split: 75 of 150 examples (50 %) are in no part"),
        ("{train: 0.99, test: 0}", "data.split: 2 of 150 examples (1.3 %) are in no part"),
    ],
)
def test_unused_examples_are_reported(load_text, split, message):
    with pytest.warns(DataWarning, match=f"^{re.escape(message)}$"):
        load_text(IRIS.replace("SPLIT", split))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("{validation: 0.5, test: 0.5}", "expected a rest for training, got 0.5 (validation) + 0.5 (test) = 1; make"),
        ("{fold: 2}", "expected cross_validation beside fold; add it, or remove fold"),
        ("{cross_validation: 3, fold: 4}", "expected a fold from 1 to 3, got 4; make it smaller"),
        ("{cross_validation: 1}", "data.split.cross_validation: expected a value of at least 2, got 1"),
        ("{cross_validation: 3, train: 0.5, validation: 0.1}", "expected no train and validation beside cross_valid"),
        (
            "{cross_validation: 151}",
            "data.split.cross_validation: expected at most 150 folds, one per example",
        ),
        ("{by: a, group: b}", "expected either by or group, got both; remove one of them"),
        ("{by: a, cross_validation: 3}", "expected either by or cross_validation, got both; remove one of them"),
        ("{by: a, stratify: true}", "expected either by or stratify, got both; remove one of them"),
        ("{group: patient}", "expected a table with a column 'patient', got data without columns"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(load_text, split, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_text(IRIS.replace("SPLIT", split))
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].startswith("c.yaml:1:")


def test_a_part_by_name_leaves_the_other_fractions(load_text, patients):
    np.savez("t.npz", x=np.ones((20, 3)), y=np.arange(20) % 2, x_val=np.ones((10, 3)), y_val=np.arange(10) % 2)
    assert sizes(load_text(TABLE.replace("SPLIT", "{validation: val, test: 0.1}"))) == [18, 10, 2]
    assert sizes(load_text(TABLE.replace("SPLIT", "{cross_validation: 3, test: val}"))) == [13, 7, 10]


def test_the_resolved_split_is_what_was_written(load_text):
    def written(split):
        text = load_text(IRIS.replace("SPLIT", split)).config_text(None)
        return re.findall(r"^    (\w+: .*)$", text.partition("  split:\n")[2].partition("  normalize")[0], re.MULTILINE)

    assert written("null") == ["train: 0.8", "validation: 0.1", "test: 0.1"]
    assert written("{validation: 0.2, test: 0.2}") == ["train: 0.6", "validation: 0.2", "test: 0.2"]
    assert written("{cross_validation: 5, stratify: false}") == ["test: 0.0", "stratify: false", "cross_validation: 5"]


def test_each_fold_has_a_config_of_its_own(load_text, config_file):
    experiment = load_text(IRIS.replace("SPLIT", "{cross_validation: 3, test: 0.2}"))
    assert experiment.is_cross_validation
    for number, config_text in enumerate(experiment.fold_configs, start=1):
        fold = load_text(config_text(None))
        assert (fold.data.rules.folds, fold.data.rules.fold) == (3, number)
        assert not fold.is_cross_validation
        assert fold.config_text(None) == config_text(None)
    assert len(experiment.fold_configs) == 3


@pytest.mark.parametrize(
    "more", ["", ", order: content", ", stream: true", ", order: content, stream: true, normalize: standard"]
)
@pytest.mark.parametrize("rules", ["group: patient, test: 0.2", "group: patient, cross_validation: 3, fold: 2"])
def test_groups_stay_together_in_a_run(load_text, patients, rules, more):
    """The patient of an example is found by the example itself, which normalization may have changed."""
    experiment = load_text(TABLE.replace("SPLIT}", f"{{{rules}}}{more}}}"))
    splits, _ = load_data(experiment)
    assert experiment.sizes == tuple(part.size for part in splits[:3])
    normalizer, stored = splits.normalizer, patients["x"].astype(np.float32)
    seen = []
    for part in splits.parts().values():
        x = np.asarray(part.x[:]) * normalizer.scale + normalizer.offset
        rows = np.abs(x[:, None] - stored).sum(axis=2).argmin(axis=1)
        assert len(set(rows)) == part.size
        seen.append(set(patients["patient"][rows]))
    assert sum(map(len, seen)) == len(set().union(*seen)) == 13


def test_the_number_of_steps_is_known_before_training(load_text, patients):
    for split in ("{group: patient, validation: 0.3}", "{by: date, train: 0.8, test: 0.2}"):
        for seed in range(3):
            experiment = load_text(TABLE.replace("SPLIT", split), f"seed={seed}")
            splits, _ = load_data(experiment)
            assert experiment.plan().steps == 2 * -(-splits.train.size // 8)


def test_a_split_by_date(load_text, patients):
    splits, _ = load_data(load_text(TABLE.replace("SPLIT}", "{by: date, train: 0.8, test: 0.2}, normalize: none}")))
    dates = [
        patients["date"][[np.flatnonzero((patients["x"].astype(np.float32) == row).all(axis=1))[0] for row in part.x]]
        for part in (splits.train, splits.test)
    ]
    assert dates[0].max() < dates[1].min()
    assert [len(part) for part in dates] == [48, 12]


def test_shares_that_whole_groups_do_not_permit_are_reported(load_text, patients):
    np.savez("t.npz", x=np.ones((10, 2)), y=np.arange(10) % 2, patient=[0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    message = "equal values of 'patient' stay together, which gives train 40% (not 80%), validation 30% (not 10%), test"
    with pytest.warns(DataWarning, match=re.escape(message)):
        experiment = load_text(TABLE.replace("SPLIT", "{group: patient}"))
    assert experiment.sizes == (4, 3, 3)


def test_a_column_that_does_not_exist_is_named(load_text, patients):
    with pytest.raises(ConfigError, match=r"^c\.yaml:1:\d+: data: .*t\.npz does not contain an array 'patiant"):
        load_text(TABLE.replace("SPLIT", "{group: patiant}"))


@pytest.mark.parametrize("split", ["{train: 1.0}", "{train: 0.5, validation: 0.5}", "{test: 0.4}"])
def test_a_run_without_some_parts_is_evaluated(load_text, split):
    import jax

    experiment = load_text(IRIS.replace("SPLIT", split))
    params, state = experiment.net.init(jax.random.key(0), (4,))
    result = evaluate(experiment, params, state)
    parts = ["train", *(part for part in ("validation", "test") if part in split)]
    assert list(result.scores) == list(result.sizes) == parts
    assert result.part == parts[-1]


def test_values_are_stratified_if_asked(load_text, patients):
    rng = np.random.default_rng(0)
    np.savez("t.npz", x=rng.standard_normal((50, 2)), y=rng.exponential(size=50))
    text = "data: {path: t.npz, split: {test: 0.2, stratify: STRATIFY}}\nmodel: [{dense: 1}]\n"
    splits, _ = load_data(load_text(text.replace("STRATIFY", "true")))
    tenths = np.sort(splits.test.y[:, 0])
    together = np.sort(np.concatenate([splits.train.y, splits.test.y])[:, 0])
    assert (np.searchsorted(together, tenths) // 5).tolist() == list(range(10))
    splits, _ = load_data(load_text(text.replace("STRATIFY", "false")))
    assert (np.searchsorted(together, np.sort(splits.test.y[:, 0])) // 5).tolist() != list(range(10))


def test_fractions_that_mix_the_splits_of_files_are_worth_a_warning(load_text):
    np.savez("t.npz", x=np.ones((20, 3)), y=np.arange(20) % 2, x_test=np.ones((10, 3)), y_test=np.arange(10) % 2)
    with pytest.warns(
        DataWarning, match=r"mix the examples of train and test, .*name them: \{train: train, test: test"
    ):
        load_text(TABLE.replace("SPLIT", "{train: 0.8, test: 0.2}"))
    load_text(TABLE.replace("SPLIT", "{train: train, test: test}"))
    load_text(TABLE.replace("SPLIT", "{train: 0.9, validation: 0.1, test: test}"))
