"""Text files, for networks that learn to predict the next token."""

from pathlib import Path
from typing import Literal

import numpy as np

from fnet.data import grammar
from fnet.data.arrays import Arrays
from fnet.data.cache import cached
from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import FileSource, PathText, digest, existing_file, file_errors, open_file
from fnet.data.source import DataError, DatasetSpec
from fnet.data.stream import Stream
from fnet.data.tokens import BYTES, Block, as_tokens, blocks, code_points, encode, spec_of

_BYTES_PER_CHARACTER = 32
"""Memory for a character while a text is numbered, in bytes."""

EMBEDDED = 1 << 17
"""Number of characters in the text that ships with fnet."""


def text(
    path: PathText | None = None, block: Block = 64, tokens: Literal["characters", "bytes"] = "characters"
) -> FileSource:
    """A text in UTF-8, for language models: predict the next token at every position of a block.

    Fractions of the split are cut in the order of the text.

    Args:
        path: the file; by default sentences of a small grammar, which ship with fnet.
        block: tokens per example.
        tokens: characters, numbered in the order of their code points, or the 256 byte values.
    """

    def spec() -> DatasetSpec:
        if path is None:
            return spec_of("sentences", EMBEDDED, block, BYTES if tokens == "bytes" else grammar.VOCABULARY)
        if tokens == "bytes":
            return spec_of(existing_file(path).stem, existing_file(path).stat().st_size, block, BYTES)
        numbers, vocabulary = _characters(existing_file(path))
        return spec_of(existing_file(path).stem, len(numbers), block, vocabulary)

    def rows() -> Stream:
        return Stream(*_blocks(path, block, tokens)).mapped(as_tokens, as_tokens)

    return FileSource(spec, rows)


def _blocks(path: str | None, block: int, tokens: str) -> Arrays:
    """Return the blocks of a text, with token indices in the dtype in which they are stored."""
    if path is None:
        vocabulary = BYTES if tokens == "bytes" else grammar.VOCABULARY
        return blocks(encode(grammar.write(np.random.default_rng(0), EMBEDDED), vocabulary), block)
    if tokens == "bytes":
        with file_errors(existing_file(path)), open_file(existing_file(path)) as file:
            return blocks(np.asarray(np.memmap(file, np.uint8, "r")), block)
    return blocks(_characters(existing_file(path))[0], block)


def _characters(path: Path) -> tuple[np.ndarray, str]:
    """Return the token indices of a file's characters, and its vocabulary."""
    key = {"name": path.stem, "format": "text", "content": digest(path)}
    arrays = cached(key, lambda: _decode(path))
    return arrays["tokens"], "".join(map(chr, arrays["vocabulary"].tolist()))


def _decode(path: Path) -> dict[str, np.ndarray]:
    needed = _BYTES_PER_CHARACTER * path.stat().st_size
    refuse_beyond_memory(needed, f"{path}, as characters,", "divide it, or set data.tokens: bytes", "tokens")
    with file_errors(path), open_file(path) as file:
        data = file.read()
    try:
        points = code_points(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        what = f"{path} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}"
        raise DataError(f"{what}; convert it, or set data.tokens: bytes", "path") from None
    known, numbers = np.unique(points, return_inverse=True)
    return {"tokens": numbers.astype(np.min_scalar_type(len(known))), "vocabulary": known}
