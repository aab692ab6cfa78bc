"""What every test starts from."""

import os

import hypothesis
import pytest

# the tensors are tiny, and there is a test on every core: threads would only wait for one another
os.environ.setdefault("OMP_NUM_THREADS", "1")
# how long an example takes says what else the machine does; the same examples every time, so that a change is
# judged by itself. `--hypothesis-profile search` draws new ones, and more
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1200)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-cases", action="store_true", help="whole tables of which the suite runs a part")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all-cases"):
        for item in items:
            if item.get_closest_marker("all_cases"):
                item.add_marker(pytest.mark.skip(reason="runs with --all-cases"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)
