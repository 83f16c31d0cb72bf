"""`fnet gradcheck`: options, HTML page, messages and exit statuses."""

import re

import pytest
from cli.calls import call, output_of, parse_json
from shipped import ELASTIC_NET, XOR

from fnet.reference import activation
from fnet.reference.rule import Rule
from fnet.runs import gradcheck


def checks(*arguments):
    """Return the checks that `fnet gradcheck` reports as JSON."""
    return parse_json(output_of("gradcheck", *arguments, "--json"))["checks"]


@pytest.fixture
def planted(monkeypatch):
    """Plant a sign error in the hand-written derivative of tanh."""
    right = activation.tanh
    monkeypatch.setattr(
        activation, "tanh", Rule(right.forward, lambda *arguments: (-right.backward(*arguments)[0], {}))
    )


def test_one_leaf_and_a_sample():
    (check,) = checks(XOR, "--leaf", "dense_1/w", "--samples", "3")
    rows = [(row["part"], row["name"]) for row in check["rows"]]
    assert rows == [
        *[("total", name) for name in ("outputs", "loss", "dense_1/w")],
        *[("evaluation", name) for name in ("outputs", "loss", "dense_1/w")],
        *[("masked", name) for name in ("loss", "dense_1/w")],
    ]
    assert check["rows"][2]["checked"] == 4
    assert len(check["rows"][2]["worst"]) == 2
    assert all(isinstance(value, float) for value in check["rows"][2]["values"])


def test_an_unknown_leaf_gets_a_suggestion():
    result = call("gradcheck", XOR, "--leaf", "dense_1/v")
    assert result.exit_code == 2
    assert result.stderr == "error: the network does not have a leaf 'dense_1/v'; did you mean 'dense_1/w'?\n"


def test_after_steps_the_loss_differs():
    before, after = checks(XOR, "--after-steps", "5", "--samples", "2")
    assert (before["when"], after["when"]) == ("at initialization", "after 5 steps")
    first, second = (check["rows"][1] for check in (before, after))
    assert first["name"] == second["name"] == "loss"
    assert first["values"] != second["values"]


def test_a_run_is_checked_as_it_was_trained(tmp_path):
    output_of("train", XOR, "train.epochs=2", f"out={tmp_path}")
    (run,) = tmp_path.iterdir()
    (check,) = checks(run, "--samples", "2")
    assert check["when"] == "as trained"
    (start,) = checks(XOR, "--samples", "2")
    assert check["rows"][1]["values"] != start["rows"][1]["values"]


def test_float32_states_its_accuracy():
    (check,) = checks(XOR, "--precision", "float32", "--samples", "2")
    assert (check["precision"], check["tolerance"]) == ("float32", 1e-3)
    assert check["remark"].startswith("float32 has about 7 significant digits")
    assert 1e-9 < max(row["relative"] for row in check["rows"]) < 1e-4


def test_evaluation_mode_and_masks_are_summarized():
    out = output_of("gradcheck", XOR, "--samples", "2")
    assert re.search(r"\nevaluation mode +7 rows +\S+ +ok *\none example masked +6 rows +\S+ +ok *\n", out)


def test_penalties_are_reported_separately():
    out = output_of("gradcheck", ELASTIC_NET, "--samples", "2")
    assert re.search(r"data loss alone\n.*penalty alone\n", out, re.DOTALL)
    (check,) = checks(ELASTIC_NET, "--samples", "2")
    parts = ["total", "data loss", "penalty", "dropout", "evaluation", "masked"]
    assert list(dict.fromkeys(row["part"] for row in check["rows"])) == parts
    assert {row["name"] for row in check["rows"] if row["part"] == "penalty"} == {"loss", "select/w", "decide/w"}


def test_a_mistake_is_reported_with_its_layer_and_values(planted):
    result = call("gradcheck", XOR, "--samples", "2")
    assert result.exit_code == 1
    assert "the mistake is in tanh_1 (tanh), gradient of the input, wrong by hand: sign flipped" in result.stdout
    assert "WRONG by hand: propagated" in result.stdout
    assert re.search(
        r"dense_1/b\[\d\]: by hand (-?[\d.e-]+), by JAX -?[\d.e-]+, by finite differences -?[\d.e-]+; "
        r"cosine -1\.000000, norm ratio 1\n",
        result.stdout,
    )


def test_one_wrong_check_of_several_fails(monkeypatch):
    check = gradcheck.check_gradients

    def one_wrong(*arguments, **settings):
        (right,) = check(*arguments, **settings)
        rows = [right.report.rows[0]._replace(verdict="by hand")]
        return [right, right._replace(report=right.report._replace(rows=rows))]

    monkeypatch.setattr(gradcheck, "check_gradients", one_wrong)
    result = call("gradcheck", XOR, "--samples", "1", "--json")
    assert (result.exit_code, parse_json(result.stdout)["ok"]) == (1, False)


def test_the_page(planted, tmp_path):
    page = tmp_path / "check.html"
    assert call("gradcheck", XOR, "--samples", "2", "--html", page).exit_code == 1
    text = page.read_text()
    assert "<title>xor-mlp: gradient check</title>" in text
    assert text.count("<tr>") == 1 + 7
    assert "The mistake is in tanh_1 (tanh), gradient of the input, wrong by hand" in text
    assert not re.search(r'(src|href)="?http|<script', text)
    assert [path.name for path in tmp_path.iterdir()] == ["check.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothere.yaml"], "nothere.yaml: no such file"),
        ([XOR, "--precision", "float16"], "'float16' is not one of"),
        ([XOR, "--samples", "0"], "greater than or equal to 1"),
        (
            [XOR, "--html", "{tmp}/no/page.html"],
            "the page cannot be written to '.*page.html': No such file or directory",
        ),
        ([XOR, "--html", "{tmp}"], "the page cannot be written to '.*': it is not a regular file"),
        (["{tmp}"], "is not a finished run: it does not contain model.safetensors"),
    ],
)
def test_bad_requests(arguments, message, tmp_path):
    result = call("gradcheck", *(str(argument).replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.stderr.split()))
