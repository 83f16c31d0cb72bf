"""Predictions of a run for new examples, and its continuation of a text; `fnet predict`."""

import json

import jax
import numpy as np
import pytest
from cli.calls import call, output_of
from safetensors.numpy import save_file
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

import fnet
from fnet.config.load import load
from fnet.data.source import Column, DataError, DatasetSpec, Targets
from fnet.runs.folder import FolderError
from fnet.runs.model_file import load_model, save_model
from fnet.runs.predict import Prediction, Predictions, continue_text, load_trained
from fnet.runs.predict import predict as predict_portions
from fnet.runs.prediction_file import save_predictions
from fnet.runs.run import run
from fnet.train.generation import GenerationError


def predict(network, source):
    """Return the predictions for all examples."""
    size, _, portions = predict_portions(network, source)
    predictions = [prediction for portion in portions for prediction in portion]
    assert len(predictions) == size
    return predictions


def test_values_far_from_zero_keep_their_digits_in_a_table(tmp_path):
    prediction = Prediction("0", {"y": 1e9 + 0.125}, {})
    save_predictions(str(tmp_path / "p.csv"), Predictions(1, ("y",), iter([[prediction]])), "x.csv")
    assert (tmp_path / "p.csv").read_text() == "example,y\n0,1000000000.12\n"


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Return a function that trains a config once and returns the run's folder."""
    folder = tmp_path_factory.mktemp("runs")
    folders = {}

    def of(text):
        if text not in folders:
            config = folder / "c.yaml"
            config.write_text(text + f"\ntrain: {{epochs: 2}}\nout: {folder}\n")
            experiment = load(str(config))
            folders[text] = run(experiment).folder
        return folders[text]

    return of


def test_classes_are_those_of_the_network_on_normalized_examples(train, tmp_path):
    """Predictions are compared with those on scikit-learn's arrays, standardized by hand with the stored statistics."""
    folder = train("data: iris\nmodel: [{dense: 8}, tanh, {dense: 3}]")
    iris = load_iris()
    np.save(tmp_path / "x.npy", iris.data[::10])
    predictions = predict(load_trained(folder), str(tmp_path / "x.npy"))
    net, params, state = fnet.load(folder)
    model = load_model(folder)
    x = (iris.data[::10].astype(np.float32) - model.normalizer.offset) / model.normalizer.scale
    z, _ = net.apply(params, state, x.astype(np.float32), train=False)
    p = np.asarray(jax.nn.softmax(z))
    assert [row.decision for row in predictions] == [iris.target_names[k] for k in p.argmax(axis=1)]
    for row, expected in zip(predictions, p, strict=True):
        np.testing.assert_allclose([row.probabilities[name] for name in iris.target_names], expected, rtol=1e-5)
        assert list(row.probabilities.values()) == sorted(row.probabilities.values(), reverse=True)


def test_one_output_for_two_classes_has_the_probability_of_the_second(train, tmp_path):
    loss = "loss: binary_cross_entropy\noptimizer: {name: adam, learning_rate: 0.1}"
    folder = train(f"data: breast_cancer\nmodel: [{{dense: 1}}]\n{loss}")
    cancer = load_breast_cancer()
    np.save(tmp_path / "x.npy", cancer.data)
    predictions = predict(load_trained(folder), str(tmp_path / "x.npy"))
    assert [row.probabilities["benign"] >= 0.5 for row in predictions] == [
        row.decision == "benign" for row in predictions
    ]
    right = np.mean(
        [row.decision == cancer.target_names[label] for row, label in zip(predictions, cancer.target, strict=True)]
    )
    assert right > 0.8
    for row in predictions:
        assert sum(row.probabilities.values()) == pytest.approx(1)


def test_values_have_their_names_and_no_probabilities(train, tmp_path):
    folder = train("data: diabetes\nmodel: [{dense: 1}]")
    np.save(tmp_path / "x.npy", load_diabetes().data[:2])
    first, second = predict(load_trained(folder), str(tmp_path / "x.npy"))
    assert set(first.decision) == {"disease progression"}
    assert first.decision != second.decision
    assert first.probabilities == {}


TEXT = "data: {name: sentences, samples: 40, block: 8}\nmodel: [{one_hot: 27}, {gru: 8}, {dense: 27}]"


def test_a_text_continues_as_the_network_generates_it(train):
    folder = train(TEXT)
    network = load_trained(folder)
    vocabulary = network.spec.vocabulary
    text = "".join(continue_text(network, "the dog", length=12, temperature=0.7, seed=3))
    net, params, state = fnet.load(folder)
    prompt = [vocabulary.index(character) for character in "the dog"]
    tokens = fnet.generate(net, params, state, prompt, window=8, temperature=0.7, seed=3)
    assert text == "".join(vocabulary[next(tokens)] for _ in range(12))


