"""Text as blocks of token indices, for networks that learn to predict the next token."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge

from fnet.data.arrays import Arrays
from fnet.data.source import DataError, DatasetSpec, Targets

BYTES = bytes(range(256))
"""Vocabulary of bytes: token k is the byte k."""

Block = Annotated[int, Ge(1)]


def encode(text: str, vocabulary: str | bytes) -> np.ndarray:
    """Return the token indices of a text, int32.

    Args:
        text: the text to encode.
        vocabulary: a text whose k-th character is token k; or bytes, to encode the UTF-8 bytes of the text.

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
        raise DataError(f"the character '{character}' at position {unknown[0]} of the text is not in the vocabulary")
    return numbers.astype(np.int32)


def decode(tokens: Sequence[int] | np.ndarray, vocabulary: str | bytes) -> str:
    """Return the text for token indices; bytes that are not UTF-8 become the replacement character.

    >>> decode([0, 1, 1, 0], "ab"), decode([195, 169, 195], BYTES)
    ('abba', 'é\N{REPLACEMENT CHARACTER}')
    """
    numbers = np.asarray(tokens, int).tolist()
    if isinstance(vocabulary, bytes):
        return bytes(vocabulary[number] for number in numbers).decode(errors="replace")
    return "".join(vocabulary[number] for number in numbers)


def as_tokens(stored: np.ndarray) -> np.ndarray:
    """Convert stored token indices to the dtype that a network takes."""
    return stored.astype(np.int32)


def blocks(tokens: np.ndarray, block: int) -> Arrays:
    """Divide the tokens of a text into examples (n, block); the targets (n, block) are the next tokens.

    Consecutive examples continue each other; the remainder at the end is dropped.

    >>> x, y = blocks(np.arange(8), 3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    used = (len(tokens) - 1) // block * block
    return Arrays(tokens[:used].reshape(-1, block), tokens[1 : used + 1].reshape(-1, block))


def spec_of(name: str, length: int, block: int, vocabulary: str | bytes) -> DatasetSpec:
    """Return the description of the dataset that `blocks` builds from a text.

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
        what = f"{name}: expected at least {block + 1} tokens for a block of {block} and the next token, got {length}"
        raise DataError(f"{what}; use a smaller data.block or a longer text", "block")
    names = tuple(map(chr, vocabulary)) if isinstance(vocabulary, bytes) else tuple(vocabulary)
    targets = Targets("classes", len(vocabulary), names, (block,))
    return DatasetSpec(name, (block,), targets, size, tokens=True, ordered=True, vocabulary=vocabulary)


def code_points(text: str) -> np.ndarray:
    """Return the Unicode code points of a text, uint32."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")
