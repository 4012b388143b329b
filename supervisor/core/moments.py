"""Files that a script saves together: one after the other with no step between, and each time the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import naming
from supervisor.core.choosing import is_part
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Save:
    """A file that was written whole, with ``step`` steps done; None where nobody counts."""

    path: str
    step: int | None = None


def grouped(saves: Iterable[Save]) -> list[list[Save]]:
    """Cut the saves, in their order, into moments: a step between two begins a new one, and so does a second file of a kind."""
    moments: list[list[Save]] = []
    for save in saves:
        now = moments[-1] if moments else []
        shapes = {naming.shape_of(each.path) for each in now}
        if not now or save.step != now[0].step or naming.shape_of(save.path) in shapes:
            moments.append([save])
        else:
            now.append(save)
    return moments


def companions(moments: Sequence[Sequence[Save]], shape: str) -> set[str]:
    """Return the kinds of files that came with this kind each time so far."""
    kinds = [{naming.shape_of(each.path) for each in moment} for moment in moments]
    return set.intersection(*with_it) - {shape} if (with_it := [each for each in kinds if shape in each]) else set()


def is_complete(moment: Sequence[Save], before: Sequence[Sequence[Save]]) -> bool:
    """Say whether all the files are there that came together each time before; a best one may come or not."""
    shapes = {naming.shape_of(each.path) for each in moment}
    return all({each for each in companions(before, shape) if not is_part(each)} <= shapes for shape in shapes)
