"""Everything shown in the README and the guide works: commands, Python, configs and links.

The blocks of a page run from top to bottom in one folder. A comment before a block determines how it is run:

    <!-- test: skip, REASON -->         the block is not run
    <!-- test: in MODULE -->            the block is run with the names of a module of fnet, as a part of its file
    <!-- test: file NAME -->            the block is written to a file, for the blocks below it
    <!-- test: exit STATUS -->          the commands end with this exit status
    <!-- test: numbers vary -->         numbers in the output are not compared
    <!-- test: key=value … -->          settings that make `fnet train` short; numbers are not compared

In the output shown on a page, "…" matches anything.
"""

import contextlib
import importlib
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import typer
from cli.calls import RUN_FILES, call, isolated_environment
from ruamel.yaml import YAML
from shipped import CONFIGS

import fnet
from fnet.cli.app import app
from fnet.cli.guide import PAGES
from fnet.config.load import load
from fnet.layers.vocabulary import CONSTRUCTORS
from fnet.losses import LOSSES
from fnet.reference.rule import Scope
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = sorted(Path(str(PAGES)).glob("*.md"))
DOCUMENTS = pytest.mark.parametrize("page", [README, *GUIDE], ids=lambda page: page.stem)

SMALLEST = {"data": "digits", "model": "[flatten, {dense: classes}]"}
"""Keys that complete a partial config."""

BLOCK = re.compile(r"^(?:<!-- test: (.+?) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A code block of a page: its first line, its directive, its language and its text."""

    line: int
    directive: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(text[: match.start(3)].count("\n") + 1, match[1] or "", match[2], match[3])
        for match in BLOCK.finditer(text)
    ]


