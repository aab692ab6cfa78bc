"""Bad input at the command line: one sentence on what was expected and found, with near valid names; exit code 2.

Neither torch nor Lightning is imported here, so that help and errors come at once.
"""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import NoReturn

PROGRAM = "lightning-ssl-theory"
_PACKAGE = Path(__file__).resolve().parents[1]
# in a checkout `callbacks/` lies beside the package
_OWN_FOLDERS = (_PACKAGE, _PACKAGE.parent / "callbacks")
_REFUSED_BY_CLASS = re.compile(r"^ *- (Expected (?!an? <class|a dot import path|an? <).+)$", re.MULTILINE)


def fail(sentence: str) -> NoReturn:
    """Print a sentence to stderr and exit with code 2.

    Args:
        sentence: What was expected, what was found, what to do.

    Raises:
        SystemExit: Always.
    """
    print(f"{PROGRAM}: {' '.join(sentence.split())}", file=sys.stderr)
    raise SystemExit(2)


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the valid names that look like it.

    Args:
        name: What was found.
        candidates: The valid names.

    Returns:
        Up to three of them, nearest first, or all of them where none is near and they are few.

    Example:
        >>> nearest("widht", ["width", "depth", "height"])
        "the nearest are 'width', 'height'"
    """
    valid = sorted(set(candidates))
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.5)
    if not near and len(valid) > 12:
        near = difflib.get_close_matches(name, valid, n=3, cutoff=0.0)
    if near:
        return f"the nearest {'is' if len(near) == 1 else 'are'} {', '.join(map(repr, near))}"
    return f"choose from {', '.join(map(repr, valid))}" if valid else "leave it out"


@contextmanager
def exit_on_bad_input() -> Iterator[None]:
    """Turn an error that this library raised about its input into one sentence and exit code 2.

    Errors raised anywhere else keep their traceback: they are not about input that we know of.

    Raises:
        ValueError: As any TypeError and OSError, when it was raised elsewhere.
        TypeError: See above.
        OSError: See above.
    """
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        own = next(filter(_is_own, _chain(error)), None)
        if own is None:
            raise
        fail(str(own))


def refused_by_class(message: str) -> str | None:
    """Returns the sentence with which a class refused its arguments, out of jsonargparse's list of errors."""
    match = _REFUSED_BY_CLASS.search(message)
    return match[1] if match else None


# The error and those it was raised from: jsonargparse wraps what a constructor says.
def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_own(error: BaseException) -> bool:
    frames = list(walk_tb(error.__traceback__))
    raised_in = Path(frames[-1][0].f_code.co_filename).resolve() if frames else Path()
    is_input = isinstance(error, ValueError | OSError)  # an InputError is a ValueError
    return is_input and any(folder in raised_in.parents for folder in _OWN_FOLDERS)
