"""Which project a script belongs to, told from what stays the same over machines, so that two projects never share a run.

The decision is safe: where nothing but the file's name agrees, the script is another project's, and a person can say that
it is not. The evidence, strongest first: the remote repository, the bytes of the script, the first commit, the names of
folder and repository with the script's path in it, and how many lines of the script are the same.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core.masking import masked
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SKETCH_MAX = 64
ALIKE, ALIKE_FORK = 0.3, 0.5  # shares of equal lines from which a script counts as edited, not as another
CHANGED_SHOWN, ARGUMENTS_SHOWN = 3, 80
# folders into which scripts of many projects are put one after the other: an equal path tells nothing there
COMMON_FOLDERS = frozenset(
    {"", "content", "desktop", "documents", "downloads", "home", "mydrive", "notebooks", "root", "tmp", "working"}
)
_SCP = re.compile(r"(?:[^@/]+@)?([^:/]{2,}):(?!//)(.+)")
_URL = re.compile(r"(?:https?|ssh|git|git\+ssh)://(?:[^@/]+@)?([^/:]+)(?::\d+)?/(.+)", re.IGNORECASE)
_NO_NAME = re.compile(r"[^\w.-]+")
_BRANCH = re.compile(r"-(main|master)$")


@dataclass(frozen=True, slots=True)
class Project:
    """A script and its project.

    ``folder``: name of the project's folder; ``path``: the script's path in it; ``place``: the absolute path at that time.
    ``remote``: host and path of the remote repository; ``repository``: its name; ``commit``: the first commit, where known.
    ``sources``: digests of the project's own modules that the script imports; ``lines``: a sketch of the script's lines.
    """

    folder: str = ""
    path: str = ""
    place: str = ""
    remote: str = ""
    repository: str = ""
    commit: str = ""
    digest: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self.digest or self.path)

    @property
    def where(self) -> str:
        """The project in words."""
        return self.remote or f"the folder {self.folder!r}"


def to_plain(of: Project) -> dict[str, Any]:
    """Return the project for a record in the store; what is not known is left out."""
    told = {name: getattr(of, name) for name in of.__slots__ if getattr(of, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def from_plain(told: object) -> Project:
    """Return the project of a record; fields of a wrong type count as unknown."""
    if not isinstance(told, dict):
        return Project()
    texts = ("folder", "path", "place", "remote", "repository", "commit", "digest")
    read: dict[str, Any] = {name: told[name] for name in texts if isinstance(told.get(name), str)}
    lines, sources = told.get("lines"), told.get("sources")
    if isinstance(lines, list):
        read["lines"] = tuple(each for each in lines if isinstance(each, str))
    if isinstance(sources, dict):
        read["sources"] = {name: each for name, each in sources.items() if isinstance(each, str)}
    return Project(**read)


def same(known: Project, mine: Project, *, copy_remains: bool = False) -> bool:
    """Say whether both are the same project's same script, edited or not.

    ``copy_remains``: in the repository of ``mine`` the path of ``known`` is still a script of its own.
    """
    if not known.known:
        return True
    both_remote = bool(known.remote and mine.remote)
    if known.digest == mine.digest:
        return _same_bytes(known, mine, both_remote=both_remote) and not (both_remote and copy_remains)
    alike = likeness(known.lines, mine.lines)
    if both_remote:
        fork = known.repository == mine.repository and alike is not None and alike >= ALIKE_FORK
        return known.path == mine.path and (known.remote == mine.remote or fork)
    if known.commit and mine.commit and known.commit != mine.commit:
        return False
    if known.place == mine.place and known.folder.lower() not in COMMON_FOLDERS:
        return True
    return _same_place(known, mine) and (alike is None or alike >= ALIKE)


def sketch(text: str) -> tuple[str, ...]:
    """Return the smallest hashes of a script's lines: two sketches tell which share of the lines is the same."""
    lines = {line for each in text.splitlines() if (line := each.strip()) and not line.startswith("#")}
    return tuple(sorted(_short_hash(line) for line in lines)[:SKETCH_MAX])


def likeness(one: Collection[str], other: Collection[str]) -> float | None:
    """Return the estimated share of equal lines, 0 to 1; None where a sketch is missing."""
    if not one or not other:
        return None
    least = sorted({*one, *other})[:SKETCH_MAX]
    return sum(each in one and each in other for each in least) / len(least)


def remote_of(url: str) -> tuple[str, str]:
    """Return host and path of a remote repository ("" for one on a disk), and the repository's name."""
    found = _URL.fullmatch(url.strip()) or _SCP.fullmatch(url.strip())
    path = (found[2] if found else url.strip()).rstrip("/").removesuffix(".git").rstrip("/")
    name = path.rpartition("/")[2]
    return (f"{found[1]}/{path.strip('/')}".lower() if found else ""), name


def changes(known: Project, mine: Project) -> list[str]:
    """Return in words what was edited between two sessions: the script and its project's own modules."""
    if not (known.digest and mine.digest):
        return []
    words = ["the script was edited"] if known.digest != mine.digest else []
    edited = [name for name, digest in mine.sources.items() if known.sources.get(name, digest) != digest]
    if edited:
        more = f" and {len(edited) - CHANGED_SHOWN} more" if len(edited) > CHANGED_SHOWN else ""
        words.append(f"{', '.join(edited[:CHANGED_SHOWN])}{more} {'was' if len(edited) == 1 else 'were'} edited")
    return words


def arguments_changed(known: Sequence[str], mine: Sequence[str]) -> str:
    """Return in words how the script's arguments differ; "" where they are the same. Secrets are in no record, and not told."""
    known, mine = masked(known), masked(mine)
    if known == mine:
        return ""
    return f"its arguments changed from {_shown(known)} to {_shown(mine)}"


def free_name(of: Project, taken: Collection[str]) -> str:
    """Return a name for the run of this project that no other run has: folder and script."""
    stem = of.path.rpartition("/")[2].removesuffix(".py")
    name = _NO_NAME.sub("-", f"{of.repository or of.folder}-{stem}").strip("-._") or "run"
    name = name[:90]
    number = next(number for number in range(1, len(taken) + 2) if _numbered(name, number) not in taken)
    return _numbered(name, number)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _same_bytes(known: Project, mine: Project, *, both_remote: bool) -> bool:
    if both_remote:
        return known.repository == mine.repository
    if _names(known) & _names(mine):
        return True
    # a few lines that only call the project's own modules are the same in many projects
    shared = known.sources.keys() & mine.sources.keys()
    return not shared or any(known.sources[name] == mine.sources[name] for name in shared)


def _same_place(known: Project, mine: Project) -> bool:
    """Say whether folder (or repository) and the script's path in it have the same names."""
    if known.place and known.place == mine.place:
        return True
    if known.path == mine.path and _names(known) & _names(mine):
        return True
    return _ends(mine.place, known) or _ends(known.place, mine)


def _ends(place: str, of: Project) -> bool:
    """Say whether an absolute path ends in the project's folder and the script's path in it."""
    parts = tuple(_BRANCH.sub("", each) for each in place.split("/"))
    inner = tuple(of.path.split("/"))
    return len(parts) > len(inner) and parts[-len(inner) :] == inner and parts[-len(inner) - 1].lower() in _names(of)


def _names(of: Project) -> set[str]:
    return {_BRANCH.sub("", name).lower() for name in (of.folder, of.repository) if name}


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _shown(arguments: Sequence[str]) -> str:
    text = " ".join(arguments)
    return f"`{text if len(text) <= ARGUMENTS_SHOWN else text[: ARGUMENTS_SHOWN - 1] + '…'}`" if text else "none"
