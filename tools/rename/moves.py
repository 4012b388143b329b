"""Moves modules and renames symbols of this repository by tables: ``python tools/rename/moves.py``.

Moves (``moves.tsv``): each file goes to its new place by ``git mv``; every import, every dotted name inside a string, and
every path in documents and configuration follows. Where a module is imported as a module, the name it is bound to is
renamed with all its uses, found by libcst's scope analysis; on a collision the old name stays as ``as old`` and is listed.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import libcst as cst
from libcst.metadata import ImportAssignment, MetadataWrapper, ScopeProvider

ROOT = Path.cwd()
HERE = Path(__file__).parent
SOURCES = ("supervisor", "tests", "benchmarks", "trainers", "hyperlpr_example", "tools")
TEXTS = ("README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "pyproject.toml", "Makefile")
PACKAGE = "supervisor."


def table(name: str) -> dict[str, tuple[str, str]]:
    """Read old -> (new, bound name)."""
    found = {}
    for line in (HERE / name).read_text().splitlines():
        if line and not line.startswith("#"):
            old, new, *bound = line.split("\t")
            found[PACKAGE + old] = (PACKAGE + new, bound[0] if bound and bound[0] else new.rsplit(".", 1)[-1])
    return found


MOVES = table("moves.tsv")
MODULES = set()
for path in (ROOT / "supervisor").rglob("*.py"):
    MODULES.add(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))


def moved(dotted: str) -> str:
    """Return the dotted name after the moves: the longest prefix that is a module decides."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        if prefix in MODULES or prefix in MOVES:
            new = MOVES.get(prefix, (prefix, ""))[0]
            return ".".join([new, *parts[end:]])
    return dotted


IMPORT_IN_TEXT = re.compile(r"from (supervisor(?:\.\w+)*) import (\w+(?: as \w+)?(?:, \w+(?: as \w+)?)*)")
DOTTED_IN_TEXT = re.compile(r"\bsupervisor(?:\.\w+)+")
PATH_IN_TEXT = re.compile(r"\b(?:supervisor/)(?:\w+/)*\w+\.py\b")


def text_import(match: re.Match[str]) -> str:
    """Rewrite an import statement that stands in a string."""
    package, names = match.groups()
    if package not in MODULES:
        return match.group()
    lines: dict[str, list[str]] = {}
    for each in names.split(", "):
        name, _, alias = each.partition(" as ")
        full = f"{package}.{name}"
        if full in MODULES:
            parent, _, last = moved(full).rpartition(".")
            bound = alias or name
            lines.setdefault(parent, []).append(last if last == bound else f"{last} as {bound}")
        else:
            lines.setdefault(moved(package), []).append(each)
    return "; ".join(f"from {parent} import {', '.join(names)}" for parent, names in lines.items())


