"""The examples in docstrings are right."""

import doctest
import importlib
import pkgutil

import pytest

import lightning_ssl_theory
import lightning_ssl_theory.callbacks as callbacks

MODULES = sorted(
    module.name
    for package in (lightning_ssl_theory, callbacks)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} says nothing of itself"
    assert doctest.testmod(module).failed == 0
