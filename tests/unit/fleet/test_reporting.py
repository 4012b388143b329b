"""What the agent tells home of its machine: warnings that were printed there, and whether a cell waits with it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from supervisor.fleet import reporting
from supervisor.fleet.provisioners import colab_cells


def test_the_newest_warnings_of_the_supervisor_are_told(tmp_path):
    assert reporting.warnings(tmp_path) == []
    lines = [
        "step 1",
        *(f"[supervisor] warning: the save at step {n} failed: full" for n in range(9)),
        "  training goes on",
    ]
    (tmp_path / reporting.LOG).write_text("\n".join(lines))
    assert reporting.warnings(tmp_path) == [f"the save at step {n} failed: full" for n in (6, 7, 8)]


def test_a_cell_that_died_is_seen_by_its_lock(tmp_path):
    assert reporting.watched(tmp_path) is None, "no cell ever waited here"
    fd = os.open(tmp_path / reporting.WATCH, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert reporting.watched(tmp_path) is True
    os.close(fd)
    assert reporting.watched(tmp_path) is False


def test_the_cell_holds_the_lock_while_its_agent_runs_and_the_agent_does_not(tmp_path, monkeypatch, capsys):
    seen = tmp_path / "seen.json"
    (tmp_path / "launch.py").write_text(
        "import json, os, sys\n"
        f"sys.path.insert(0, {str(Path.cwd())!r})\n"
        "from pathlib import Path\n"
        "from supervisor.fleet import reporting\n"
        f"Path({str(seen)!r}).write_text(json.dumps(reporting.watched(Path('.'))))\n"
    )
    monkeypatch.setattr(colab_cells, "FOLDER", str(tmp_path))
    exec(compile(colab_cells.launch("mark"), "cell", "exec"), {})
    assert json.loads(seen.read_text()) is True
    assert reporting.watched(tmp_path) is False
    assert '"ended": 0' in capsys.readouterr().out
