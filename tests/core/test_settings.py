"""Settings derived from signatures: models, checks, and the messages for invalid values."""

from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Interval
from pydantic import ValidationError

from fnet.core.settings import (
    Strict,
    check_settings,
    explanations,
    first_parameter,
    model_of,
    named_parameters,
    shown_signature,
)
from fnet.core.wording import errors_in_words, format_value, printable, suggestion


def brew(
    cups: Annotated[int, Ge(1)],
    strength: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
    *grinds: str,
    kind: Literal["black", "green"] = "black",
    sugar: Annotated[float, Gt(0)] | Literal["none"] = "none",
    minutes: tuple[int, ...] | None = None,
    hot: bool = True,
    label: str = "tea",
    **rest: int,
):
    """Makes tea.

    Args:
        cups: how many cups,
            each of the same size.
        strength: from weak to strong: a fraction.
        kind: of leaves.

    Raises:
        ValueError: when the pot is empty.
    """
    return cups, strength, grinds, kind, sugar, minutes, hot, label, rest


# model_of


def test_the_model_has_a_field_for_every_parameter_that_can_be_named():
    fields = model_of(brew).model_fields
    assert list(fields) == ["cups", "strength", "kind", "sugar", "minutes", "hot", "label"]
    assert [name for name, field in fields.items() if field.is_required()] == ["cups"]
    assert fields["strength"].default == 0.5
    assert fields["cups"].description == "how many cups, each of the same size."
    assert fields["strength"].description == "from weak to strong: a fraction."


def test_a_tag_is_the_only_value_of_the_field_name():
    tagged = model_of(brew, "tea")
    assert tagged.model_fields["name"].description == "Makes tea."
    assert tagged(name="tea", cups=1).name == "tea"
    with pytest.raises(ValidationError, match="Input should be 'tea'"):
        tagged(name="coffee", cups=1)


def test_a_skipped_parameter_cannot_be_set():
    model = model_of(brew, None, ("cups", "hot"))
    assert model().strength == 0.5
    with pytest.raises(ValidationError, match="hot"):
        model(hot=False)


def test_a_base_adds_its_fields():
    class Pot(Strict, frozen=True):
        size: int = 3

    model = model_of(brew, None, ("cups",), Pot)
    assert issubclass(model, Pot)
    assert model(size=4, strength=0.1).model_dump(include={"size", "strength"}) == {"size": 4, "strength": 0.1}


def test_the_model_of_a_function_is_made_once():
    assert model_of(brew) is model_of(brew)


def test_a_model_is_immutable():
    with pytest.raises(ValidationError, match="frozen"):
        model_of(brew)(cups=1).cups = 2


def test_the_json_schema_has_bounds_choices_and_meanings():
    schema = model_of(brew).model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["cups"]
    properties = schema["properties"]
    assert (properties["cups"]["type"], properties["cups"]["minimum"]) == ("integer", 1)
    assert (properties["strength"]["minimum"], properties["strength"]["exclusiveMaximum"]) == (0, 1)
    assert properties["kind"]["enum"] == ["black", "green"]
    assert properties["kind"]["description"] == "of leaves."


@pytest.mark.parametrize(
    ("function", "first"), [(brew, "cups"), (lambda *, a: a, None), (lambda *a: a, None), (lambda a, *, b: a, "a")]
)
def test_the_first_parameter_is_the_one_that_may_stand_alone(function, first):
    assert first_parameter(function) == first


def test_variadic_parameters_are_not_named_parameters():
    assert not {"grinds", "rest"} & set(named_parameters(brew))


def test_explanations_are_read_only_from_the_args_section():
    assert set(explanations(brew)) == {"cups", "strength", "kind"}


def test_a_function_without_a_docstring_has_no_explanations():
    assert explanations(lambda a: a) == {}


# check_settings


def test_check_settings_fills_in_defaults():
    assert check_settings(brew, {"cups": 2}) == {
        "cups": 2,
        "strength": 0.5,
        "kind": "black",
        "sugar": "none",
        "minutes": None,
        "hot": True,
        "label": "tea",
    }


@pytest.mark.parametrize(
    "values", [{"strength": 0}, {"minutes": (1, 2)}, {"sugar": 2}, {"sugar": "none"}, {"minutes": None}]
)
def test_check_settings_accepts_valid_values(values):
    result = check_settings(brew, {"cups": 1, **values})
    assert {key: result[key] for key in values} == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"^brew: cups: required, but not given$"),
        ({"cups": 0}, r"^brew: cups: expected a value of at least 1, got 0$"),
        ({"cups": True}, r"^brew: cups: expected a whole number, got true$"),
        ({"cups": 2.0}, r"^brew: cups: expected a whole number, got 2\.0$"),
        ({"cups": "2"}, r"^brew: cups: expected a whole number, got '2'$"),
        ({"cups": None}, r"^brew: cups: expected a whole number, got nothing$"),
        ({"cups": 1, "strength": 1}, r"^brew: strength: expected a value less than 1, got 1$"),
        ({"cups": 1, "strength": -0.5}, r"^brew: strength: expected a value of at least 0, got -0\.5$"),
        ({"cups": 1, "strength": float("nan")}, r"^brew: strength: expected a finite number"),
        ({"cups": 1, "strength": True}, r"^brew: strength: expected a number, got true$"),
        (
            {"cups": 1, "kind": "geren"},
            r"^brew: kind: expected 'black' or 'green', got 'geren'; did you mean 'green'\?$",
        ),
        ({"cups": 1, "kind": "zzz"}, r"^brew: kind: expected 'black' or 'green', got 'zzz'$"),
        ({"cups": 1, "sugar": 0}, r"^brew: sugar: expected a value greater than 0 or 'none', got 0$"),
        ({"cups": 1, "sugar": "some"}, r"^brew: sugar: expected a number or 'none', got 'some'$"),
        ({"cups": 1, "hot": 1}, r"^brew: hot: expected true or false, got 1$"),
        ({"cups": 1, "hot": "yes"}, r"^brew: hot: expected true or false, got 'yes'$"),
        ({"cups": 1, "label": 3}, r"^brew: label: expected text, got 3$"),
        ({"cups": 1, "label": [3]}, r"^brew: label: expected text, got a list$"),
        ({"cups": 1, "label": {"a": 3}}, r"^brew: label: expected text, got a mapping$"),
        ({"cups": 1, "minutes": 3}, r"^brew: minutes: expected a list, got 3$"),
        ({"cups": 1, "strenght": 0.1}, r"^brew: unknown setting 'strenght'; did you mean 'strength'\?$"),
        ({"cups": 0, "hot": 1}, r"^brew: cups: expected a value of at least 1, got 0$"),
    ],
)
def test_check_settings_names_the_first_invalid_setting(values, message):
    with pytest.raises(ValueError, match=message):
        check_settings(brew, values)


