"""Trials keep their order, in one process or several; errors come through."""

import logging
import operator
import os
import warnings

import pytest

from lightning_ssl_theory.report import run_trials
from lightning_ssl_theory.warnings import DiagnosticWarning


def test_results_in_the_order_of_the_trials_from_several_processes():
    trials = [(value, 2) for value in range(20)]
    assert run_trials(operator.pow, trials, num_processes=2) == [value**2 for value in range(20)]
    assert os.getpid() not in run_trials(os.getpid, [()], num_processes=2)


def test_one_process_is_this_one():
    assert run_trials(os.getpid, [()], num_processes=1) == [os.getpid()]


def _warn(category: type[Warning], module: str) -> None:
    warnings.warn_explicit("a look was left out", category, "file.py", 1, module=module)


def test_lightning_is_silent_and_this_library_is_not():
    trials = [
        (DiagnosticWarning, "lightning_ssl_theory.callbacks.diagnostic"),
        (UserWarning, "lightning.pytorch.trainer"),
    ]
    with pytest.warns(DiagnosticWarning) as caught:
        run_trials(_warn, trials, num_processes=1)
    assert [warning.category for warning in caught] == [DiagnosticWarning]
    logger, heard = logging.getLogger("lightning.pytorch"), []
    run_trials(lambda: heard.append(logger.isEnabledFor(logging.INFO)), [()], num_processes=1)
    assert heard == [False]
    assert logger.isEnabledFor(logging.INFO) or logger.level > logging.INFO


def test_errors_come_through():
    with pytest.raises(ZeroDivisionError):
        run_trials(operator.truediv, [(1, 2), (1, 0)], num_processes=1)


def test_no_processes():
    with pytest.raises(ValueError, match="Expected `num_processes` > 0, got 0"):
        run_trials(operator.pow, [(1, 1)], num_processes=0)
