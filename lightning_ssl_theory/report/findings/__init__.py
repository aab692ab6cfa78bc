"""What a run's numbers say, as sentences: the rules, each a pure function, and their order."""

from lightning_ssl_theory.report.findings.finding import Finding, Rule, Severity, Statement
from lightning_ssl_theory.report.findings.rules import RULES, findings, rules_as_markdown

__all__ = ["RULES", "Finding", "Rule", "Severity", "Statement", "findings", "rules_as_markdown"]
