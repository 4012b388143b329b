"""What runs here is what its user typed here: not the script, the arguments or the folder that a store names."""

from __future__ import annotations

import json
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest

from supervisor.cli import resume, start
from supervisor.core.carried import FILE, FOLDER, LINK, Carried, Entry, Piece, body, parse
from supervisor.core.content import ContentError
from supervisor.core.digest import SHA256, digest_of
from supervisor.core.errors import UsageError, UserError
from supervisor.engine import own_commands
from supervisor.engine.files import protected, putting_back
from tests.trust.forged import RUN


@pytest.fixture
def served(monkeypatch):
    calls = []
    monkeypatch.setattr(start, "serve", lambda *given: calls.append(given) or 0)
    return calls


def claimed(forged, **changes):
    """Change what the newest session says of itself."""
    path = max((forged.root / RUN.name).glob("e*/claim.json"))
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def local_run(forged, tmp_path):
    id_ = json.loads((forged.root / RUN.record).read_bytes())["id"]
    return tmp_path / "local" / "training-supervisor" / id_


def of_this_machine(forged, tmp_path, **changes):
    script = tmp_path / "work" / "golden.py"
    script.write_text("print('mine')\n")
    told = {
        "store": str(forged.root),
        "run": RUN.name,
        "script": str(script),
        "arguments": ("--mine",),
        "options": {"keep_last": 5},
    }
    own_commands.write(local_run(forged, tmp_path), own_commands.OwnCommand(**{**told, **changes}))
    return script


def test_a_script_that_only_the_store_names_is_not_run_without_a_person(forged, served, tmp_path):
    evil = tmp_path / "work" / "evil.py"
    evil.write_text("print('evil')\n")
    claimed(
        forged, script=str(evil), arguments=["--config", "evil.yaml"], options={"watch": "/home", "resume_args": "-x"}
    )
    with pytest.raises(UsageError, match="only the store tells how golden was started") as refused:
        resume.run(["golden", "--store", str(forged.root)])
    assert "start " in refused.value.what
    assert "--watch /home" in refused.value.what
    assert "--trust-store" in refused.value.hint
    assert not served


def test_with_trust_store_what_is_shown_is_run(forged, served, tmp_path):
    script = tmp_path / "work" / "golden.py"
    script.write_text("print('mine')\n")
    claimed(forged, script=str(script), arguments=["--steps", "7"])
    assert resume.run(["golden", "--store", str(forged.root), "--trust-store"]) == 0
    assert (served[0][0], served[0][1]) == (script, ["--steps", "7"])


@pytest.mark.parametrize("where", ["golden/evil.py", "evil.py", "link"])
def test_a_script_that_lies_in_the_store_is_never_run(forged, served, tmp_path, where):
    evil = forged.root / ("golden/evil.py" if where == "link" else where)
    evil.write_text("print('evil')\n")
    named = evil
    if where == "link":
        named = tmp_path / "work" / "looks_fine.py"
        named.symlink_to(evil)
    claimed(forged, script=str(named))
    with pytest.raises(UsageError, match="lies in the store"):
        resume.run(["golden", "--store", str(forged.root), "--trust-store"])
    assert not served


def test_resume_runs_what_this_machine_remembers_whatever_the_store_says(forged, served, tmp_path, capsys):
    script = of_this_machine(forged, tmp_path)
    claimed(forged, script="/tmp/evil.py", arguments=["--evil"], options={"watch": "/home", "keep_last": 9})
    assert resume.run(["golden", "--store", str(forged.root)]) == 0
    chosen, arguments, options = served[0]
    assert (chosen, arguments, options.keep_last, options.watch) == (script, ["--mine"], "5", None)
    assert "other arguments" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{"store": "/elsewhere"}, {"run": "other"}, {"arguments": 5}, {"script": None}])
def test_a_record_of_another_store_or_run_is_not_this_run_s(forged, tmp_path, changes):
    of_this_machine(forged, tmp_path, **changes)
    assert own_commands.read(local_run(forged, tmp_path), str(forged.root), RUN.name) is None


@pytest.mark.parametrize(
    "options", [{"store": "/x"}, {"name": "x"}, {"budget": "x"}, {"budget": [1]}, {"takeover": True}, {"json": 1}]
)
def test_options_of_a_record_that_are_none_are_left_out(options):
    given = resume.command_line().parse_args(["golden"])
    before = vars(given).copy()
    resume.complete(given, options)
    changed = {name for name, value in vars(given).items() if value != before[name]}
    assert changed <= {"budget"}


