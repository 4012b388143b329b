"""Writes the map of each package into the docstring of its ``__init__``, from ``maps.txt``: ``python tools/rename/maps.py``."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

ROOT = Path.cwd() / "supervisor"
WIDTH = 128


def sections() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return for each package its headline, and (module, words) of each module in it."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for line in (Path(__file__).parent / "maps.txt").read_text().splitlines():
        if line.startswith("["):
            package, _, headline = line[1:].partition("] ")
            found[package] = headline, (rows := [])
        else:
            module, _, words = line.partition(": ")
            rows.append((module, words))
    return found


def lowered(headline: str) -> str:
    """Return a headline as the words of a row."""
    words = headline.rstrip(".")
    proper = (
        words.partition(" ")[0] in {"Colab", "Keras", "Lightning"}
        or words[1:2].isupper()
        or "Torch" in words
        or "Flow" in words
    )
    return words if proper else words[:1].lower() + words[1:]


def children(folder: Path) -> set[str]:
    """Return the names of what lies in a package."""
    modules = {path.stem for path in folder.glob("*.py")}
    return (modules | {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}) - {
        "__init__",
        "__main__",
    }


def main() -> None:
    """Write all of them, and print what the table lacks."""
    table = sections()
    for init in sorted(ROOT.rglob("__init__.py")):
        package = ".".join(init.parent.relative_to(ROOT).parts)
        if package not in table:
            print("no section:", package)
            continue
        headline, rows = table[package]
        there = children(init.parent)
        rows += [(name, lowered(table[f"{package}.{name}"][0])) for name in there if f"{package}.{name}" in table]
        print(
            *(f"{package}: {name} lacks a row" for name in sorted(there - {name for name, _ in rows})), sep="\n", end=""
        )
        print(*(f"{package}: {name} is not there" for name, _ in rows if name not in there), sep="\n", end="")
        lines = []
        for name, words in sorted(rows):
            words = words.replace("`", "``")
            lines += textwrap.wrap(f"- ``{name}``: {words}", WIDTH, subsequent_indent="  ")
        body = init.read_text()
        tree = ast.parse(body)
        first = tree.body[0]
        assert isinstance(first, ast.Expr)
        rest = body.splitlines()[first.end_lineno :]
        more = (ast.get_docstring(tree) or "").partition("\n")[2].strip()
        more = "\n".join(line for line in more.splitlines() if not line.startswith(("- ``", "  "))).strip()
        middle = [*more.splitlines(), ""] if rest and more else []
        init.write_text("\n".join([f'"""{headline}', "", *middle, *lines, '"""', *rest]) + "\n")


if __name__ == "__main__":
    main()
