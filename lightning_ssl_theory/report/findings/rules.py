"""All rules, and what they say of a run: worst news first."""

from __future__ import annotations

from lightning_ssl_theory.report.findings import (
    collapse,
    covariance,
    looks,
    neurons,
    probe,
    theory,
    training,
)
from lightning_ssl_theory.report.findings.finding import Finding, Placed, Rule
from lightning_ssl_theory.report.logged_run import Run

RULES: tuple[Rule, ...] = (
    *training.RULES,
    *collapse.RULES,
    *probe.RULES,
    *covariance.RULES,
    *neurons.RULES,
    *theory.RULES,
    *looks.RULES,
)


def findings(run: Run) -> list[Finding]:
    """What the rules say of a run.

    Args:
        run: One run; its sub-runs are not looked at.

    Returns:
        At most one finding for each rule and severity, of the layer where it is worst; the worst findings first, of
        equal ones in the order of the rules.
    """
    found = [finding for rule in RULES for finding in _found(rule, run)]
    return sorted(found, key=lambda finding: -finding.severity)


def rules_as_markdown() -> str:
    """The table of all rules, as the docs show it.

    Returns:
        A Markdown table with one row for each rule.

    Example:
        >>> rules_as_markdown().splitlines()[0]
        '| rule | speaks when | then |'
    """
    lines = ["| rule | speaks when | then |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {rule.name} | {rule.condition} | {rule.advice} |" for rule in RULES)])


def _found(rule: Rule, run: Run) -> list[Finding]:
    by_severity: dict[int, list[Placed]] = {}
    for placed in sorted(rule.look(run), key=lambda placed: -placed.statement.size):
        by_severity.setdefault(placed.statement.severity, []).append(placed)
    return [_joined(rule, group) for group in by_severity.values()]


def _joined(rule: Rule, group: list[Placed]) -> Finding:
    worst, *rest = group
    others = tuple(placed.layer for placed in rest)
    severity, sentence, _ = worst.statement
    return Finding(rule, severity, sentence, worst.section, worst.name, others)


if __name__ == "__main__":
    print(rules_as_markdown())
