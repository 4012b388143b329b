"""Kaggle notebooks: 12 hours, 9 with a TPU, and of ``/kaggle/working`` only what a saved version keeps."""

from __future__ import annotations

import os
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.deadline import Lifetime
from supervisor.core.ports import Platform
from supervisor.engine import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from supervisor.core.instant import Instant

STORE = "/kaggle/working/supervisor"
INPUT = Path("/kaggle/input")
LIFE_S, TPU_LIFE_S = 12 * 3600.0, 9 * 3600.0
SAVING_S = 600.0  # of a version's time, for Kaggle to end the notebook and keep what it leaves
DEPTH, NAMES_MAX = 5, 2000
_TPU = ("TPU_ACCELERATOR_TYPE", "ISTPUVM", "TPU_NAME", "TPU_WORKER_ID")
BATCH = "the run hands over in time, because only then its output is kept; in the next version add it as input and start again"
INTERACTIVE = (
    "a session that is left alone ends, and only a saved version keeps /kaggle/working: Save Version, Save & Run All"
)


def is_here(environ: Mapping[str, str]) -> bool:
    """KAGGLE_KERNEL_RUN_TYPE is set in every Kaggle session."""
    return bool(environ.get("KAGGLE_KERNEL_RUN_TYPE"))


def describe(environ: Mapping[str, str], now: Instant, *, inputs: Path | None = None) -> Platform:
    """Return Kaggle's figures. A version that runs into its limit fails and keeps nothing, so its limit is a hard one."""
    batch = environ.get("KAGGLE_KERNEL_RUN_TYPE") == "Batch"
    life_s = TPU_LIFE_S if any(environ.get(name) for name in _TPU) else LIFE_S
    return Platform(
        name="kaggle",
        store=STORE,
        prior_life_s=life_s,
        lifetime=Lifetime(life_s - SAVING_S if batch else life_s, hard=batch),
        age_s=_age_s(now, life_s),
        title="a version of a Kaggle notebook" if batch else "an interactive Kaggle session",
        advice=BATCH if batch else INTERACTIVE,
        notice="none is given: Kaggle's limits are planned for instead",
        earlier=partial(earlier, inputs or INPUT),
    )


def check_store(_where: str, _is_mount: Callable[[str], bool], _environ: Mapping[str, str] = os.environ) -> None:
    """Any folder will do here."""


def earlier(inputs: Path, run: str) -> list[str]:
    """Return the stores that are mounted as input and hold this run: outputs of earlier versions."""
    return sorted(str(store) for store in _stores(inputs, DEPTH) if (store / run / "run.json").is_file())


def _stores(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            inside = list(islice(entries, NAMES_MAX))
    except OSError:
        return
    if depth == 0 or len(inside) == NAMES_MAX:
        return  # it is a data set's: no store has so many names in one folder
    for entry in inside:
        if entry.is_dir():
            if entry.name == "supervisor":
                yield Path(entry.path)
            else:
                yield from _stores(Path(entry.path), depth - 1)


def _age_s(now: Instant, life_s: float) -> float:
    """Return since when the session's container runs: the machine below it may be older by far.

    0 where it does not tell, or tells more than a session can live: a run must not hand over at once for that.
    """
    ticks = identity.started(1)
    age_s = 0.0 if ticks is None else now.mono_s - int(ticks) / os.sysconf("SC_CLK_TCK")
    return age_s if 0.0 < age_s < life_s else 0.0
