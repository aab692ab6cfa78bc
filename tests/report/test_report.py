"""The page: self-contained, whole from whatever a run has left, and honest about what is missing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape

from lightning_ssl_theory.report import (
    RunFolderError,
    read_run,
    read_runs,
    render_comparison,
    render_report,
    write_comparison,
    write_report,
)
from lightning_ssl_theory.report.keys import QUANTITIES, SECTIONS

from .synthetic_run import LAYERS, NUMBERS, write_rows, write_run


class Balance(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(html):
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    targets = set(re.findall(r'href="#([^"]*)"', html))
    assert targets <= set(parser.ids)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', html)
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert not re.search(r'points="[^"]*[a-df-z]', drawing)  # no nan, no inf


@pytest.fixture
def full_run(tmp_path):
    return write_run(tmp_path / "full", num_looks=4, layers={**LAYERS, "orthogonality": ["network.hidden"]})


def test_full_run_shows_every_quantity_with_its_reading(full_run):
    html = render_report(read_run(full_run))
    check_page(html)
    drawn = [q for q in QUANTITIES if q.section != "overhead" and not q.name.endswith("_error95")]
    for quantity in drawn:
        number = str(NUMBERS.get(quantity.name, [0])[0])
        reading = quantity.reading.replace("<tau>", "0.07")
        shown = str(escape(reading if number == "1" else reading.replace("<k>", number)))
        assert re.sub("`(.*?)`", r"<code>\1</code>", shown) in html
    for section in SECTIONS:
        assert f'id="{section.name}"' in html
    assert "seed_everything: 0" in html
    assert "CovarianceOperators</span>" in html
    assert "151,616" in html


def test_parts_are_compared_in_one_chart(tmp_path):
    for name, rank in (("orthogonal", 8.0), ("unconstrained", 1.0)):
        write_rows(tmp_path / name, {"collapse/network/effective_rank": [8.0, rank]}, [0, 10])
    html = render_report(read_run(tmp_path))
    check_page(html)
    comparison = html.split('id="comparison"')[1].split("</section>")[0]
    (chart,) = re.findall(r"<svg.*?</svg>", comparison, re.DOTALL)
    assert re.findall(r'data-label="(.*?)"', chart) == ["orthogonal", "unconstrained"]
    assert '1.00 <span class="was">from 8.00</span>' in comparison


def test_missing_pieces_are_named(tmp_path):
    write_rows(tmp_path, {"train/loss": [1.0], "probe/backbone/ridge_top1": ["nan"]}, [0])
    html = render_report(read_run(tmp_path))
    check_page(html)
    missing = html.split("<h3>Not in this run")[1]
    for sentence in (
        "<code>covariance/…</code> was not logged; CovarianceOperators writes it",
        "<code>probe/backbone/ridge_top1</code> was logged, but never as a finite number.",
        "There is no checkpoint under checkpoints/",
        "There is no run.json",
        "neither a config.yaml nor an hparams.yaml",
    ):
        assert sentence in missing
    assert "one value" in html


def test_skipped_values_and_unknown_keys_are_shown(tmp_path):
    columns = {"probe/a/ridge_top1": [0.5, "nan"], "collapse/a/strange": [1.0, 2.0], "lr-SGD": [0.1, 0.2]}
    write_rows(tmp_path, columns, [0, 1])
    html = render_report(read_run(tmp_path))
    check_page(html)
    assert "1 value was no finite number and is left out." in html
    assert "Other logged keys" in html
    assert html.count("This key is not one of the library&#39;s own.") == 2


def test_names_from_the_run_are_escaped(tmp_path):
    write_rows(tmp_path / "<b>", {"collapse/<i>/rankme": [1.0], "<u>/x": [1.0]}, [0])
    (tmp_path / "<b>" / "config.yaml").write_text("<s>")
    html = render_report(read_run(tmp_path / "<b>"))
    assert not re.findall(r"<(b|u|s)>", html.replace("<b>1.00</b>", "").replace("<b>0</b>", ""))
    assert "&lt;s&gt;" in html


def test_write_report_writes_one_file(full_run, tmp_path):
    assert write_report(full_run) == full_run / "report.html"
    other = write_report(full_run, tmp_path / "new" / "page.html")
    assert other.read_text() == (full_run / "report.html").read_text()
    assert [path.name for path in other.parent.iterdir()] == ["page.html"]


def test_unwritable_place_is_one_sentence(full_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunFolderError, match=r"Expected to be able to write `.*page.html`, found: .*--output"
    ):
        write_report(full_run, tmp_path / "file" / "page.html")


def test_errors_are_bands_by_their_name_and_by_that_of_0_1(tmp_path):
    trace, pages = {"covariance/net/trace": [4.0, 8.0]}, []
    for name, half in (("error95", 1.0), ("stderr", 0.5)):
        write_rows(tmp_path / name, trace | {f"covariance/net/trace_{name}": [half, half]}, [0, 10])
        pages.append(render_report(read_run(tmp_path / name)))
    bands = [re.findall(r'<polygon[^>]*points="([^"]*)"', page) for page in pages]
    assert bands[0] == bands[1]
    assert len(bands[0]) == 1
    assert not any("trace_" in page.split("<script>")[0] for page in pages)


HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"


def test_hostile_names_are_text(tmp_path):
    folder = tmp_path / HOSTILE.replace("/", "")
    keys = [f"collapse/{HOSTILE}/effective_rank", HOSTILE, f"overhead/{HOSTILE}/seconds", f"train/{HOSTILE}"]
    for name in ("a", HOSTILE.replace("/", "")):
        write_rows(folder / name, {key: [1.0, 1.0] for key in keys}, [0, 10])
        (folder / name / "config.yaml").write_text(HOSTILE)
        (folder / name / "run.json").write_text(
            json.dumps(
                {
                    "status": f"failed: {HOSTILE}",
                    "started": HOSTILE,
                    "seconds": 1,
                    "torch": HOSTILE,
                    "network": HOSTILE,
                }
                | {"left_out": {HOSTILE: {HOSTILE: HOSTILE}}}
            )
        )
    pages = [render_report(read_run(folder)), render_report(read_run(folder / "a"))]
    for html in [*pages, render_comparison(read_runs([folder / name for name in ("a", folder.name)]))]:
        check_page(html)
        assert html.count("<script") == 1  # our own
        assert "&lt;script&gt;alert(1)" in html
        assert "49" not in html.split("<script>")[0].split("</style>")[1]


def test_the_worst_news_comes_first_and_links_to_its_curve(tmp_path):
    columns = {
        "train/loss": [1.0] * 9 + ["nan"],
        "collapse/net/effective_rank": [6.0] * 10,
        "collapse/net/num_features": [128.0] * 10,
        "selectivity/net/selective_share": [1.0] * 10,
    }
    write_rows(tmp_path, columns, list(range(10)))
    html = render_report(read_run(tmp_path))
    check_page(html)
    said = html.split('id="said"')[1].split("</ol>")[0]
    kinds = re.findall(r'class="kind">(\w+)', said)
    assert kinds == ["broken", "watch", "good"]
    assert re.findall(r'href="#([^"]*)"', said) == [
        "train-loss",
        "collapse-effective_rank",
        "selectivity-selective_share",
    ]
    assert "The loss has not been a finite number since step 9." in said
    assert "Why do I see this?" in said
    # each section says what it is, what good looks like, and what is seen in this run
    collapse = html.split('<section id="collapse"')[1].split("</section>")[0]
    about = next(section for section in SECTIONS if section.name == "collapse")
    for text in (about.intro, about.good, "net uses 6.00 of 128 directions."):
        assert str(escape(text)) in collapse


def test_at_most_six_sentences_are_on_top(tmp_path):
    columns = {f"train/{k}": ["nan"] for k in range(3)} | {"train/loss": ["nan"], "a/b/c": [1.0]}
    columns |= {"collapse/net/effective_rank": [1.0], "feature_norms/net/dead_share": [0.9]}
    columns |= {"selectivity/net/selective_share": [0.0], "covariance/net/residual": [0.9]}
    columns |= {"orthogonality/net/flow_distance": [0.9], "overhead/A/share": [0.9]}
    write_rows(tmp_path, columns, [0])
    html = render_report(read_run(tmp_path))
    check_page(html)
    top, rest = html.split('id="said"')[1].split("</div>\n<div class")[0].split('<details class="more">')
    assert top.count('class="kind"') == 6
    assert rest.split("</ol>")[0].count('class="kind"') == 2
    assert "The rule speaks of train/1 and train/2 too." in top


def test_a_quiet_run_says_so(tmp_path):
    write_rows(tmp_path, {"collapse/net/effective_rank": [5.0]}, [0])
    assert "Nothing yet: no rule has enough looks" in render_report(read_run(tmp_path))


def test_runs_side_by_side_overlay_every_key_that_two_of_them_have(tmp_path):
    both = {"train/loss": [2.0, 1.0], "collapse/net/effective_rank": [8.0, 4.0]}
    for parent, more in (("a", {"probe/net/ridge_top1": [0.1, 0.2]}), ("b", {})):
        write_rows(tmp_path / parent / "run", both | more, [0, 10])
    html = render_comparison(read_runs([tmp_path / "a" / "run", tmp_path / "b" / "run"]))
    check_page(html)
    charts = re.findall(r'<svg class="chart".*?</svg>', html, re.DOTALL)
    assert [re.findall(r'data-label="(.*?)"', chart) for chart in charts] == [["a/run", "b/run"]] * 2
    assert html.count('aria-pressed="true"') == 4
    assert "20.0 %" in html  # what only one run has is in the table


def test_folders_of_runs_are_taken_apart(tmp_path):
    for name in ("x", "y"):
        write_rows(tmp_path / "sweep" / name, {"train/loss": [1.0]}, [0])
    write_rows(tmp_path / "z", {"train/loss": [1.0]}, [0])
    assert [run.name for run in read_runs([tmp_path / "sweep", tmp_path / "z"])] == ["x", "y", "z"]
    with pytest.raises(
        RunFolderError, match=r"Expected different runs, found `.*x` twice; name each run folder once"
    ):
        read_runs([tmp_path / "sweep", tmp_path / "sweep" / "x"])


def test_comparison_is_written_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y"):
        write_rows(tmp_path / name, {"train/loss": [1.0]}, [0])
    assert write_comparison(["x", "y"]).resolve() == tmp_path / "comparison.html"
    assert write_comparison(["x", "y"], "other.html").read_text() == Path("comparison.html").read_text()


def test_five_thousand_looks_stay_small(tmp_path):
    columns = {f"collapse/layer{k}/effective_rank": [float(i % 7) for i in range(5000)] for k in range(3)}
    write_rows(tmp_path, columns, list(range(5000)))
    html = render_report(read_run(tmp_path))
    assert len(html) < 100_000
    assert "A point is the mean of about 21 looks; the band goes from the smallest to the largest." in html
