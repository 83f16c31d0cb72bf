"""Hostile and careless configs: each is refused with one printable line per problem, in bounded time."""

import os
import time
from pathlib import Path

import pytest
from config.messages import NET
from scripts import load_script

from fnet.config import yaml
from fnet.config.errors import ConfigError
from fnet.config.load import load, resolve
from fnet.core.wording import printable


def with_layer(item):
    """Return a config with an additional layer at line 4, column 5."""
    return f"data: digits\nmodel:\n  - flatten\n  - {item}\n  - dense: 10\n"


def laughs(levels):
    """Return lists of aliases, each of ten of the one before: 10^levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def nested(times, depth, scan=False):
    """Return a layer repeated in repetitions."""
    item = "relu"
    for _ in range(depth):
        item = f"{{repeat: {{times: {times}, scan: {str(scan).lower()}, layers: [{item}]}}}}"
    return item


TAGS = {
    "seed: !!python/object/apply:os.system [ls]": "unknown tag '!!python/object/apply:os.system'; a config is",
    "seed: !!python/name:os.system": "unknown tag '!!python/name:os.system'",
    "seed: !other 3": "unknown tag '!other'",
    "train: !other {epochs: 3}": "unknown tag '!other'",
    "out: !!binary aGVsbG8=": "unknown tag '!!binary'",
    "train: !!set {epochs}": "unknown tag '!!set'",
    "train: !!omap [epochs: 3]": "unknown tag '!!omap'",
    "seed: !!timestamp 2020-01-01": "unknown tag '!!timestamp'",
    "seed: !!int x": "the tag '!!int' does not fit 'x'",
    "seed: !!int": "the tag '!!int' does not fit nothing",
    "seed: !!bool 1": "the tag '!!bool' does not fit 1",
    "train: !!seq {a: 1}": "the tag '!!seq' does not fit a mapping",
}
NUMBERS = {
    "seed: " + "9" * 5000: "expected a whole number of at most 64 bits, got 999",
    "seed: 0x" + "f" * 5000: "expected a whole number of at most 64 bits, got 0xfff",
    "seed: -18446744073709551616": "expected a whole number of at most 64 bits, got -18446744073709551616",
    "seed: 18446744073709551615": "seed: expected a value less than 4294967296, got 18446744073709551615",
    "seed: .inf": "seed: expected a whole number, got inf",
    "seed: 1e999": "seed: expected a whole number, got inf",
    "seed: 2020-99-99": "seed: expected a whole number, got '2020-99-99'",
    "seed: 1:30": "seed: expected a whole number, got '1:30'",
    "seed: 0b_": "seed: expected a whole number, got '0b_'",
}
NAMES = {
    'name: "a\\x1b[31mb"': r"name: expected text without control characters, got 'a\x1b[31mb'; remove them",
    'name: "a\\u202eb"': r"expected text without control characters, got 'a\u202eb'",
    'name: "a\\nb"': r"expected text without control characters, got 'a\nb'",
    'name: "a\\0b"': "expected text without NUL characters",
    'name: "\\ud800"': "halves of surrogate pairs",
    'name: "\\U99999999"': "not YAML: found an escape of a character that does not exist",
    "name: a/b": "expected a folder name without slashes or a leading dot, got 'a/b'",
    "name: ..": "without slashes or a leading dot, got '..'",
    'name: " "': "expected a folder name that is not blank",
    "name: " + "é" * 150: "expected a folder name of at most 200 bytes, got 300; shorten it",
    'out: "a\\tb"': "out: expected text without control characters",
}
STRUCTURE = {
    "optimizer: &a {schedule: *a}": "the alias *a stands inside its own value; write the value out",
    "optimizer: &a {<<: *a}": "the alias *a stands inside its own value",
    "optimizer: {<<: 3}": "expected a mapping, or a list of mappings, after <<",
    "<<: {zzz: 1}": "unknown key 'zzz' at the top level",
    "seed: *a": "found undefined alias 'a'",
    "seed: 1\nseed: 2": "duplicate key 'seed', first at 5:1",
    "---\nseed: 1": "expected a single document",
    "1: 2": "expected text as a key, got 1; put it in quotes",
    "~: 2": "expected text as a key, got nothing",
    ".nan: 2": "expected text as a key, got nan",
    "[a, b]: 2": "expected text as a key, got a list",
    "optimizer: {? {a: 1} : 2}": "expected text as a key, got a mapping",
    "train: {true: 2}": "expected text as a key, got true",
    "regularization: {layers: {1: {l2: 1}}}": "expected text as a key, got 1",
    "train: {epochs: 2, steps: 3}": "train: expected either epochs or steps, got both; remove one of them",
    "optimizer: {name: [a]}": "optimizer.name: expected text, got a list",
    "loss: {name: ~}": "loss.name: expected text, got nothing",
    '"a\\nb": 1': r"unknown key 'a\nb' at the top level",
    '"\\x9b31m": 1': r"unknown key '\x9b31m' at the top level",
    "? " + "k" * 5000 + "\n: 1": "kkk...",
    "seed: '" + "x" * 10**5 + "'": "expected a whole number, got 'xxxx",
    "seed: " + "[" * 10**4: "expected at most 100 levels of nesting",
    "seed: " + "[" * 200 + "]" * 200: "expected at most 100 levels of nesting",
    "seed: " + "{a: " * 150 + "1" + "}" * 150: "expected at most 100 levels of nesting",
    "seed: " + "- " * 500: "not YAML",
    laughs(9): "expected at most 50,000 values, counted at each use of an alias, got more; write equal layers",
    "x: " + "y" * 2**22: "expected a config of at most 4,194,304 bytes",
}
LAYERS = {
    "dense: {1: 2}": "expected text as a key, got 1; put it in quotes",
    "dense: {units: 3, ~: 2}": "expected text as a key, got nothing",
    "graph: {layers: [relu], nodes: {1: [relu_1, input]}}": "expected text as a key, got 1",
    '{relu: {name: "a\\x1b[31mb"}}': "a layer's name may not contain control characters, got 'a\\x1b[31mb'",
    '"a\\0b.c"': "expected text without NUL characters",
    '"a\\nb"': r"unknown layer 'a\nb'",
    "''": "unknown layer ''",
    "&a [relu, *a]": "the alias *a stands inside its own value",
    "dense: " + "9" * 5000: "expected a whole number of at most 64 bits",
    "repeat: {times: 1000000000, layers: [relu]}": "times: expected a value of at most 1000000, got 1000000000",
    "repeat: {times: 1000000000, scan: true, layers: [relu]}": "times: expected a value of at most 1000000",
    nested(1000, 3): "repeat: expected at most 100,000 layers without scan, got 2,002,000 in 1,000 repetitions",
    f"serial: [{', '.join([nested(40_000, 1)] * 3)}]": "model: expected at most 100,000 layers, got more; use repeat",
}  # fmt: skip


def check(load_text, text, message):
    """Check that a config is refused with short printable lines, one of which contains a message, in bounded time."""
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    assert time.process_time() - start < 10
    assert message in str(caught.value)
    assert len(caught.value.lines) <= 2
    assert all(printable(line) == line and len(line) < 3000 for line in caught.value.lines)


@pytest.mark.parametrize("corpus", [TAGS, NUMBERS, NAMES, STRUCTURE], ids=["tags", "numbers", "names", "structure"])
def test_a_hostile_value_is_refused(load_text, corpus):
    for added, message in corpus.items():
        check(load_text, f"{NET}{added}\n", message)


def test_a_hostile_layer_is_refused(load_text):
    for item, message in LAYERS.items():
        check(load_text, with_layer(item), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe" + NET.encode("utf-16-le"), "expected text in UTF-8"),
        (NET.encode("utf-16-le"), "not YAML: unacceptable character"),
        (bytes(range(256)), "expected text in UTF-8"),
        (b"", "expected a mapping, got an empty file"),
        (b"# nothing\n", "expected a mapping, got an empty file"),
        (b"---\n", "expected a mapping, got an empty file"),
        (b"!!set {data, model}", "unknown tag '!!set'"),
        (b"%YAML 1.1\n---\n" + NET.encode(), "expected YAML 1.2, got the directive %YAML 1.1; remove the line"),
        (b"data: digits\nmodel:\n\t- flatten\n", "found a tab; YAML indents with spaces"),
        (b"&a\ndata: *a\nmodel: [flatten]\n", "the alias *a stands inside its own value"),
    ],
)
def test_a_file_that_is_not_a_config_is_refused(config_file, content, message):
    Path(config_file("")).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load("c.yaml")
    assert message in str(caught.value)
    assert len(caught.value.lines) == 1


@pytest.mark.parametrize(
    "text",
    [NET.replace("\n", "\r\n"), NET.replace("\n", "\r"), "\ufeff" + NET, "# é日本\n" + NET, "---\n" + NET + "...\n"],
)
def test_line_ends_byte_order_marks_and_markers_are_accepted(config_file, resolve_text, text):
    Path(config_file("")).write_bytes(text.encode())
    assert resolve("c.yaml").config == resolve_text(NET).config


def test_only_regular_files_are_read(config_file, tmp_path):
    config_file("")
    os.mkfifo("pipe.yaml")
    for file in ("pipe.yaml", "/dev/zero"):
        with pytest.raises(ConfigError, match=r"^(pipe.yaml|/dev/zero): expected a config file, got a pipe or device"):
            load(file)
    for file in ("a\0.yaml", "missing.yaml"):
        with pytest.raises(ConfigError, match=r"\.yaml: no such file$"):
            resolve(file)
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        load("a" * 300)


def test_a_file_whose_name_cannot_name_a_folder_needs_a_name(config_file):
    Path(config_file(NET)).rename("a\tb.yaml")
    with pytest.raises(ConfigError, match=r"^a\\tb.yaml: the file's name is the name of the run: .*; or set name$"):
        load("a\tb.yaml")
    assert load("a\tb.yaml", ["name=ab"]).name == "ab"


@pytest.mark.parametrize(
    ("override", "where", "what"),
    [
        ("model.99999999=relu", "model.99999999=relu", "expected an index of a list of length 2"),
        ("model." + "9" * 5000 + "=relu", "model.999", "expected an index of a list of length 2"),
        ("model.0.=1", "model.0.=1", "expected a layer, such as relu or {dense: 64}, got a mapping"),
        ("data..x=1", "data..x=1", "unknown key '' in 'data'"),
        ("1=2", "1=2", "unknown key '1' at the top level"),
        ("model.1.dense.1=2", "model.1.dense.1=2", "unknown key '1' in 'dense'"),
        ("model.1={dense: [[[1]]]}", "model.1={dense: [[[1]]]}", "dense: units: expected a whole number, got a list"),
        ("model=" + "[" * 500, "model=[[[", "expected at most 100 levels of nesting"),
        (".".join("a" * 1000) + "=1", "a.a.a.a", "expected at most 100 levels of nesting"),
        ("a" + ".a" * 60 + "=" + "[" * 60 + "]" * 60, "a.a.a.a", "expected at most 100 levels of nesting"),
        ("seed=" + "9" * 5000, "seed=999", "expected a whole number of at most 64 bits"),
        ("train=&a [*a]", "train=&a [*a]", "the alias *a stands inside its own value"),
        ("seed=!!python/name:os.system", "seed=!!python/name:os.system", "unknown tag '!!python/name:os.system'"),
        ("seed=3\n---\n4", r"seed=3\n---\n4", "expected a single document"),
        ("\x1b[31m=3", r"\x1b[31m=3", r"unknown key '\x1b[31m' at the top level"),
    ],
)  # fmt: skip
def test_a_hostile_override_is_refused(load_text, override, where, what):
    with pytest.raises(ConfigError) as caught:
        load_text(NET, override)
    assert str(caught.value).startswith(where)
    assert what in str(caught.value)
    assert all(printable(line) == line and len(line) < 3000 for line in caught.value.lines)


def test_many_problems_are_not_all_listed(load_text):
    with pytest.raises(ConfigError, match=r"more than 100 problems; fix these first$") as caught:
        load_text("data: digits\nmodel: [" + "zzz, " * 300 + "]\n")
    assert len(caught.value.lines) == 101


# Values that remain valid


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[~, null, true, False, '3', \"x\", ! 3]", [None, None, True, False, "3", "x", "3"]),
        ("[0x1f, 0o17, 0b11, 1_000, 010, -5, +3]", [31, 15, 3, 1000, 10, -5, 3]),
        ("[1e3, .5, -1.5E-3, 1., -.inf]", [1000.0, 0.5, -0.0015, 1.0, float("-inf")]),
        ("[yes, no, on, 2020-01-01, 1:30, 0x, .e3, '~']", ["yes", "no", "on", "2020-01-01", "1:30", "0x", ".e3", "~"]),
        ("[!!str 3, !!float 3, !!int '3', !!map {a: 1}, !!seq [1]]", ["3", 3, 3, {"a": 1}, [1]]),
        ("{<<: [{a: 1, b: 2}, {a: 3}], b: 4}", {"b": 4, "a": 1}),
        ("[&a {x: [1]}, *a]", [{"x": [1]}, {"x": [1]}]),
        (r'["\ud83d\ude00", "\U0001f600"]', ["\U0001f600"] * 2),
    ],
)
def test_yaml_as_plain_data(text, value):
    data = yaml.parse(text).plain()
    assert data == value
    assert repr(data) == repr(value)


def test_an_alias_gives_values_of_their_own():
    first, second = yaml.parse("[&a {x: [1]}, *a]").plain()
    first["x"].append(2)
    assert second == {"x": [1]}


def test_a_problem_in_a_merged_mapping_is_reported_where_it_stands(load_text):
    text = "data: digits\nmodel:\n  - flatten\n  - dense: &a {units: 3, biass: 1}\n  - dense: {<<: *a, units: 10}\n"
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    assert [line.split(": ")[0] for line in caught.value.lines] == ["c.yaml:4:26"]


def test_an_override_of_steps_replaces_epochs_and_the_resolved_config_has_one_of_them(load_text):
    text = load_text(NET + "train: {epochs: 2}\n", "train.steps=3").config_text(None)
    assert "steps: 3" in text
    assert "epochs" not in text
    assert "epochs: 2" in load_text(NET + "train: {steps: 3}\n", "train.epochs=2").config_text(None)


def test_a_config_whose_resolved_form_could_not_be_read_is_refused(load_text, monkeypatch):
    deep = "{residual: [" * 45 + "relu" + "]}" * 45
    with pytest.raises(ConfigError, match=r"^c\.yaml: expected at most 100 levels of nesting when every default is"):
        load_text(with_layer(deep))
    monkeypatch.setattr(yaml, "MAX_VALUES", 80)
    with pytest.raises(ConfigError, match=r"^c\.yaml: expected at most 80 values when every default is written"):
        load_text(with_layer("[" + "{dense: 9}, " * 20 + "]"))


def test_values_are_counted_as_they_are_read(load_text, monkeypatch):
    monkeypatch.setattr(yaml, "MAX_VALUES", 80)
    with pytest.raises(ConfigError, match="expected at most 80 values, counted at each use of an alias, got more"):
        load_text(with_layer("[" + "relu, " * 90 + "]"))


def test_random_changes_of_the_shipped_configs_are_resolved_or_refused(tmp_path, monkeypatch):
    module = load_script("reliability/config_fuzz.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert module.fuzz(100, 12, tmp_path) == []
