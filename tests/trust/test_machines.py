"""A machine of `launch` runs other people's packages: what it sends is a checkpoint of its own session, or is not taken."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from supervisor.core import fields
from supervisor.core import fleet_words as fw
from supervisor.core.claim import Rank
from supervisor.core.provisioning import Machine, MachineError, NoSuchFile
from supervisor.engine import checkpoints
from supervisor.engine.place import RunPlace
from supervisor.fleet import budget, takes
from supervisor.fleet.hands import FleetHands, Home
from supervisor.fleet.provisioners import ssh_calls
from supervisor.fleet.provisioners.ssh_calls import Patience, SshHost
from supervisor.fleet.reporting import REPORT
from tests.fleet.published import RUN, Served

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


@pytest.fixture
def served(tmp_path):
    made = Served(tmp_path)
    made.enter()
    return made


def test_what_a_machine_sends_over_its_budget_is_not_taken_and_that_is_said(served, monkeypatch):
    monkeypatch.setattr(budget, "spare_bytes", lambda _: 5_000)
    served.home.begin_machine()
    first = served.publish(20, b"w" * 3_000)
    served.carry()
    assert served.home.newest() == first.id
    second = served.publish(30, b"v" * 3_000)
    served.carry()
    words = served.outbox.refused()[f"{RUN.name}/{second.files[0].path}"]
    assert "GB are what this disk can spare" in words
    assert served.home.newest() == first.id
    served.home.begin_machine()  # the next machine has a budget of its own
    assert budget.Budget(served.home_store, RUN, 1, 5_000).refused("e00000002-bb/claim.json", 100, dict) == ""


def test_the_budget_counts_what_lies_here_also_after_the_controllers_death(served):
    served.home.begin_machine()
    served.publish(20, b"w" * 3_000)
    served.carry()
    path = f"{SESSION}/step-000000036/state.json"
    assert budget.Budget(served.home_store, RUN, 0, 10_000).refused(path, 3_000, dict) == ""
    assert budget.Budget(served.home_store, RUN, 0, 4_000).refused(path, 3_000, dict)
    assert budget.Budget(served.home_store, RUN, 0, None).refused(path, 1 << 62, dict) == ""
    arriving = {f"{SESSION}/step-000000036/other": 9_000}
    assert budget.Budget(served.home_store, RUN, 0, 10_000).refused(path, 3_000, lambda: arriving)


def test_the_number_of_files_and_of_sessions_of_a_machine_is_bounded(served, monkeypatch):
    monkeypatch.setattr(budget, "FILES_MAX", 3)
    bound = budget.Budget(served.home_store, RUN, 2, None)
    path = f"{SESSION}/step-000000036/{{}}"
    assert [bool(bound.refused(path.format(each), 0, dict)) for each in ("a", "b", "b", "c", "d", "a")] == [
        False, False, False, False, True, False,
    ]  # fmt: skip
    assert "sessions" in bound.refused("e00009999-b4dc8281/claim.json", 10, dict)


def test_a_machine_may_not_write_into_the_sessions_of_those_before(served):
    served.home.begin_machine()
    manifest = served.publish(20)
    served.carry()
    served.home.begin_machine()
    served.machine.create(f"{RUN.session(served.rank)}/anew.json", b"{}")
    served.carry()
    assert "another machine served" in served.outbox.refused()[f"{RUN.session(served.rank)}/anew.json"]
    assert served.home.newest() == manifest.id


def test_the_newest_checkpoint_of_the_machine_before_outlives_what_another_sends(served):
    """Three forged checkpoints of a later session had all of the user's own removed at once."""
    for step in (10, 20, 30):
        kept = served.publish(step)
        served.carry()
    served.home.begin_machine()
    served.rank = Rank(9, "evil")
    served.enter_session()
    for step in (1, 2, 3, 4, 5):
        served.publish(step)
        served.carry()
    left = {found.id for found in checkpoints.find(served.home_store, RUN)}
    assert kept.id in left
    assert max(left).epoch == 9


def test_the_free_space_of_a_disk_is_not_all_given(served, monkeypatch):
    for free, spare in ((100 * 10**9, 98 * 10**9), (3 * 10**9, 15 * 10**8), (0, 0)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert budget.spare_bytes(served.home_store) == spare
    assert budget.spare_bytes(SimpleNamespace(traits=SimpleNamespace(mounted=True))) is None


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
