"""Text as token numbers, in blocks from which a network learns to predict the next token."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge

from fnet.data.arrays import Arrays
from fnet.data.source import DataError, DatasetSpec, Targets

BYTES = bytes(range(256))
"""Vocabulary of bytes: token number k is the byte k."""

Block = Annotated[int, Ge(1)]


def encode(text: str, vocabulary: str | bytes) -> np.ndarray:
    """Return the token numbers of a text, int32.

    Args:
        text: the text to encode.
        vocabulary: a text whose k-th character has number k; or bytes, to encode the bytes of the text in UTF-8.

    Raises:
        DataError: for a character that is not in the vocabulary.

    >>> encode("abba", "ab").tolist(), encode("é", BYTES).tolist()
    ([0, 1, 1, 0], [195, 169])
    """
    if isinstance(vocabulary, bytes):
        known, points = np.frombuffer(vocabulary, np.uint8), np.frombuffer(text.encode(), np.uint8)
    else:
        known, points = code_points(vocabulary), code_points(text)
    order = np.argsort(known)
    positions = np.minimum(np.searchsorted(known[order], points), len(known) - 1)
    numbers = order[positions]
    unknown = np.flatnonzero(known[numbers] != points)
    if len(unknown):
        character = chr(points[unknown[0]])
        raise DataError(f"the character {character!r} at position {unknown[0]} of the text is not in the vocabulary")
    return numbers.astype(np.int32)


def decode(tokens: Sequence[int] | np.ndarray, vocabulary: str | bytes) -> str:
    """Return the text of token numbers; bytes that are not UTF-8 become the replacement character.

    >>> decode([0, 1, 1, 0], "ab"), decode([195, 169, 195], BYTES)
    ('abba', 'é\N{REPLACEMENT CHARACTER}')
    """
    numbers = np.asarray(tokens, int).tolist()
    if isinstance(vocabulary, bytes):
        return bytes(vocabulary[number] for number in numbers).decode(errors="replace")
    return "".join(vocabulary[number] for number in numbers)


def as_tokens(stored: np.ndarray) -> np.ndarray:
    """Convert stored token numbers to the type that a network takes."""
    return stored.astype(np.int32)


def blocks(tokens: np.ndarray, block: int) -> Arrays:
    """Divide the tokens of a text into examples (n, block), with the token after each as its target (n, block).

    The examples continue each other; the remainder at the end is dropped.

    >>> x, y = blocks(np.arange(8), 3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    used = (len(tokens) - 1) // block * block
    return Arrays(tokens[:used].reshape(-1, block), tokens[1 : used + 1].reshape(-1, block))


def spec_of(name: str, length: int, block: int, vocabulary: str | bytes) -> DatasetSpec:
    """Describe the dataset that `blocks` makes of a text.

    Args:
        name: name of the dataset.
        length: number of tokens in the text.
        block: tokens per example.
        vocabulary: as for `encode`.

    Raises:
        DataError: when the text is too short for one example.
    """
    size = (length - 1) // block
    if size < 1:
        what = f"{name} has {length} tokens, but a block of {block} and the token after it need {block + 1}"
        raise DataError(f"{what}; use a smaller data.block or a longer text", "block")
    names = tuple(map(chr, vocabulary)) if isinstance(vocabulary, bytes) else tuple(vocabulary)
    targets = Targets("classes", len(vocabulary), names, (block,))
    return DatasetSpec(name, (block,), targets, size, tokens=True, ordered=True, vocabulary=vocabulary)


def code_points(text: str) -> np.ndarray:
    """Return the Unicode code points of a text, uint32."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")
