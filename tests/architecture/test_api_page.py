"""docs/api.md is what its command makes, and has every name that the package gives to scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import supervisor
from supervisor.trainer import callbacks

ROOT = Path(__file__).resolve().parents[2]
MAKE = "import sys; sys.path.insert(0, 'tools'); import api_page; sys.stdout.write(api_page.page())"
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date() -> None:
    made = subprocess.run([sys.executable, "-c", MAKE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout == PAGE, "run: python3 tools/api_page.py"


def test_every_public_name_is_on_the_page() -> None:
    public = {*supervisor.__all__, *callbacks.ROWS} - {"__version__", "Order"}  # Order is the old name of the sampler
    assert not {name for name in public if f"\n## `{name}" not in PAGE}
