"""A secret in a command reaches the script, and no record: a store is shared, and a view may be (M9, L1)."""

from __future__ import annotations

import json

import pytest

from benchmarks.machines import Machine
from supervisor.cli import resume, start
from supervisor.core.errors import UsageError
from supervisor.core.messages import ScriptFailed
from supervisor.environments import direct, port
from tests.trust.forged import RUN
from tests.trust.test_commands import claimed

SCRIPT = """
import pathlib, sys
pathlib.Path("seen").write_text(" ".join(sys.argv[1:]))
raise SystemExit("refused by https://me:S3CRET@127.0.0.1/x?token=S3CRET")
"""
GIVEN = ["--token", "S3CRET", "--url=ftp://u:S3CRET@127.0.0.1", "WANDB_API_KEY=S3CRET", "--lr", "0.1"]


@pytest.mark.slow
def test_the_script_gets_the_secret_and_the_store_does_not(tmp_path):
    machine = Machine(tmp_path / "machine", tmp_path / "runs")
    script = machine.work / "job.py"
    script.write_text(SCRIPT)
    machine.run("start", str(script), "--max-restarts", "0", "--resume-args", "--key-pass {checkpoint}", "--", *GIVEN)
    assert (machine.work / "seen").read_text() == " ".join(GIVEN)
    told = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    printed = {path for path in told if path.name.startswith("output-")}
    assert [path for path, body in told.items() if b"S3CRET" in body and path not in printed] == []
    claim = json.loads(next(body for path, body in told.items() if path.name == "claim.json"))
    assert claim["arguments"] == ["--token", "***", "--url=ftp://***@127.0.0.1", "WANDB_API_KEY=***", "--lr", "0.1"]
    views = "".join(machine.run(verb, "job").stdout for verb in ("status", "checkpoints"))
    assert "S3CRET" not in views
    again = machine.run("resume", "job", "--max-restarts", "0")
    assert "other arguments" not in again.stdout + again.stderr
    assert (machine.work / "seen").read_text() == " ".join(GIVEN)


def test_a_fresh_machine_asks_for_the_secret_in_two_lines(forged, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(start, "serve", lambda *given: calls.append(given) or 0)
    script = tmp_path / "work" / "golden.py"
    script.write_text("print('mine')\n")
    claimed(forged, script=str(script), arguments=["--token", "***", "--lr", "0.1"])
    given = ["golden", "--store", str(forged.root), "--trust-store"]
    with pytest.raises(UsageError, match=r"the store keeps no secrets, .*--token \*\*\* --lr 0\.1") as refused:
        resume.run(given)
    assert "-- --token '***' --lr 0.1" in refused.value.hint
    assert resume.run([*given, "--", "--token", "S3CRET", "--lr", "0.1"]) == 0
    assert calls[0][1] == ["--token", "S3CRET", "--lr", "0.1"]
    claimed(forged, script=str(script), arguments=[], options={"resume_args": "--resume {checkpoint} --token ***"})
    with pytest.raises(UsageError, match="keeps no secrets"):
        resume.run(given)


def test_what_the_store_holds_of_an_older_version_is_shown_without_its_secret(forged, tmp_path):
    script = tmp_path / "work" / "golden.py"
    script.write_text("print('mine')\n")
    claimed(forged, script=str(script), arguments=["--token", "S3CRET", "--lr", "0.1"])
    with pytest.raises(UsageError) as refused:
        resume.run(["golden", "--store", str(forged.root)])
    assert "S3CRET" not in refused.value.what + refused.value.hint
    assert RUN.name in refused.value.what


@pytest.mark.parametrize("given", [["--token", "***"], ["--url=https://***@host"], ["--x", "A=***"]])
def test_a_mask_that_was_pasted_is_no_value(tmp_path, given):
    script = tmp_path / "job.py"
    script.write_text("")
    with pytest.raises(UsageError, match="stands where a secret was"):
        start.run([str(script), "--store", str(tmp_path / "runs"), "--", *given])


@pytest.mark.parametrize(
    "address",
    [
        "git+ssh://user:S3CRET@127.0.0.1/x.git",
        "ftp://u:S3CRET@127.0.0.1/x",
        "user:S3CRET@corp",
        "https://127.0.0.1/simple?token=S3CRET",
    ],
)
def test_an_installers_reason_and_a_line_of_a_requirement_hold_no_credentials(tmp_path, address):
    assert "S3CRET" not in port.shorten(f"error: Failed to fetch: {address}")
    assert "S3CRET" not in port.InstallerFailed(f"fatal error: could not read {address}\nfailed").build_error
    assert "S3CRET" not in direct.parse(f"tinydep @ {address}", tmp_path).shown


def test_the_message_of_a_script_that_failed_is_kept_without_addresses_credentials():
    from supervisor.trainer import ends

    words = ends.in_one_line("HTTP 401 for https://me:S3CRET@127.0.0.1/x?api_key=S3CRET")
    assert "S3CRET" not in words
    assert ScriptFailed("script", "E", words, "")
