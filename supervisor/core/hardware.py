"""What changes when a run goes on on other hardware or other versions: in words, with what to do about batch and precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Keys of what a checkpoint says of its maker (``made_by``). All values are words; what is not known is not there.
FRAMEWORK, PYTHON, DEVICE, MEMORY_GB, BFLOAT16 = "framework", "python", "device", "device_memory_gb", "device_bfloat16"
CPU = "cpu"
LESS, MORE = 0.9, 1.5  # of the memory before: what is worth a word


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what a person should know who resumes here what was saved there; nothing where nothing has changed."""
    words = []
    was, is_now = before.get(DEVICE, ""), now.get(DEVICE, "")
    if was and is_now and was != is_now:
        words.append(
            f"saved on {_named(was)}, going on on {_named(is_now)}: all state comes back as it was saved, but the steps from "
            "here on may differ in their last bits from those of the other device"
        )
        words += _advice(before, now)
    for key, what in ((FRAMEWORK, ""), (PYTHON, "Python ")):
        old, new = before.get(key, ""), now.get(key, "")
        if old and new and old != new:
            words.append(f"saved with {what}{old}, going on with {what}{new}: exact only where the two compute alike")
    return words


def _advice(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Batch and precision. Nothing is changed by itself: another batch or precision would be another training run."""
    words = []
    if now[DEVICE] == CPU:
        words.append("there is no accelerator here: steps take many times longer; half precision is slow on a CPU")
    elif before[DEVICE] == CPU:
        words.append("there is an accelerator now: a larger batch would use it better, but is another training run")
    old_gb, new_gb = (_number(each.get(MEMORY_GB)) for each in (before, now))
    if old_gb and new_gb and new_gb < LESS * old_gb:
        words.append(
            f"{new_gb:.0f} GB of memory instead of {old_gb:.0f}: if it does not suffice, halve the batch and accumulate "
            "the gradients of two"
        )
    elif old_gb and new_gb and new_gb > MORE * old_gb:
        words.append(
            f"{new_gb:.0f} GB of memory instead of {old_gb:.0f}: keep the batch for the same training, or raise it and "
            "the learning rate together"
        )
    if before.get(BFLOAT16) == "yes" and now.get(BFLOAT16) == "no":
        words.append("no fast bfloat16 here: float16 needs a loss scale (torch.amp.GradScaler, Keras mixed_float16)")
    elif before.get(BFLOAT16) == "no" and now.get(BFLOAT16) == "yes":
        words.append("bfloat16 would do without a loss scale here; keep float16 for the same training")
    return words


def _named(device: str) -> str:
    return "the CPU" if device == CPU else device


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
