"""`python -m lightning_ssl_theory` is the same as `lightning-ssl-theory`."""

from lightning_ssl_theory.cli import main

main()