def test_generated_bytes_are_decoded_as_text(train, tmp_path):
    (tmp_path / "t.txt").write_text("äöü" * 60)
    model = "model: [{one_hot: 256}, {dense: 256}]"
    folder = train(f"data: {{path: {tmp_path / 't.txt'}, tokens: bytes, block: 4}}\n{model}")
    text = "".join(continue_text(load_trained(folder), "é", length=40, temperature=5.0, seed=0))
    assert "\N{REPLACEMENT CHARACTER}" in text  # most random bytes are not UTF-8, and none of them is lost


def test_a_character_outside_the_training_text_is_named(train):
    with pytest.raises(
        DataError, match=r"the prompt contains 'D', 'ö', which the training text does not contain; .* known:  .abc"
    ):
        continue_text(load_trained(train(TEXT)), "the Dög", length=1, temperature=1.0, seed=0)


def test_prediction_does_not_need_the_training_data(train, tmp_path):
    path = tmp_path / "gone.csv"
    path.write_text("a,b,kind\n" + "1,red,x\n2,blue,y\n1,blue,y\n2,red,x\n3,red,y\n" * 4)
    folder = train(f"data: {{path: {path}, target: kind}}\nmodel: [{{dense: 2}}]")
    path.rename(tmp_path / "new.csv")
    assert [row.example for row in predict(load_trained(folder), str(tmp_path / "new.csv"))] == list(
        map(str, range(20))
    )


def test_a_model_that_training_did_not_save_is_refused(tmp_path):
    save_model(tmp_path / "model.safetensors", fnet.serial(fnet.dense(1)), {"dense_1": {"w": np.ones((2, 1))}}, {})
    with pytest.raises(FolderError, match="does not describe its network, data and loss; train it with `fnet train`"):
        load_trained(tmp_path)


def test_a_file_of_another_program_is_not_taken_for_a_model(tmp_path):
    save_file({"w": np.ones(3)}, tmp_path / "model.safetensors")
    with pytest.raises(FolderError, match=r"model\.safetensors: it was not written by fnet, or by an older version"):
        load_trained(tmp_path)


def test_the_command_prints_text_and_json(train):
    folder = train(TEXT)
    out = output_of("predict", folder, "the dog", "--length", "9", "--temperature", "0")
    assert out.startswith("the dog")
    printed = output_of("predict", folder, "the dog", "--length", "9", "--temperature", "0", "--json")
    assert json.loads(printed) == {"prompt": "the dog", "continuation": out.removeprefix("the dog")[:-1]}
    assert len(json.loads(printed)["continuation"]) == 9


def test_generated_text_is_printed_without_control_characters(train, tmp_path):
    (tmp_path / "t.txt").write_text("a\x1b\u202e\x9b\tb\n" * 60)
    folder = train(f"data: {{path: {tmp_path / 't.txt'}, block: 4}}\nmodel: [{{one_hot: 7}}, {{dense: 7}}]")
    arguments = ("predict", folder, "a\x1b", "--length", "60")
    text = json.loads(output_of(*arguments, "--json"))["continuation"]
    assert set("\x1b\u202e\x9b\t") < set(text)
    for character in "\x1b\u202e\x9b":
        text = text.replace(character, character.encode("unicode_escape").decode())
    assert output_of(*arguments) == rf"a\x1b{text}" + "\n"


def test_the_command_prints_predictions_as_a_table_and_as_json(train, tmp_path):
    folder = train("data: iris\nmodel: [{dense: 8}, tanh, {dense: 3}]")
    np.save(tmp_path / "x.npy", np.tile(load_iris().data[:1], (60, 1)))
    out = output_of("predict", folder, tmp_path / "x.npy")
    assert "the first 50 of 60; --json prints all" in out
    printed = output_of("predict", folder, tmp_path / "x.npy", "--json")
    predictions = json.loads(printed)["predictions"]
    assert len(predictions) == 60
    assert set(predictions[0]) == {"example", "decision", "probabilities", "identifiers"}


