"""The agent of one machine: it waits for what it needs, starts once, hands over, and ends as the supervisor did."""

from __future__ import annotations

import json
import os
import tarfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import until
from supervisor import wiring
from supervisor.core.errors import UserError
from supervisor.engine.clock import BootClock
from supervisor.engine.place import RunPlace
from supervisor.fleet import agent, consignment, parcels, served
from supervisor.fleet.relay import HomeRun
from supervisor.stores.folder import FolderStore
from tests.fleet.relays import ROOT, Pump

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = RunPlace("toy")
RECORD = {"schema": 1, "id": "0123456789abcdef", "script": "train.py", "arguments": [], "options": {}}


class Place:
    """A machine's folder with an agent on a thread, and home."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "machine"
        self.store = FolderStore(str(root / "home/runs"))
        self.home = HomeRun(self.store, RUN, root / "home/state", BootClock())
        self.pump = Pump(self.home, root / "pump")
        self.said: list[str] = []
        self.codes: list[int] = []
        self.threads: list[Thread] = []
        (self.folder / "project").mkdir(parents=True)

    def consign(self, *options: str, **more: Any) -> None:
        job = {"schema": 1, "name": RUN.name, "script": "train.py", "options": list(options), "seed": [], **more}
        (self.folder / "job.json").write_text(json.dumps(job))

    def agent(self) -> agent.Agent:
        environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        store = wiring.open_store(f"relay:{self.folder / 'store'}")
        machine = agent.Machine(self.folder, store, self.folder / "local/training-supervisor", BootClock(), environ)
        return agent.Agent(machine, self.said.append)

    def start(self) -> None:
        made = self.agent()
        self.threads.append(Thread(target=lambda: self.codes.append(made.serve())))
        self.threads[-1].start()

    @property
    def status(self) -> dict[str, Any]:
        path = self.folder / "status.json"
        return json.loads(path.read_bytes()) if path.exists() else {}

    def put(self, parcel: parcels.Parcel) -> None:
        to = self.folder / parcel.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.with_suffix(".part").write_bytes(parcel.file.read_bytes())
        to.with_suffix(".part").replace(to)

    def to_the_end(self) -> dict[str, Any]:
        until(lambda: self.pump.once(self).get("phase") == "done")  # type: ignore[arg-type]
        for thread in self.threads:
            thread.join(400)
        return self.status

    def at_home(self) -> list[str]:
        return [entry.name for entry in self.store.list(RUN.name)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(served, "PROGRAM", "tests.fleet.short")
    monkeypatch.setattr(agent, "TICK_S", 0.02)
    made = Place(tmp_path)
    yield made
    for thread in made.threads:
        thread.join(400)


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 42])
def test_it_ends_as_the_supervisor_did_when_home_holds_everything(place: Place, code):
    place.consign("--end", str(code), arguments=["--steps", "3"])
    place.start()
    status = place.to_the_end()
    assert place.codes == [code]
    assert (status["phase"], status["exit_code"], status["waiting_files"]) == ("done", code, 0)
    assert place.at_home() == ["run (1).json"]
    told = place.store.read("toy/run (1).json").decode()
    assert "['--steps', '3']" in told
    assert "'SUPERVISOR_RUN_KEEP_MACHINE': '1'" in told
    assert f"'SUPERVISOR_RUN_LOCAL': '{place.folder}/local'" in told
    assert told.endswith(f"{place.folder}/project")
    assert f"nice {os.nice(0)}" in told  # it does not give way to anybody, as the agent does to it
    assert agent.serve(place.agent().machine) == code  # another agent finds it done


@pytest.mark.slow
def test_it_stays_until_home_has_come(place: Place):
    place.consign()
    place.start()
    waiting = until(lambda: place.status.get("phase") == "handing over results" and place.status)
    beat = waiting["beat"]
    until(lambda: place.status["beat"] > beat)
    assert place.status["waiting_files"] == 1
    assert place.codes == []
    assert place.to_the_end()["words"] == "your computer holds everything"


@pytest.mark.slow
def test_from_some_age_on_it_waits_no_more_and_says_what_is_left(place: Place):
    place.consign(release_at_s=0.01)
    place.start()
    place.threads[0].join(400)
    assert place.codes == [0]
    assert place.status["waiting_files"] == 1
    assert "not fetched" in place.status["words"]


@pytest.mark.slow
def test_killed_without_a_word_the_supervisor_is_started_again_but_not_for_ever(place: Place):
    place.consign("--kill")
    place.start()
    status = place.to_the_end()
    assert place.at_home() == ["run (1).json", "run (2).json", "run (3).json", "run (4).json"]
    assert (place.codes, status["exit_code"]) == ([1], 1)


@pytest.mark.slow
def test_secrets_are_named_to_the_trainer_and_told_to_nobody(place: Place, tmp_path):
    from supervisor.engine.launcher import _secrets

    secrets = place.folder / "secrets.env"
    secrets.write_text("# mine\nTOKEN=a=b c\n\nEMPTY=\n")
    secrets.chmod(0o644)
    key = place.folder / "run.key"
    key.write_text("run-" + "0" * 64)
    key.chmod(0o644)
    place.consign()
    place.start()
    place.to_the_end()
    assert {each.stat().st_mode & 0o777 for each in (secrets, key)} == {0o600}
    assert _secrets(str(secrets)) == {"TOKEN": "a=b c", "EMPTY": ""}
    told = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != secrets]
    assert not [body for body in told if b"a=b c" in body]
    told = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != key]
    assert not [body for body in told if b"0" * 64 in body]


@pytest.mark.slow
def test_it_starts_nothing_before_the_whole_seed_has_come(place: Place, tmp_path):
    old = FolderStore(str(tmp_path / "home/runs"))
    old.create("toy/run.json", json.dumps(RECORD).encode())
    seed = place.home.seed()
    (parcel,) = seed.parcels
    place.consign(seed=seed.index())
    place.start()
    status = until(lambda: place.status.get("phase") == "preparing" and place.status)
    assert status["words"] == "waiting for 1 parcels from your computer"
    place.put(parcels.Parcel(_cut(parcel.file), parcel.name, 0, ""))
    until(lambda: "not whole" in place.status["error"])
    assert not (place.folder / "store/toy").exists()
    place.put(parcel)
    place.to_the_end()
    assert place.codes == [0]
    assert place.at_home() == ["run (2).json", "run.json"]


def _cut(file: Path) -> Path:
    cut = file.with_suffix(".cut")
    cut.write_bytes(file.read_bytes()[:-1])
    return cut


@pytest.mark.slow
def test_a_request_of_home_reaches_the_machines_store_once(place: Place, tmp_path):
    gate = tmp_path / "gate"
    place.consign("--wait", str(gate))
    place.start()
    until(lambda: place.pump.once(place) and place.at_home())  # type: ignore[arg-type]
    place.store.create("toy/stop-e00000001-aa-save-1.json", b"{}")
    until(lambda: place.pump.once(place) and (place.folder / "store/toy/stop-e00000001-aa-save-1.json").exists())  # type: ignore[arg-type]
    gate.touch()
    place.to_the_end()
    assert place.status["error"] == ""
    assert list((place.folder / "inbox").iterdir()) == []


def waiting(place: Place, gate: Path) -> None:
    """Start a supervisor that runs until there is a gate, in a store that tells of its run."""
    (place.folder / "store/toy").mkdir(parents=True)
    (place.folder / "store/toy/run.json").write_text(json.dumps(RECORD))
    place.consign("--wait", str(gate))
    place.start()
    until(lambda: place.pump.once(place) and "run (2).json" in place.at_home())  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("removed", [["agent"], ["outbox"], ["agent", "outbox", "inbox"]])
def test_what_the_agent_keeps_for_itself_may_be_removed_and_the_run_goes_on(place: Place, tmp_path, removed):
    waiting(place, tmp_path / "gate")
    for name in removed:
        (place.folder / name).rename(tmp_path / f"removed-{name}")
    until(lambda: "they were made again, and the run goes on" in place.status["error"])
    (place.folder / "store/toy/run (100).json").write_text("made after that")
    until(lambda: place.pump.once(place) and "run (100).json" in place.at_home())  # type: ignore[arg-type]
    (tmp_path / "gate").touch()
    place.to_the_end()
    assert place.codes == [0]
    assert place.at_home() == ["run (100).json", "run (2).json", "run.json"], "the supervisor was started once"
    assert {each.name for each in (place.folder / "agent").iterdir()} >= {"began.json", "turn-000001.json"}


def test_an_agent_whose_notes_were_removed_while_it_was_dead_waits_for_no_seed(place: Place):
    """Its seed had come, and nobody would send it once more."""
    place.consign()
    told = json.loads((place.folder / "job.json").read_bytes()) | {"seed": [{"sha256": "0" * 64}]}
    (place.folder / "job.json").write_text(json.dumps(told))
    (place.folder / agent.SEEDED).touch()
    assert place.agent()._prepared().seed == ("0" * 64,)


def emptied(folder: Path, to: Path, *, kept: bool) -> None:
    """Take all away that lies in a machine's folder, as from a mount that is lost; ``kept``: the folder stays."""
    folder.rename(to)
    if kept:
        folder.mkdir()


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_machine_whose_files_are_removed_ends_its_supervisor_and_hands_the_run_over(place: Place, tmp_path, kept):
    waiting(place, tmp_path / "gate")
    emptied(place.folder, tmp_path / "removed", kept=kept)
    if not kept:
        until(lambda: any("removed from the machine" in each for each in place.said))
        assert not place.folder.exists(), "a machine is not made again from inside"
        place.folder.mkdir()  # as a letter from home does
    status = place.to_the_end()
    assert place.codes == [42]
    assert status["exit_code"] == 42
    assert "files of the run were removed from the machine while it worked" in status["error"]
    assert "the next machine goes on" in status["error"]
    until(lambda: not [each for each in processes() if str(tmp_path / "gate") in each])


