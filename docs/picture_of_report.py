"""The picture of the report in the README and on the front page: docs/figures/report.png, by a headless Chromium.

python docs/picture_of_report.py          # runs the demo, two minutes on two cores
python docs/picture_of_report.py RUN_DIR  # of a run that is there
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from lightning_ssl_theory.cli.demo import run_demo
from lightning_ssl_theory.report import write_report

PICTURE = Path(__file__).parent / "figures/report.png"
WIDTH, HEIGHT = 1240, 1250


def main() -> None:
    """Make the report, photograph its top, and keep it in few colours."""
    with TemporaryDirectory() as folder:
        page = (
            write_report(sys.argv[1], Path(folder) / "report.html")
            if sys.argv[1:]
            else run_demo(output_dir=folder, wandb="off")
        )
        shot = Path(folder) / "shot.png"
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={WIDTH},{HEIGHT}",
        ]
        subprocess.run(["chromium", *flags, f"--screenshot={shot}", page.resolve().as_uri()], check=True)
        PICTURE.parent.mkdir(exist_ok=True)
        Image.open(shot).convert("RGB").quantize(128).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
