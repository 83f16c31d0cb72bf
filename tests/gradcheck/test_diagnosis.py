import numpy as np
import pytest

from fnet.gradcheck.diagnosis import Context, diagnosed

RIGHT = np.random.default_rng(5).standard_normal((4, 6))
KERNEL = np.random.default_rng(6).standard_normal((3, 3, 2, 4))
BIAS = np.random.default_rng(7).standard_normal(6)
PENALTY = np.random.default_rng(8).standard_normal((4, 6))


def changed(index, value, right=RIGHT):
    wrong = right.copy()
    wrong[index] = value
    return wrong


CASES = [
    (-RIGHT, RIGHT, "sign: the negative of the right one"),
    (-3 * RIGHT, RIGHT, "sign, and norm ratio 3: a constant factor throughout"),
    (2 * RIGHT, RIGHT, "norm ratio 2: a factor of 2, as the derivative of a square or a term counted twice has"),
    (RIGHT / 32, RIGHT, "norm ratio 1/32 = 1/batch: mean and sum mixed up"),
    (RIGHT * 10, RIGHT, "norm ratio 10 = outputs: mean and sum mixed up"),
    (RIGHT * 1.001, RIGHT, "norm ratio 1.001: a constant factor throughout"),
    (RIGHT * 0, RIGHT, "gradient missing: the gradient is zero"),
    (RIGHT.T, RIGHT, "transposed: of shape (6, 4) where (4, 6) is right"),
    (RIGHT[:, :5], RIGHT, "of shape (4, 5) where (4, 6) is right"),
    (RIGHT[:, :4].T, RIGHT[:, :4], "transposed"),
    (KERNEL.transpose(1, 0, 2, 3), KERNEL, "transposed: axes in the order (1, 0, 2, 3)"),
    (KERNEL[::-1, ::-1], KERNEL, "flipped along axis 0 and 1"),
    (np.roll(RIGHT, -1, 1), RIGHT, "shifted by one along axis 1"),
    (np.roll(BIAS, 2), BIAS, "the right numbers in another order: axes or indices mixed up"),
    (changed((2, 3), 9.0), RIGHT, "1 of 24 entries is wrong at [2, 3]"),
    (changed((slice(None), 3), 0.0), RIGHT, "only entries with index 3 of axis 1 are wrong"),
    (changed(([0, 2], [1, 4]), 9.0), RIGHT, "2 of 24 entries are wrong, first at [0, 1]"),
    (np.where(RIGHT > 0, RIGHT, 0), RIGHT, "15 of 24 entries are zero: a mask, a border or a term left out"),
    (changed((1, 1), np.inf), RIGHT, "NaN or infinite in 1 of 24 entries, first at [1, 1]"),
    (RIGHT * BIAS, RIGHT, "a factor for every index of axis 1: one left out or wrong, such as a scale or a derivative"),
    (np.full((6,), BIAS.sum()), BIAS, "the wrong axis: the sum of the right one along axis 0, everywhere"),
    (np.full((6,), BIAS.mean()), BIAS, "the wrong axis: the mean of the right one along axis 0, everywhere"),
    (np.full((6,), 0.123), BIAS, "the wrong axis: constant along axis 0, where the right one is not"),
    (RIGHT + 0.25, RIGHT, "off by a constant, 0.25"),
    (RIGHT + BIAS, RIGHT, "a term is missing that is constant along axis 0, such as that of a mean"),
    (RIGHT - PENALTY, RIGHT, "off by the regularizer: the gradient of the penalty is left out"),
    (RIGHT + PENALTY, RIGHT, "off by the regularizer: the gradient of the penalty is counted twice"),
    (RIGHT + 0.01 * PENALTY[::-1], RIGHT,
     "nearly right (cosine 0.999930): a factor or term that is nearly 1 or 0 is left out"),
    (RIGHT + 0.6 * PENALTY[::-1], RIGHT,
     "a term is missing or too many (cosine 0.809), such as one of several that should add up"),
    (PENALTY[::-1] - 2 * RIGHT, RIGHT, "a wrong sign in one of several terms (cosine -0.865)"),
    (np.cos(7 * RIGHT), RIGHT, "another quantity (cosine 0.035): a stale or wrong value in a product"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "right", "words"), CASES, ids=[words[:40] for *_, words in CASES])
def test_words(wrong, right, words):
    penalty = PENALTY if right is RIGHT else None
    assert diagnosed(wrong, right, Context("w", 32, {"outputs": 10}, penalty)) == words


def test_a_missing_bias_or_input_is_called_by_its_name():
    assert diagnosed(BIAS * 0, BIAS, Context("b")) == "bias missing: the gradient is zero"
    assert diagnosed(BIAS * 0, BIAS, Context("input")) == "gradient of the input missing: the gradient is zero"


def test_a_difference_on_kinks_alone_is_said_to_be_one():
    words = diagnosed(changed((2, 3), 9.0), RIGHT, Context("w", at_kinks=True))
    assert words == "the derivative at the kink: the entries that differ lie on one"
