"""A small language: sentences of a grammar, so that language models have something to learn without a download.

    sentence -> subject verb [object] [adverb] "."
    subject  -> determiner [adjective] noun ["that" subject verb-of-seeing | "near" subject]
    object   -> subject

A verb agrees with its own subject, however much stands between them, which is what a model must remember:
"the dogs that a small cat sees sleep well."
"""

from typing import Annotated

import numpy as np
from annotated_types import Ge

from fnet.data.source import Arrays
from fnet.data.text import Block, blocks, encode

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
_ALONE = (("sleeps", "sleep"), ("runs", "run"), ("sings", "sing"), ("waits", "wait"))
_WITH_OBJECT = (("sees", "see"), ("likes", "like"), ("follows", "follow"), ("hears", "hear"))
_ADVERBS = ("well", "often", "today", "at night")
_LINKS = ("that", "near")


def _characters() -> str:
    words = [*_ADJECTIVES, *_ADVERBS, *_LINKS]
    for pairs in (_DETERMINERS, _NOUNS, _ALONE, _WITH_OBJECT):
        words += [word for pair in pairs for word in pair]
    return "".join(sorted(set("".join(words) + " .\n")))


VOCABULARY = _characters()
"""Of every text of the grammar."""


def sentences(rng: np.random.Generator, samples: Annotated[int, Ge(2)] = 2000, block: Block = 64) -> Arrays:
    """Sentences of a small grammar, one a line, in blocks of characters; the targets are the characters that follow.

    A verb agrees with its subject, from which a subordinate clause may part it: the dogs that a cat sees sleep well.

    Args:
        samples: number of examples.
        block: characters of an example.
    """
    return blocks(encode(written(rng, samples * block + 1), VOCABULARY), block)


def written(rng: np.random.Generator, length: int) -> str:
    """Sentences, one a line, cut off after so many characters.

    >>> written(np.random.default_rng(0), 40)
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
        words.append(_one(rng, _ALONE)[plural])
    else:
        words += [_one(rng, _WITH_OBJECT)[plural], _subject(rng, 0.15)[0]]
    if rng.random() < 0.3:
        words.append(_one(rng, _ADVERBS))
    return " ".join(words) + ".\n"


def _subject(rng: np.random.Generator, extended: float) -> tuple[str, int]:
    """A noun with what belongs to it, extended with this probability; and whether it is plural, as 0 or 1."""
    plural = int(rng.integers(2))
    words = [_one(rng, _DETERMINERS[plural])]
    if rng.random() < 0.3:
        words.append(_one(rng, _ADJECTIVES))
    words.append(_one(rng, _NOUNS)[plural])
    if rng.random() < extended:
        inner, inner_plural = _subject(rng, extended / 3)
        link = _one(rng, _LINKS)
        words += [link, inner]
        if link == "that":
            words.append(_one(rng, _WITH_OBJECT)[inner_plural])
    return " ".join(words), plural


def _one(rng: np.random.Generator, choices: tuple):
    return choices[rng.integers(len(choices))]
