"""The page: self-contained, whole from whatever a run has left, and honest about what is missing."""

import os
import re
from html import escape
from html.parser import HTMLParser

import pytest

from lightning_ssl_theory.report import RunFolderError, read_run, render_report, write_report
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
    assert "NaN" not in html.split("<script>")[0]


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
        assert escape(reading if number == "1" else reading.replace("<k>", number)) in html
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
    (chart,) = re.findall(r"<svg.*?</svg>", comparison)
    assert re.findall(r'data-label="(.*?)"', chart) == ["orthogonal", "unconstrained"]
    assert '1.00 <span class="was">from 8.00</span>' in comparison


def test_missing_pieces_are_named(tmp_path):
    write_rows(tmp_path, {"train/loss": [1.0], "probe/backbone/ridge_top1": ["nan"]}, [0])
    html = render_report(read_run(tmp_path))
    check_page(html)
    missing = html.split("<h3>Not in this run")[1]
    for sentence in (
        "no <code>covariance/…</code> key was logged; CovarianceOperators writes them.",
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
    assert html.count("This key is not one of the library&#x27;s own.") == 2


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


@pytest.mark.skipif(not os.path.exists("/usr/bin/chromium"), reason="needs a browser")
@pytest.mark.slow
def test_page_fits_a_phone(full_run, tmp_path):
    import subprocess

    page = write_report(full_run)
    probe = "<script>document.title=document.documentElement.scrollWidth</script>"
    page.write_text(page.read_text().replace("</body>", f"{probe}</body>"))
    command = ["/usr/bin/chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900"]
    dump = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60)
    assert int(re.findall(r"<title>(\d+)", dump.stdout)[0]) <= 500


def test_errors_are_bands_by_their_name_and_by_that_of_0_1(tmp_path):
    trace, pages = {"covariance/net/trace": [4.0, 8.0]}, []
    for name, half in (("error95", 1.0), ("stderr", 0.5)):
        write_rows(tmp_path / name, trace | {f"covariance/net/trace_{name}": [half, half]}, [0, 10])
        pages.append(render_report(read_run(tmp_path / name)))
    bands = [re.findall(r'<polygon[^>]*points="([^"]*)"', page) for page in pages]
    assert bands[0] == bands[1]
    assert len(bands[0]) == 1
    assert not any("trace_" in page.split("<script>")[0] for page in pages)
