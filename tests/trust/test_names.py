"""Names, paths, ids and numbers that a store tells lead nowhere: not out of a folder, not into another run, not into a traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from supervisor.core import checkpoint as cp
from supervisor.core import claim, fields, log_pieces, nonfinite, rollback
from supervisor.core.claim import Rank, rank_of
from supervisor.engine import catalogue, claims, orphans, receipts, retaining, runs, staged
from supervisor.engine.place import LocalPlace, RunPlace
from supervisor.stores.folder import FolderStore
from tests.trust.forged import RUN

OUTWARD = [
    "../victim", "../../victim", "/etc/passwd", "a/b", "", ".", "..", "...", ". .", ".hidden", "a\0b", "a\nb", "\x1b[2J", "a\x9bb",
    "a\u202eb", "a\\b", "x" * 300, "\ud800", 5, None, ["x"],
]  # fmt: skip


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim.txt"
    path.write_text("mine")
    return path


def verdicts(forged, tmp_path):
    return [each.verdict for each in catalogue.judged(forged.store, RUN, tmp_path / "into")]


def test_a_file_whose_name_leads_out_is_never_written_by_verify(forged, victim, tmp_path):
    forged.forge(lambda told: told["files"][0].update(name=str(victim)))
    assert verdicts(forged, tmp_path)[0] is cp.Verdict.BROKEN
    assert victim.read_text() == "mine"
    assert victim.stat().st_nlink == 1


@pytest.mark.parametrize("name", OUTWARD)
def test_a_name_of_a_manifest_that_is_no_plain_name_is_damage(forged, tmp_path, name):
    forged.forge(lambda told: told["files"][0].update(name=name))
    assert verdicts(forged, tmp_path) == [cp.Verdict.BROKEN, cp.Verdict.WHOLE], "and the one before is taken"


@pytest.mark.parametrize(
    "name", ["../victim.txt", "/victim.txt", "x", "log-1-2-3.jsonl", "log-000001-000000000-000000005.jsonl/x"]
)
def test_a_name_of_a_step_log_that_is_none_is_damage(forged, tmp_path, name):
    forged.forge(lambda told: told["log"].update(name=name, path=f"{told['log']['path'].partition('/')[0]}/{name}"))
    assert verdicts(forged, tmp_path)[0] is cp.Verdict.BROKEN


@pytest.mark.parametrize(
    "path",
    [
        "run.json", "e00000003-b4dc8281/claim.json", "e00000001-e07acb97/log-000001-000000000-000000005.jsonl",
        "{session}/step-000000036/../claim.json", "{session}/step-000000036/x/y", "{session}/step-000000041/state.json",
        "{session}/step-36/state.json", "{session}/step-0000000000000000000036/x", "e3-b4dc8281/step-000000036/x",
        "{session}/step-000000036/\x1b]0;x", "{session}//step-000000036/x", "/{session}/step-000000036/x", "{session}/x",
    ],
)  # fmt: skip
def test_a_path_of_a_manifest_that_no_session_gives_is_damage(forged, tmp_path, path):
    session = forged.newest().parent.parent.name
    forged.forge(lambda told: told["files"][0].update(path=path.format(session=session)))
    assert verdicts(forged, tmp_path)[0] is cp.Verdict.BROKEN


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "abc"}, {"digest": ""}, {"digest": "sha256:xyz"}, {"digest": "sha256:" + "0" * 999}, {"bytes": -1}, {"bytes": 1 << 63},
        {"bytes": "5"}, {"bytes": 1e999}, {"bytes": 10**400}, {"bytes": True},
    ],
)  # fmt: skip
def test_a_digest_or_length_that_is_none_is_damage_and_stops_no_run(forged, tmp_path, change):
    forged.forge(lambda told: told["files"][0].update(change))
    assert verdicts(forged, tmp_path) == [cp.Verdict.BROKEN, cp.Verdict.WHOLE]


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": [1]}, {"metrics": {"loss": 1e999}}, {"total_steps": -1}, {"total_steps": "x"}, {"total_steps": 10**30},
        {"made_by": 5}, {"parent": {"epoch": 1}}, {"parent": "x"}, {"schema": -1}, {"pieces": {"a": 1}}, {"files": {}},
    ],
)  # fmt: skip
def test_a_field_of_a_manifest_that_is_of_another_type_is_damage(forged, tmp_path, change):
    forged.forge(lambda told: told.update(change))
    assert verdicts(forged, tmp_path)[0] is cp.Verdict.BROKEN


def test_a_file_that_is_named_twice_is_damage(forged, tmp_path):
    forged.forge(lambda told: told["files"].append(dict(told["files"][0])))
    assert verdicts(forged, tmp_path)[0] is cp.Verdict.BROKEN


def test_a_name_is_joined_only_to_its_own_folder(tmp_path):
    assert fields.into(tmp_path, "state.json") == tmp_path / "state.json"
    for name in OUTWARD:
        with pytest.raises(ValueError, match="name"):
            fields.into(tmp_path, name)


@pytest.mark.parametrize(
    "id_",
    [
        "other/toy",
        "../x",
        "/tmp/x",
        "",
        "0123456789ABCDEF",
        "0123456789abcdef0",
        "a\0b",
        5,
        None,
        [],
        {},
        "0123456789abcde/",
    ],
)
def test_an_id_of_a_run_that_is_none_is_damage_and_its_folder_is_never_made(forged, tmp_path, id_):
    record = forged.root / RUN.record
    told = json.loads(record.read_bytes())
    right = told["id"]
    record.write_text(json.dumps(told | {"id": id_}))
    known = runs.read(forged.store, RUN)
    assert known is not None
    assert known.damaged
    assert known.id == right, "as its sessions tell"
    assert LocalPlace(tmp_path / "local", known.id, Rank(4, "a")).run == tmp_path / "local" / right


def test_a_session_of_another_run_is_not_forgotten_by_a_forged_id(tmp_path, forged):
    precious = tmp_path / "other" / "e00000001-precious"
    precious.mkdir(parents=True)
    (forged.root / RUN.record).write_text(
        json.dumps({**json.loads((forged.root / RUN.record).read_bytes()), "id": "../other"})
    )
    known = runs.read(forged.store, RUN)
    assert known is not None
    orphans.forget_dead_sessions(
        LocalPlace(tmp_path / "local", known.id, Rank(500, "zz")).run, Rank(500, "zz"), keep=tmp_path
    )
    assert precious.is_dir()


@pytest.mark.parametrize(
    "name",
    [
        "e1-a", "e000000001-a", "e0000000000000001-a", f"e{'9' * 13}-a", f"e{'9' * 248}-a", "e00000001-", "e00000001-A", "e00000001-a b",
        "e00000001-a/b", "e\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661-a", f"e00000001-{'a' * 65}", "e00000001-a\n",
    ],
)  # fmt: skip
def test_a_folder_that_no_session_can_have_made_is_no_session(name):
    assert rank_of(name) is None
    assert claim.next_epoch([name, "e00000007-b"]) == 8


def test_the_name_of_a_session_is_the_one_that_its_number_gives():
    for name in ("e00000001-a", "e99999999-zz", "e100000000-a", "e999999999999-a"):
        rank = rank_of(name)
        assert rank is not None
        assert str(rank) == name


@pytest.mark.parametrize(
    ("parse", "name"),
    [
        (lambda name: rollback.parse(Rank(1, "a"), name), f"rollback-{'9' * 21}-{'9' * 21}-000000000-{'9' * 23}-1-1.json"),
        (lambda name: nonfinite.parse(Rank(1, "a"), name), f"nan-{'9' * 30}-{'9' * 30}.json"),
        (log_pieces.NAME.fullmatch, f"log-000001-{'0' * 9}-{'9' * 30}.jsonl"),
        (cp.STEP_FOLDER.fullmatch, f"step-{'9' * 16}"),
        (cp.MANIFEST_NAME.fullmatch, f"manifest-000001-{'a' * 16} ({'9' * 400}).json"),
        (receipts.NAME.fullmatch, f"verified-{'9' * 13}-1-a-1-ab.json"),
        (receipts.NAME.fullmatch, f"verified-1-{'9' * 5000}-a-1-ab.json"),
        (retaining.PIN.fullmatch, f"pin-1-{'9' * 5000}-a-1.json"),
        (staged.FOLDER.fullmatch, f"step-{'9' * 30}-1"),
        (claims.STOP.fullmatch, f"stop-e{'9' * 20}-a-save-ab.json"),
        (claims.KNOCK.fullmatch, f"knock-e{'9' * 20}-a-ab.json"),
        (runs.RECORD.fullmatch, f"run ({'9' * 5000}).json"),
    ],
)  # fmt: skip
def test_a_number_in_a_name_beyond_its_bound_is_no_record(parse, name):
    assert parse(name) is None


@pytest.mark.parametrize("name", ["\x1b[2Jx", "a\x9bb", "a\u202eb", "a\nb", ".x", "a/b", "", "x" * 101, "\u2066x"])
def test_a_folder_whose_name_acts_on_a_terminal_is_no_run(tmp_path, name):
    assert runs.NAME.fullmatch(name) is None
    if name and "/" not in name and len(name) < 100:
        (tmp_path / name / "e00000001-a").mkdir(parents=True)
        assert runs.names(FolderStore(str(tmp_path))) == []


@pytest.mark.parametrize(
    "local",
    [
        "/etc",
        "{there}",
        "{there}/../0123456789abcdef/e00000001-a",
        "a\0b",
        "relative/0123456789abcdef/e00000001-a",
        5,
        "",
        "{link}",
    ],
)
def test_a_claim_leads_no_reader_to_a_folder_that_is_no_session_of_this_user(tmp_path, local):
    there = tmp_path / "private"
    there.mkdir()
    (there / "status.json").write_text("{}")
    link = tmp_path / "0123456789abcdef" / "e00000001-a"
    link.parent.mkdir()
    link.symlink_to(there)
    told = local.format(there=there, link=link) if isinstance(local, str) else local
    assert claims.local_folder({"local": told}) is None


def test_a_session_of_this_machine_is_found_by_its_claim(tmp_path):
    folder = tmp_path / "0123456789abcdef" / "e00000001-a"
    folder.mkdir(parents=True)
    assert claims.local_folder({"local": str(folder)}) == folder


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"{" * 100_000, b"", b"\xff", b"null", b"[1]", b'{"id": NaN}', b" " * (1 << 21) + b"{}"]
)
@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "e00000003-b4dc8281/claim.json",
        "e00000003-b4dc8281/end-succeeded.json",
        "e00000003-b4dc8281/history.json",
    ],
)
def test_a_record_that_is_none_ends_no_reader(forged, name, body):
    (forged.root / RUN.name / name).write_bytes(body)
    assert runs.names(forged.store) == ["golden", "plain"]
    known = runs.read(forged.store, RUN)
    assert known is not None
    assert re.fullmatch("[0-9a-f]{16}", known.id)
    for rank in claims.ranks(forged.store, RUN):
        claims.read_claim(forged.store, RUN, rank)
        claims.read_end(forged.store, RUN, rank)


def test_a_run_of_a_name_with_dots_alone_leads_nowhere(tmp_path):
    with pytest.raises(Exception, match="cannot be the name of a run"):
        runs.enter(FolderStore(str(tmp_path / "s")), RunPlace("../x"), Path(__file__), (), {})
