"""What --resume-args is filled with, and what is tried and said when the script fails on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.carried import Carried, Entry, Piece
from supervisor.core.errors import UserError
from supervisor.engine.files.candidates import Candidates

ROOT = Path("/there")


class Said(list[str]):
    """Keeps the words."""

    def __call__(self, _level: str, words: str) -> None:
        self.append(words)


def carried(*paths: str, checkpoint: str = "") -> Carried:
    """Return files that were saved one after the other, ten seconds apart."""
    entries = [
        Entry(path, "file", 0o644, place * 10_000_000_000, Piece("file-1", 0, 9, ""))
        for place, path in enumerate(paths)
    ]
    return Carried(7, "", tuple(entries), checkpoint)


@pytest.mark.parametrize(
    ("paths", "template", "arguments"),
    [
        (("ck/last.pt", "ck/best.pt"), "--resume {checkpoint}", ("--resume", "/there/ck/last.pt")),
        (("LPRNet_epoch_5.pth", "LPRNet_epoch_6.pth"), "--w {checkpoint} --resume_epoch {epoch}",
         ("--w", "/there/LPRNet_epoch_6.pth", "--resume_epoch", "6")),
        (("epoch=3-step=500.ckpt",), "--e={epoch} --s={step}", ("--e=3", "--s=7")),
        (("last.pt",), "--e={step}", ("--e=7",)),  # no number in its name: the script's count
        (("netG_1.pt", "netD_1.pt", "netG_2.pt"), "--G={checkpoint:netG_*} --D={checkpoint:netD_*}",
         ("--G=/there/netG_1.pt", "--D=/there/netD_1.pt")),
        (("ck/last.pt", "ck/best.pt"), "--resume_dir {folder}", ("--resume_dir", "/there/ck")),
        (("last.pt",), "--resume_dir={folder}", ("--resume_dir=/there",)),
        (("out/checkpoint-5/config.json", "out/checkpoint-5/model.safetensors"), "--from {folder}",
         ("--from", "/there/out/checkpoint-5")),
        (("a/netG_1.pt",), "--dir {folder} --G {checkpoint:netG_*}", ("--dir", "/there/a", "--G", "/there/a/netG_1.pt")),
        (("a.pt",), "--init_from=resume", ("--init_from=resume",)),
        (("a.pt",), "", ()),
    ],
)  # fmt: skip
def test_the_template_is_filled(paths: tuple[str, ...], template: str, arguments: tuple[str, ...]) -> None:
    said = Said()
    candidates = Candidates(said)
    candidates.of("folder", carried(*paths))
    assert candidates.arguments(template, ROOT, 7) == arguments
    assert said == []


@pytest.mark.parametrize(
    ("paths", "template", "what", "hint"),
    [
        (("last.pt",), "--e={epoch}", "the chosen checkpoint, last.pt, has no number", "write {step} for the step or snapshot, which is 7"),
        (("ck/model.pt",), "--w {checkpoint} --e {epoch}", "ck/model.pt, has no number", "or the epoch itself"),
        (("epoch_2.pt", "epoch_3.pt", "last.pt"), "--w {checkpoint} --e {epoch}", "last.pt, has no number", "write {checkpoint:epoch_*.pt}, "),
    ],
)  # fmt: skip
def test_an_epoch_that_no_name_tells_is_asked_for_in_two_lines(
    paths: tuple[str, ...], template: str, what: str, hint: str
) -> None:
    candidates = Candidates(Said())
    candidates.of("folder", carried(*paths))
    with pytest.raises(UserError) as error:
        candidates.arguments(template, ROOT, 7)
    assert what in error.value.what
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("paths", "template", "words"),
    [
        ((), "--e {epoch}", "no checkpoint of the script's own is among its files: --resume-args is left out"),
        (("log.txt.d/",), "--x {checkpoint:net*}", "no file fits net* is among its files: --resume-args is left out"),
        ((), "--x {checkpoint}", "no checkpoint of the script's own is among its files: --resume-args is left out"),
    ],
)
def test_without_a_file_that_fits_it_is_left_out_and_said(paths: tuple[str, ...], template: str, words: str) -> None:
    said = Said()
    candidates = Candidates(said)
    candidates.of("folder", carried(*paths))
    assert candidates.arguments(template, ROOT, 7) == ()
    assert said == [words]


def test_each_candidate_is_tried_once_and_said_with_the_rule() -> None:
    said = Said()
    candidates = Candidates(said)
    candidates.of("folder", carried("best.pt", "ema.pt", "last.pt"))
    given = []
    for error in ("KeyError: 'a'", "RuntimeError: size mismatch", "KeyError: 'b'"):
        given.append(candidates.arguments("--resume {checkpoint}", ROOT, 7)[1])
        candidates.of("folder", carried("best.pt", "ema.pt", "last.pt"))  # the same files are put back again
        another = candidates.failed("script", error)
    assert given[0] == "/there/last.pt"
    assert sorted(given) == ["/there/best.pt", "/there/ema.pt", "/there/last.pt"]
    assert said[0] == (
        "the script failed with KeyError: 'a'; trying ema.pt (last.pt was chosen by --resume-args: its name says 'last')"
    )
    assert "no other checkpoint is left to try" in said[2]
    assert not another


def test_another_snapshot_begins_anew() -> None:
    candidates = Candidates(Said())
    candidates.of("one", carried("best.pt", "last.pt"))
    candidates.arguments("--resume {checkpoint}", ROOT, 7)
    assert candidates.failed("script", "KeyError")
    candidates.of("two", carried("best.pt", "last.pt"))
    assert candidates.arguments("--resume {checkpoint}", ROOT, 7)[1] == "/there/last.pt"


def test_a_script_that_refuses_its_arguments_is_told_who_added_them() -> None:
    said = Said()
    candidates = Candidates(said)
    candidates.of("folder", carried("best.pt", "last.pt"))
    candidates.arguments("--ckpt_path {checkpoint}", ROOT, 7)
    assert not candidates.failed("setup", "the script refused its arguments (exit code 2)")
    assert said == [
        "the script refused its arguments (exit code 2): --resume-args had added --ckpt_path /there/last.pt"
    ]


@pytest.mark.parametrize("kind", ["device-oom", "refused"])
def test_what_another_checkpoint_would_meet_too_changes_nothing(kind: str) -> None:
    said = Said()
    candidates = Candidates(said)
    candidates.of("folder", carried("best.pt", "last.pt"))
    candidates.arguments("--resume {checkpoint}", ROOT, 7)
    assert not candidates.failed(kind, "no memory")
    assert said == []
