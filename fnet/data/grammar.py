"""Sentences of a small grammar: a text for language models, without a download.

    sentence -> subject verb [object] [adverb] "."
    subject  -> determiner [adjective] noun ["that" subject verb-of-seeing | "near" subject]
    object   -> subject

A verb agrees with its own subject, however many words separate them, so a model must remember the subject:
"the dogs that a small cat sees sleep well."
"""

from typing import Annotated

import numpy as np
from annotated_types import Ge

from fnet.data.arrays import Arrays
from fnet.data.tokens import Block, blocks, encode

_DETERMINERS = (("a", "the", "this", "every"), ("some", "the", "these", "all"))
_ADJECTIVES = ("small", "old", "red", "quick", "quiet")
_NOUNS = (
    ("dog", "dogs"),
    ("cat", "cats"),
    ("bird", "birds"),
    ("child", "children"),
    ("mouse", "mice"),
    ("fox", "foxes"),
)
_INTRANSITIVE = (("sleeps", "sleep"), ("runs", "run"), ("sings", "sing"), ("waits", "wait"))
_TRANSITIVE = (("sees", "see"), ("likes", "like"), ("follows", "follow"), ("hears", "hear"))
_ADVERBS = ("well", "often", "today", "at night")
_LINKS = ("that", "near")


def _characters() -> str:
    words = [*_ADJECTIVES, *_ADVERBS, *_LINKS]
    for pairs in (_DETERMINERS, _NOUNS, _INTRANSITIVE, _TRANSITIVE):
        words += [word for pair in pairs for word in pair]
    return "".join(sorted(set("".join(words) + " .\n")))


VOCABULARY = _characters()
"""All characters that the grammar uses, sorted."""


def sentences(rng: np.random.Generator, samples: Annotated[int, Ge(2)] = 2000, block: Block = 64) -> Arrays:
    """Sentences of a small grammar, one per line, in blocks; the target is the next character at every position.

    A verb agrees with its subject, even across a subordinate clause: the dogs that a cat sees sleep well.

    Args:
        samples: number of examples.
        block: characters per example.
    """
    return blocks(encode(write(rng, samples * block + 1), VOCABULARY), block)


def write(rng: np.random.Generator, length: int) -> str:
    """Write sentences, one per line, truncated to a number of characters.

    >>> write(np.random.default_rng(0), 40)
    'these old dogs near every child follow t'
    """
    text, missing = [], length
    while missing > 0:
        sentence = _sentence(rng)
        text.append(sentence)
        missing -= len(sentence)
    return "".join(text)[:length]


def _sentence(rng: np.random.Generator) -> str:
    subject, plural = _subject(rng, 0.4)
    words = [subject]
    if rng.random() < 0.5:
        words.append(_choice(rng, _INTRANSITIVE)[plural])
    else:
        words += [_choice(rng, _TRANSITIVE)[plural], _subject(rng, 0.15)[0]]
    if rng.random() < 0.3:
        words.append(_choice(rng, _ADVERBS))
    return " ".join(words) + ".\n"


def _subject(rng: np.random.Generator, extended: float) -> tuple[str, int]:
    """Return a noun phrase, extended with this probability, and whether it is plural, as 0 or 1."""
    plural = int(rng.integers(2))
    words = [_choice(rng, _DETERMINERS[plural])]
    if rng.random() < 0.3:
        words.append(_choice(rng, _ADJECTIVES))
    words.append(_choice(rng, _NOUNS)[plural])
    if rng.random() < extended:
        inner, inner_plural = _subject(rng, extended / 3)
        link = _choice(rng, _LINKS)
        words += [link, inner]
        if link == "that":
            words.append(_choice(rng, _TRANSITIVE)[inner_plural])
    return " ".join(words), plural


def _choice(rng: np.random.Generator, choices: tuple):
    return choices[rng.integers(len(choices))]