def text(body: str) -> str:
    """Rewrite imports, dotted names and paths in a text."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(text_import(match))
        return f"\0{len(kept) - 1}\0"

    body = IMPORT_IN_TEXT.sub(keep, body)
    body = DOTTED_IN_TEXT.sub(lambda match: moved(match.group()), body)
    body = PATH_IN_TEXT.sub(path_in_text, body)
    return re.sub(r"\0(\d+)\0", lambda match: kept[int(match.group(1))], body)


def path_in_text(match: re.Match[str]) -> str:
    dotted = match.group()[:-3].replace("/", ".")
    return moved(dotted).replace(".", "/") + ".py" if dotted in MODULES else match.group()


def dotted_of(node: cst.BaseExpression) -> str:
    return cst.Module([]).code_for_node(node).replace(" ", "")


def expression(dotted: str) -> cst.Attribute | cst.Name:
    node: cst.Attribute | cst.Name = cst.Name(dotted.split(".")[0])
    for part in dotted.split(".")[1:]:
        node = cst.Attribute(node, cst.Name(part))
    return node


class Rewriter(cst.CSTTransformer):
    """Rewrites the imports of one file and the names that they bind."""

    def __init__(self, renamed: dict[int, str], bound: dict[int, str]) -> None:
        self.renamed = renamed  # id of a Name node -> its new name
        self.bound = bound  # id of an ImportAlias -> the bound name that it gets

    def leave_Name(self, original: cst.Name, updated: cst.Name) -> cst.Name:
        new = self.renamed.get(id(original))
        return updated.with_changes(value=new) if new else updated

    def leave_SimpleString(self, original: cst.SimpleString, updated: cst.SimpleString) -> cst.SimpleString:
        return updated.with_changes(value=text(updated.value)) if "supervisor" in updated.value else updated

    def leave_FormattedStringText(
        self, original: cst.FormattedStringText, updated: cst.FormattedStringText
    ) -> cst.FormattedStringText:
        return updated.with_changes(value=text(updated.value)) if "supervisor" in updated.value else updated

    def leave_Comment(self, original: cst.Comment, updated: cst.Comment) -> cst.Comment:
        return updated.with_changes(value=text(updated.value)) if "supervisor" in updated.value else updated

    def leave_SimpleStatementLine(self, original: cst.SimpleStatementLine, updated: cst.SimpleStatementLine) -> object:
        if len(original.body) != 1 or not isinstance(original.body[0], cst.ImportFrom):
            return updated
        statement = original.body[0]
        if statement.module is None or isinstance(statement.names, cst.ImportStar):
            return updated
        package = dotted_of(statement.module)
        if package != "supervisor" and not package.startswith(PACKAGE):
            return updated
        groups: dict[str, list[cst.ImportAlias]] = {}
        for alias in statement.names:
            name = alias.name.value
            full = f"{package}.{name}"
            if full in MODULES:
                parent, _, last = moved(full).rpartition(".")
                bound = self.bound.get(id(alias)) or (alias.asname.name.value if alias.asname else name)
                asname = None if bound == last else cst.AsName(cst.Name(bound))
                groups.setdefault(parent, []).append(cst.ImportAlias(cst.Name(last), asname))
            else:
                groups.setdefault(moved(package), []).append(alias.with_changes(comma=cst.MaybeSentinel.DEFAULT))
        lines = []
        for place, (parent, aliases) in enumerate(sorted(groups.items())):
            new = cst.ImportFrom(module=expression(parent), names=aliases)
            lines.append(
                updated.with_changes(body=[new])
                if place == 0
                else cst.SimpleStatementLine([new], trailing_whitespace=updated.trailing_whitespace)
            )
        return cst.FlattenSentinel(lines)


def rewrite(path: Path) -> tuple[list[str], dict[str, str]]:
    """Rewrite one file; return the names that had to stay, and the bound names that were renamed."""
    body = path.read_text()
    if "supervisor" not in body:
        return [], {}
    changed: dict[str, str] = {}
    wrapper = MetadataWrapper(cst.parse_module(body), unsafe_skip_copy=True)
    scopes = wrapper.resolve(ScopeProvider)
    every = {scope for scope in scopes.values() if scope is not None}
    words = set(re.findall(r"\b\w+\b", re.sub(r"^\s*(?:from|import) .*$", "", body, flags=re.M)))
    renamed: dict[int, str] = {}
    bound: dict[int, str] = {}
    stayed = []
    for scope in every:
        for assignment in scope.assignments:
            if not isinstance(assignment, ImportAssignment) or not isinstance(assignment.node, cst.ImportFrom):
                continue
            statement = assignment.node
            if statement.module is None or isinstance(statement.names, cst.ImportStar):
                continue
            package = dotted_of(statement.module)
            for alias in statement.names:
                name = alias.name.value
                if alias.asname or name != assignment.name or f"{package}.{name}" not in MOVES:
                    continue
                _, new = MOVES[f"{package}.{name}"]
                if new == name:
                    continue
                if new in words:
                    bound[id(alias)] = name
                    stayed.append(f"{path.relative_to(ROOT)}: {name} (would be {new})")
                    continue
                bound[id(alias)] = new
                changed[name] = new
                for access in assignment.references:
                    node = access.node
                    while isinstance(node, cst.Attribute):
                        node = node.value
                    if isinstance(node, cst.Name) and node.value == name:
                        renamed[id(node)] = new
    path.write_text(wrapper.module.visit(Rewriter(renamed, bound)).code)
    return stayed, changed


def chains(path: Path, renamed: dict[str, dict[str, str]]) -> None:
    """Rename ``module.bound`` where a module's bound name was renamed, as tests use it to put something in its place."""
    body = before = path.read_text()
    for node in ast.walk(ast.parse(body)):
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            for old, new in renamed.get(f"{node.module}.{alias.name}", {}).items():
                bound = alias.asname or alias.name
                body = re.sub(rf"\b{bound}\.{old}\b(?!\()", f"{bound}.{new}", body)
                body = re.sub(rf'setattr\({bound}, "{old}"', f'setattr({bound}, "{new}"', body)
    for module, names in renamed.items():
        if module in body:
            for old, new in names.items():
                body = re.sub(rf"\b{re.escape(module)}\.{old}\b", f"{module}.{new}", body)
    if body != before:
        path.write_text(body)


