"""What the README shows runs."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import fnet
from fnet.config.load import load

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_runs_from_top_to_bottom(capsys):
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert "(64, 64)" in capsys.readouterr().out


@pytest.mark.parametrize("block", blocks("yaml"))
def test_the_yaml_is_right(block, tmp_path):
    """Whole configs load; a list of layers builds."""
    if block.startswith("-"):
        assert fnet.build(YAML(typ="safe").load(block)).shape((8,)) == (8,)
    else:
        (tmp_path / "readme.yaml").write_text(block)
        load(str(tmp_path / "readme.yaml"))


def test_every_config_is_listed():
    listed = set(re.findall(r"`configs/([\w-]+)\.yaml`", README.read_text(encoding="utf-8")))
    assert listed == {path.stem for path in (README.parent / "configs").glob("*.yaml")}


def test_every_layer_is_listed():
    from fnet.layers.vocabulary import CONSTRUCTORS

    vocabulary = README.read_text(encoding="utf-8").partition("## The vocabulary")[2]
    assert [kind for kind in CONSTRUCTORS if not re.search(rf"\b{kind}\b", vocabulary)] == []
