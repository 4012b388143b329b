"""A session as one panel of a notebook: HTML, and beside it the same as plain text for whoever shows no HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from supervisor.core.spoken import duration
from supervisor.core.values import dataclass
from supervisor.views import safety
from supervisor.views.farewell import INDENT
from supervisor.views.status import Live, machine_words, progress, safe_lines
from supervisor.views.terminal import NAME
from supervisor.views.words import state as state_word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STALE_S = 60.0
BAR_COLUMNS = 40
_COLOURS = {"good": "#2e7d32", "wait": "#b26a00", "bad": "#c62828"}
_BOX = "border:1px solid rgba(128,128,128,.4);border-radius:6px;padding:10px 14px;max-width:62em;line-height:1.5;font-family:system-ui,sans-serif;font-size:13px"
_PRE = (
    "margin:6px 0 0;padding:0;background:none;border:0;white-space:pre-wrap;word-break:break-word;"
    "font:12px/1.45 ui-monospace,Menlo,Consolas,monospace;color:inherit"
)
_GREY = "opacity:.7"


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to show.

    ``plain`` is the session's live status, None before it has one, and ``silent_s`` its age. ``notes`` are told by the
    notebook itself; ``said`` by the supervisor, ``printed`` by the script. ``code``: how it ended, if ``ended``.
    """

    run: str
    plain: Mapping[str, Any] | None = None
    silent_s: float = 0.0
    notes: Sequence[str] = ()
    arrival: Sequence[str] = ()
    said: Sequence[str] = ()
    printed: Sequence[str] = ()
    ended: bool = False
    code: int | None = None
    stopping: bool = False


def panel(scene: Scene) -> dict[str, str]:
    """Return it as a notebook's bundle of media types."""
    return {"text/plain": text(scene), "text/html": html(scene)}


def text(scene: Scene) -> str:
    """Return the panel as lines."""
    head, _ = _head(scene)
    lines = [head]
    if share(scene) is not None:
        filled = round(BAR_COLUMNS * (share(scene) or 0.0))
        lines.append(f"  [{'#' * filled}{'.' * (BAR_COLUMNS - filled)}]")
    lines += [f"  {each}" for each in (*_facts(scene), *scene.notes, *scene.arrival)]
    lines += [f"  | {each}" for each in (*_said(scene), *scene.printed)]
    return "\n".join(lines)


def html(scene: Scene) -> str:
    """Return the panel as one piece of HTML without scripts, which every kind of notebook shows."""
    head, colour = _head(scene)
    parts = [f'<div style="{_BOX}"><div><b style="color:{_COLOURS[colour]}">●</b> <b>{escape(head)}</b></div>']
    done = share(scene)
    if done is not None:
        parts.append(
            '<div style="height:8px;margin:6px 0;border-radius:4px;background:rgba(128,128,128,.25)">'
            f'<div style="height:8px;border-radius:4px;width:{100 * done:.1f}%;background:{_COLOURS[colour]}"></div></div>'
        )
    parts += [f"<div>{_emphasised(each)}</div>" for each in _facts(scene)]
    parts += [f'<div style="margin-top:4px">{escape(each)}</div>' for each in scene.notes]
    parts += [f'<div style="{_GREY}">{escape(each)}</div>' for each in scene.arrival]
    if said := _said(scene):
        parts.append(f'<pre style="{_PRE}">{escape(chr(10).join(said))}</pre>')
    if scene.printed:
        parts.append(f'<pre style="{_PRE};{_GREY}">{escape(chr(10).join(scene.printed))}</pre>')
    return "".join([*parts, "</div>"])


def share(scene: Scene) -> float | None:
    """Return how much of the run is done, 0 to 1; None where nobody knows."""
    if not scene.plain or not scene.plain["total_steps"] or scene.plain["step"] is None:
        return None
    return float(min(1.0, scene.plain["step"] / scene.plain["total_steps"]))


def arrival(told: Mapping[str, Any], began_s: float | None, beside: Mapping[str, float]) -> list[str]:
    """Return how long the way to the first new step was, by part, and how this machine differs from the one before.

    ``began_s``: when the cell began, by the boot clock, None where another kernel's cell did. ``beside``: seconds of
    what was done before the supervisor was started.
    """
    lines = []
    if "stepped_at_s" in told:
        first = told["began_at_s"] if began_s is None else began_s - sum(beside.values())
        own_s = 0.0 if began_s is None else told["began_at_s"] - began_s
        whole_s, since = told["stepped_at_s"] - first, "its start" if began_s is None else "this cell began"
        parts = [f"{name} {_seconds(s)}" for name, s in (*beside.items(), ("supervisor's start", own_s)) if s > 0]
        parts += [f"{words} {_seconds(told[name])}" for name, words in _PARTS if name in told and _is_told(name, told)]
        beside_s = told.get("packages_s", 0.0) - told.get("waited_for_packages_s", 0.0)
        packages = f"; packages {_seconds(told['packages_s'])}, meanwhile" if beside_s > _UNTOLD_S else ""
        begun = f"going on from step {told['from_step']:,}: first new step" if told.get("from_step") else "first step"
        lines.append(f"{begun} {_seconds(whole_s)} after {since}: {', '.join(parts)}{packages}")
    drift = told.get("drift") or ()
    return [*lines, *([f"other than on the machine before: {'; '.join(drift)}"] if drift else [])]


