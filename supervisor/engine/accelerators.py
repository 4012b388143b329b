"""Which accelerators this machine has: from files, variables and the driver's own library; no framework is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from supervisor.core.values import dataclass
from supervisor.engine import threads

if TYPE_CHECKING:
    from collections.abc import Mapping

GIB = 2**30
_NAME_BYTES = 96
_GOOGLE = "0x1ae0"
# PCI devices of Google's: the chip, and its memory as published. The first stands for two generations.
_CHIPS = {
    "0x0027": ("TPU v2 or v3", None),
    "0x005e": ("TPU v4", 32 * GIB),
    "0x0062": ("TPU v5p", 95 * GIB),
    "0x0063": ("TPU v5e", 16 * GIB),
    "0x006f": ("TPU v6e", 32 * GIB),
    "0x0076": ("TPU v7x", None),
}
_MEMORY = dict(_CHIPS.values())
_TYPE = re.compile(r"v(\d+)(litepod|lite|e|p|x)?-(\d+)")


@dataclass(frozen=True, slots=True)
class Card:
    """One accelerator; ``bytes`` of memory are None where nobody says."""

    name: str
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The accelerators of this machine, and the version of the NVIDIA driver ("" none)."""

    cards: tuple[Card, ...] = ()
    driver: str = ""

    @property
    def words(self) -> str:
        """For people: "1 x Tesla T4, 15 GB", or "" for none."""
        kinds = dict.fromkeys(self.cards)
        return " and ".join(_counted(card, self.cards.count(card)) for card in kinds)


def seen(environ: Mapping[str, str], root: Path = Path("/")) -> Seen:
    """Look for all that may be there. Memory of an NVIDIA card is known by its driver's library alone, which may take a second."""
    cards, driver = nvidia(root)
    return Seen((*_visible(cards, environ), *tpu(environ, root)), driver)


def seen_within(seconds: float, environ: Mapping[str, str]) -> Seen | None:
    """Look on a thread of its own, because a driver whose card is broken may hang for ever; None if it does."""
    answers: SimpleQueue[Seen] = SimpleQueue()
    if threads.start(lambda: answers.put(seen(environ)), "accelerators") is None:
        return None
    try:
        return answers.get(timeout=seconds)
    except Empty:
        return None


def nvidia(root: Path = Path("/"), library: str = "libnvidia-ml.so.1") -> tuple[tuple[Card, ...], str]:
    """Return NVIDIA's cards and the driver's version, from the library if the driver is there at all, else from its files."""
    named, driver = nvidia_files(root / "proc/driver/nvidia")
    if not named and not (root / "dev/nvidiactl").is_char_device():
        return (), driver
    cards, version = _ask_library(library)
    return cards or tuple(map(Card, named)), driver or version


def nvidia_files(files: Path) -> tuple[tuple[str, ...], str]:
    """Return the cards' names and the driver's version as its own files say; nothing where they are hidden."""
    driver = re.search(r"(?:Kernel Module|x86_64|aarch64)\s+(\d+\.\d+(?:\.\d+)?)", _text(files / "version"))
    texts = [_text(card) for card in sorted((files / "gpus").glob("*/information"))]
    models = (re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE) for text in texts)
    return tuple(model[1] for model in models if model), driver[1] if driver else ""


def tpu(environ: Mapping[str, str], root: Path = Path("/")) -> tuple[Card, ...]:
    """Return the TPU chips: as the PCI bus shows them, else as the machine's variables and device files say."""
    buses = sorted((root / "sys/bus/pci/devices").glob("*/vendor"))
    chips = [_text(vendor.with_name("device")).strip() for vendor in buses if _text(vendor).strip() == _GOOGLE]
    found = tuple(Card(*_CHIPS[chip]) for chip in chips if chip in _CHIPS)
    if found:
        return found
    if named := _TYPE.match(environ.get("TPU_ACCELERATOR_TYPE", "")):
        return _named(named)
    nodes = len(list((root / "dev").glob("accel[0-9]*"))) or len(list((root / "dev/vfio").glob("[0-9]*")))
    told = environ.get("COLAB_TPU_1VM") == "1" or environ.get("PJRT_DEVICE") == "TPU"
    return (Card("TPU"),) * max(1, nodes) if told else ()


def _named(named: re.Match[str]) -> tuple[Card, ...]:
    """Read "v5e-1" or "v5litepod-4", which count chips, and "v4-8", which counts cores, two to a chip."""
    generation, kind, count = int(named[1]), named[2] or "", int(named[3])
    chip = f"TPU v{generation}{'e' if kind.startswith('lite') else kind}"
    chips = count if chip.endswith("e") else max(1, count // 2)
    return (Card(chip, _MEMORY.get(chip)),) * chips


def _visible(cards: tuple[Card, ...], environ: Mapping[str, str]) -> tuple[Card, ...]:
    """Leave out what CUDA_VISIBLE_DEVICES hides from a job, as on a machine that is shared by several."""
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return cards
    names = [name.strip() for name in listed.split(",") if name.strip()]
    chosen = []
    for name in names:
        if name.isdecimal() and int(name) < len(cards):
            chosen.append(cards[int(name)])
        elif name.startswith(("GPU-", "MIG-")) and cards:
            chosen.append(cards[0])  # which one it is makes no difference to people: a machine's are mostly alike
        else:
            break  # CUDA itself stops at the first that it does not know
    return tuple(chosen)


def _ask_library(name: str) -> tuple[tuple[Card, ...], str]:
    """Return what NVML says; nothing when the library is not there or says no."""
    import ctypes  # only where there is a card, because it takes its time

    try:
        library = ctypes.CDLL(name)
        if library.nvmlInit_v2() != 0:
            return (), ""
    except (OSError, AttributeError):  # no library, or one too old to have the call
        return (), ""
    text = ctypes.create_string_buffer(_NAME_BYTES)
    count, memory = ctypes.c_uint(), (ctypes.c_ulonglong * 3)()  # total, free, used
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    cards = []
    for index in range(count.value):
        device = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0:
            library.nvmlDeviceGetName(device, text, _NAME_BYTES)
            known = library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0
            cards.append(Card(text.value.decode(), memory[0] if known else None))
    driver = text.value.decode() if library.nvmlSystemGetDriverVersion(text, _NAME_BYTES) == 0 else ""
    library.nvmlShutdown()
    return tuple(cards), driver


def _counted(card: Card, count: int) -> str:
    memory = "" if card.bytes is None else f", {card.bytes / GIB:.0f} GB" + (" each" if count > 1 else "")
    return f"{count} x {card.name}{memory}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # unknown on this system
        return ""
