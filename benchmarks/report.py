"""What a report costs: processor time of the command and size of the page, of a made-up run with every key.

python benchmarks/report.py --num-looks 5000
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lightning_ssl_theory.report import read_run, render_report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from report.synthetic_run import LAYERS, write_run


def main(*, num_looks: int, num_layers: int) -> None:
    """Make the run, write its report by the command line, and take the time of reading and drawing alone."""
    layers = {name: found[:num_layers] for name, found in LAYERS.items()}
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", num_looks=num_looks, layers=layers)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "lightning_ssl_theory", "report", run], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        size, page_size = (run / "metrics.csv").stat().st_size, (run / "report.html").stat().st_size
        start = time.process_time()
        found = read_run(run)
        read = time.process_time()
        render_report(found)
        drawn = time.process_time()
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{num_looks:,} looks, {len(found.series)} keys, metrics.csv of {size / 1e6:.1f} MB")
    print(f"the command {total:.2f} s; reading {read - start:.2f} s, drawing {drawn - read:.2f} s")
    print(f"report.html {page_size / 1e6:.2f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-looks", type=int, default=5000)
    parser.add_argument("--num-layers", type=int, default=3, help="most layers of a section")
    main(**vars(parser.parse_args()))
