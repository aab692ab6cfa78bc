"""Checkers and harnesses for the tests; imported as `from helpers.ddp import run_ranks`."""
