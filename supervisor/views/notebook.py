"""A session as one panel of a notebook: HTML, and the same as plain text for frontends without HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from supervisor.core.frozen import dataclass
from supervisor.core.humanize import duration
from supervisor.views import durability_text
from supervisor.views.exit_summary import INDENT
from supervisor.views.formatting import state as state_word
from supervisor.views.status import Live, machine_words, progress, safe_lines
from supervisor.views.terminal import NAME

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
class PanelState:
    """Content of the panel.

    - ``plain``: the session's live status, None before it has one; ``silent_s``: its age
    - ``notes``: lines of the notebook itself
    - ``messages``: lines of the supervisor
    - ``output``: lines of the script
    - ``code``: exit code, if ``ended``
    """

    run: str
    plain: Mapping[str, Any] | None = None
    silent_s: float = 0.0
    notes: Sequence[str] = ()
    startup_lines: Sequence[str] = ()
    messages: Sequence[str] = ()
    output: Sequence[str] = ()
    ended: bool = False
    code: int | None = None
    stopping: bool = False


def panel(scene: PanelState) -> dict[str, str]:
    """Return the panel as a notebook's bundle of media types."""
    return {"text/plain": text(scene), "text/html": html(scene)}


def text(scene: PanelState) -> str:
    """Return the panel as lines."""
    head, _ = _head(scene)
    lines = [head]
    if share(scene) is not None:
        filled = round(BAR_COLUMNS * (share(scene) or 0.0))
        lines.append(f"  [{'#' * filled}{'.' * (BAR_COLUMNS - filled)}]")
    lines += [f"  {each}" for each in (*_facts(scene), *scene.notes, *scene.startup_lines)]
    lines += [f"  | {each}" for each in (*_shown_messages(scene), *scene.output)]
    return "\n".join(lines)


def html(scene: PanelState) -> str:
    """Return the panel as HTML without scripts, which every kind of notebook shows."""
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
    parts += [f'<div style="{_GREY}">{escape(each)}</div>' for each in scene.startup_lines]
    if messages := _shown_messages(scene):
        parts.append(f'<pre style="{_PRE}">{escape(chr(10).join(messages))}</pre>')
    if scene.output:
        parts.append(f'<pre style="{_PRE};{_GREY}">{escape(chr(10).join(scene.output))}</pre>')
    return "".join([*parts, "</div>"])


def share(scene: PanelState) -> float | None:
    """Return the completed share of the run, 0 to 1; None if unknown."""
    if not scene.plain or not scene.plain["total_steps"] or scene.plain["step"] is None:
        return None
    return float(min(1.0, scene.plain["step"] / scene.plain["total_steps"]))


def startup_lines(timing: Mapping[str, Any], began_s: float | None, other_seconds: Mapping[str, float]) -> list[str]:
    """Return the time to the first new step by part, and how this machine differs from the one before.

    Args:
        timing: the value of "arrival" in the status.
        began_s: start of the cell by the boot clock; None if another kernel's cell started it.
        other_seconds: durations before the supervisor's start.
    """
    lines = []
    if "stepped_at_s" in timing:
        first = timing["began_at_s"] if began_s is None else began_s - sum(other_seconds.values())
        own_s = 0.0 if began_s is None else timing["began_at_s"] - began_s
        whole_s, since = timing["stepped_at_s"] - first, "its start" if began_s is None else "this cell began"
        parts = [
            f"{name} {_seconds(s)}" for name, s in (*other_seconds.items(), ("supervisor's start", own_s)) if s > 0
        ]
        parts += [
            f"{words} {_seconds(timing[name])}" for name, words in _PARTS if name in timing and _is_shown(name, timing)
        ]
        packages_extra_s = timing.get("packages_s", 0.0) - timing.get("waited_for_packages_s", 0.0)
        packages = (
            f"; packages {_seconds(timing['packages_s'])}, meanwhile" if packages_extra_s > _HIDDEN_BELOW_S else ""
        )
        begun = (
            f"resuming from step {timing['from_step']:,}: first new step" if timing.get("from_step") else "first step"
        )
        lines.append(f"{begun} {_seconds(whole_s)} after {since}: {', '.join(parts)}{packages}")
    drift = timing.get("drift") or ()
    return [*lines, *([f"other than on the machine before: {'; '.join(drift)}"] if drift else [])]


