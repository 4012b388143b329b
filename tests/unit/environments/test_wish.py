"""What a script asks for is read from where scripts say it, and a mistake is named by its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.core.environment import Wanted
from supervisor.core.errors import UserError
from supervisor.environments import wish

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = """#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "numpy>=2",
#   "einops",
# ]
# [tool.supervisor]
# apt = ["libgl1"]
# save-every = "10m"
# ///
import numpy
"""


def script(folder: Path, text: str) -> Path:
    path = folder / "job.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_script_block_is_read_with_its_options(tmp_path: Path):
    read = wish.read(script(tmp_path, BLOCK))
    assert read.wanted == Wanted(("numpy>=2", "einops"), ">=3.11", ("libgl1",), source="job.py's script block")
    assert read.options == {"save-every": "10m"}


def test_windows_line_ends_do_not_matter(tmp_path: Path):
    path = tmp_path / "job.py"
    path.write_bytes(BLOCK.replace("\n", "\r\n").encode())
    assert wish.read(path).wanted.requirements == ("numpy>=2", "einops")


def test_a_script_that_asks_for_nothing_wants_nothing(tmp_path: Path):
    assert wish.read(script(tmp_path, "print('hello')\n")) == wish.Wish()


def test_the_block_wins_over_files_beside_it(tmp_path: Path):
    (tmp_path / "requirements.txt").write_text("pandas\n")
    assert "pandas" not in wish.read(script(tmp_path, BLOCK)).wanted.requirements


def test_requirements_beside_are_read_with_what_they_include(tmp_path: Path):
    (tmp_path / "base.txt").write_text("numpy>=2  # arrays\n")
    (tmp_path / "requirements.txt").write_text(
        "-r base.txt\n# a remark\n\npandas==2.2 \\\n    --hash=sha256:00\n--extra-index-url=file:///nowhere\n"
    )
    wanted = wish.read(script(tmp_path, "")).wanted
    assert wanted.requirements == ("numpy>=2", "pandas==2.2")
    assert wanted.index_options == ("--extra-index-url", "file:///nowhere")


def test_a_change_in_an_included_file_is_a_change_of_the_wish(tmp_path: Path):
    (tmp_path / "requirements.txt").write_text("-r base.txt\n")
    path = script(tmp_path, "")
    read = []
    for content in ("numpy", "numpy>=2"):
        (tmp_path / "base.txt").write_text(content)
        read.append(wish.read(path).wanted)
    assert read[0] != read[1]


def test_a_pyproject_beside_is_read(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nrequires-python = ">=3.12"\ndependencies = ["numpy"]\n[tool.supervisor]\nkeep-last = 5\n'
    )
    read = wish.read(script(tmp_path, ""))
    assert read.wanted.requirements == ("numpy",)
    assert read.wanted.requires_python == ">=3.12"
    assert read.options == {"keep-last": 5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os\n# /// script\n# dependencies = [\n#   numpy\n# ]\n# ///\n", "job.py, line 4: "),
        ("\n# /// script\n# dependencies = [\n# ///\n", "job.py, line 3: "),
        ("x = 1\n# /// script\n# dependencies = []\n", "job.py, line 2: the script block is not closed"),
        ("# /// script\n# ///\n" * 2, "2 script blocks"),
        ('# /// script\n# dependencies = "numpy"\n# ///\n', "dependencies is not a list of strings"),
        ("# /// script\n# requires-python = 3.11\n# ///\n", "requires-python is not a string"),
        ('# /// script\n# [tool]\n# supervisor = "x"\n# ///\n', "supervisor is not a table"),
        ('# /// script\n# [tool.supervisor]\n# apt = ["-o evil"]\n# ///\n', "is not the name of a Debian package"),
    ],
)
def test_a_malformed_block_is_named_by_its_place(tmp_path: Path, text: str, words: str):
    with pytest.raises(UserError) as refusal:
        wish.read(script(tmp_path, text))
    assert words in refusal.value.what
    assert refusal.value.hint
    assert refusal.value.exit_code == 3


def test_a_missing_script_is_an_error_of_use(tmp_path: Path):
    with pytest.raises(UserError, match="cannot read") as refusal:
        wish.read(tmp_path / "nowhere.py")
    assert refusal.value.exit_code == 2
