"""The code of a user's own layers and functions: recorded when a network is trained, imported only if it is trusted."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fnet.core import imports
from fnet.core.imports import Code
from fnet.core.layer import Layer, walk
from fnet.data.augment import Augmentation
from fnet.runs import files


def code_of(net: Layer, augmentations: Iterable[Augmentation] = ()) -> dict[str, dict[str, str]]:
    """Return the file and the SHA-256 of every module that the layers, initializers and functions of a network name.

    Modules of fnet and of JAX's numerical functions, and modules without a file, are left out.

    Args:
        net: the network.
        augmentations: random changes of its training images.
    """
    layers = [layer for _, layer in walk(net)]
    settings = (value for layer in layers for value in layer.settings.values() if isinstance(value, str))
    paths = [layer.kind for layer in layers] + [item.kind for item in augmentations]
    paths += [value for value in settings if callable(imports.loaded(value))]
    modules = sorted({path.rpartition(".")[0] for path in paths if "." in path} - {*imports.NUMERICAL, "__main__"})
    codes = {module: imports.code_of(module) for module in modules}
    return {module: code._asdict() for module, code in codes.items() if code is not None}


@contextlib.contextmanager
def only_trusted(run: str | os.PathLike[str], trust: Iterable[str] = ()) -> Iterator[None]:
    """Import only trusted modules for what the files of a run name.

    A trusted module that is not on the import path or in the current directory is imported from where the run recorded
    it. Warns when its code has changed since the run.

    Args:
        run: folder of the run, or its model file.
        trust: trusted modules, each with its submodules.
    """
    path = Path(run)
    with imports.gate(trust, recorded=_recorded(path.parent if path.suffix == ".safetensors" else path)):
        yield


def _recorded(folder: Path) -> dict[str, Code]:
    """Return the code that a run recorded, by module; a file that cannot be read records none."""
    try:
        codes = json.loads(files.read(folder / "environment.json"))["code"]
        recorded = {module: Code(str(code["file"]), str(code["sha256"])) for module, code in codes.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    own = os.path.realpath(folder)
    return {module: code for module, code in recorded.items() if _lies_outside(code.file, own)}


def _lies_outside(file: str, folder: str) -> bool:
    """Return whether a recorded file is not one that came in the folder of the run.

    A path that depends on the process, such as a relative one or /proc/self/cwd, could lead into this folder too.
    """
    if not os.path.isabs(file) or not file.isprintable() or file.startswith(("/proc/", "/dev/")):
        return False
    path = os.path.realpath(file)
    return path != folder and not path.startswith(os.path.join(folder, ""))
