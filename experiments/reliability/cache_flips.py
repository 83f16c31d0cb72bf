"""Damaged caches of decoded data: whichever byte is wrong, the data is decoded again and the cache is whole again."""

import contextlib
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from outcome import Outcome, report

KEY = {"name": "damaged", "content": "abc", "size": [28, 28]}

BODY = 200
"""Number of flipped bytes among the entries of the arrays; every byte of a header and of the manifest is flipped."""


def flips(seed: int) -> Outcome:
    """Flip a random bit of every byte of the manifest and of the headers, and of a sample of the other bytes."""
    draw = random.Random(seed)
    with _cache() as entry:
        places = []
        for file in sorted(entry.iterdir()):
            content = file.read_bytes()
            header = len(content) if file.suffix == ".json" else 128
            body = draw.sample(range(header, len(content)), min(BODY, len(content) - header))
            places += [(file, position) for position in [*range(header), *body]]
        failed = [
            f"{file.name}, byte {position}: {fault}"
            for file, position in places
            if (fault := _fault(lambda file=file, position=position: _flip(file, position, 1 << draw.randrange(8))))
        ]
    print("\n".join(failed), end="\n" if failed else "")
    return Outcome("cache, one byte flipped", len(places), len(failed), seed)


def replacements(seed: int) -> Outcome:
    """Truncate the files of a cache at random, and replace them and their folder by other kinds of files."""
    draw = random.Random(seed)
    with _cache() as entry:
        files = [*sorted(entry.iterdir()), entry]
        damages: dict[str, tuple[Callable[[Path], object], Sequence[Path]]] = {
            "removed": (_remove, files),
            "a folder": (lambda path: (_remove(path), path.mkdir()), files[:-1]),
            "a file": (lambda path: (_remove(path), path.write_text("{}")), files),
            "a FIFO": (lambda path: (_remove(path), os.mkfifo(path)), files),
            "a device": (lambda path: (_remove(path), path.symlink_to("/dev/zero")), files),
            "a loop of links": (lambda path: (_remove(path), path.symlink_to(path)), files),
            "nested lists": (lambda path: path.write_text("[" * 100_000), files[:-1]),
            "with a folder beside": (lambda path: path.with_name("other").mkdir(), files[:1]),
            "a partial file beside": (lambda path: path.with_suffix(".partial").touch(), files[-1:]),
        }
        for _ in range(20):
            length = draw.randrange(3000)
            damages[f"truncated to {length}"] = (lambda path, length=length: _truncate(path, length), files[:-1])
        cases = [(name, damage, path) for name, (damage, paths) in damages.items() for path in paths]
        failed = [
            f"{path.name} {name}: {fault}"
            for name, damage, path in cases
            if (fault := _fault(lambda damage=damage, path=path: damage(path)))
        ]
    print("\n".join(failed), end="\n" if failed else "")
    return Outcome("cache, files replaced or truncated", len(cases), len(failed), seed)


@contextlib.contextmanager
def _cache() -> Iterator[Path]:
    """Write an entry into a cache of its own, and return its folder."""
    from fnet.data import cache

    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            _request()
            (entry,) = cache.folder().iterdir()
            yield entry
        finally:
            os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)


def _arrays() -> dict[str, np.ndarray]:
    return {"x": np.arange(600, dtype=np.float32).reshape(5, 4, 30), "y": np.array([1, 0, 1, 2, 0], np.int32)}


def _request() -> bool:
    """Request the arrays, check them, and return whether they had to be decoded."""
    from fnet.data import cache

    decoded = []

    def decode() -> dict[str, np.ndarray]:
        decoded.append(1)
        return _arrays()

    arrays = cache.cached(KEY, decode)
    assert list(arrays) == list(_arrays()), f"the arrays {list(arrays)}"
    for name, expected in _arrays().items():
        assert arrays[name].dtype == expected.dtype, f"{name} has dtype {arrays[name].dtype}"
        assert np.array_equal(arrays[name], expected), f"{name} is wrong"
    return bool(decoded)


def _fault(damage: Callable[[], object]) -> str | None:
    """Damage the cache, request the arrays three times, and return what is wrong, or None."""
    from fnet.data import cache

    damage()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cache.entries()
            decoded = [_request() for _ in range(3)]
        return "decoded more than once" if sum(decoded) > 1 else None
    except Exception as error:
        cache.clear()
        _request()
        return f"{type(error).__name__}: {error}"


def _flip(file: Path, position: int, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= bit
    file.write_bytes(content)


def _truncate(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def attack(seed: int) -> list[Outcome]:
    """Return the outcomes of flipped bytes, and of replaced and truncated files."""
    return [flips(seed), replacements(seed)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the attack as a command, and return its exit status."""
    return report(attack, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
