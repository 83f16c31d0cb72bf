"""Dotted paths, such as "my_module.my_layer", and the rule by which a description may import their modules.

A description is data: a config, the files of a run, or plain data for `fnet.build`. What it names is imported only if

- it is one of the numerical functions of JAX in `NUMERICAL`;
- it is a constructor, and its module is loaded already: nothing is imported, and a constructor makes only a record;
- the user trusts it: with `--trust MODULE`, the environment variable FNET_TRUST, or the argument `trust`;
- or, for a config, its module lies in the current directory or on PYTHONPATH.

A dotted path that Python code passes to a constructor belongs to the user's program, and is imported like any module.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

NUMERICAL = ("jax.lax", "jax.nn", "jax.nn.initializers", "jax.numpy", "jax.random", "jax.scipy.special")
"""Modules whose functions a description may name: they compute with arrays, and do nothing else."""

EXCLUDED = {"fromfile", "load", "printoptions", "save", "savez", "set_printoptions"}
"""Functions of these modules that read or write files, or change global settings."""

VARIABLE = "FNET_TRUST"
"""The environment variable with trusted modules, separated by commas."""


class Untrusted(ValueError):
    """A description names a module that may not be imported, or what to trust is not a module."""

    exit_status = 2


class CodeWarning(UserWarning):
    """The code of a trusted module is not that with which the run was trained, or comes from another place."""


class Code(NamedTuple):
    """The file with the code of a module.

    file: absolute path.
    sha256: hash of its content.
    """

    file: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Gate:
    """What the description that is being read may import.

    Args:
        trusted: dotted paths; each covers everything below it.
        local: whether modules in the current directory and on PYTHONPATH may be imported without trust.
        folders: folders in which trusted modules are searched after the import path and the current directory.
        recorded: code of the modules of a run. A trusted module that is found nowhere else is imported from there.
    """

    trusted: tuple[str, ...] = ()
    local: bool = False
    folders: tuple[str, ...] = ()
    recorded: Mapping[str, Code] = dataclasses.field(default_factory=dict)

    def trusts(self, path: str) -> bool:
        """Return whether a dotted path is covered."""
        return any(f"{path}.".startswith(f"{trusted}.") for trusted in self.trusted)


_GATE: ContextVar[Gate | None] = ContextVar("gate", default=None)


@contextlib.contextmanager
def gate(
    trust: Iterable[str] = (),
    *,
    local: bool = False,
    folders: Iterable[str] = (),
    recorded: Mapping[str, Code] | None = None,
) -> Iterator[None]:
    """Restrict what dotted paths may import while a description is read, as in `Gate`; FNET_TRUST is trusted as well.

    Raises:
        Untrusted: when something trusted is not the dotted name of a module.
    """
    if isinstance(trust, str):
        raise Untrusted(f'expected a list of modules to trust, got text; write trust=["{trust}"]')
    trusted = [name.strip() for name in (*trust, *filter(str.strip, os.environ.get(VARIABLE, "").split(",")))]
    for name in trusted:
        if not _is_path(name) or name.endswith(".py"):
            raise Untrusted(f"expected the name of a module to trust, such as my_module, got '{name}'")
    token = _GATE.set(Gate(tuple(trusted), local, tuple(folders), recorded or {}))
    try:
        yield
    finally:
        _GATE.reset(token)


@contextlib.contextmanager
def closed() -> Iterator[None]:
    """Restrict imports to trusted modules if they are not restricted already."""
    if _GATE.get() is not None:
        yield
    else:
        with gate():
            yield


def loaded(path: str) -> Any:
    """Return what a dotted path leads to in the modules that are loaded, or None; imports nothing outside fnet."""
    module, _, name = path.rpartition(".")
    if module == "fnet":  # exports its names when they are first used
        return getattr(sys.modules[module], name, None)
    return getattr(sys.modules.get(module), "__dict__", {}).get(name)


def lookup(path: str, *, from_loaded: bool = False) -> Any:
    """Return what a dotted path leads to, importing its module if that is allowed.

    Args:
        path: the dotted path.
        from_loaded: whether anything in a loaded module may be returned without trust; the caller must then check that
            it is harmless to call.

    Raises:
        Untrusted: when a description names a module that may not be imported.
        ValueError: when the path leads to nothing.
    """
    module, _, name = path.rpartition(".")
    if not module or not _is_path(path):
        raise ValueError("expected a dotted path, such as my_module.my_name")
    current, value = _GATE.get(), loaded(path)
    if current is None:
        return _attribute(importlib.import_module, module, name)
    if from_loaded and value is not None:
        _check_code(module, current.recorded)
        return value
    if module in NUMERICAL and name not in EXCLUDED and not name.startswith("_"):
        value = _attribute(importlib.import_module, module, name)
        if _is_numerical(value):
            return value
    if current.trusts(path):
        value = _attribute(lambda module: _import_trusted(module, current), module, name)
        _check_code(module, current.recorded)
        return value
    if current.local and _is_local(module):
        return _attribute(lambda module: _import_from(module, [os.getcwd()]), module, name)
    raise Untrusted(_refusal(module, current))


def _is_path(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _attribute(load: Callable[[str], Any], module: str, name: str) -> Any:
    """Return an attribute of a module that `load` imports.

    Raises:
        ValueError: when the module cannot be imported, for whatever reason, or does not have the attribute.
    """
    try:
        return getattr(load(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        raise ValueError(f"importing {module} raised {type(error).__name__}: {error}") from error


def _refusal(module: str, current: Gate) -> str:
    trust = f'trust it with --trust {module}, or trust=["{module}"] in Python'
    if module == "__main__":
        return "it was defined in a script; move it to a module, which other programs can import"
    if current.local:
        return f"the module {module} is not in the current directory or on PYTHONPATH; if it is elsewhere, {trust}"
    return f"the module {module} is imported only if you trust its code; {trust}"


def _is_numerical(value: Any) -> bool:
    """Return whether a value of a module of JAX is a function of JAX's own, rather than a class or re-exported."""
    is_jax = str(getattr(value, "__module__", "")).startswith("jax.")
    return callable(value) and is_jax and not inspect.isclass(value)


