"""The page in a browser: nothing on its console, curves drawn and switched, dark, on paper and on a phone."""

import json
import re
import shutil
import subprocess

import pytest

from lightning_ssl_theory.report import read_runs, render_comparison, write_report

from .synthetic_run import LAYERS, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
)  # fmt: skip
# what the browser sees of a frame, as JSON in the title of the page around it: a window is never as narrow as a phone
PROBE = """
<script>
const style = element => getComputedStyle(element);
const svgs = [...document.querySelectorAll('svg.chart')];
const buttons = [...document.querySelectorAll('.legend button')];
const lineOf = button => button.closest('.body').querySelectorAll('.line')[button.dataset.line];
const toggled = buttons.map(button => {
  button.focus();
  const hasFocus = document.activeElement === button;
  button.click();
  const isHidden = style(lineOf(button)).display === 'none' && button.getAttribute('aria-pressed') === 'false';
  button.click();
  return hasFocus && isHidden && style(lineOf(button)).display !== 'none';
});
const box = svgs[0].getBoundingClientRect();
svgs[0].dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + box.width / 2, clientY: box.top + 5}));
const tip = document.querySelector('.tip');
parent.postMessage({
  charts: svgs.length,
  drawn: svgs.filter(svg => [...svg.querySelectorAll('polyline')].some(
    line => line.getTotalLength() > 10 && line.getBoundingClientRect().width > 10)).length,
  unnamed: svgs.filter(svg => !svg.getAttribute('aria-label')).length,
  buttons: buttons.length,
  toggled: toggled.filter(Boolean).length,
  tip: tip ? tip.textContent : '',
  width: innerWidth,
  extent: document.documentElement.scrollWidth,
  brightness: style(document.body).backgroundColor.match(/[0-9]+/g).reduce((a, b) => a + Number(b), 0) / 3,
}, '*');
</script>
"""
FRAMES = """
<!doctype html><title>[]</title>
<script>
const found = [];
addEventListener('message', event => { found.push(event.data); document.title = JSON.stringify(found); });
</script>
<iframe src="PAGE" style="width:1280px;height:900px;border:0"></iframe>
<iframe src="PAGE" style="width:390px;height:900px;border:0"></iframe>
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def browse(tmp_path, *arguments):
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    return done.stdout


def check(tmp_path, page, *arguments):
    probed, frames = page.with_suffix(".probed.html"), page.with_suffix(".frames.html")
    probed.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    frames.write_text(FRAMES.replace("PAGE", probed.as_uri()))
    text = browse(tmp_path, *arguments, "--virtual-time-budget=5000", "--dump-dom", frames.as_uri())
    found = json.loads(re.findall(r"<title>(.*?)</title>", text)[0].replace("&amp;", "&"))
    assert sorted(one["width"] for one in found) == [390, 1280]
    for one in found:
        assert one["extent"] <= one["width"]
        assert one["charts"] == one["drawn"] > 0
        assert one["unnamed"] == 0
        assert one["buttons"] == one["toggled"] > 0
        assert re.match(r"step \d+ ?.*\d", one["tip"])
    return found[0]["brightness"]


@pytest.fixture
def page(tmp_path):
    layers = {**LAYERS, "orthogonality": ["network.hidden"]}
    return write_report(write_run(tmp_path / "run", num_looks=20, layers=layers))


def test_dark_on_a_desk_and_on_a_phone(page, tmp_path):
    assert check(tmp_path, page, "--blink-settings=preferredColorScheme=0") < 50


@pytest.mark.all_cases
def test_light_on_a_desk_and_on_a_phone(page, tmp_path):
    assert check(tmp_path, page) > 200


def test_on_paper(page, tmp_path):
    browse(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", page.as_uri())
    text = (tmp_path / "page.pdf").read_bytes()
    assert text.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", text)) > 1


@pytest.mark.all_cases
def test_runs_side_by_side(tmp_path):
    for name in ("a", "b", "c"):
        write_run(tmp_path / name, num_looks=20)
    page = tmp_path / "comparison.html"
    page.write_text(render_comparison(read_runs([tmp_path / name for name in ("a", "b", "c")])))
    assert check(tmp_path, page) > 200
