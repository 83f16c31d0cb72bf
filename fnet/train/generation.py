"""Text, or any other sequence of tokens, from a network that foretells the next one."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer


class GenerationError(ValueError):
    """A prompt, a setting or a network that nothing can be generated from."""

    exit_status = 2


def generate(
    net: Layer,
    params: Any,
    state: Any,
    prompt: Sequence[int] | np.ndarray,
    *,
    window: int,
    temperature: float = 1.0,
    seed: int = 0,
) -> Iterator[int]:
    """Tokens that continue a prompt, one after the other, without end: take as many as are wanted.

    From the logits z after the last `window` tokens the next is drawn with the probabilities softmax(z / temperature).
    The draw of the k-th token depends on the seed and k alone.

    Args:
        net: the network, from token numbers (batch, time) to logits (batch, time, vocabulary).
        params: its parameters.
        state: its non-trainable state.
        prompt: token numbers, at least one.
        window: the most tokens that the network is given at once: as many as the sequences it was trained on have.
        temperature: below 1 the likely tokens become likelier still; at 0 the likeliest is taken each time.
        seed: of the draws.

    Raises:
        GenerationError: for an empty prompt, a token outside the vocabulary, a negative temperature, or a network whose
            outputs at a step depend on later tokens, or are no logits (batch, time, vocabulary).

    >>> import itertools, fnet
    >>> net = fnet.serial(fnet.one_hot(3), fnet.dense(3, bias=False))
    >>> after = {"dense_1": {"w": 9.0 * jnp.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])}}  # 0 -> 1 -> 2 -> 0
    >>> list(itertools.islice(generate(net, after, {}, [0], window=4, temperature=0), 5))
    [1, 2, 0, 1, 2]
    """
    tokens = np.asarray(prompt, np.int32).reshape(-1)
    if not len(tokens):
        raise GenerationError("the prompt is empty; it needs at least one token to go on from")
    if temperature < 0:
        raise GenerationError(f"expected a temperature of at least 0, got {temperature:g}")
    logits = net.shape((window,))
    if len(logits) != 2 or logits[0] != window:
        raise GenerationError(
            f"generation needs logits (time, vocabulary) for every step, and the network gives {logits}"
        )
    outside = (tokens < 0) | (tokens >= logits[1])
    if outside.any():
        place = int(np.argmax(outside))
        raise GenerationError(f"token {place} of the prompt is {tokens[place]}, outside 0 ... {logits[1] - 1}")
    if _reads_ahead(net, params, state, window, logits[1]):
        raise GenerationError(
            "the network's outputs at a step depend on later steps, which do not exist yet when text is generated; "
            "use attention with causal: true, and recurrent layers that are neither reversed nor bidirectional"
        )
    return _tokens(net, params, state, tokens[-window:], window, temperature, jax.random.key(seed))


def _tokens(
    net: Layer, params: Any, state: Any, given: np.ndarray, window: int, temperature: float, key: jax.Array
) -> Iterator[int]:
    @jax.jit
    def draw(params, state, tokens, last, key):
        z = net.apply(params, state, tokens[None], train=False)[0][0, last]
        return jnp.argmax(z) if temperature == 0 else jax.random.categorical(key, z / temperature)

    number = 0
    while True:
        filled = np.pad(given, (0, window - len(given)))
        token = int(draw(params, state, filled, len(given) - 1, jax.random.fold_in(key, number)))
        yield token
        given = np.append(given, np.int32(token))[-window:]
        number += 1


def _reads_ahead(net: Layer, params: Any, state: Any, window: int, size: int) -> bool:
    """Whether the first half of the outputs depends on the second half of the inputs."""
    half = window // 2
    if not half:
        return False
    first, second = np.random.default_rng(0).integers(0, size, (2, window), np.int32)
    both = np.stack([first, np.concatenate([first[:half], second[half:]])])
    z = np.asarray(jax.jit(lambda x: net.apply(params, state, x, train=False)[0])(both))[:, :half]
    return not np.allclose(z[0], z[1], rtol=1e-4, atol=1e-5)
