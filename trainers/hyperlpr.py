# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.4,<=2.13.0",
#   "numpy>=1.26",
#   "pillow>=10.3",
#   "manimgx-fonts-cjk",
#   "fontpkg-barlow-semi-condensed",
# ]
# ///
"""Train HyperLPR's plate recogniser on real and rendered plates: in minutes on one CPU core, on a GPU where there is one.

python -m supervisor start trainers/hyperlpr.py                                             from scratch, half width
python -m supervisor start trainers/hyperlpr.py --name published -- --init published        from HyperLPR's own weights
python trainers/hyperlpr.py                                                                 without a supervisor
"""

# ruff: noqa: E402  because the checkout must be on the path before its packages are imported
from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # because this file also runs from a checkout in which nothing was installed

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

import supervisor
from hyperlpr_example.batches import Mixture, Plates, ahead
from hyperlpr_example.ctc import ctc_loss
from hyperlpr_example.model import SegmentationFree
from hyperlpr_example.published import published_weights
from hyperlpr_example.reading import judge
from hyperlpr_example.real import read_folder
from hyperlpr_example.rendered import rendered_plates
from supervisor.core.errors import UserError

if TYPE_CHECKING:
    from hyperlpr_example.plates import LabelledPlates

PLATE_FOLDERS = ("plates", "data/plates", "../shared/data/plates-dev")
REAL_SHARE = 0.75  # of each batch, where there are real plates
JUDGED_RENDERED = 500
NO_REAL_PLATES = """\
plates: {} rendered ones; no real ones found. Few real plates will be read exactly after that: under 1 % after the
  default run, 13.5 % after --steps 5000 --rendered 12000, 24 % at the best that was ever measured. Real ones come
  from a folder of your own (--plates DIR; labels.csv or plate texts as file names), or from the CCPD data set: see
  hyperlpr_example/README.md"""


def main() -> None:
    """Find the plates, build the network, train it, judge it."""
    options = read_options()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.deterministic = True
    device = torch.device(options.device)
    half = half_precision(device)
    print(f"device: {in_words(device, half)}", flush=True)
    learned, judged, kind = find_plates(options, device)
    data = Mixture(learned, options.seed)

    seed_everything(options.seed)
    network = SegmentationFree(options.width).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), options.lr, weight_decay=0.02, fused=options.device == "cuda")
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_then_cosine(step / options.steps))
    scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)
    run = supervisor.attach(model=network, optimizer=optimizer, scheduler=scheduler, scaler=scaler, data=data)
    if options.init == "published" and not run.resumed:
        network.load_state_dict(published_weights())

    rate, accuracy = Rate(), None
    # data.batch(N) is always the same: the step number is the position in the data, so resuming skips nothing.
    for step, batch in ahead(data.batch, run.steps(options.steps, data.epoch_steps)):
        with torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None):
            scores = network(batch.pictures.contiguous(memory_format=torch.channels_last))
        loss = ctc_loss(scores.float(), batch.classes, batch.lengths)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()

        run.log(loss=loss.detach(), lr=scheduler.get_last_lr()[0])
        rate.plates += options.batch
        if (step + 1) % options.report_every == 0:
            print(f"step {step + 1}/{options.steps}  loss {loss.item():.3f}  {rate.taken():.0f} plates/s", flush=True)
        if (step + 1) % options.eval_every == 0 or step + 1 == options.steps:
            with run.section("eval"):
                accuracy = judge(network, judged)
            run.log(exact=accuracy.exact, characters=accuracy.characters, last_six=accuracy.last_six)
            print(f"step {step + 1}/{options.steps}  held-out {kind} plates: {accuracy}", flush=True)
            rate = Rate()
    print(f"held-out {kind} plates: {accuracy or judge(network, judged)}", flush=True)


class Rate:
    """Plates a second since it was last asked."""

    def __init__(self) -> None:
        self.plates = 0
        self._since_s = time.perf_counter()

    def taken(self) -> float:
        """The rate until now; counting begins anew."""
        plates, since_s = self.plates, self._since_s
        self.plates, self._since_s = 0, time.perf_counter()
        return plates / (self._since_s - since_s)


