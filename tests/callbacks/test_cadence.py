import pytest

from lightning_ssl_theory.callbacks.cadence import Cadence


def looks(cadence, steps):
    """The steps with a look, where only some steps are seen."""
    found = []
    for step in steps:
        if cadence.is_step_due(step):
            found.append(step)
            cadence.last_step = step
    return found


def test_steps():
    assert looks(Cadence(3, None), range(1, 11)) == [3, 6, 9]
    assert looks(Cadence(3, None), [1, 1, 3, 3, 5, 5, 6]) == [3, 6]  # batches that only accumulate
    assert looks(Cadence(3, None), range(2, 15, 2)) == [
        4,
        6,
        10,
        12,
    ]  # two optimisers: the first at or past a period
    assert looks(Cadence(None, 2), range(1, 11)) == []


def test_a_resumed_cadence_goes_on():
    resumed = Cadence(4, None)
    resumed.last_step = 8
    assert looks(resumed, range(9, 18)) == [12, 16]


@pytest.mark.parametrize(
    ("arguments", "epochs"), [((None, None), [0, 1, 2, 3]), ((None, 2), [1, 3]), ((5, None), [])]
)
def test_epochs(arguments, epochs):
    assert [epoch for epoch in range(4) if Cadence(*arguments).is_epoch_due(epoch)] == epochs
