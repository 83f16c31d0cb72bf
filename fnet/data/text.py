"""Text as token numbers, in blocks from which a network learns to foretell the next token."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from fnet.data.cache import cached
from fnet.data.path import File, PathText, digest, file, naming
from fnet.data.source import Arrays, DataError, Spec, Targets

BYTES = bytes(range(256))
"""The vocabulary of bytes: token number k is the byte k."""

Block = Annotated[int, Ge(1)]


def encode(text: str, vocabulary: str | bytes) -> np.ndarray:
    """The token numbers of a text, int32.

    Args:
        text: of characters that the vocabulary has.
        vocabulary: a text, of whose characters the k-th has number k; or bytes, for the bytes of the text in UTF-8.

    Raises:
        DataError: for a character that the vocabulary lacks.

    >>> encode("abba", "ab").tolist(), encode("é", BYTES).tolist()
    ([0, 1, 1, 0], [195, 169])
    """
    if isinstance(vocabulary, bytes):
        known, points = np.frombuffer(vocabulary, np.uint8), np.frombuffer(text.encode(), np.uint8)
    else:
        known, points = _points(vocabulary), _points(text)
    order = np.argsort(known)
    places = np.minimum(np.searchsorted(known[order], points), len(known) - 1)
    numbers = order[places]
    unknown = np.flatnonzero(known[numbers] != points)
    if len(unknown):
        raise DataError(f"{chr(points[unknown[0]])!r}, at place {unknown[0]} of the text, is not in the vocabulary")
    return numbers.astype(np.int32)


def decode(tokens: Sequence[int] | np.ndarray, vocabulary: str | bytes) -> str:
    """The text of token numbers; bytes that are no UTF-8 become the replacement character.

    >>> decode([0, 1, 1, 0], "ab"), decode([195, 169, 195], BYTES)
    ('abba', 'é\N{REPLACEMENT CHARACTER}')
    """
    numbers = np.asarray(tokens, int).tolist()
    if isinstance(vocabulary, bytes):
        return bytes(vocabulary[number] for number in numbers).decode(errors="replace")
    return "".join(vocabulary[number] for number in numbers)


def as_tokens(stored: np.ndarray) -> np.ndarray:
    """Token numbers as a network gets them."""
    return stored.astype(np.int32)


def blocks(tokens: np.ndarray, block: int) -> Arrays:
    """Examples (n, block) of a text's tokens, and as targets the token that follows each: (n, block).

    The examples continue each other; what is left at the end is not used.

    >>> x, y = blocks(np.arange(8), 3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    used = (len(tokens) - 1) // block * block
    return Arrays(tokens[:used].reshape(-1, block), tokens[1 : used + 1].reshape(-1, block))


def spec_of(name: str, length: int, block: int, vocabulary: str | bytes) -> Spec:
    """What is known of the examples of a text of so many tokens.

    Raises:
        DataError: when the text is too short for one example.
    """
    size = (length - 1) // block
    if size < 1:
        what = f"{name} has {length} tokens, and a block of {block} with the token that follows it needs {block + 1}"
        raise DataError(f"{what}; make data.block smaller, or the text longer", "block")
    names = tuple(map(chr, vocabulary)) if isinstance(vocabulary, bytes) else tuple(vocabulary)
    targets = Targets("classes", len(vocabulary), names, (block,))
    return Spec(name, (block,), targets, size, dtype="int32", ordered=True, vocabulary=vocabulary)


EMBEDDED = 1 << 17
"""Characters of the text that comes with fnet."""


def text(
    path: PathText | None = None, block: Block = 64, tokens: Literal["characters", "bytes"] = "characters"
) -> File:
    """A text in UTF-8, for language models: from the tokens so far of a block, foretell the next, at every position.

    Fractions of the split are cut off in the order of the text.

    Args:
        path: the file; by default sentences of a small grammar, which come with fnet.
        block: tokens of an example.
        tokens: characters, numbered in the order of their code points, or the 256 bytes.
    """

    if path is None:
        return _embedded(block, tokens)

    def spec() -> Spec:
        found = file(path)
        if tokens == "bytes":
            return spec_of(found.stem, found.stat().st_size, block, BYTES)
        numbers, vocabulary = _characters(found)
        return spec_of(found.stem, len(numbers), block, vocabulary)

    def load() -> Arrays:
        found = file(path)
        if tokens == "bytes":
            with naming(found):
                return blocks(np.asarray(np.memmap(found, np.uint8, "r")), block)
        return blocks(_characters(found)[0], block)

    return File(spec, load)


def _embedded(block: int, tokens: str) -> File:
    """The text that comes with fnet: always the same."""
    from fnet.data.grammar import VOCABULARY, written

    vocabulary = BYTES if tokens == "bytes" else VOCABULARY

    def load() -> Arrays:
        return blocks(encode(written(np.random.default_rng(0), EMBEDDED), vocabulary), block)

    return File(lambda: spec_of("sentences", EMBEDDED, block, vocabulary), load)


def _characters(path: Path) -> tuple[np.ndarray, str]:
    """The token numbers of a file's characters, and its vocabulary."""
    key = {"name": path.stem, "format": "text", "content": digest(path)}
    arrays = cached(key, lambda: _numbered(path))
    return arrays["tokens"], "".join(map(chr, arrays["vocabulary"].tolist()))


def _numbered(path: Path) -> dict[str, np.ndarray]:
    with naming(path):
        data = path.read_bytes()
    try:
        points = _points(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        what = f"{path} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}"
        raise DataError(f"{what}; convert it, or set data.tokens: bytes", "path") from None
    known, numbers = np.unique(points, return_inverse=True)
    return {"tokens": numbers.astype(np.min_scalar_type(len(known))), "vocabulary": known}


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")
