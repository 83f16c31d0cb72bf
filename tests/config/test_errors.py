"""Problems of a config have fields, from which their text is composed."""

import pytest
from pydantic import ValidationError

from fnet.config.errors import Problem, problems_of, unknown_key
from fnet.config.schema import Config
from fnet.config.sections import sections_of, tag_at

DATA = {"source": "sklearn", "name": "digits"}


def problem_of(**sections):
    """Return the only problem of a config with these sections."""
    data = {"data": DATA, "model": ["flatten"], **sections}
    with pytest.raises(ValidationError) as caught:
        Config(**data)
    (problem,) = problems_of(caught.value.errors(), data)
    return problem


def test_an_unknown_key_has_a_suggestion():
    problem = problem_of(train={"epoch": 3})
    assert (problem.path, problem.at_key, problem.suggestion) == (("train", "epoch"), True, "epochs")


def test_an_unknown_name_has_a_suggestion_and_the_existing_names():
    problem = problem_of(optimizer={"name": "adm"})
    assert (problem.path, problem.suggestion) == (("optimizer", "name"), "adam")
    assert "sgd" in problem.known


def test_a_key_of_another_section_has_a_fix():
    assert problem_of(train={"l2": 0.1}).fix == "it belongs under 'regularization'"
    assert problem_of(train={"seed": 1}).fix == "it belongs at the top level"


def test_a_dotted_key_has_a_fix():
    assert unknown_key(("train.epochs",), ["train"], "").fix == "write 'train' and, indented under it, 'epochs'"


def test_a_key_similar_to_one_of_another_section_suggests_its_dotted_key():
    assert unknown_key(("lerning_rate",), ["train"], "").suggestion == "optimizer.learning_rate"


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ({}, ""),
        ({"known": ("a", "b")}, "; known: a, b"),
        ({"known": ("a", "b"), "suggestion": "a"}, "; did you mean 'a'?"),
        ({"known": ("a", "b"), "suggestion": "a", "fix": "remove it"}, "; remove it"),
    ],
)
def test_the_text_ends_with_the_most_specific_help(fields, ending):
    assert Problem(("x",), "unknown key 'x'", **fields).text == f"unknown key 'x'{ending}"


@pytest.mark.parametrize(
    ("section", "data", "key", "value"),
    [
        ("data", {"source": "sklern", "name": "digits"}, "source", "sklearn"),
        ("data", {"source": "synthetic", "name": "spirl"}, "name", "spiral"),
        ("optimizer", {"name": "adm"}, "name", "adam"),
        ("loss", {}, "name", "mse"),
    ],
)
def test_the_tag_of_a_union_and_its_values(section, data, key, value):
    tag = tag_at((section,), {section: data})
    assert tag.key == key
    assert value in tag.values


def test_sections_of_every_key():
    sections = sections_of()
    assert sections["epochs"] == ["train"]
    assert sections["seed"] == [""]
    assert sections["patience"] == ["train.early_stopping"]
