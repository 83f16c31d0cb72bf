"""`data.augment` in a config is checked before data is read, each problem with its position."""

import pytest

from fnet.config.errors import ConfigError
from fnet.config.explain import explain

TEXT = """\
data:
  name: digits
  augment:
    - {items}
model: [flatten, {{dense: 10}}]
"""


@pytest.mark.parametrize(
    ("items", "line"),
    [
        ("flop", "c.yaml:4:7: unknown augmentation 'flop'; did you mean 'flip'?"),
        ("{shift: 0}", "c.yaml:4:15: shift: pixels: expected a value of at least 1, got 0"),
        ("{elastic: {alpah: 3}}", "c.yaml:4:18: unknown key 'alpah' in 'elastic'; did you mean 'alpha'?"),
        (
            "{cutout: 8}",
            "c.yaml:4:7: augment: cutout: size: 8 must be smaller than height and width, but the images have 8 x 8 "
            "pixels",
        ),
    ],
)
def test_an_invalid_augmentation_is_reported_with_its_position(load_text, items, line):
    with pytest.raises(ConfigError) as error:
        load_text(TEXT.format(items=items))
    assert error.value.lines == (line,)


@pytest.mark.parametrize(
    ("items", "override", "pixels"),
    [
        ("{shift: 2}", "data.augment.0.shift.pixels=3", 3),
        ("{shift: 2}", "data.augment.0.shift=3", 3),
        ("{shift: {pixels: 2}}", "data.augment.0.shift.pixels=3", 3),
    ],
)
def test_an_override_reaches_into_the_short_form(load_text, items, override, pixels):
    (shift,) = load_text(TEXT.format(items=items), override).augmentations
    assert (shift.kind, dict(shift.settings)) == ("shift", {"pixels": pixels})


def test_an_override_of_an_unknown_setting_is_named(load_text):
    with pytest.raises(ConfigError, match=r"^data\.augment\.0\.shift\.pixel=3: .*'pixel'.*did you mean 'pixels'"):
        load_text(TEXT.format(items="{shift: 2}"), "data.augment.0.shift.pixel=3")


def test_augmenting_a_table_is_refused(load_text):
    with pytest.raises(ConfigError, match=r"augment: flip: expected images \(height, width, channels\), got examples"):
        load_text("data: {name: wine, augment: [flip]}\nmodel: [{dense: 3}]\n")


def test_the_resolved_config_names_every_setting(load_text, resolve_text):
    request = TEXT.format(items="flip"), "data.augment=[flip, {rotation: 15}]"
    written = [{"flip": {"rate": 0.5, "axis": "horizontal"}}, {"rotation": {"degrees": 15.0}}]
    assert resolve_text(*request).config.data.augment == written
    assert [augmentation.kind for augmentation in load_text(*request).augmentations] == ["flip", "rotation"]


def test_an_augmentation_is_explained():
    (explanation,) = explain("elastic")
    assert explanation.heading == "elastic (augmentation)"
    assert {entry.key for entry in explanation.entries} == {"elastic.alpha", "elastic.sigma"}
