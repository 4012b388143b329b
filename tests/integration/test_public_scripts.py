"""The benchmark of public scripts on two tiny ones: each is run, killed, resumed and judged, and all that is said is true."""

from __future__ import annotations

import json

import pytest

from benchmarks import public_scripts
from benchmarks.public.rows import Row

pytestmark = pytest.mark.slow

LOOP = """
import argparse, time
import torch
parser = argparse.ArgumentParser()
parser.add_argument("--resume", default="", help="path to the latest checkpoint")
given = parser.parse_args()
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
first = 0
if given.resume:
    kept = torch.load(given.resume)
    model.load_state_dict(kept["model"])
    first = kept["epoch"]
for epoch in range(first, 8):
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(4, 2)).sum().backward()
        optimizer.step()
    time.sleep(0.3)
    torch.save({"model": model.state_dict(), "epoch": epoch + 1}, "checkpoint.pth.tar")
"""
NOTHING = "import time\nfor _ in range(3):\n    time.sleep(0.3)\n    print('an epoch')\n"


@pytest.fixture
def checkouts(tmp_path):
    for name, text in (("loop", LOOP), ("nothing", NOTHING)):
        folder = tmp_path / "checkouts" / f"someone+{name}"
        folder.mkdir(parents=True)
        (folder / "train.py").write_text(text)
    return tmp_path / "checkouts"


def test_the_benchmark_runs_and_judges_scripts_that_save_and_that_do_not_and_writes_its_page(checkouts, tmp_path):
    rows = [
        Row("loop", "someone+loop", "", "train.py", resume="--resume {checkpoint}"),
        Row("nothing", "someone+nothing", "", "train.py"),
        Row("absent", "someone+absent", "", "train.py"),
    ]
    report, page = tmp_path / "report.json", tmp_path / "page.md"
    words = ["--checkouts", str(checkouts), "--patience", "60", "--json", str(report), "--markdown", str(page)]
    code = public_scripts.main(words, rows)
    verdicts = json.loads(report.read_text())
    assert [(each["name"], each["untrue"], each["error"]) for each in verdicts] == [
        ("loop", [], ""),
        ("loop", [], ""),
        ("nothing", [], ""),
    ]
    assert code == 0
    plain, added, nothing = verdicts
    assert plain["proposed"] == "--resume {checkpoint}"
    assert "begins at its first step again" in plain["resumed"]
    assert plain["steps"].startswith("40 steps said, ")
    assert "opened 'checkpoint.pth.tar'" in added["resumed"]
    assert "nothing safe yet" in nothing["first"]
    assert "absent: no checkout someone+absent" in page.read_text()
    assert page.read_text().count("| true |") == len(verdicts) + 1  # with the head of the table
