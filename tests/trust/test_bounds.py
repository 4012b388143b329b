"""What is read of a store has bounds, and what a state names is of the kind that it says (M1, M7)."""

from __future__ import annotations

import json
import os

import pytest

from supervisor.cli import main
from supervisor.core import safetensors_file
from supervisor.core.carried import Carried, body, parse
from supervisor.core.content import ContentError
from supervisor.engine import runs
from tests.trust.forged import RUN, Forged


@pytest.mark.parametrize("length", [1 << 63, 2**64 - 1, safetensors_file.HEADER_BYTES_MAX + 1, 1 << 40])
def test_a_header_that_no_file_has_is_not_read(length):
    with pytest.raises(ValueError, match="header"):
        safetensors_file.header_bytes(length.to_bytes(8, "little"), 1 << 50)
    with pytest.raises(ValueError, match="header"):
        safetensors_file.header_bytes((1000).to_bytes(8, "little"), 999)


@pytest.mark.parametrize("name", ["load", "hub", "nn", "Tensor", "__doc__", "os", "", 5, None, "float32.x"])
def test_the_name_of_a_dtype_is_one_of_a_dtype(name):
    torch = pytest.importorskip("torch", reason="the names are torch's")
    from supervisor.trainer.frameworks import torch_memory

    with pytest.raises((ValueError, TypeError)):
        torch_memory.dtype_of(name)
    assert torch_memory.dtype_of("float32") is torch.float32


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a\0b"])
def test_the_checkpoint_for_resume_args_lies_in_the_scripts_folder(path):
    with pytest.raises(ContentError):
        parse(body(Carried(7, "out", (), path)))


def test_links_and_odd_files_of_a_store_are_said_once_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SUPERVISOR_RUN_LOCAL", str(tmp_path / "local"))
    forged = Forged(tmp_path)
    (forged.root / RUN.name / "e00000009-zz").symlink_to(tmp_path)
    os.mkfifo(forged.root / RUN.name / "pin-3-40-b4dc8281-1005.json")
    assert main(["list", "--store", str(forged.root)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "not gone through" in line]
    assert said == [
        f"2 links or other odd files in the store are not gone through: {RUN.name}/e00000009-zz, {RUN.name}/pin-3-40-b4dc8281-1005.json"
    ]
    assert runs.left_out(Forged(tmp_path / "other").store) == ""


@pytest.mark.parametrize("record", [b'{"schema": 99}', b"[" * 100_000])
def test_a_run_that_cannot_be_read_is_a_row_of_the_list(tmp_path, capsys, monkeypatch, record):
    monkeypatch.setenv("SUPERVISOR_RUN_LOCAL", str(tmp_path / "local"))
    forged = Forged(tmp_path)
    (forged.root / "broken").mkdir()
    (forged.root / "broken" / "run.json").write_bytes(record)
    assert main(["list", "--store", str(forged.root)]) == 0
    printed = capsys.readouterr()
    rows = {line.split()[0]: line for line in printed.out.splitlines() if line.strip()}
    assert "CANNOT BE READ" in rows["broken"]
    assert {"golden", "plain"} <= rows.keys()
    assert "broken: " in printed.err
    assert main(["list", "--json", "--store", str(forged.root)]) == 0
    told = {each["run"]: each for each in json.loads(capsys.readouterr().out)}
    assert told["broken"]["state"] == "UNREADABLE"
    assert told["broken"]["error"]
    assert told["broken"].keys() >= told["golden"].keys() - {"unconfirmed_s", "durable_age_s", "exit_code"}
