"""The text of a file in the encodings in which editors, PowerShell and older Pythons leave one."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from supervisor.core.errors import SetupError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

_MARKS = (  # the longer marks first, because the one of UTF-32 begins with the one of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263


def read(path: Path, role: str = "the path of a training script") -> str:
    """Return the text of ``path`` with a newline at each line end. Raises UsageError, which asks for ``role``, and SetupError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", f"give {role}") from error
    try:
        text = decode(content)
    except (UnicodeDecodeError, LookupError) as error:
        raise SetupError(f"{path} is not UTF-8 text", "save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode(content: bytes) -> str:
    """Return the text of ``content``: by its byte order mark, its declared encoding, else as UTF-8 or UTF-16."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    for line in content.split(b"\n", 2)[:2]:
        if declared := _DECLARED.match(line):
            return content.decode(declared[1].decode())
    if b"\0" in content[:2]:  # ASCII text in UTF-16 without a mark: each second byte is zero
        return content.decode("utf-16-be" if content.startswith(b"\0") else "utf-16-le")
    return content.decode("utf-8")