def packages() -> list[str]:
    """Return all packages after the moves."""
    found = set()
    for module in MODULES:
        new = MOVES.get(module, (module, ""))[0]
        while "." in new:
            new = new.rpartition(".")[0]
            found.add(new)
    return sorted(found)


def sources() -> list[Path]:
    """Return the files to rewrite. The script of the golden stores stays, because the stores hold its digest."""
    return [
        path
        for source in SOURCES
        for path in (ROOT / source).rglob("*.py")
        if not {"rename", "golden"} & set(path.parts) or path.parent.name == "golden"
    ]


def main() -> None:
    """Move everything."""
    files = sources()
    with ProcessPoolExecutor() as pool:
        answers = list(pool.map(rewrite, files, chunksize=8))
    stayed = [line for lines, _ in answers for line in lines]
    renamed = {}
    for path, (_, changed) in zip(files, answers, strict=True):
        if changed and path.is_relative_to(ROOT / "supervisor"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            renamed[MOVES.get(module, (module, ""))[0]] = changed
    for path in files:
        chains(path, renamed)
    for pattern in (
        "docs/**/*.md",
        "*.md",
        "tests/**/*.md",
        ".ci/run",
        "pyproject.toml",
        "Makefile",
        "benchmarks/**/*.md",
        "hyperlpr_example/*.md",
        "hyperlpr_example/*.ipynb",
        "requirements/*.md",
    ):
        for path in ROOT.glob(pattern):
            path.write_text(text(path.read_text()))
    plan = []
    for old, (new, _) in MOVES.items():
        was = ROOT / (old.replace(".", "/"))
        source = (
            was / "__init__.py"
            if (was / "__init__.py").exists() and not was.with_suffix(".py").exists()
            else was.with_suffix(".py")
        )
        target = ROOT / new.replace(".", "/")
        plan.append((source, target / "__init__.py" if source.name == "__init__.py" else target.with_suffix(".py")))
    # first to names that cannot collide, because some packages take the name of a module
    for number, (source, _) in enumerate(plan):
        subprocess.run(["git", "mv", source, source.with_name(f"moved_{number}.py")], check=True)
    for number, (source, target) in enumerate(plan):
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "mv", source.with_name(f"moved_{number}.py"), target], check=True)
    for package in packages():
        folder = ROOT / package.replace(".", "/")
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "__init__.py").exists():
            (folder / "__init__.py").write_text(f'"""{package}"""\n')
    print("\n".join(sorted(stayed)))


if __name__ == "__main__":
    main()
