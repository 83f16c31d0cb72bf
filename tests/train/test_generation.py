"""Generation of sequences by networks that predict the next token."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet
from fnet.train.generation import GenerationError


def chain(logits):
    """Return a network whose logits depend only on the last token: a Markov chain with these rows."""
    logits = jnp.asarray(logits, jnp.float32)
    return fnet.serial(fnet.one_hot(len(logits)), fnet.dense(len(logits), bias=False)), {"dense_1": {"w": logits}}


def take(count, *arguments, **settings):
    return list(itertools.islice(fnet.generate(*arguments, **settings), count))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_sampled_with_the_probabilities_of_the_softmax(temperature):
    """Frequencies of 2,000 samples are compared with exact probabilities: five standard errors are 0.055."""
    z = np.log([0.6, 0.3, 0.1])
    net, params = chain(np.tile(z, (3, 1)))
    tokens = take(2000, net, params, {}, [0], window=2, temperature=temperature, seed=1)
    p = np.exp(z / temperature) / np.exp(z / temperature).sum()
    np.testing.assert_allclose(np.bincount(tokens, minlength=3) / 2000, p, atol=0.055)


def test_temperature_zero_is_greedy_and_padding_does_not_matter():
    """The network is applied to the prefix without padding, before and after the window is full."""
    net = fnet.serial(
        fnet.embedding(5, 8, std=1.0), fnet.positions(4, std=1.0), fnet.attention(2, causal=True), fnet.dense(5)
    )
    params, state = net.init(jax.random.key(3), (4,))
    tokens = [3, 1]
    for _ in range(6):
        z, _ = net.apply(params, state, jnp.array([tokens[-4:]]), train=False)
        tokens.append(int(jnp.argmax(z[0, -1])))
    assert len(set(tokens)) > 2
    assert take(6, net, params, state, [3, 1], window=4, temperature=0) == tokens[2:]


def test_the_randomness_of_a_token_depends_only_on_the_seed_and_its_number():
    net, params = chain(np.zeros((4, 4)))
    settings = {"window": 3, "seed": 5}
    assert take(30, net, params, {}, [0], **settings) == take(30, net, params, {}, [2, 1], **settings)
    assert take(30, net, params, {}, [0], **settings) != take(30, net, params, {}, [0], window=3, seed=6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": [0, 7]}, "token 1 of the prompt: expected an index 0 ... 2, got 7"),
        ({"prompt": [-1]}, "token 0 of the prompt: expected an index 0 ... 2, got -1"),
        ({"prompt": [0, 2**40]}, "token 1 of the prompt: expected an index 0 ... 2, got 1099511627776"),
        ({"prompt": [[0, 1]]}, r"the prompt: expected a sequence of token indices \(n,\), got nested or single values"),
        ({"prompt": [[0], [1, 2]]}, r"expected a sequence of token indices \(n,\), got nested or single values"),
        ({"prompt": 1}, r"expected a sequence of token indices \(n,\), got nested or single values"),
        ({"prompt": [0.5]}, "the prompt: expected whole numbers, got 0.5 first"),
        ({"prompt": [True]}, "the prompt: expected whole numbers, got true first"),
        ({"prompt": ["a"]}, "the prompt: expected whole numbers, got 'a' first"),
        ({"prompt": [10**30]}, "the prompt: expected whole numbers, got 1000000000000000000000000000000 first"),
        ({"temperature": -1.0}, "temperature: expected a finite number of at least 0, got -1"),
        ({"temperature": float("nan")}, "temperature: expected a finite number of at least 0, got nan"),
        ({"temperature": float("inf")}, "temperature: expected a finite number of at least 0, got inf"),
        ({"temperature": "hot"}, "temperature: expected a finite number of at least 0, got 'hot'"),
        ({"window": 0}, "window: expected a whole number of at least 1, got 0"),
        ({"window": 2.0}, "window: expected a whole number of at least 1, got 2"),
        ({"seed": 2**70}, "seed: expected a whole number of at most 64 bits, got 1180591620717411303424"),
        ({"seed": 0.5}, "seed: expected a whole number of at most 64 bits, got 0.5"),
    ],
)
def test_bad_requests_are_refused(changed, message):
    net, params = chain(np.eye(3))
    with pytest.raises(GenerationError, match=message) as error:
        fnet.generate(net, params, {}, **{"prompt": [0], "window": 4, **changed})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("temperature", [1e-45, 1e-39, 1e-36])
def test_a_tiny_temperature_samples_the_most_likely_token(temperature):
    """The logits divided by the temperature are beyond float32, and the temperature itself may be rounded to 0."""
    net, params = chain([[1.0, 3.0, 2.0], [-5.0, -9.0, -4.0], [7.0, 7.5, 8.0]])
    assert take(4, net, params, {}, [0], window=2, temperature=temperature) == [1, 2, 2, 2]


def test_a_tiny_temperature_samples_equally_likely_tokens_equally_often():
    net, params = chain(np.tile([3.0, -1.0, 3.0], (3, 1)))
    tokens = take(60, net, params, {}, [1], window=2, temperature=1e-45, seed=2)
    assert 15 < tokens.count(0) < 45
    assert tokens.count(0) + tokens.count(2) == 60


@pytest.mark.parametrize(
    "layer",
    [fnet.attention(1), fnet.rnn(4, reverse=True), fnet.bidirectional(fnet.gru(2))],
    ids=lambda layer: layer.kind,
)
def test_a_network_that_depends_on_later_steps_is_refused(layer):
    net = fnet.serial(fnet.embedding(3, 4, std=1.0), layer, fnet.dense(3))
    params, state = net.init(jax.random.key(0), (4,))
    for window in (2, 4):
        with pytest.raises(GenerationError, match=r"depend on later steps.* use attention with causal: true"):
            fnet.generate(net, params, state, [0], window=window)


def test_a_network_without_logits_for_every_step_is_refused():
    net = fnet.serial(fnet.one_hot(3), fnet.rnn(4, sequence=False), fnet.dense(3))
    params, state = net.init(jax.random.key(0), (4,))
    with pytest.raises(GenerationError, match=r"logits \(time, vocabulary\).* got outputs of shape \(3,\)"):
        fnet.generate(net, params, state, [0], window=4)
