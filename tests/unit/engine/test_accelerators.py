"""Accelerators are found without a framework: from the driver's files and library, the PCI bus, and variables."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from supervisor.engine import accelerators
from supervisor.engine.accelerators import GIB, Card, Seen

if TYPE_CHECKING:
    from pathlib import Path

T4 = Card("Tesla T4", 15 * GIB)
# A stand-in for NVIDIA's library, with two cards, one of which does not tell its memory.
NVML = """
#include <string.h>
#include <stdint.h>
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)(intptr_t)(i + 1); return 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned n) { strncpy(s, "Tesla T4", n); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *m) { m[0] = 16106127360ULL; return d == (void *)2; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strncpy(s, "550.54.15", n); return 0; }
"""


def chip(root: Path, slot: str, vendor: str, device: str) -> None:
    folder = root / "sys/bus/pci/devices" / slot
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text(f"{device}\n")


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ((), ""),
        ((T4,), "1 x Tesla T4, 15 GB"),
        ((Card("NVIDIA H200"),), "1 x NVIDIA H200"),
        ((T4, T4), "2 x Tesla T4, 15 GB each"),
        ((Card("TPU v5e", 16 * GIB),) * 8, "8 x TPU v5e, 16 GB each"),
        ((T4, Card("NVIDIA L4", 23 * GIB)), "1 x Tesla T4, 15 GB and 1 x NVIDIA L4, 23 GB"),
    ],
)
def test_they_are_said_in_one_way(cards: tuple[Card, ...], words: str):
    assert Seen(cards).words == words


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs-builder)",
    ],
)
def test_the_drivers_files_name_the_cards_where_its_library_is_not_there(tmp_path: Path, line: str):
    files = tmp_path / "proc/driver/nvidia"
    for slot in ("0000:00:04.0", "0000:00:05.0"):
        (files / "gpus" / slot).mkdir(parents=True)
        (files / "gpus" / slot / "information").write_text("Model: \t\t Tesla T4\nIRQ:   \t\t 33\n")
    (files / "version").write_text(f"{line}\nGCC version:  gcc version 12.3.0\n")
    assert accelerators.nvidia_files(files) == (("Tesla T4", "Tesla T4"), "550.54.15")
    assert accelerators.nvidia(tmp_path, "no-such-library.so") == ((Card("Tesla T4"),) * 2, "550.54.15")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for a stand-in of the driver's library")
def test_the_drivers_library_tells_memory(tmp_path: Path):
    (tmp_path / "nvml.c").write_text(NVML)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", str(library), str(tmp_path / "nvml.c")], check=True)
    gpu = tmp_path / "proc/driver/nvidia/gpus/0000:00:04.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t Tesla T4\n")
    assert accelerators.nvidia(tmp_path, str(library)) == ((T4, Card("Tesla T4")), "550.54.15")


def test_without_a_driver_its_library_is_not_loaded(tmp_path: Path):
    assert accelerators.nvidia(tmp_path) == ((), "")


@pytest.mark.parametrize(
    ("listed", "count"), [(None, 3), ("", 0), ("-1", 0), ("0", 1), ("2,0", 2), ("0,7,1", 1), ("GPU-8a,GPU-9b", 2)]
)
def test_what_is_hidden_from_a_job_is_not_counted(monkeypatch: pytest.MonkeyPatch, listed: str | None, count: int):
    monkeypatch.setattr(accelerators, "nvidia", lambda _root: ((T4, T4, T4), "550"))
    monkeypatch.setattr(accelerators, "tpu", lambda _environ, _root: ())
    environ = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    assert accelerators.seen(environ).cards == (T4,) * count


@pytest.mark.parametrize(("device", "name", "memory"), [("0x0063", "TPU v5e", 16), ("0x006f", "TPU v6e", 32)])
def test_tpu_chips_are_seen_on_the_bus(tmp_path: Path, device: str, name: str, memory: int):
    chip(tmp_path, "0000:00:05.0", "0x1ae0", device)
    chip(tmp_path, "0000:00:06.0", "0x1ae0", "0x0042")  # Google's network card
    chip(tmp_path, "0000:00:07.0", "0x10de", device)
    assert accelerators.tpu({}, tmp_path) == (Card(name, memory * GIB),)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, ""),
        ({"COLAB_TPU_1VM": ""}, ""),
        ({"COLAB_TPU_1VM": "1", "TPU_ACCELERATOR_TYPE": "v5e-1"}, "1 x TPU v5e, 16 GB"),
        ({"COLAB_TPU_1VM": "1", "TPU_ACCELERATOR_TYPE": "v6e-1"}, "1 x TPU v6e, 32 GB"),
        ({"TPU_ACCELERATOR_TYPE": "v5litepod-8"}, "8 x TPU v5e, 16 GB each"),
        ({"TPU_ACCELERATOR_TYPE": "v4-8"}, "4 x TPU v4, 32 GB each"),
        ({"COLAB_TPU_1VM": "1"}, "1 x TPU"),
        ({"PJRT_DEVICE": "TPU"}, "1 x TPU"),
        ({"PJRT_DEVICE": "CPU"}, ""),
    ],
)
def test_where_the_bus_is_hidden_the_variables_tell(tmp_path: Path, environ: dict[str, str], words: str):
    assert Seen(accelerators.tpu(environ, tmp_path)).words == words


def test_device_files_tell_how_many_chips_of_no_known_kind(tmp_path: Path):
    (tmp_path / "dev/vfio").mkdir(parents=True)
    for name in ("vfio", "0", "1"):
        (tmp_path / "dev/vfio" / name).touch()
    assert accelerators.tpu({}, tmp_path) == ()  # other hardware is passed through in this way, too
    assert accelerators.tpu({"PJRT_DEVICE": "TPU"}, tmp_path) == (Card("TPU"),) * 2


def test_a_driver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch):
    from threading import Event

    over = Event()
    monkeypatch.setattr(accelerators, "seen", lambda _environ: over.wait(60))
    assert accelerators.seen_within(0.01, {}) is None
    over.set()
