"""Which file a script resumes from: by name, then by size, then by time; files of one save stay together."""

from __future__ import annotations

import pytest

from supervisor.core import choosing
from supervisor.core.choosing import Found

S = 1_000_000_000


def files(*saves: tuple[str, ...], bytes_of: dict[str, int] | None = None) -> dict[str, Found]:
    """Return files that were written in this order, a save ten seconds after the other."""
    return {
        path: Found((bytes_of or {}).get(path, 1000), (save * 10 * S) + place * S // 100)
        for save, paths in enumerate(saves)
        for place, path in enumerate(paths)
    }


def first(found: dict[str, Found], told: tuple[str, ...] = ()) -> str:
    best = choosing.ranked(found, told)
    return best[0].paths[""] if best else ""


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        (files(("last.pt", "best.pt")), "last.pt"),  # best after last
        (files(("ckpt/model_5.pt", "ckpt/ema_5.pt")), "ckpt/model_5.pt"),
        (files(("model_5.pt", "optim_5.pt")), "model_5.pt"),
        (files(("model_5.pt", "model_5.optimizer.pt"), ("model_6.pt", "model_6.optimizer.pt")), "model_6.pt"),
        (files(("checkpoint.pth.tar", "model_best.pth.tar")), "checkpoint.pth.tar"),  # imagenet
        (files(("checkpoint-3.pth.tar", "last.pth.tar", "model_best.pth.tar")), "last.pth.tar"),  # timm
        (files(("netG_epoch_9.pth", "netD_epoch_9.pth")), "netG_epoch_9.pth"),  # dcgan
        (files(("G_100.pth", "D_100.pth")), "G_100.pth"),
        (files(("rl_model_32000_steps.zip", "rl_model_replay_buffer_32000_steps.pkl")), "rl_model_32000_steps.zip"),
        (files(("checkpoint_5.pt",), ("checkpoint_10.pt",)), "checkpoint_10.pt"),
        (files(("ckpt_9.pt", "ckpt_10.pt")), "ckpt_10.pt"),  # of one moment: the highest number
        (files(("last.ckpt",), ("best.ckpt",)), "last.ckpt"),  # the best one is newer
        (files(("old/last.pt",), ("m_1.pt",), ("m_2.pt",), ("m_3.pt",)), "m_3.pt"),  # left by an earlier training
        (files(("a.pt", "b.pt"), bytes_of={"a.pt": 5000, "b.pt": 100}), "a.pt"),  # by size
        (files(("a.pkl",), ("b.pkl",)), "b.pkl"),  # by time
        (files(("epoch=3-val_loss=0.2.ckpt",)), "epoch=3-val_loss=0.2.ckpt"),
        (files(("state.pkl", "train_losses.pkl", "args.pkl")), "state.pkl"),
        (files(("best.pt",)), "best.pt"),
        (files(("checkpoint-500/a", "checkpoint-500/b"), ("best.pt",)), "checkpoint-500"),
        (files(("checkpoint-500/a",), ("checkpoint-1000/a",)), "checkpoint-1000"),
        (files(("x/ckpt-5.data-00000-of-00001", "x/ckpt-5.index")), "x/ckpt-5"),
        (files(("run/last/model.pt",)), "run/last/model.pt"),
        (files(("exp/last.pt", "exp/best.pt", "exp/log.csv")), "exp/last.pt"),
        (files(("final/config.json", "final/model.safetensors")), "final"),
        ({}, ""),
    ],
)
def test_the_file_to_resume_from(found: dict[str, Found], chosen: str) -> None:
    assert first(found) == chosen


@pytest.mark.parametrize(
    ("found", "told", "chosen"),
    [
        (files(("a.pkl",), ("b.pkl",)), ("a.pkl",), "a.pkl"),
        (files(("run/last/model.pt",)), ("run/last/model.pt",), "run/last/model.pt"),
        (files(("state/model.bin", "state/optimizer.bin")), ("state",), "state"),
        (files(("model.pt",), ("optimizer.pt",)), ("model.pt", "optimizer.pt"), "model.pt"),
        ({}, ("gone.pt",), ""),
    ],
)
def test_what_the_framework_told_counts_more_than_what_lies_beside(
    found: dict[str, Found], told: tuple[str, ...], chosen: str
) -> None:
    assert first(found, told) == chosen


def test_after_the_first_choice_come_other_kinds_then_older_ones() -> None:
    found = files(("ckpt_1.pt", "best.pt"), ("ckpt_2.pt",), ("ckpt_3.pt", "optim_3.pt"))
    order = [each.paths[""] for each in choosing.ranked(found)]
    assert order[0] == "ckpt_3.pt"
    assert set(order[1:3]) == {"best.pt", "optim_3.pt"}
    assert order[3:] == ["ckpt_2.pt", "ckpt_1.pt"]


def test_what_was_recorded_stands_unless_it_is_a_part_only() -> None:
    found = files(("last.pt", "best.pt", "other.pt"))
    assert choosing.choices(found, [""], "best.pt")[0].paths == {"": "last.pt"}
    assert choosing.choices(found, [""], "other.pt")[0].paths == {"": "other.pt"}
    assert choosing.choices(found, [""])[0].rule == "its name says 'last'"


def test_patterns_are_filled_from_one_save() -> None:
    found = files(("netG_8.pth", "netD_8.pth"), ("netG_9.pth", "netD_9.pth"), ("netG_10.pth",))
    best = choosing.choices(found, ["netG_*", "netD_*"])
    assert [each.paths for each in best] == [
        {"netG_*": "netG_9.pth", "netD_*": "netD_9.pth"},
        {"netG_*": "netG_8.pth", "netD_*": "netD_8.pth"},
    ]
    assert "number 9" in best[0].rule


def test_patterns_without_numbers_are_filled_with_the_newest_of_each() -> None:
    found = files(("out/actor.pt", "out/critic.pt"), ("out/actor_best.pt",))
    assert choosing.choices(found, ["*Actor*", "*critic*"])[0].paths == {
        "*Actor*": "out/actor.pt",
        "*critic*": "out/critic.pt",
    }
    assert choosing.choices(found, ["policy*"]) == []


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("ck/netG_1.pth", "netG_*", True),
        ("ck/netG_1.pth", "ck/*.pth", True),
        ("ck/a/b.pth", "ck/*.pth", False),
        ("ck/a/b.pth", "ck/**.pth", True),
        ("net[1].pth", "net[[]1].pth", True),
        ("net1.pth", "net[0-9].pt?", True),
        ("net1.pth", "net[!0-9].pth", False),
        ("netG.pth", "netG", False),
    ],
)
def test_patterns_are_those_of_a_shell(path: str, pattern: str, *, fits: bool) -> None:
    assert choosing.matches(path, pattern) is fits
