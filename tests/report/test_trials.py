"""Trials keep their order, in one process or several; errors come through."""

import operator
import os

import pytest

from lightning_ssl_theory.report import run_trials


def test_results_in_the_order_of_the_trials_from_several_processes():
    trials = [(value, 2) for value in range(20)]
    assert run_trials(operator.pow, trials, num_processes=2) == [value**2 for value in range(20)]
    assert os.getpid() not in run_trials(os.getpid, [()], num_processes=2)


def test_one_process_is_this_one():
    assert run_trials(os.getpid, [()], num_processes=1) == [os.getpid()]


def test_errors_come_through():
    with pytest.raises(ZeroDivisionError):
        run_trials(operator.truediv, [(1, 2), (1, 0)], num_processes=1)


def test_no_processes():
    with pytest.raises(ValueError, match="Expected `num_processes` > 0, got 0"):
        run_trials(operator.pow, [(1, 1)], num_processes=0)
