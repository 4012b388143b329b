"""What the names of a script's files say: half-written, always growing, of which step."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_TEMPORARY = re.compile(
    r"""(?ix)
    \.?tmp[-_.].* | \.tmp.* | \.\#.* | \.~.* | ~\$.* | tmp[a-z0-9_]{8}     # how programs begin the names of such files
    | .*\.(tmp|temp|part|partial|incomplete|crdownload|download|swp|swx|lock) # how they end them
    | .*\.tmp[-_.]?[a-z0-9_]{1,16} | .*[._-]temp | .*\.orbax-checkpoint-tmp.* | .*~
    """
)
_STREAM = re.compile(r"(?i).*\.(log|jsonl|ndjson|csv|tsv|out|err)|.*\.?tfevents\..*|output.*\.txt|.*log\.txt|.*\.wandb")
_LINES = re.compile(r"(?i).*\.(log|jsonl|ndjson|csv|tsv|out|err|txt)")
_STEP = re.compile(
    r"(?i)(?:^|[^a-z])(?:global[-_]?step|step|iteration|iter|it|checkpoint|ckpt|chkpt|batch)[-_=.]{0,2}(\d+)"
)
_EPOCH = re.compile(r"(?i)(?:^|[^a-z])(?:epoch|ep|model|weights|snapshot|save|state|cp)[-_=.]{0,2}(\d+)")
_ONLY_EPOCH = re.compile(r"(?i)(?:^|[^a-z])(?:epoch|ep)[-_=.]{0,2}(\d+)")
_BARE = re.compile(r"(?:^|[-_.=])(\d+)(?=$|[-_.])")
_NO_STEP = re.compile(
    r"(?i)(?:^|[-_.])(?:v|version|run|exp|experiment|seed|fold|trial|rank|gpu|node|part|shard)[-_=]?\d+"
)
_DATE = re.compile(  # a day, or a time of day behind one: 2026-12-01_00-29-12, 20261201-002912, Dec01_00-29-12
    r"""(?ix)
    (?<!\d)(?:
        (?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])
      | (?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d
      | (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-_.]?\d{1,2}(?:[-_.](?:19|20)\d\d)?
    )(?!\d)
    (?:[-_T. ]+\d{2}[-_.:h]?\d{2}(?:[-_.:m]?\d{2})?(?:[-_.]\d{3,6})?)?(?!\d)
    """
)
_TIME = re.compile(r"(?<!\d)(?:\d{2}[-:.]\d{2}[-:.]\d{2}|1\d{9}(?:\d{3})?)(?!\d)")  # 00-29-12, or seconds since 1970
_SHARDS = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")  # TensorFlow is given the name without these

NUMBERED = 2  # a name that says what its number counts


def is_temporary(name: str) -> bool:
    """Say whether a file or folder of this name is about to be renamed or removed, by all habits."""
    return _TEMPORARY.fullmatch(name) is not None


def is_stream(path: str) -> bool:
    """Say whether a file of this name grows all the time, so that waiting for its end is no use."""
    return _STREAM.fullmatch(path.rpartition("/")[2]) is not None


def has_lines(path: str) -> bool:
    """Say whether a part of this file is best cut after a whole line."""
    return _LINES.fullmatch(path.rpartition("/")[2]) is not None


@lru_cache(maxsize=32_768)  # the names of one folder are asked for again and again
def step_in(name: str) -> tuple[int, int] | None:
    """Return how plainly a name says a step (2: its words do, 1: it holds a number) and that number; None: it does not."""
    told = _TIME.sub("", _DATE.sub("", _NO_STEP.sub("", name)))
    for pattern, plain in ((_STEP, NUMBERED), (_EPOCH, NUMBERED), (_BARE, 1)):
        if found := pattern.search(told):
            return plain, int(found[1])
    return None


def step_of(path: str) -> int | None:
    """Return the step that a path tells, by its last part that tells one; None if none does."""
    told = (step_in(part) for part in reversed(path.split("/")))
    return next((each[1] for each in told if each is not None), None)


def epoch_of(path: str) -> int | None:
    """Return the epoch that a path tells: the number behind that word, else the only number that it tells."""
    for part in reversed(path.split("/")):
        if found := _ONLY_EPOCH.search(part):
            return int(found[1])
    return step_of(path)


def without_shard(path: str) -> str:
    """Return a path without what TensorFlow adds to the name that it was given."""
    return _SHARDS.sub("", path)


def alike(paths: Iterable[str]) -> set[str]:
    """Return the paths that hold numbers, each number as ``#``: what these patterns find are checkpoints like them."""
    return {shape for path in paths if (shape := shape_of(path)) != path}


def shape_of(path: str) -> str:
    """Return a path with each number in its name as ``#``."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + re.sub(r"\d+", "#", name)


def within(path: str, roots: Collection[str]) -> bool:
    """Say whether a path is one of these or lies in one."""
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def numbered_above(path: str) -> str:
    """Return the top-most part of a path whose own name plainly says a step; "" for none."""
    parts = path.split("/")
    for depth, part in enumerate(parts, start=1):
        told = step_in(part)
        if told is not None and told[0] == NUMBERED:
            return "/".join(parts[:depth])
    return ""
