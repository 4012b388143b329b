"""Names of NVIDIA accelerators where the driver's files are hidden (containers, gVisor): its library, through ctypes."""

from __future__ import annotations

import ctypes

_NAME_BYTES = 96


def read() -> tuple[tuple[str, ...], str]:
    """Names of the accelerators and the driver's version; nothing when the library is not there or says no."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        if library.nvmlInit_v2() != 0:
            return (), ""
    except (OSError, AttributeError):  # no library, or one too old to have the call
        return (), ""
    text = ctypes.create_string_buffer(_NAME_BYTES)
    count = ctypes.c_uint()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    names = []
    for index in range(count.value):
        device = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0:
            library.nvmlDeviceGetName(device, text, _NAME_BYTES)
            names.append(text.value.decode())
    driver = text.value.decode() if library.nvmlSystemGetDriverVersion(text, _NAME_BYTES) == 0 else ""
    library.nvmlShutdown()
    return tuple(names), driver
