"""The parts that the torch trainer and the Keras trainer share: data, learning rate and printed lines."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hyperlpr_example.batches import Mixture
from hyperlpr_example.reading import judge
from hyperlpr_example.real import read_folder
from hyperlpr_example.rendered import rendered_plates
from supervisor.core.errors import UserError
from supervisor.views.wrapping import show_error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from hyperlpr_example.metrics import Accuracy
    from hyperlpr_example.plates import LabelledPlates
    from hyperlpr_example.reading import BestClasses
    from supervisor.trainer.run import Run

ROOT = Path(__file__).resolve().parent.parent
PLATE_FOLDERS = ("plates", "data/plates", "../shared/data/plates-dev")
REAL_SHARE = 0.75  # of each batch, where there are real plates
JUDGED_RENDERED = 500
WEIGHT_DECAY = 0.02
GRADIENT_NORM_MAX = 5.0
NO_REAL_PLATES = """\
plates: {} rendered ones; no real ones found. Few real plates will be read exactly after that: under 1 % after the
  default run, 13.5 % after --steps 5000 --rendered 12000, 24 % at the best that was ever measured. Real ones come
  from a folder of your own (--plates DIR; labels.csv or plate texts as file names), or from the CCPD data set: see
  hyperlpr_example/README.md"""


class Found(NamedTuple):
    """What to learn from, what to judge by, and the word for the latter."""

    learned: Mixture
    judged: LabelledPlates
    kind: str


def find_plates(options: argparse.Namespace) -> Found:
    """Real plates where there are any, and rendered ones; what was found is said."""
    folder = _plate_folder(options.plates)
    found = read_folder(folder) if folder else None
    rendered = rendered_plates(options.rendered)
    if found is None:
        print(NO_REAL_PLATES.format(options.rendered), flush=True)
        mixture = Mixture([(rendered, options.batch)], options.seed)
        return Found(mixture, rendered_plates(JUDGED_RENDERED, seed=1), "rendered")
    learned, judged = found.part(held_out=False), found.part(held_out=True)
    for file, why in found.bad:
        print(f"  left out: {file}: {why}")
    print(
        f"plates: {len(learned.texts)} real ones to learn from, {len(judged.texts)} held out by plate text,"
        f" {len(found.bad)} left out ({folder}); {options.rendered} rendered ones",
        flush=True,
    )
    real = round(options.batch * REAL_SHARE)
    mixture = Mixture([(learned, real), (rendered, options.batch - real)], options.seed)
    return Found(mixture, judged, "real")


def warm_up_then_cosine(done: float) -> float:
    """The learning rate's factor when this share of the steps is done."""
    return min(done / 0.05 + 0.01, 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


class Report:
    """Tells how training goes: loss and speed every few steps, now and then how well the held-out plates are read."""

    def __init__(self, options: argparse.Namespace, run: Run, found: Found, best_classes: BestClasses) -> None:
        self._options, self._run, self._found, self._best_classes = options, run, found, best_classes
        self._accuracy: Accuracy | None = None
        self._since_s, self._plates = time.perf_counter(), 0

    def step_done(self, step: int, loss: Any) -> None:
        """The step with this index is done; its loss is only looked at for a line."""
        options, done = self._options, step + 1
        self._plates += options.batch
        if done % options.report_every == 0:
            print(f"step {done}/{options.steps}  loss {float(loss):.3f}  {self._rate():.0f} plates/s", flush=True)
        if done % options.eval_every == 0 or done == options.steps:
            with self._run.section("eval"):
                self._accuracy = accuracy = self._judged()
            self._run.log(exact=accuracy.exact, characters=accuracy.characters, last_six=accuracy.last_six)
            print(f"step {done}/{options.steps}  held-out {self._found.kind} plates: {accuracy}", flush=True)
            self._since_s, self._plates = time.perf_counter(), 0

    def end(self) -> None:
        """Say how well the plates are read in the end."""
        print(f"held-out {self._found.kind} plates: {self._accuracy or self._judged()}", flush=True)

    def _judged(self) -> Accuracy:
        return judge(self._best_classes, self._found.judged)

    def _rate(self) -> float:
        plates, since_s = self._plates, self._since_s
        self._plates, self._since_s = 0, time.perf_counter()
        return plates / (self._since_s - since_s)


def as_script(main: Callable[[], None]) -> None:
    """Run a trainer; what a person did wrong is said in two lines."""
    try:
        main()
    except UserError as error:
        if "SUPERVISOR_RUN_ID" in os.environ:
            raise  # because the supervisor shows it, and learns from its kind whether a restart could help
        show_error(error.what, error.hint)
        sys.exit(error.exit_code)


def _plate_folder(asked: str) -> Path | None:
    """The folder that was asked for, or the first known one that is there."""
    if asked != "auto":
        return None if asked == "none" else Path(asked)
    return next((ROOT / folder for folder in PLATE_FOLDERS if (ROOT / folder).is_dir()), None)