@pytest.mark.slow
def test_results_that_are_removed_before_home_has_them_are_not_called_held(place: Place, tmp_path):
    waiting(place, tmp_path / "gate")
    (tmp_path / "gate").touch()
    (place.folder / "store/toy/run (101).json").write_text("the last")
    until(lambda: place.status.get("phase") == "handing over results")
    emptied(place.folder, tmp_path / "removed", kept=True)
    status = place.to_the_end()
    assert place.codes == [42]
    assert "your computer holds everything" not in status["words"]


def test_files_that_vanish_before_the_job_begins_end_the_machine(place: Place, tmp_path):
    place.consign(seed=[{"sha256": "0" * 64}])
    place.start()
    until(lambda: place.status.get("phase") == "preparing")
    (place.folder / "agent").rename(tmp_path / "removed")
    place.threads[0].join(400)
    assert place.codes == [42]


def processes() -> list[str]:
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError):
            found.append((each / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def test_a_second_agent_says_that_it_waits_for_the_first(tmp_path):
    waited: list[str] = []
    with agent.alone(tmp_path, lambda: None):
        second = Thread(target=lambda: _hold(tmp_path, waited))
        second.start()
        until(lambda: waited == ["waits"])
    second.join(400)
    assert waited == ["waits", "has it"]


def _hold(folder: Path, waited: list[str]) -> None:
    with agent.alone(folder, lambda: waited.append("waits")):
        waited.append("has it")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"schema": 1}', b'{"schema": 9, "name": "x", "script": "y"}',
             b'{"schema": 1, "name": "x", "script": "../../etc/passwd"}']
)  # fmt: skip
def test_a_job_that_cannot_be_read_ends_it_in_two_lines(place: Place, body):
    (place.folder / "job.json").write_bytes(body)
    assert place.agent().serve() == 4
    assert place.status["phase"] == "done"
    assert "launch again" in place.status["words"] or "send this version" in place.status["words"]


