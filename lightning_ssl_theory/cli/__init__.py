"""The command line `lightning-ssl-theory`: demo, fit, validate, test and report."""

from lightning_ssl_theory.cli.main import main

__all__ = ["main"]