def split_output(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split lines into messages of the supervisor and output of the script.

    Progress lines are dropped: the panel shows them.
    """
    messages: list[str] = []
    output: list[str] = []
    ours = False
    for line in lines:
        if line.startswith(NAME):
            ours = not line.startswith((f"{NAME}step ", f"{NAME}starting ·", f"{NAME}running ·"))
            if ours:
                messages.append(line.removeprefix(NAME))
        elif ours and line.startswith(INDENT):
            messages.append(f"    {line.strip()}")
        elif line.startswith("error: ") or (
            line.startswith("  try: ") and messages and messages[-1].startswith("error: ")
        ):
            ours = False
            messages.append(line)
        else:
            ours = False
            output.append(line)
    return messages, output


def is_releasing(messages: Sequence[str]) -> bool:
    """Return True if the run is finished and its machine is about to be released."""
    return any("releasing this machine" in each for each in messages)


def interrupt_notes(messages: Sequence[str], received: int, forwarded: int, *, ended: bool) -> list[str]:
    """Return the note on interrupts that the cell received, and on those forwarded to the session."""
    if ended or not received:
        return []
    if is_releasing(messages):
        return ["interrupted: this machine is kept"]
    if not forwarded:
        return ["interrupted: saving and ending, unless the kernel is restarting"]
    if received > 1:
        return ["interrupted again: ending at once"]
    return ["interrupted: saving first, then ending; interrupt again to end at once and lose what is not saved"]


def advance(plain: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return a live status advanced by ``seconds``: ages grow, remaining times shrink."""
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
_WAITS = frozenset({"settle_s", "waited_for_packages_s"})  # shown only if there was a wait
_HIDDEN_BELOW_S = 0.05
_PRECISE_S = 10.0


def _head(scene: PanelState) -> tuple[str, str]:
    """Return the first line and its colour: good, bad or wait."""
    name = scene.run or "the run"
    if scene.ended:
        words, colour = _ENDS.get(scene.code, (f"failed, exit code {scene.code}", "bad"))
        return f"{name}: {words}", colour
    if is_releasing(scene.messages):
        return f"{name}: finished; this machine is released in a moment", "good"
    if scene.plain is None:
        return f"{name}: starting", "wait"
    state = "stopping" if scene.stopping or scene.plain["state"] == "CANCELLING" else state_word(scene.plain).lower()
    durability = durability_text.of_plain(scene.plain)
    quiet = f" · no sign for {duration(scene.silent_s)}" if scene.silent_s > STALE_S else ""
    colour = "good" if state == "running" and not quiet and not durability_text.unconfirmed_text(durability) else "wait"
    return f"{name}: {state}{quiet}", colour


def _facts(scene: PanelState) -> list[str]:
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
    """Return a line as HTML with the safe step in bold."""
    return f"<b>{escape(line)}</b>" if line.startswith(("safe", "nothing safe")) else escape(line)


def _shown_messages(scene: PanelState) -> list[str]:
    """Return the messages without the final error lines, because the cell's own error shows these."""
    return [each for each in scene.messages if not (scene.ended and each.startswith(("error: ", "  try: ")))]


def _is_shown(part: str, timing: Mapping[str, Any]) -> bool:
    """Return True if a part of the start-up is shown. Work that was done is always shown, however quick."""
    if part in _WAITS:
        return bool(timing[part] > _HIDDEN_BELOW_S)
    return part != "restore_s" or bool(timing.get("from_step"))


def _seconds(seconds: float) -> str:
    if seconds < _HIDDEN_BELOW_S:
        return "under 0.1 s"
    return f"{seconds:.1f} s" if seconds < _PRECISE_S else duration(seconds)


_ENDS = {
    0: ("finished", "good"),
    42: ("handed over: run this cell again, here or on the next machine", "wait"),
    75: ("another machine has the run", "bad"),
    130: ("stopped after saving; run this cell again to resume", "wait"),
    143: ("stopped after saving; run this cell again to resume", "wait"),
    None: (
        "the supervisor disappeared without a shutdown record; run this cell again: it resumes from the safe step",
        "bad",
    ),
}
