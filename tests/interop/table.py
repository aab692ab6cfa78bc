"""The table of README.md: what each network's look covers, and what is left out of it and why."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- written by --write-table -->\n", "<!-- end -->\n"
LEFT_OUT = re.compile(r"(\w+) left out '([^']*)': (.*)", re.DOTALL)


class Row(NamedTuple):
    """One network.

    Attributes:
        name: The library's name, a dash and the network's.
        share: `covariance/weight_share` of the first look.
        special: What is unusual, in one line.
        sentences: What the diagnostics said.
    """

    name: str
    share: float
    special: str
    sentences: Sequence[str]


def with_table(text: str, rows: Sequence[Row]) -> str:
    """The text with the table of these rows between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "".join([before, BEGIN, *(f"{line}\n" for line in _lines(rows)), END, after])


def names_in(text: str) -> list[str]:
    """The networks of the table in a text."""
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and " | " in line]
    return [f"{library.removeprefix('| ')}-{name}" for library, name, *_ in lines[1:]]


def left_out(sentences: Sequence[str]) -> str:
    """Reasons, each with the layers that it is said of; numbers of blocks are stars."""
    places: dict[str, dict[str, None]] = {}
    others: dict[str, None] = {}
    for sentence in sentences:
        match = LEFT_OUT.fullmatch(sentence)
        if match is None:
            others[sentence] = None
            continue
        callback, name, reason = match.groups()
        reason = reason.partition(";")[0].replace(f"layer {name!r}", "the layer")
        kind = "operators" if callback == "CovarianceOperators" else "features"
        path = re.sub(r"(?<=\.)\d+(?=\.)", "*", name).removeprefix("network.")
        places.setdefault(f"{kind}: {reason}", {})[f"`{path}`"] = None
    grouped = [f"{reason} ({', '.join(names)})" for reason, names in places.items()]
    return "; ".join([*grouped, *others]).replace("|", "/")


def _lines(rows: Sequence[Row]) -> list[str]:
    theirs = [row for row in rows if not row.name.startswith("torch-")]
    half = sum(row.share >= 0.5 for row in theirs)
    lines = [
        f"{half} of {len(theirs)} networks of other libraries have at least half of their trainable weights in a look.",
        "",
        "| library | architecture | weight share | what is special | left out, and why |",
        "|---|---|---|---|---|",
    ]
    for name, share, special, sentences in sorted(rows):
        library, _, network = name.partition("-")
        lines.append(f"| {library} | {network} | {share:.3f} | {special} | {left_out(sentences) or '–'} |")
    return lines
