"""The demo, a few steps of each model."""

from pathlib import Path

from cli.command_line import WITHOUT_ADVICE
from lightning_ssl_theory.cli import main

pytestmark = WITHOUT_ADVICE


def test_demo_in_short(capsys):
    main(["demo", "--quick", "--wandb", "off", "--name", "short", "--output-dir", "out"])
    html = Path("out/short/report.html").read_text()
    for part in ("contrastive", "orthogonal", "unconstrained"):
        assert Path("out/short", part, "report.html").exists()
        assert f"<h2>{part}</h2>" in html
    chart = html.split("collapse/network.output/effective_rank")[1].split("</svg>")[0]
    assert "orthogonal <b>" in chart
    assert "unconstrained <b>" in chart
    shown = capsys.readouterr().out
    assert "Report: out/short/report.html" in shown
    assert "Weights & Biases" not in shown
