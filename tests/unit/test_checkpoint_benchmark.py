"""The benchmark of the checkpoint engine is run once on its smallest state: it must measure, and its JSON keep its fields."""

from __future__ import annotations

import json

import pytest

from benchmarks.checkpoint import main
from benchmarks.engines import TABLE, Row
from benchmarks.measuring import syscalls
from benchmarks.measuring.ratios import ratios
from benchmarks.measuring.running import Setting, row_measured

FIELDS = {
    "engine", "version", "state_bytes", "stall_s", "stall_best_s", "lost_s", "lost_dispatch_s", "lost_matmul_s", "durable_s",
    "commit_s", "restore_cold_s", "restore_warm_s", "extra_bytes", "kept_bytes", "bytes", "files", "fsyncs", "cpu_s", "safe",
    "put_off_s",
}  # fmt: skip
LIMITS = {"memcpy_s", "memcpy_threads_s", "raw_write_fsync_s", "raw_write_direct_s", "raw_read_s", "raw_read_warm_s"}
MEASURED = {"engine": "supervisor", "stall_s": 1.0, "lost_s": 2.0, "durable_s": 3.0, "restore_cold_s": 4.0}
MEASURED |= {
    "restore_warm_s": 1.0,
    "lost_dispatch_s": 2.0,
    "lost_matmul_s": 1.0,
    "state_bytes": 100,
    "extra_bytes": 100,
}


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.timeout(1800)
def test_a_small_run_without_peers_measures_every_row_and_the_limits(tmp_path):
    pytest.importorskip("torch")
    words = ["--size", "small", "--peers", "none", "--repeat", "1", "--folder", str(tmp_path)]
    assert main([*words, "--json", str(tmp_path / "run.json")]) == 0
    run = json.loads((tmp_path / "run.json").read_text())
    assert {row["engine"] for row in run["rows"]} == {row.name for row in TABLE if row.group in {"ours", "limit"}}
    for row in run["rows"]:
        assert set(row) >= FIELDS, row
        assert row["safe"], f"{row['engine']} gave back another state"
    assert set(run["limits"]) >= LIMITS
    assert all(run["limits"][name] > 0 for name in LIMITS)
    assert run["ratios"]


def test_a_row_that_could_not_be_measured_is_compared_with_nothing():
    assert ratios("medium", dict.fromkeys(LIMITS, 1.0), [{"engine": "supervisor", "error": "no disk"}]) == []


def test_the_best_flushed_peer_is_one_that_copies_before_it_returns():
    peer = MEASURED | {"engine": "copies", "lost_s": 10.0, "put_off_s": 0.0, "fsyncs": 2}
    later = MEASURED | {"engine": "copies later", "lost_s": 0.1, "put_off_s": 9.0, "fsyncs": 2}
    cached = MEASURED | {"engine": "never flushes", "lost_s": 0.2, "put_off_s": 0.0, "fsyncs": 0}
    shown = {each.what: each for each in ratios("medium", dict.fromkeys(LIMITS, 1.0), [MEASURED, peer, later, cached])}
    best = shown["lost / best peer's, full and flushed"]
    assert (best.against, best.value, best.verdict) == ("copies", 0.2, "met")


@pytest.mark.slow
@pytest.mark.torch
def test_an_engine_that_cannot_run_is_an_error_in_its_row_and_not_the_end(tmp_path):
    pytest.importorskip("torch")
    found = row_measured(Row("nobody's", "nowhere:Nothing"), Setting("small", tmp_path, 1, 1, 0, 60.0))
    assert found["engine"] == "nobody's"
    assert "No module named 'benchmarks.engines.nowhere'" in found["error"]


def test_flushes_are_counted_between_the_marks_only_and_once_each():
    mark = f'7 faccessat(AT_FDCWD, "{syscalls.MARK}", F_OK) = -1 ENOENT (No such file or directory)'
    flushes = ["7 fsync(3) = 0", "8 fdatasync(4 <unfinished ...>", "8 <... fdatasync resumed>) = 0"]
    assert syscalls.counted(["7 fsync(2) = 0", mark, *flushes, mark, "7 fsync(5) = 0"]) == 2
    assert syscalls.counted([mark, *flushes]) is None, "without its second mark the save did not come to its end"