def test_a_bad_request_exits_2(train):
    result = call("predict", train(TEXT), "")
    assert (result.exit_code, result.stderr) == (2, "error: the prompt is empty; it needs at least one token\n")
    result = call("predict", "nowhere", "x")
    assert result.exit_code == 2
    assert "nowhere is not a finished run: there is no such folder" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["the", "--temperature", "inf"], "temperature: expected a finite number of at least 0, got inf"),
        (["the", "--seed", 2**64], "seed: expected a whole number of at most 64 bits, got 18446744073709551616"),
        (["a\udcff"], r"the prompt contains '\udcff', which the training text does not contain"),
    ],
)
def test_a_bad_setting_of_generation_is_one_line(train, arguments, message):
    result = call("predict", train(TEXT), *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_the_length_of_a_text_is_unlimited_but_positive(train):
    network = load_trained(train(TEXT))
    text = continue_text(network, "the", length=10**30, temperature=1.0, seed=0)
    assert len([next(text) for _ in range(3)]) == 3
    for length in (0, -1):
        with pytest.raises(GenerationError, match=f"length: expected a whole number of at least 1, got {length}"):
            continue_text(network, "the", length=length, temperature=1.0, seed=0)


def test_a_prompt_that_is_not_utf_8_is_refused(train, tmp_path):
    (tmp_path / "t.txt").write_text("äöü" * 60)
    model = "model: [{one_hot: 256}, {dense: 256}]"
    folder = train(f"data: {{path: {tmp_path / 't.txt'}, tokens: bytes, block: 4}}\n{model}")
    result = call("predict", folder, "\udcff")
    assert result.exit_code == 2
    assert result.stderr == "error: the prompt: expected UTF-8 text, got bytes that are not UTF-8\n"


def test_an_empty_input_is_not_the_working_folder(train, tmp_path, monkeypatch):
    folder = train("data: iris\nmodel: [{dense: 8}, tanh, {dense: 3}]")
    monkeypatch.chdir(tmp_path)
    result = call("predict", folder, "")
    assert (result.exit_code, result.stderr) == (2, "error: expected the path of the examples, got empty text\n")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"name": "mine"}, "loss.name: expected mse, .* kl_divergence, got 'mine'"),
        (
            {"name": "cross_entropy", "label_smoothing": 2.0},
            "loss.label_smoothing: expected a value less than 1, got 2",
        ),
        (
            {"name": "huber", "delta": 1.0},
            "loss.name: expected a loss for 2 classes at each of 2 positions, got 'huber'",
        ),
    ],
)
def test_a_loss_that_does_not_predict_the_targets_is_refused(tmp_path, loss, message):
    spec = DatasetSpec("x", (2, 3), Targets("classes", 2, (), (2,)), 5)
    net = fnet.serial(fnet.dense(2))
    params, state = net.init(jax.random.key(0), spec.shape)
    save_model(tmp_path / "model.safetensors", net, params, state, spec=spec, loss=loss)
    with pytest.raises(FolderError, match=message):
        load_trained(tmp_path)


def saved(folder, net, spec, loss="cross_entropy"):
    """Return the folder of a model with random parameters, loaded."""
    params, state = net.init(jax.random.key(0), spec.shape)
    save_model(folder / "model.safetensors", net, params, state, spec=spec, loss={"name": loss})
    return load_trained(folder)


def test_a_classification_loss_does_not_predict_values(tmp_path):
    with pytest.raises(FolderError, match=r"loss\.name: expected a loss for 2 values, got 'cross_entropy', for "):
        saved(tmp_path, fnet.dense(2), DatasetSpec("x", (3,), Targets("values", 2), 5))


def test_classes_of_one_name_keep_their_probabilities(tmp_path):
    network = saved(
        tmp_path, fnet.dense(3), DatasetSpec("x", (2,), Targets("classes", 3, ("crane", "cat", "crane")), 5)
    )
    np.save(tmp_path / "x.npy", np.array([[0.5, -1.0]]))
    (prediction,) = predict(network, str(tmp_path / "x.npy"))
    assert set(prediction.probabilities) == {"crane (0)", "cat", "crane (2)"}
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_a_column_is_used_once(tmp_path):
    columns = (Column("a"), Column("b"), Column("a"))
    with pytest.raises(FolderError, match=r"spec\.columns: expected each column once, got 'a' 2 times"):
        saved(tmp_path, fnet.dense(2), DatasetSpec("x", (3,), Targets("classes", 2), 5, columns=columns))


def test_outputs_beyond_the_memory_are_refused(tmp_path):
    """A model without parameters can have any number of outputs."""
    size = 2**31 - 1
    net = fnet.serial(fnet.one_hot(size), fnet.flatten())
    network = saved(tmp_path, net, DatasetSpec("x", (20,), Targets("classes", 20 * size), 5, tokens=True))
    np.save(tmp_path / "x.npy", np.zeros((9, 20), np.int32))
    with pytest.raises(DataError, match=r"the prediction of 42,949,672,940 outputs needs 2\.7 TB of memory, but "):
        predict(network, str(tmp_path / "x.npy"))


def test_a_network_that_cannot_be_applied_is_one_line(tmp_path):
    """It takes indices, but the data are real numbers."""
    network = saved(
        tmp_path, fnet.serial(fnet.one_hot(2), fnet.flatten()), DatasetSpec("x", (1,), Targets("classes", 2), 5)
    )
    np.save(tmp_path / "x.npy", np.zeros((3, 1)))
    with pytest.raises(FolderError, match=r"the network cannot be applied to examples \(1,\): "):
        predict(network, str(tmp_path / "x.npy"))
