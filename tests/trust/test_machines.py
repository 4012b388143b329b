"""A machine of `launch` runs other people's packages: what it sends is a checkpoint of its own session, or is not taken."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from supervisor.core import fields
from supervisor.core import fleet_words as fw
from supervisor.core.provisioning import Machine, MachineError, NoSuchFile
from supervisor.engine.place import RunPlace
from supervisor.fleet import takes
from supervisor.fleet.hands import FleetHands, Home
from supervisor.fleet.provisioners import ssh_calls
from supervisor.fleet.provisioners.ssh_calls import Patience, SshHost
from supervisor.fleet.reporting import REPORT

SESSION = "e00000003-b4dc8281"


@pytest.mark.parametrize(
    "path",
    [
        "run.json", f"{SESSION}/claim.json", f"{SESSION}/end-succeeded.json", f"{SESSION}/history.json", f"{SESSION}/journal-000001.jsonl",
        f"{SESSION}/output-0001-000001.log", f"{SESSION}/log-000001-000000000-000000005.jsonl", f"{SESSION}/environment.txt",
        f"{SESSION}/step-000000036/state.json", f"{SESSION}/step-000000036/manifest-001004-0a31647fe95ebe4d.json", f"{SESSION}/anew.json",
        f"{SESSION}/rollback-000000024-000000025-000000024-000000026-1-1.json", f"{SESSION}/nan-000000024-000000025.json",
    ],
)  # fmt: skip
def test_what_a_session_writes_is_taken(path):
    assert takes.refused(path, 1000) == ""


@pytest.mark.parametrize(
    "path",
    [
        "environment/evil-1.0-py3-none-any.whl", "environment/evil.deb", "verified-9-100-zz-1-ab.json", "pin-9-100-zz-1.json",
        f"stop-{SESSION}-now-ab.json", f"knock-{SESSION}-ab.json", "toy.py", f"{SESSION}/train.py", f"{SESSION}/evil.whl",
        f"{SESSION}/step-000000036/sub/x", f"{SESSION}/step-36/x", f"{SESSION}/step-000000036/.hidden", f"{SESSION}/step-000000036/a\x1b[2J",
        "e99999999999999-zz/claim.json", "e3-b/claim.json", f"{SESSION} (1)/claim.json", f"{SESSION}/rollback-{'9' * 20}.json", SESSION, "",
        f"{SESSION}/", "../x", f"{SESSION}/../x",
    ],
)  # fmt: skip
def test_what_no_session_writes_is_not_taken(path):
    assert takes.refused(path, 1000)


@pytest.mark.parametrize("path", ["run.json", f"{SESSION}/claim.json", f"{SESSION}/journal-000001.jsonl"])
def test_a_record_that_is_too_long_is_not_taken(path):
    assert takes.refused(path, fields.LISTING_BYTES_MAX + 1)


@dataclass
class Odd:
    """A provisioner whose machine answers anything."""

    body: bytes
    traits: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(file_bytes_max=None, place="here"))

    def get(self, _machine, name, local):
        if name != REPORT:
            raise NoSuchFile(name)
        with open(local, "wb") as file:  # noqa: PTH123  # as the port has it
            file.write(self.body)

    def put(self, *_): ...

    def machines(self):
        return ()


NOTHING = SimpleNamespace(mail=lambda: (), newest=lambda: None, merge=lambda *_: None)
ANSWERS = [
    b"", b"[", b"[" * 100_000, b"null", b"[1]", b"5", b'"x"', b"\xff", b'{"beat": "x"}', b'{"beat": null}', b'{"beat": 1e999}', b'{"beat": NaN}',
    b'{"parcels": 5}', b'{"parcels": [5]}', b'{"parcels": [{}]}', b'{"parcels": {"a": 1}}', b'{"run": 5}', b'{"run": [1]}', b'{"run": {"a": 1}}',
    b'{"run": {"step": "x"}}', b'{"run": {"step": 1e999}}', b'{"run": {"next_save_in_s": "x"}}', b'{"warnings": 5}', b'{"waiting_files": "x"}',
    b'{"exit_code": []}', b'{"watched": "x"}', b'{"phase": [1], "error": {}, "words": 5}', b'{"beat": 1' + b"0" * 5000 + b"}", b" " * (5 << 20),
]  # fmt: skip


@pytest.mark.parametrize("body", ANSWERS, ids=[repr(each[:30]) for each in ANSWERS])
def test_no_status_of_a_machine_ends_the_controller(tmp_path, body):
    home = Home(None, RunPlace("toy"), NOTHING, tmp_path)
    hands = FleetHands(
        Odd(body), home, None, describe=lambda plain: f"step {plain['step']:,}", release_at_s=lambda: None
    )
    event = hands.do(fw.Poll(Machine("m", "here")))
    assert isinstance(event, fw.Failed | fw.Polled)
    if isinstance(event, fw.Polled):
        assert event.step is None or type(event.step) is int
        assert type(event.beat) is int
    else:
        assert event.kind == "unreachable"


def an_ssh(folder, answers):
    """A fake ssh that prints what these lines of Python say."""
    ssh = folder / "ssh"
    ssh.write_text(f"#!{sys.executable}\nimport sys, json, re, hashlib\n{answers}\n")
    ssh.chmod(0o755)
    patience = Patience(ask_s=20.0, file_s=20.0, connect_s=5.0)
    return SshHost(folder, "host", {"PATH": str(folder)}, patience)


MARK = "sent = sys.stdin.buffer.read(); mark = re.search(rb'answer-[0-9a-f]{32}', sent)[0].decode(); say = lambda line: print('\\n' + mark + line, flush=True)"


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[" * 50_000,
        "[]",
        "{}",
        '{"bytes": "x", "sha256": ""}',
        '{"bytes": -1, "sha256": ""}',
        '{"bytes": 5}',
        "5",
        "NaN",
    ],
)
def test_no_answer_of_a_host_is_more_than_an_error_of_the_machine(tmp_path, line):
    host = an_ssh(tmp_path, f"{MARK}\nsay({line!r})")
    with pytest.raises(MachineError):
        host.ask({"do": "look"})


def test_an_answer_without_end_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(ssh_calls, "ANSWER_BYTES_MAX", 1 << 20)
    host = an_ssh(tmp_path, "while True: sys.stdout.write('x' * 65536)")
    with pytest.raises(MachineError, match="longer than"):
        host.ask({"do": "look"})
