"""The versions of frameworks with which this product is tested, and those that are known not to work: the one table.

``python -m benchmarks.versions`` tests the lowest and the newest of each row. docs/frameworks.md shows the rows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

Fit = Literal["fits", "untested", "broken"]


@dataclass(frozen=True, slots=True)
class Supported:
    """One framework: ``name`` is its distribution, ``module`` what a script imports.

    ``broken_below``: versions under it do not work, for the reason ``why``. "" where none is known.
    """

    name: str
    module: str
    lowest: str
    newest: str
    broken_below: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a version is, and the two lines that say so; both are "" where it fits."""

    fit: Fit = "fits"
    what: str = ""
    hint: str = ""


ROWS: Mapping[str, Supported] = {
    row.name: row
    for row in (
        Supported("torch", "torch", "2.6.0", "2.13.0"),
        Supported("tensorflow", "tensorflow", "2.18.0", "2.21.0"),
        Supported("keras", "keras", "3.12.0", "3.15.1", "3.12.0", "its fit() counts batches in another way"),
        Supported("jax", "jax", "0.5.0", "0.10.2"),
        Supported(
            "transformers", "transformers", "5.19.0", "5.23.0", "5.19.0",
            "its Trainer does not keep the step at which training began (_initial_global_step)",
        ),
        Supported("accelerate", "accelerate", "1.10.0", "1.15.0"),
        Supported(
            "lightning", "lightning", "2.5.3", "2.6.6", "2.5.3",
            "its loop does not tell whether it resumes (fit_loop.is_resuming)",
        ),
    )
}  # fmt: skip


def judge(name: str, version: str) -> Judgement:
    """Return what a version of the framework ``name`` is. A release of the newest minor version fits, too."""
    row, release = ROWS[name], _release(version)
    if not release:
        return Judgement()
    if row.broken_below and release < _release(row.broken_below):
        return Judgement(
            "broken",
            f"{name} {version} does not work with this version of training-supervisor: {row.why}",
            f"pip install '{name}>={row.lowest}'",
        )
    if release < _release(row.lowest):
        return _untested(row, version, "below", row.lowest)
    if release[:2] > _release(row.newest)[:2]:
        return _untested(row, version, "above", row.newest)
    return Judgement()


def _untested(row: Supported, version: str, side: str, bound: str) -> Judgement:
    return Judgement(
        "untested",
        f"{row.name} {version} is {side} the versions that are tested (the {'lowest' if side == 'below' else 'newest'} is {bound})",
        f"rehearse the script once, which tells whether its resume is exact; or: pip install '{row.name}>={row.lowest},<={row.newest}'",
    )


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version without what follows them: "2.13.0+cpu" and "2.13.0rc1" are (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