def seed_everything(seed: int) -> None:
    """Also the generators that are not used here, because they are in the checkpoint: equal runs have equal checkpoints."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the global generator is the one that is meant
    torch.manual_seed(seed)


def warm_up_then_cosine(done: float) -> float:
    """The learning rate's factor when this share of the steps is done."""
    return min(done / 0.05 + 0.01, 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def half_precision(device: torch.device) -> torch.dtype | None:
    """bfloat16 where a GPU has it, else float16; a CPU keeps to float32."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def in_words(device: torch.device, half: torch.dtype | None) -> str:
    """What the training runs on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {str(half).removeprefix('torch.')}, channels last"
    return f"{device}, {torch.get_num_threads()} thread(s), float32"


def find_plates(
    options: argparse.Namespace, device: torch.device
) -> tuple[list[tuple[Plates, int]], LabelledPlates, str]:
    """What to learn from and how much of each batch it makes, what to judge by, and the word for the latter."""
    folder = plate_folder(options.plates)
    found = read_folder(folder) if folder else None
    drawn = rendered_plates(options.rendered)
    rendered = Plates(drawn.pictures, drawn.texts, device)
    if found is None:
        print(NO_REAL_PLATES.format(options.rendered), flush=True)
        return [(rendered, options.batch)], rendered_plates(JUDGED_RENDERED, seed=1), "rendered"
    learned, judged = found.part(held_out=False), found.part(held_out=True)
    for file, why in found.bad:
        print(f"  left out: {file}: {why}")
    print(
        f"plates: {len(learned.texts)} real ones to learn from, {len(judged.texts)} held out by plate text,"
        f" {len(found.bad)} left out ({folder}); {options.rendered} rendered ones",
        flush=True,
    )
    real = round(options.batch * REAL_SHARE)
    sources = [(Plates(learned.pictures, learned.texts, device), real), (rendered, options.batch - real)]
    return sources, judged, "real"


def plate_folder(asked: str) -> Path | None:
    """The folder that was asked for, or the first known one that is there."""
    if asked != "auto":
        return None if asked == "none" else Path(asked)
    return next((ROOT / folder for folder in PLATE_FOLDERS if (ROOT / folder).is_dir()), None)


def read_options() -> argparse.Namespace:
    """The command line, with the defaults that follow from --init."""
    parser = argparse.ArgumentParser(description="Train HyperLPR's plate recogniser.")
    parser.add_argument("--init", choices=["none", "published"], default="none", help="weights to start from")
    parser.add_argument("--plates", default="auto", help="folder of real plates; auto: the first known one; none")
    parser.add_argument("--rendered", type=int, default=6000, help="how many plates to render")
    parser.add_argument("--width", type=float, help="1.0 is the published network (default: 0.5, published: 1.0)")
    parser.add_argument("--steps", type=int, help="default: 1200, from published weights 500")
    parser.add_argument("--batch", type=int, default=16, help="plates a step; a GPU wants hundreds (and a larger --lr)")
    parser.add_argument("--lr", type=float, help="default: 1.5e-3, from published weights 4e-4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; more than one pays only on an idle machine"
    )
    parser.add_argument("--eval-every", type=int, help="steps between evaluations (default: a fifth of all)")
    parser.add_argument("--report-every", type=int, default=50, help="steps between lines")
    options = parser.parse_args()
    fine_tuning = options.init == "published"
    if fine_tuning and options.width not in (None, 1.0):
        parser.error("--init published is the network of --width 1.0")
    options.width = options.width or (1.0 if fine_tuning else 0.5)
    options.steps = options.steps or (500 if fine_tuning else 1200)
    options.lr = options.lr or (4e-4 if fine_tuning else 1.5e-3)
    options.eval_every = options.eval_every or max(1, options.steps // 5)
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        if "SUPERVISOR_RUN_ID" in os.environ:
            raise  # because the supervisor shows it, and learns from its kind whether a restart could help
        print(f"{error.what}\n{error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