def test_a_bound_is_written_with_all_digits():
    error = {"type": "less_than", "ctx": {"lt": 2**32}, "input": 2**32}
    assert errors_in_words(error) == "expected a value less than 4294967296, got 4294967296"


# errors_in_words, format_value


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"type": "missing", "input": {}}, "required, but not given"),
        ({"type": "greater_than", "ctx": {"gt": 0}, "input": 0}, "expected a value greater than 0, got 0"),
        ({"type": "less_than_equal", "ctx": {"le": 1}, "input": 1.5}, "expected a value of at most 1, got 1.5"),
        ({"type": "model_type", "input": [1]}, "expected a mapping of settings, got a list"),
        ({"type": "value_error", "ctx": {"error": ValueError("the pot is empty")}, "input": 0}, "the pot is empty"),
    ],
)
def test_an_error_names_the_expected_and_the_received_value(error, words):
    assert errors_in_words(error) == words


def test_the_errors_of_a_union_are_one_sentence_without_repetition():
    errors = [
        {"type": "int_type", "input": "x"},
        {"type": "int_type", "input": "x"},
        {"type": "literal_error", "ctx": {"expected": "'all'"}, "input": "x"},
    ]
    assert errors_in_words(*errors) == "expected a whole number or 'all', got 'x'"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        (False, "false"),
        (1.5, "1.5"),
        ("a", "'a'"),
        ("a\n\x1b", r"'a\n\x1b'"),
        ([1, 2], "a list"),
        ((1, 2), "a list"),
        ({"a": 1}, "a mapping"),
        pytest.param(10**5000, "a number of 16,610 bits", id="5,001 digits"),
        (int, "the type int"),
        (len, "the function len"),
    ],
)
def test_a_value_is_written_as_in_yaml(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize("value", ["x" * 1000, 10**1000])
def test_a_long_value_is_truncated(value):
    assert len(format_value(value)) == 60
    assert format_value(value).endswith("...")


# suggestion


@pytest.mark.parametrize(
    ("word", "known", "words"),
    [
        ("epoch", ["epochs", "batch_size"], "; did you mean 'epochs'?"),
        ("Adam", ["adam", "sgd"], "; did you mean 'adam'?"),
        ("SGD", ["adam", "sgd"], "; did you mean 'sgd'?"),
        ("rmsprob", ["adam", "radam", "rmsprop"], "; did you mean 'rmsprop'?"),
        ("zzz", ["b", "c", "a"], "; known: a, b, c"),
        ("zzz", [], ""),
        ("", ["a"], "; known: a"),
    ],
)
def test_the_nearest_word_is_suggested_or_all_are_listed(word, known, words):
    assert suggestion(word, known) == words
    assert suggestion(word, iter(known)) == words


def test_the_list_of_known_words_is_optional():
    assert suggestion("zzz", ["a", "b"], listing=False) == ""
    assert suggestion("aab", ["aaa", "b"], listing=False) == "; did you mean 'aaa'?"


# printable


def test_control_characters_are_printed_as_escapes():
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xD800, 0xDFFF):
        text = printable(f"a{chr(code)}b")
        assert text.isascii()
        assert text.isprintable()
        assert text.encode().decode("unicode_escape") == f"a{chr(code)}b"


def test_other_characters_and_wanted_newlines_are_printed_as_they_are():
    assert printable("é 日本 \U0001f469‍\U0001f52c [red] \\x1b") == "é 日本 \U0001f469‍\U0001f52c [red] \\x1b"
    assert printable("a\nb\r\n", multiline=True) == "a\nb\\r\n"
    assert printable("\u2066a\u2069\ufeff") == "\\u2066a\\u2069\\ufeff"


def test_help_shows_the_bounds_inside_a_tuple():
    def pour(size: tuple[Annotated[int, Ge(1)], str | None], *, sizes: tuple[Annotated[float, Gt(0)], ...] = ()):
        return size, sizes

    shown = "(size: tuple[int >= 1, str | None], *, sizes: tuple[float > 0, ...] = ()) -> int"
    assert str(shown_signature(pour, int)) == shown