def sorted_lines(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell what the supervisor said from what the script printed; progress lines are neither, the panel says as much."""
    said: list[str] = []
    printed: list[str] = []
    ours = False
    for line in lines:
        if line.startswith(NAME):
            ours = not line.startswith((f"{NAME}step ", f"{NAME}starting ·", f"{NAME}running ·"))
            if ours:
                said.append(line.removeprefix(NAME))
        elif ours and line.startswith(INDENT):
            said.append(f"    {line.strip()}")
        elif line.startswith("error: ") or (line.startswith("  try: ") and said and said[-1].startswith("error: ")):
            ours = False
            said.append(line)
        else:
            ours = False
            printed.append(line)
    return said, printed


def leaving(said: Sequence[str]) -> bool:
    """Whether the run is finished and its machine is about to be given back."""
    return any("giving this machine back" in each for each in said)


def interrupted(said: Sequence[str], heard: int, passed_on: int, *, ended: bool) -> list[str]:
    """Return what becomes of the interrupts that a cell has heard, and of those that were passed on to the session."""
    if ended or not heard:
        return []
    if leaving(said):
        return ["interrupted: this machine is kept"]
    if not passed_on:
        return ["interrupted: it is told to save and end, unless the kernel is restarting"]
    if heard > 1:
        return ["interrupted again: ending at once"]
    return ["interrupted: saving first, then ending; interrupt again to end at once and lose what is not saved"]


def moved_on(plain: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return a live status as it is so many seconds after it was written: ages grow, what is left shrinks."""
    later = dict(plain)
    for key in ("durable_age_s", "unconfirmed_s"):
        if later.get(key) is not None:
            later[key] += seconds
    if own := later.get("own_saves"):
        later["own_saves"] = {**own, "last_age_s": (own["last_age_s"] or 0.0) + seconds}
    for key in ("next_save_in_s", "deadline_in_s", "eta_s"):
        if later.get(key) is not None:
            later[key] = max(0.0, later[key] - seconds)
    return later


_PARTS = (
    ("claim_s", "looking at the store"),
    ("settle_s", "waiting for what other machines wrote"),
    ("restore_s", "restore"),
    ("waited_for_packages_s", "waiting for packages"),
    ("start_up_s", "start-up to the first step"),
)
_WAITS = frozenset({"settle_s", "waited_for_packages_s"})  # named only where there was something to wait for
_UNTOLD_S = 0.05
_PRECISE_S = 10.0


def _head(scene: Scene) -> tuple[str, str]:
    """Return the first line, and whether it is good, bad or to be waited for."""
    name = scene.run or "the run"
    if scene.ended:
        words, colour = _ENDS.get(scene.code, (f"failed, exit code {scene.code}", "bad"))
        return f"{name}: {words}", colour
    if leaving(scene.said):
        return f"{name}: finished; this machine is given back in a moment", "good"
    if scene.plain is None:
        return f"{name}: starting", "wait"
    state = "stopping" if scene.stopping or scene.plain["state"] == "CANCELLING" else state_word(scene.plain).lower()
    seen = safety.of_plain(scene.plain)
    quiet = f" · no sign for {duration(scene.silent_s)}" if scene.silent_s > STALE_S else ""
    colour = "good" if state == "running" and not quiet and not safety.waiting(seen) else "wait"
    return f"{name}: {state}{quiet}", colour


def _facts(scene: Scene) -> list[str]:
    plain = scene.plain
    if plain is None:
        return []
    lines = [progress(plain), *(each.strip() for each in safe_lines(plain, Live(not scene.ended)))]
    if not scene.ended:
        lines.append(machine_words(plain))
    who = [
        f"session {plain['epoch']}" if plain["epoch"] else "",
        f"attempt {plain['attempt']}" if plain["attempt"] else "",
    ]
    who += [f"on {plain['platform']}" if plain["platform"] not in {"", None, "local"} else ""]
    who += [f"goodput {100 * plain['goodput']:.0f} %" if plain["goodput"] is not None else ""]
    return [each for each in (*lines, " · ".join(each for each in who if each)) if each]


def _emphasised(line: str) -> str:
    """Return a line as HTML; what is safe is what people look for."""
    return f"<b>{escape(line)}</b>" if line.startswith(("safe", "nothing safe")) else escape(line)


def _said(scene: Scene) -> list[str]:
    """Return what was said, without the two lines of an error at the end, because the cell ends in them."""
    return [each for each in scene.said if not (scene.ended and each.startswith(("error: ", "  try: ")))]


def _is_told(part: str, told: Mapping[str, Any]) -> bool:
    """Whether a part of the way is named: work that was done always is, however quick it was."""
    if part in _WAITS:
        return bool(told[part] > _UNTOLD_S)
    return part != "restore_s" or bool(told.get("from_step"))


def _seconds(seconds: float) -> str:
    if seconds < _UNTOLD_S:
        return "under 0.1 s"
    return f"{seconds:.1f} s" if seconds < _PRECISE_S else duration(seconds)


_ENDS = {
    0: ("finished", "good"),
    42: ("handed over: run this cell again, here or on the next machine", "wait"),
    75: ("another machine has the run", "bad"),
    130: ("stopped after saving; run this cell again to go on", "wait"),
    143: ("stopped after saving; run this cell again to go on", "wait"),
    None: ("the supervisor is gone without a word; run this cell again: it goes on from what is safe", "bad"),
}
