"""Generate text, or other sequences of tokens, with a network that predicts the next token."""

import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer, is_shape
from fnet.core.wording import format_value


class GenerationError(ValueError):
    """A prompt, a setting or a network that does not allow generation."""

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
    """Return an endless iterator over tokens that continue a prompt.

    The next token is sampled from softmax(z / temperature), for the logits z after the last `window` tokens. The random
    key of the k-th token depends only on the seed and k.

    Args:
        net: the network, from token indices (batch, time) to logits (batch, time, vocabulary).
        params: its parameters.
        state: its non-trainable state.
        prompt: token indices (n,), at least one.
        window: context length, at least 1; usually the length of the training sequences.
        temperature: sampling temperature; below 1 favors likely tokens, and 0 is greedy.
        seed: seed of the sampling, of at most 64 bits.

    Raises:
        GenerationError: for a prompt that is empty or not a sequence of tokens in the vocabulary, a temperature that is
            negative or not finite, a window or seed out of range, and a network whose outputs at a step depend on later
            tokens, or are not logits (batch, time, vocabulary).

    >>> import itertools, fnet
    >>> net = fnet.serial(fnet.one_hot(3), fnet.dense(3, bias=False))
    >>> after = {"dense_1": {"w": 9.0 * jnp.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])}}  # 0 -> 1 -> 2 -> 0
    >>> list(itertools.islice(generate(net, after, {}, [0], window=4, temperature=0), 5))
    [1, 2, 0, 1, 2]
    """
    temperature, window, key = _temperature(temperature), _window(window), _key(seed)
    tokens = _tokens_of(prompt, _vocabulary_size(net, window))
    if _depends_on_later_steps(net, params, state, window):
        raise GenerationError(
            "the network's outputs at a step depend on later steps, which do not exist yet during generation; "
            "use attention with causal: true, and recurrent layers that are neither reversed nor bidirectional"
        )
    return _tokens(net, params, state, tokens[-window:], window, temperature, key)


def _temperature(value: Any) -> float:
    try:
        temperature = float(value)
    except (TypeError, ValueError, OverflowError):
        temperature = math.nan
    if not 0 <= temperature < math.inf:
        raise GenerationError(f"temperature: expected a finite number of at least 0, got {format_value(value)}")
    return temperature


def _window(value: Any) -> int:
    try:
        window = operator.index(value)
    except TypeError:
        window = 0
    if window < 1:
        raise GenerationError(f"window: expected a whole number of at least 1, got {format_value(value)}")
    return window


def _key(seed: Any) -> jax.Array:
    try:
        return jax.random.key(operator.index(seed))
    except (TypeError, OverflowError):
        raise GenerationError(f"seed: expected a whole number of at most 64 bits, got {format_value(seed)}") from None


def _vocabulary_size(net: Layer, window: int) -> int:
    logits = net.shape((window,))
    if not is_shape(logits) or len(logits) != 2 or logits[0] != window:
        raise GenerationError(
            f"expected a network with logits (time, vocabulary) for every step, got outputs of shape {logits}"
        )
    return logits[1]


def _tokens_of(prompt: Any, size: int) -> np.ndarray:
    """Return a prompt as an array of tokens (n,), int32."""
    try:
        tokens = np.asarray(prompt)
    except ValueError:  # nested lists of different lengths
        tokens = np.empty((0, 0))
    if tokens.ndim != 1:
        raise GenerationError("the prompt: expected a sequence of token indices (n,), got nested or single values")
    if not len(tokens):
        raise GenerationError("the prompt is empty; it needs at least one token")
    if tokens.dtype.kind not in "iu":
        raise GenerationError(f"the prompt: expected whole numbers, got {format_value(tokens.tolist()[0])} first")
    outside = (tokens < 0) | (tokens >= size)
    if outside.any():
        position = int(np.argmax(outside))
        raise GenerationError(
            f"token {position} of the prompt: expected an index 0 ... {size - 1}, got {tokens[position]}"
        )
    return tokens.astype(np.int32)


def _tokens(
    net: Layer, params: Any, state: Any, tokens: np.ndarray, window: int, temperature: float, key: jax.Array
) -> Iterator[int]:
    @jax.jit
    def sample(params, state, tokens, last, key):
        z = net.apply(params, state, tokens[None], train=False)[0][0, last]
        below = z - jnp.max(z)
        # At a tiny temperature, z / temperature overflows; of the maximum, 0 / temperature must remain 0.
        scaled = jnp.where(below == 0, 0.0, below / temperature)
        return jnp.argmax(z) if temperature == 0 else jax.random.categorical(key, scaled)

    for number in itertools.count():
        padded = np.pad(tokens, (0, window - len(tokens)))
        token = int(sample(params, state, padded, len(tokens) - 1, jax.random.fold_in(key, number)))
        yield token
        tokens = np.append(tokens, np.int32(token))[-window:]


def _depends_on_later_steps(net: Layer, params: Any, state: Any, window: int) -> bool:
    """Return whether the first half of the outputs depends on the second half of the inputs."""
    half = window // 2
    if not half:
        return False
    first, second = np.random.default_rng(0).integers(0, _vocabulary_size(net, window), (2, window), np.int32)
    both = np.stack([first, np.concatenate([first[:half], second[half:]])])
    z = np.asarray(jax.jit(lambda x: net.apply(params, state, x, train=False)[0])(both))[:, :half]
    return not np.allclose(z[0], z[1], rtol=1e-4, atol=1e-5)
