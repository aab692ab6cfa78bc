"""Every command runs in an empty folder; `--tries N` repeats what happens at random moments."""

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--tries", type=int, help="how often runs are killed, interrupted and raced; a few by default"
    )


def pytest_generate_tests(metafunc):
    if "attempt" in metafunc.fixturenames:
        usual = metafunc.module.USUAL_TRIES
        metafunc.parametrize("attempt", range(metafunc.config.getoption("tries", default=None) or usual))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
