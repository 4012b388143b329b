"""What the moves need besides imports: depths of ``__file__``, data files, tables in the configuration, old import paths."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import moves

ROOT = Path.cwd()


def depths() -> None:
    """A file that lies deeper than before counts more parents of ``__file__``."""
    for old, (new, _) in moves.MOVES.items():
        deeper = new.count(".") - old.count(".")
        path = ROOT / (new.replace(".", "/") + ".py")
        if not deeper or not path.exists():
            continue
        lines = []
        for line in path.read_text().splitlines(keepends=True):
            if "Path(__file__)" in line and "with_name" not in line and "uv.txt" not in line:
                line = re.sub(r"parents\[(\d)\]", lambda m: f"parents[{int(m.group(1)) + deeper}]", line)
                line = (
                    re.sub(
                        r"(__file__\)(?:\.absolute\(\)|\.resolve\(\))(?:\.parent)+)$",
                        lambda m: m.group(1) + ".parent" * deeper,
                        line.rstrip("\n"),
                    )
                    + "\n"
                )
            lines.append(line)
        path.write_text("".join(lines))


def edit(path: str, *pairs: tuple[str, str]) -> None:
    """Replace each; all must be there."""
    body = (ROOT / path).read_text()
    for old, new in pairs:
        if old not in body:
            print("absent in", path, ":", old)
        body = body.replace(old, new)
    (ROOT / path).write_text(body)


def main() -> None:
    depths()
    subprocess.run(
        ["git", "mv", "supervisor/environments/uv.txt", "supervisor/environments/installers/uv.txt"], check=True
    )
    edit("requirements/README.md", ("supervisor/environments/uv.txt", "supervisor/environments/installers/uv.txt"))
    edit("supervisor/fleet/provisioners/ssh/client.py", ("ssh_far.py", "remote.py"))
    edit("supervisor/fleet/provisioners/colab/cli.py", ("colab_kept.py", "run_with_deadline.py"))
    edit("supervisor/trainer/hooks/__init__.py", (': "writers"', ': "writer_functions"'))
    body = (ROOT / "pyproject.toml").read_text()
    names = [
        *moves.packages(),
        "supervisor.examples",
        "hyperlpr_example",
        "hyperlpr_example.in_keras",
        "hyperlpr_example.in_torch",
    ]
    rows, row = [], " "
    for name in names:
        if len(row) + len(name) > 150:
            rows, row = [*rows, row], " "
        row += f' "{name}",'
    body = re.sub(
        r"packages = \[\n.*?\n\]\n", "packages = [\n" + "\n".join([*rows, row]) + "\n]\n", body, count=1, flags=re.S
    )
    body = body.replace('"supervisor.environments" = ["uv.txt"]', '"supervisor.environments.installers" = ["uv.txt"]')
    body = body.replace(
        '  "launching",\n  "wiring | bootstrap",', '  "fleet_composition",\n  "composition | bootstrap",'
    ).replace('"core | namesake"', '"core | name_clash"')
    body = body.replace('"supervisor/stores/*.py" =', '"supervisor/stores/**/*.py" =')
    (ROOT / "pyproject.toml").write_text(body)
    edit(
        "tests/architecture/test_command_lines.py",
        ('"supervisor" / "core" / "program.py"', '"supervisor" / "core" / "shell_commands.py"'),
    )
    edit(
        "tests/architecture/test_house.py",
        (
            r"supervisor/(engine/files/.*|core/(choosing|carried)|trainer/companions|environments/capture|fleet/bundle)\.py",
            r"supervisor/(engine/(unmodified|file_watch)/.*|core/(unmodified/resume_file|checkpoint/file_manifest)|trainer/save/companion_files"
            r"|environments/installed|fleet/job_bundle)\.py",
        ),
        ('(ROOT / "supervisor" / "core").glob("*.py")', '(ROOT / "supervisor" / "core").rglob("*.py")'),
    )
    for old, new, words in (
        ("supervisor/trainer/order.py", "supervisor.trainer.steps.sampler", "Order"),
        ("supervisor/trainer/folder.py", "supervisor.trainer.save.checkpoint_folder", "read"),
    ):
        (ROOT / old).write_text(
            f'"""The old place of ``{new}``, for scripts that import it from here."""\n\nfrom {new} import {words}\n\n__all__ = ["{words}"]\n'
        )
    (ROOT / "supervisor/cli/kept.py").write_text(
        '"""The old place of ``supervisor.cli.notebook.detached``: a notebook of an older version starts it by this name."""\n\n'
        'import sys\n\nfrom supervisor.cli.notebook.detached import main\n\nif __name__ == "__main__":\n    raise SystemExit(main(sys.argv[1:]))\n'
    )


if __name__ == "__main__":
    main()