def _is_local(module: str) -> bool:
    """Return whether an import would find a module in the current directory or on PYTHONPATH; imports nothing."""
    top = module.partition(".")[0]
    allowed = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    folders = _folders_of(_spec(top, [os.getcwd()]))
    return top != "fnet" and bool(folders) and folders <= set(map(os.path.realpath, allowed))


def _spec(top: str, folders: Iterable[str]) -> ModuleSpec | None:
    """Return how an import would find a top-level module, on the import path or in further folders."""
    with _search(folders), contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(top)
    return None


def _folders_of(spec: ModuleSpec | None) -> set[str]:
    """Return the folders that contain a top-level module; several for a namespace package, none if it is built in."""
    if spec is None:
        return set()
    places = spec.submodule_search_locations or ([spec.origin] if spec.origin and spec.has_location else [])
    return {os.path.realpath(os.path.dirname(os.path.abspath(place))) for place in places}


@contextlib.contextmanager
def _search(folders: Iterable[str]) -> Iterator[None]:
    """Append folders to the import path, where they do not shadow installed modules."""
    added = [folder for folder in dict.fromkeys(folders) if folder not in sys.path]
    sys.path += added
    try:
        yield
    finally:
        for folder in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)


def _import_from(module: str, folders: Iterable[str]) -> Any:
    with _search(folders):
        return importlib.import_module(module)


def _import_trusted(module: str, current: Gate) -> Any:
    """Import a trusted module from the usual places, or else from where the run recorded it."""
    folders, recorded = [os.getcwd(), *current.folders], current.recorded.get(module)
    if recorded is None or _spec(module.partition(".")[0], folders) is not None:
        return _import_from(module, folders)
    value = _import_from(module, [_import_folder(module, recorded.file)])
    warnings.warn(f"{module} is imported from {value.__file__}, where the run recorded it", CodeWarning, stacklevel=2)
    return value


def _import_folder(module: str, file: str) -> str:
    """Return the folder on the import path in which a file is a module of this name.

    >>> _import_folder("a.b", "/home/a/b.py"), _import_folder("a.b", "/home/a/b/__init__.py")
    ('/home', '/home')
    """
    path = Path(file)
    for _ in range(module.count(".") + 1 + (path.stem == "__init__")):
        path = path.parent
    return str(path)


def _check_code(module: str, recorded: Mapping[str, Code]) -> None:
    """Warn when the code of a module is not that of the run, or comes from another file."""
    then, code = recorded.get(module), code_of(module)
    if then is None or code is None:
        return
    if code.sha256 != then.sha256:
        text = f"{module} has changed since the run: its code in {code.file} differs from that of {then.file}"
        warnings.warn(text, CodeWarning, stacklevel=2)
    elif os.path.realpath(code.file) != os.path.realpath(then.file):
        text = f"{module} is imported from {code.file}; the run used the same code in {then.file}"
        warnings.warn(text, CodeWarning, stacklevel=2)


def code_of(module: str) -> Code | None:
    """Return the file with the code of a loaded module, or None for one without a readable file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return Code(os.path.abspath(file), hashlib.sha256(Path(file).read_bytes()).hexdigest()) if file else None
    except OSError:
        return None