def test_where_the_agents_own_packages_cannot_be_had_it_says_so_and_may_be_started_again(tmp_path, monkeypatch, capsys):
    from supervisor.cli import agent as verb
    from supervisor.cli import main
    from supervisor.core.errors import SetupError

    def missing() -> None:
        raise SetupError("no network", "try later")

    monkeypatch.setattr(verb, "ensure", missing)
    assert main(["agent", str(tmp_path)]) == 3
    assert "error: no network\n  try: try later" in capsys.readouterr().err
    told = json.loads((tmp_path / "status.json").read_bytes())
    assert (told["phase"], told["exit_code"], told["error"]) == ("preparing", None, "no network; try later")


def tarred(folder: Path, *members: tuple[str, bytes]) -> None:
    with tarfile.open(folder / "code.tar", "w") as code:
        for name, body in members:
            member = tarfile.TarInfo(name)
            member.size = len(body)
            code.addfile(member, BytesIO(body))


def test_the_code_is_unpacked_once_and_only_the_users(tmp_path):
    tarred(
        tmp_path, ("project/trainers/toy.py", b"print(1)"), ("project/.tmp-mine", b""), ("package/supervisor/x.py", b"")
    )
    assert (consignment.unpack(tmp_path) / "trainers/toy.py").read_bytes() == b"print(1)"
    (tmp_path / "code.tar").unlink()
    assert consignment.unpack(tmp_path) == tmp_path / "project"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]


@pytest.mark.parametrize("name", ["project/../../evil.py", "project/../evil.py"])
def test_no_member_of_the_code_leads_out_of_the_machines_folder(tmp_path, name):
    (tmp_path / "machine").mkdir()
    tarred(tmp_path / "machine", (name, b"evil"))
    with pytest.raises(UserError, match="cannot be unpacked"):
        consignment.unpack(tmp_path / "machine")
    assert not list(tmp_path.rglob("evil.py"))


def test_code_that_is_no_archive_or_did_not_come_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot be unpacked"):
        consignment.unpack(tmp_path)
    (tmp_path / "code.tar").write_bytes(b"garbage" * 100)
    with pytest.raises(UserError, match="cannot be unpacked"):
        consignment.unpack(tmp_path)
