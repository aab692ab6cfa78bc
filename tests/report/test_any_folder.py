"""Whatever lies in a run folder, the report is written, or a sentence says why not."""

import contextlib
from pathlib import Path

import pytest
import torch

from lightning_ssl_theory.report import RunFolderError, write_report

from .synthetic_run import write_run

HEAD = b"epoch,step,train/loss,collapse/a/effective_rank\n"
HUGE = b"9" * 200_000
FILES = {
    "metrics.csv": [
        b"", HEAD, b"\xef\xbb\xbf" + HEAD + b"0,1,1,2\n", HEAD.decode().encode("utf-16"),
        HEAD + b"0,1,1.0,2.0\n0,2," + HUGE + b",2.0\n", b"step," + HUGE + b"\n1,2\n",
        HEAD + b"0,1,1.0,2.0\n0,\0,3,\0\n", HEAD + b'0,1,"1.0,2.0\n0,2,3,4\n',
        HEAD + b"0,1e308,1.0,2.0\n0,-1e308,3,4\n", HEAD + b"0,1,1e308,-1e308\n0,2,-1e308,1e308\n0,3,1,1\n",
        HEAD + b"0,1,5e-324,5e-324\n0,2,0,0\n", HEAD + b"0,x,1,2\n0,inf,1,2\n0,nan,1,2\n",
        HEAD + b"0,1," + HUGE[:5000] + b",2\n0,2,1,1\n", b"step,a/b/c,a/b/c\n1,2,3\n",
        b'step,a//b,/,"x<y>&",collapse/,collapse//effective_rank, ,covariance/a/x\n1,1,2,3,4,5,6,7\n',
    ],
    "run.json": [
        b"[]", b"\xff\xfe\x00", b"[" * 100_000, b'{"seconds": ' + HUGE[:5000] + b"}",
        b'{"seconds": ' + HUGE[:400] + b', "parameters": ' + HUGE[:400] + b"}",
        b'{"seconds": Infinity, "parameters": 1e400, "started": {"a": 1}, "status": "<b>&", "processes": []}',
    ],
    "config.yaml": [b"\xff\xfe\x00\x01", b"a" * 1_000_000],
    "checkpoints/last.ckpt": [b"", b"PK\x03\x04aaa", b"text"],
}  # fmt: skip
IMAGES = (4, 3, 3, 3)
CHECKPOINTS = [
    [1, 2],
    "text",
    {"state_dict": [1]},
    {"state_dict": {"a.weight": 3, 4: torch.zeros(2, 2)}},
    {"state_dict": {"a.weight": torch.ones(*IMAGES, dtype=torch.complex64)}},
    {"state_dict": {"a.weight": torch.ones(IMAGES).to(torch.float8_e4m3fn)}},
    {"state_dict": {"a.weight": torch.full(IMAGES, torch.nan)}},
    {"state_dict": {"a.weight": torch.zeros(0, 3, 3, 3)}},
    {"state_dict": {"a.weight": torch.eye(4).to_sparse()}},
    {"state_dict": {"a.weight": torch.ones(IMAGES, device="meta")}},
    {"state_dict": {"a.weight": torch.ones(IMAGES)}, "callbacks": [1]},
    {"state_dict": {"a.weight": torch.ones(IMAGES)}, "callbacks": {"a": {"eigenvectors": {"a": 3}}}},
]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", num_looks=3)


def report_or_sentence(run: Path) -> None:
    with contextlib.suppress(RunFolderError):
        assert "</html>" in write_report(run).read_text()


@pytest.mark.parametrize(
    ("name", "content"), [(name, text) for name, texts in FILES.items() for text in texts]
)
def test_files_with_anything_in_them(run, name, content):
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_bytes(content)
    report_or_sentence(run)


@pytest.mark.filterwarnings("ignore:.*sparse")
@pytest.mark.parametrize("state", CHECKPOINTS)
def test_foreign_checkpoints(run, state):
    (run / "checkpoints").mkdir(exist_ok=True)
    torch.save(state, run / "checkpoints" / "last.ckpt")
    assert "</html>" in write_report(run).read_text()


@pytest.mark.parametrize("target", ["nowhere", "last.ckpt", ".", "/dev/null"])
@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "checkpoints", "part", "config.yaml", "run.json"])
def test_links(run, name, target):
    path = run / name
    path.parent.mkdir(exist_ok=True)
    if not path.is_dir():
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    assert "</html>" in write_report(run).read_text()


@pytest.mark.parametrize(
    "name", ["metrics.csv", "run.json", "config.yaml", "report.html", "checkpoints/last.ckpt"]
)
def test_folders_in_the_place_of_files(run, name):
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir(parents=True)
    report_or_sentence(run)
    assert not list(run.rglob("*.part"))
