"""Options of a script are the arguments of its main."""

import pytest

from lightning_ssl_theory.report import run_script

CALLS = []


def main(
    *,
    full: bool = False,
    num_seeds: int | None = None,
    num_epochs: int = 3,
    mnist: str | None = None,
    output_dir: str = "runs/reproduce",
) -> None:
    CALLS.append((full, num_seeds, num_epochs, mnist, output_dir))


HELPS = {"full": "longer", "num_seeds": "how many", "mnist": "folder"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", (False, None, 3, None, "runs/reproduce")),
        ("--full --output-dir here", (True, None, 3, None, "here")),
        ("--num-seeds 7 --mnist data", (False, 7, 3, "data", "runs/reproduce")),
    ],
)
def test_options(words, expected):
    CALLS.clear()
    run_script(main, words.split(), **HELPS)
    assert [expected] == CALLS


def test_help_and_bad_words(capsys):
    with pytest.raises(SystemExit):
        run_script(main, ["--help"], **HELPS)
    out = capsys.readouterr().out
    assert "Options of a script are the arguments of its main." in out
    assert "how many" in out
    assert "--num-epochs" not in out
    with pytest.raises(SystemExit):
        run_script(main, ["--num-seeds", "few"], **HELPS)
    assert "invalid int value: 'few'" in capsys.readouterr().err
