"""What names say of half-written files, of streams, of steps, and of which checkpoint is the newest."""

from __future__ import annotations

import pytest

from supervisor.core import naming, resume_arguments
from supervisor.core.carried import Carried, Entry, Piece, body, parse
from supervisor.core.content import ContentError
from supervisor.core.errors import UsageError


@pytest.mark.parametrize(
    "name",
    [
        "model.pt.tmp",
        "x.part",
        ".tmp-abc",
        "tmpab12cd_9",
        "model.pt.tmp.1234",
        "ckpt-5_temp",
        "a.incomplete",
        ".x.swp",
        "tmp-checkpoint-500",
    ],
)
def test_names_that_are_about_to_be_renamed(name: str) -> None:
    assert naming.is_temporary(name)


@pytest.mark.parametrize(
    "name", ["model.pt", "template.json", "tmp", "temperature.csv", "parts.bin", "attempt.pkl", "checkpoint-500"]
)
def test_names_that_are_here_to_stay(name: str) -> None:
    assert not naming.is_temporary(name)


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("checkpoint-500/model.safetensors", 500),
        ("epoch_3.pt", 3),
        ("lightning_logs/version_0/checkpoints/epoch=3-step=500.ckpt", 500),
        ("model_00012.pkl", 12),
        ("weights.03-0.52.hdf5", 3),
        ("ckpt-5.index", 5),
        ("run_7/model.pt", None),
        ("best.pt", None),
    ],
)
def test_the_step_that_a_path_tells(path: str, step: int | None) -> None:
    assert naming.step_of(path) == step


def test_resume_arguments_are_cut_before_they_are_filled() -> None:
    filled = resume_arguments.filled(
        "--resume '{checkpoint}' --at={step}", lambda name, _: {"checkpoint": "a b", "step": "5"}[name]
    )
    assert filled == ("--resume", "a b", "--at=5")


@pytest.mark.parametrize(
    "template", ["--x {newest}", "--x '", "--x {", "{}", "{checkpoint.parent}", "{step:09d}", "{step!r}"]
)
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(UsageError):
        resume_arguments.checked(template)


def test_any_name_comes_back_as_it_was() -> None:
    piece = Piece("bundle-000001", 3, 5, "sha256:00")
    entries = tuple(
        Entry(path, "file", 0o644, 5, piece) for path in ("a b", "a\nb", "ü/ö", "caf\udce9.pt", "\u4eac.pkl", 'q"\\')
    )
    carried = Carried(7, "out", (*entries, Entry("l", "link", target="../x\udcff")), "a b")
    assert parse(body(carried)) == carried


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../b", "", "a//b", "a\0b"])
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(ContentError):
        parse(body(Carried(1, "out", (Entry(path, "folder", 0o755),))))


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("runs/2026-12-01_00-29-12/model.pkl", None),
        ("outputs/2026-12-01/00-29-12/model.pt", None),
        ("runs/Dec01_00-29-12_host/model.pt", None),
        ("20261201-002912/best.pt", None),
        ("model_20261201.pt", None),
        ("01.12.2026/last.pt", None),
        ("model_1733012345.pkl", None),
        ("logs/run_2026-12-01T00:29:12/epoch_5.pt", 5),
        ("2026-12-01/ckpt_2026.pt", 2026),
        ("model-20261201-step500.pt", 500),
        ("2026-12-01_00-29-12/17.pkl", 17),
        ("step_20261201.pt", None),
        ("iter_100000.pt", 100000),
        ("model_2026.pt", 2026),
    ],
)
def test_a_date_or_a_time_in_a_name_is_no_step(path: str, step: int | None) -> None:
    assert naming.step_of(path) == step
