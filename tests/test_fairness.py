"""The certificate of a division: rational, balanced, without objection."""

from __future__ import annotations

import numpy as np
import pytest

from market.fairness import Excess, FairnessError, fairness

NAN = float("nan")


def test_all_three_questions_are_answered_by_hand():
    """Ben is the worst off, half a cent is left over, and who objects is taken along."""
    answer = fairness(("anna", "ben"), [0.3, 0.1], [-0.2, 0.205], excess=Excess(-0.1, ("ben",), False, 2))

    assert (answer.worst_gain_eur, answer.worst_agent, answer.rational) == (0.1, "ben", True)
    assert answer.imbalance_eur == pytest.approx(0.005)
    assert not answer.balanced
    assert (answer.excess_eur, answer.excess_coalition, answer.excess_sampled, answer.excess_tried) == (
        -0.1,
        ("ben",),
        False,
        2,
    )


def test_a_loss_is_a_loss_only_beyond_the_tolerance():
    """Rounding is no injustice; twice the tolerance is one."""
    assert fairness(("anna",), [-1e-6], [1e-6], tolerance_eur=1e-6).rational
    assert fairness(("anna",), [-1e-6], [1e-6], tolerance_eur=1e-6).balanced
    assert not fairness(("anna",), [-2e-6], [0.0], tolerance_eur=1e-6).rational
    assert not fairness(("anna",), [0.0], [2e-6], tolerance_eur=1e-6).balanced


def test_what_nobody_computed_is_not_there():
    """Without values of coalitions the excess is NaN, not zero."""
    assert np.isnan(fairness(("anna",), [1.0], [0.0]).excess_eur)


def test_nan_passes_no_check():
    """A gain or a payment that is not a number is neither rational nor balanced."""
    gain = fairness(("anna", "ben"), [NAN, 1.0], [0.0, 0.0])
    payment = fairness(("anna", "ben"), [1.0, 1.0], [0.0, NAN])

    assert not gain.rational
    assert gain.worst_agent == "anna"
    assert not payment.balanced


def test_nobody_is_treated_unfairly_where_nobody_is():
    """The empty community is rational and balanced."""
    answer = fairness((), [], [])

    assert (answer.rational, answer.balanced, answer.worst_agent) == (True, True, "")


@pytest.mark.parametrize(("gain", "payment"), [([1.0], [0.0, 0.0]), ([0.0, 0.0], [0.0]), ([[0.0, 0.0]], [0.0, 0.0])])
def test_columns_of_another_length_are_refused(gain, payment):
    """Names, gains and payments are one each."""
    with pytest.raises(FairnessError, match="one gain and one payment"):
        fairness(("anna", "ben"), gain, payment)


@pytest.mark.parametrize("tolerance", [-1.0, NAN, float("inf")])
def test_a_tolerance_is_a_number(tolerance):
    """A tolerance that would let everything or nothing pass is refused."""
    with pytest.raises(FairnessError, match="tolerance_eur"):
        fairness(("anna",), [0.0], [0.0], tolerance_eur=tolerance)
