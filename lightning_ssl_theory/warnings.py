"""The warning a diagnostic gives, once, when it cannot be computed and training goes on without it."""


class DiagnosticWarning(UserWarning):
    """A diagnostic was left out; the sentence says what was expected, what was found and what to do."""
