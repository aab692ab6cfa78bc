"""The command line `lightning-ssl-theory`: demo, fit, validate, test, report, dashboard and doctor."""

from lightning_ssl_theory.cli.main import main

__all__ = ["main"]