@pytest.fixture(scope="module", autouse=True)
def _isolated_environment(tmp_path_factory):
    with isolated_environment(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Enter a temporary directory with the shipped configs."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@DOCUMENTS
def test_the_blocks_of_a_page_run(page, folder):
    names = {"__name__": page.stem}
    printed = ""
    for block in blocks(page):
        location = f"{page.name}:{block.line}"
        match block.directive.split(maxsplit=1), block.language:
            case ["skip,", _], _:
                pass
            case ["in", module], _:
                run_python(block.text, location, dict(vars(importlib.import_module(module))))
            case ["file", name], _:
                Path(name).write_text(block.text, encoding="utf-8")
            case _, "python":
                printed += run_python(block.text, location, names)
            case _, "text":
                assert_same(block.text, printed, location, numbers=block.directive != "numbers vary")
                printed = ""
            case _, "yaml":
                check_yaml(block.text)
            case _, "console":
                run_console(block, location)
            case _, "sh":
                check_shell(block.text, location)
            case _, language:
                pytest.fail(f"{location}: unknown language '{language}'")


def run_python(text: str, location: str, names: dict[str, object]) -> str:
    """Run Python code and return its output; `names` is the namespace that the blocks of a page share."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(text, location, "exec"), names)
    return out.getvalue()


def check_yaml(text: str) -> None:
    """Check that a list of layers can be built, and that a config, or a part of one, is valid."""
    data = YAML(typ="safe").load(text)
    if isinstance(data, list):
        fnet.build(data)
        return
    missing = [f"{key}: {value}" for key, value in SMALLEST.items() if key not in data]
    Path("page.yaml").write_text("\n".join([text, *missing]), encoding="utf-8")
    load("page.yaml")


def run_console(block: Block, location: str) -> None:
    """Run the commands after "$ ", and compare their output with the block, if it shows output."""
    overrides = block.directive.split() if "=" in block.directive else []
    status = int(block.directive.removeprefix("exit ")) if block.directive.startswith("exit") else 0
    numbers = not overrides and block.directive != "numbers vary"
    for command, shown in commands(block.text):
        program, name, *arguments = shlex.split(command)
        assert program == "fnet", f"{location}: {command}"
        result = call(name, *arguments, *(overrides if name == "train" else []))
        assert result.exit_code == status, f"{location}: {command}\n{result.output}"
        if shown:
            assert_same(shown, result.output, location, numbers=numbers)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block, each with the output below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.replace("\\\n", " ").partition("\n")
        yield command, shown


def assert_same(shown: str, printed: str, location: str, *, numbers: bool) -> None:
    """Compare an output with the one shown on the page, ignoring the width of spaces and lines."""
    shown, printed = normalized(shown, numbers=numbers), normalized(printed, numbers=numbers)
    pattern = ".*".join(map(re.escape, shown.split("…")))
    if not re.fullmatch(pattern, printed, re.DOTALL):
        assert printed == shown, location


def normalized(text: str, *, numbers: bool) -> str:
    text = re.sub(r"\s+", " ", re.sub(r"([─━])\1+", r"\1", text)).strip()
    return text if numbers else re.sub(r"-?\d[\d,.]*(e[-+]?\d+)?", "0", text)


def check_shell(text: str, location: str) -> None:
    """Check shell commands without running them: fnet commands are parsed, and scripts exist."""
    for command in re.split(r"&&|\||\n", text.replace("\\\n", " ")):
        words = shlex.split(command.partition(" >")[0], comments=True)
        if words and Path(words[0]).name == "fnet":
            check_arguments(words[1:], location)
        if words and words[0] == "python":
            assert (ROOT / words[1]).is_file() or words[1] == "-m", f"{location}: {command}"


def check_arguments(words: list[str], location: str) -> None:
    """Check that the command exists and takes these arguments; without arguments, only that it exists.

    Nothing is run: options of `fnet` itself, such as --install-completion, act while they are parsed, so only their
    names are checked.
    """
    command = typer.main.get_command(app)
    context = command.make_context("fnet", [], resilient_parsing=True)
    if words[0].startswith("-"):
        options = {option for parameter in command.get_params(context) for option in parameter.opts}
        assert words[0] in options, f"{location}: {words[0]}"
        return
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, words)
        if not words:
            return
        context = command.make_context(name, list(words), resilient_parsing=hasattr(command, "resolve_command"))


# Text outside code blocks


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


@DOCUMENTS
def test_commands_in_the_text_exist(page):
    for command in re.findall(r"`fnet ([^`]+)`", prose(page)):
        check_arguments(shlex.split(command.partition(" >")[0]), page.name)
    for script in re.findall(r"`(?:python )?(experiments/[\w/]+\.py)", prose(page)):
        assert (ROOT / script).is_file(), script


@DOCUMENTS
def test_links_lead_to_files(page):
    folder = ROOT if page == README else ROOT / "fnet" / "guide"  # an installed page has the same links
    for target in re.findall(r"\]\(([^)#]+)\)", prose(page)):
        if not target.startswith("http"):
            assert (folder / target).exists(), target


def test_the_readme_is_one_page():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 160


def test_the_readme_names_every_command_and_topic():
    text = prose(README)
    names = {command.name or command.callback.__name__ for command in app.registered_commands} | {"data"}
    assert [name for name in names if f"`fnet {name}" not in text] == []
    assert [page.name for page in GUIDE if page.stem != "README" and f"(fnet/guide/{page.name})" not in text] == []


def test_every_config_is_listed():
    listed = {name for page in (README, *GUIDE) for name in re.findall(r"`configs/([\w-]+)\.yaml`", prose(page))}
    assert listed == {path.stem for path in CONFIGS}


def test_every_layer_is_listed():
    vocabulary = (Path(str(PAGES)) / "layers.md").read_text(encoding="utf-8")
    assert [kind for kind in CONSTRUCTORS if not re.search(rf"\b{kind}\b", vocabulary)] == []


def test_every_optimizer_schedule_loss_and_metric_is_listed():
    text = (Path(str(PAGES)) / "training.md").read_text(encoding="utf-8")
    names = {*OPTIMIZERS, *SCHEDULES, *LOSSES, *(metric.name for loss in LOSSES.values() for metric in loss.metrics)}
    assert [name for name in names if not re.search(rf"\b{name.replace('_', '[_ ]')}\b", text)] == []


def test_the_files_of_a_run_are_listed():
    text = (Path(str(PAGES)) / "training.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE)) >= RUN_FILES


def test_the_recipe_of_an_activation_works():
    """The recipe's function and its derivative by hand agree with JAX."""
    layer, rule = (dict(vars(importlib.import_module(f"fnet.{side}.activation"))) for side in ("layers", "reference"))
    for block in blocks(Path(str(PAGES)) / "extending.md"):
        for side, names in (("layers", layer), ("reference", rule)):
            if block.directive == f"in fnet.{side}.activation":
                run_python(block.text, "extending.md", names)
    z, net = np.array([-2.0, -0.5, 0.0, 1.5]), layer["softsign"]()
    with jax.enable_x64(True):
        y, pull = jax.vjp(lambda z: net.apply({}, {}, z, train=False)[0], z)
        (dz,) = pull(np.ones(4))
    by_hand, cache = rule["softsign"].forward(net, Scope({}), z)
    np.testing.assert_allclose(by_hand, y, rtol=1e-12)
    np.testing.assert_allclose(rule["softsign"].backward(net, Scope({}), cache, np.ones(4))[0], dz, rtol=1e-12)


def test_the_pictures_match_their_commands(folder):
    pictures = ROOT / "experiments" / "computational_graph"
    text = (pictures / "README.md").read_text(encoding="utf-8")
    drawn = [shlex.split(command) for command in re.findall(r"^fnet (trace .+)$", text, re.MULTILINE)]
    assert {Path(arguments[-1]).name for arguments in drawn} == {path.name for path in pictures.glob("*.svg")}
    for arguments in drawn:
        name = Path(arguments[-1]).name
        assert call(*arguments[:-1], name).exit_code == 0
        assert Path(name).read_text() == (pictures / name).read_text()
