import numpy as np
import pytest

from fnet.gradcheck.diagnosis import Context, diagnose

RIGHT = np.random.default_rng(5).standard_normal((4, 6))
KERNEL = np.random.default_rng(6).standard_normal((3, 3, 2, 4))
BIAS = np.random.default_rng(7).standard_normal(6)
PENALTY = np.random.default_rng(8).standard_normal((4, 6))


def changed(index, value, right=RIGHT):
    wrong = right.copy()
    wrong[index] = value
    return wrong


CASES = [
    (-RIGHT, RIGHT, "sign flipped: every entry is negated"),
    (-3 * RIGHT, RIGHT, "sign flipped, and norm ratio 3: the same factor in every entry"),
    (2 * RIGHT, RIGHT, "norm ratio 2: a factor of 2, such as from the derivative of a square or a term counted twice"),
    (RIGHT / 32, RIGHT, "norm ratio 1/32 = 1/batch: mean in place of sum"),
    (RIGHT * 10, RIGHT, "norm ratio 10 = outputs: sum in place of mean"),
    (RIGHT * 1.001, RIGHT, "norm ratio 1.001: the same factor in every entry"),
    (RIGHT * 0, RIGHT, "gradient missing: it is zero everywhere"),
    (RIGHT.T, RIGHT, "transposed: (6, 4) instead of (4, 6)"),
    (RIGHT[:, :5], RIGHT, "wrong shape: (4, 5) instead of (4, 6)"),
    (RIGHT[:, :4].T, RIGHT[:, :4], "transposed"),
    (KERNEL.transpose(1, 0, 2, 3), KERNEL, "transposed: the axes are in the order (1, 0, 2, 3)"),
    (KERNEL[::-1, ::-1], KERNEL, "flipped along axes 0 and 1"),
    (np.roll(RIGHT, -1, 1), RIGHT, "shifted by one along axis 1"),
    (np.roll(BIAS, 2), BIAS, "correct entries in the wrong order: axes or indices mixed up"),
    (changed((2, 3), 9.0), RIGHT, "1 of 24 entries is wrong, at [2, 3]"),
    (changed((slice(None), 3), 0.0), RIGHT, "only entries with index 3 of axis 1 are wrong"),
    (changed(([0, 2], [1, 4]), 9.0), RIGHT, "2 of 24 entries are wrong, first at [0, 1]"),
    (np.where(RIGHT > 0, RIGHT, 0), RIGHT,
     "15 of 24 entries are zero but should not be: a mask, a border or a missing term"),
    (changed((1, 1), np.inf), RIGHT, "NaN or infinite in 1 of 24 entries, first at [1, 1]"),
    (RIGHT * BIAS, RIGHT, "a different factor for each index of axis 1: a missing or wrong scale or derivative"),
    (np.full((6,), BIAS.sum()), BIAS, "wrong axis: every entry is the sum of the correct ones along axis 0"),
    (np.full((6,), BIAS.mean()), BIAS, "wrong axis: every entry is the mean of the correct ones along axis 0"),
    (np.full((6,), 0.123), BIAS, "wrong axis: constant along axis 0, where the correct entries vary"),
    (RIGHT + 0.25, RIGHT, "off by the constant 0.25"),
    (RIGHT + BIAS, RIGHT, "a term that is constant along axis 0 is missing or extra, such as the term from a mean"),
    (RIGHT - PENALTY, RIGHT, "regularization: the gradient of the penalty is missing"),
    (RIGHT + PENALTY, RIGHT, "regularization: the gradient of the penalty is counted twice"),
    (RIGHT + 0.01 * PENALTY[::-1], RIGHT,
     "nearly correct (cosine 0.999930): a factor close to 1 or a term close to 0 is missing"),
    (RIGHT + 0.6 * PENALTY[::-1], RIGHT,
     "a term is missing or extra (cosine 0.809), such as one of several that should be summed"),
    (PENALTY[::-1] - 2 * RIGHT, RIGHT, "one of several terms has the wrong sign (cosine -0.865)"),
    (np.cos(7 * RIGHT), RIGHT, "unrelated to the correct values (cosine 0.035): a stale or wrong factor in a product"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "right", "words"), CASES, ids=[words[:40] for *_, words in CASES])
def test_diagnosis(wrong, right, words):
    penalty = PENALTY if right is RIGHT else None
    assert diagnose(wrong, right, Context("w", 32, {"outputs": 10}, penalty)) == words


def test_a_missing_gradient_of_the_bias_or_the_input_is_named():
    assert diagnose(BIAS * 0, BIAS, Context("b")) == "bias gradient missing: it is zero everywhere"
    assert diagnose(BIAS * 0, BIAS, Context("input")) == "gradient of the input missing: it is zero everywhere"


def test_a_difference_only_at_kinks_is_attributed_to_them():
    words = diagnose(changed((2, 3), 9.0), RIGHT, Context("w", at_kinks=True))
    assert words == "derivative at a kink: every entry that differs lies on one"