def snapshot(folder, *entries, content=b"evil"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bundle-000001").write_bytes(content)
    return Carried(7, "", tuple(entries))


def a_file(path, mode=0o644, content=b"evil"):
    return Entry(path, FILE, mode, 1, Piece("bundle-000001", 0, len(content), digest_of((content,), SHA256)))


@pytest.mark.parametrize(
    "path",
    ["train.py", "random.py", "numpy/__init__.py", "x.so", ".bashrc", ".git/hooks/post-commit", "a/.env", "run.sh", "requirements.txt",
     "link.py", "Makefile", "TORCH.PY"],
)  # fmt: skip
def test_code_and_hidden_files_of_the_working_folder_are_never_replaced(tmp_path, path):
    script = tmp_path / "train.py"
    script.write_text("print('mine')")
    (tmp_path / "link.py").symlink_to(script)
    with pytest.raises(UserError, match="the checkpoint would replace") as refused:
        protected.refuse(["out/model.pt", path], tmp_path, script)
    assert "--watch" in refused.value.hint


def test_a_file_under_version_control_is_never_replaced(tmp_path):
    import subprocess

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "data.bin").write_bytes(b"mine")
    subprocess.run(["git", "-C", str(tmp_path), "add", "data.bin"], check=True)
    with pytest.raises(UserError, match="under version control"):
        protected.refuse(["data.bin"], tmp_path, tmp_path / "train.py")
    protected.refuse(
        ["out/model.pt", "model.zip", "lightning_logs/version_0/hparams.yaml"], tmp_path, tmp_path / "train.py"
    )


def test_nothing_is_put_back_through_a_link_on_this_disk(tmp_path):
    victim = tmp_path / ".ssh"
    victim.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    (work / "out").symlink_to(victim)
    carried = snapshot(tmp_path / "checkpoint", a_file("out/authorized_keys"))
    with pytest.raises(OSError, match="is a link"):
        putting_back.put_back(tmp_path / "checkpoint", carried, work, tmp_path / "aside")
    assert list(victim.iterdir()) == []


@pytest.mark.parametrize(
    "look", [(putting_back, "_see_no_link"), (putting_back.scanning, "scan")], ids=["checked", "scanned"]
)
@pytest.mark.parametrize("path", ["out/authorized_keys", "out/deep/authorized_keys"])
def test_a_folder_that_becomes_a_link_after_the_look_leads_nowhere(tmp_path, monkeypatch, look, path):
    """Between a look and a write somebody else may swap a folder for a link: the write then fails."""
    victim, work = tmp_path / ".ssh", tmp_path / "work"
    (victim / "deep").mkdir(parents=True)
    (victim / "stale").write_text("mine")
    (work / "out" / "deep").mkdir(parents=True)
    (work / "out" / "stale").write_text("old")
    owner, name = look
    whole = getattr(owner, name)

    def swap(*given, **more):
        found = whole(*given, **more)
        (work / "out").rename(tmp_path / "gone")
        (work / "out").symlink_to(victim)
        return found

    monkeypatch.setattr(owner, name, swap)
    folders = [Entry(each, FOLDER, 0o755) for each in ("out", "out/deep")]
    carried = replace(snapshot(tmp_path / "checkpoint", *folders, a_file(path)), root="work")
    with pytest.raises(OSError, match="is a link"):
        putting_back.put_back(tmp_path / "checkpoint", carried, work, tmp_path / "aside")
    assert sorted(each.name for each in victim.rglob("*")) == ["deep", "stale"]
    assert (victim / "stale").read_text() == "mine"


def test_whoever_swaps_a_folder_for_a_link_all_the_time_gains_nothing(tmp_path):
    victim, work = tmp_path / ".ssh", tmp_path / "work"
    for each in (victim, work / "out"):
        each.mkdir(parents=True)
    (tmp_path / "link").symlink_to(victim)
    over = Event()

    def swap():
        while not over.is_set():
            for one, other in (
                ("work/out", "aside-out"),
                ("link", "work/out"),
                ("work/out", "link"),
                ("aside-out", "work/out"),
            ):
                with suppress(OSError):
                    (tmp_path / one).rename(tmp_path / other)

    files = (Entry("out", FOLDER, 0o755), a_file("out/authorized_keys"))
    carried = replace(snapshot(tmp_path / "checkpoint", *files), root="work")
    swapping = Thread(target=swap)
    swapping.start()
    try:
        for number in range(300):
            with suppress(OSError):
                putting_back.put_back(tmp_path / "checkpoint", carried, work, tmp_path / f"aside-{number}")
    finally:
        over.set()
        swapping.join()
    assert list(victim.iterdir()) == []


@pytest.mark.parametrize("below", ["a/x", "a/b/x"])
def test_an_entry_below_a_link_entry_is_damage(below):
    carried = Carried(7, "out", (Entry("a", LINK, target="inside"), Entry("inside", FOLDER, 0o755), a_file(below)))
    with pytest.raises(ContentError, match="below a link"):
        parse(body(carried))


def test_a_path_that_is_named_twice_is_damage():
    with pytest.raises(ContentError, match="twice"):
        parse(body(Carried(7, "out", (Entry("a", FOLDER, 0o755), Entry("a", LINK, target="/etc")))))


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, 0o6777])
def test_no_file_comes_back_with_rights_beyond_its_permission_bits(tmp_path, mode):
    carried = parse(body(snapshot(tmp_path / "checkpoint", a_file("model.pt", mode))))
    putting_back.put_back(tmp_path / "checkpoint", carried, tmp_path / "work", tmp_path / "aside")
    got = stat.S_IMODE((tmp_path / "work" / "model.pt").stat().st_mode)
    assert got == mode & 0o777
    assert Path(tmp_path / "work" / "model.pt").read_bytes() == b"evil"
    assert (tmp_path / "work" / "model.pt").stat().st_nlink == 1
