"""Renames classes by ``classes.tsv`` (module, old, new), found by libcst's scope analysis: ``python tools/rename/symbols.py``."""

from __future__ import annotations

import re
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import libcst as cst
from libcst.metadata import (
    GlobalScope,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    ScopeProvider,
)
from moves import HERE, ROOT, dotted_of, sources

RENAMES: dict[str, dict[str, str]] = defaultdict(dict)
for line in (HERE / "classes.tsv").read_text().splitlines():
    if line and not line.startswith("#"):
        module, old, new = line.split("\t")
        RENAMES[f"supervisor.{module}"][old] = new


class Renamer(cst.CSTTransformer):
    def __init__(self, names: dict[int, str]) -> None:
        self.names = names

    def leave_Name(self, original: cst.Name, updated: cst.Name) -> cst.Name:
        new = self.names.get(id(original))
        return updated.with_changes(value=new) if new else updated


def text(body: str) -> str:
    """Rename what a string names by its whole dotted path."""
    for module, names in RENAMES.items():
        if module in body:
            for old, new in names.items():
                body = re.sub(rf"\b{re.escape(module)}\.{old}\b", f"{module}.{new}", body)
                body = re.sub(rf"\b{re.escape(module)}:{old}\b", f"{module}:{new}", body)
                body = re.sub(
                    rf"(from {re.escape(module)} import (?:[\w, ]+, )?){old}\b(?! as)", rf"\g<1>{new} as {old}", body
                )
    return body


class Texts(cst.CSTTransformer):
    def leave_SimpleString(self, original: cst.SimpleString, updated: cst.SimpleString) -> cst.SimpleString:
        return updated.with_changes(value=text(updated.value)) if "supervisor." in updated.value else updated

    def leave_FormattedStringText(
        self, original: cst.FormattedStringText, updated: cst.FormattedStringText
    ) -> cst.FormattedStringText:
        return updated.with_changes(value=text(updated.value)) if "supervisor." in updated.value else updated


def rewrite(path: Path) -> list[str]:
    body = path.read_text()
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = RENAMES.get(module, {})
    if not own and "supervisor" not in body:
        return []
    wrapper = MetadataWrapper(cst.parse_module(body), unsafe_skip_copy=True)
    scopes = wrapper.resolve(ScopeProvider)
    parents = wrapper.resolve(ParentNodeProvider)
    names: dict[int, str] = {}
    news: dict[str, str] = {}

    def references(assignment: object, old: str, new: str) -> None:
        for access in assignment.references:  # type: ignore[attr-defined]
            node = access.node
            while isinstance(node, cst.Attribute):
                node = node.value
            if isinstance(node, cst.Name) and node.value == old:
                names[id(node)] = new
        news[old] = new

    for scope in {scope for scope in scopes.values() if scope is not None}:
        for assignment in scope.assignments:
            if isinstance(assignment, ImportAssignment):
                statement = assignment.node
                if not isinstance(statement, cst.ImportFrom) or isinstance(statement.names, cst.ImportStar):
                    continue
                package = dotted_of(statement.module)
                for alias in statement.names:
                    name = alias.name.value
                    bound = alias.asname.name.value if alias.asname else name
                    if bound != assignment.name:
                        continue
                    if name in RENAMES.get(package, {}):
                        names[id(alias.name)] = RENAMES[package][name]
                        if not alias.asname:
                            references(assignment, name, RENAMES[package][name])
                    for_module = RENAMES.get(f"{package}.{name}")
                    if for_module:
                        for access in assignment.references:
                            node = access.node
                            while isinstance(node, cst.Attribute) and not isinstance(node.value, cst.Name):
                                node = node.value
                            attribute = node if isinstance(node, cst.Attribute) else parents.get(node)
                            if isinstance(attribute, cst.Attribute) and attribute.attr.value in for_module:
                                names[id(attribute.attr)] = for_module[attribute.attr.value]
            elif (
                isinstance(scope, GlobalScope) and assignment.name in own and isinstance(assignment.node, cst.ClassDef)
            ):
                names[id(assignment.node.name)] = own[assignment.name]
                references(assignment, assignment.name, own[assignment.name])
    words = {node.value for node in Names.of(wrapper.module)} if news else set()
    clashes = [
        f"{path.relative_to(ROOT)}: {old} -> {new} is there already" for old, new in news.items() if new in words
    ]
    code = wrapper.module.visit(Renamer(names)).visit(Texts()).code
    for old, new in news.items():
        code = re.sub(rf"``{old}``", f"``{new}``", code)
        code = re.sub(rf'cast\("{old}"', f'cast("{new}"', code)
        code = re.sub(rf'(-> |: )"{old}"', rf'\g<1>"{new}"', code)
    if code != body:
        path.write_text(code)
    return clashes


class Names(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: list[cst.Name] = []

    def visit_Name(self, node: cst.Name) -> None:
        self.found.append(node)

    @classmethod
    def of(cls, module: cst.Module) -> list[cst.Name]:
        visitor = cls()
        module.visit(visitor)
        return visitor.found


def main() -> None:
    files = sources()
    with ProcessPoolExecutor() as pool:
        for lines in pool.map(rewrite, files, chunksize=8):
            for line in lines:
                print(line)
    for pattern in ("docs/**/*.md", "*.md", "pyproject.toml"):
        for path in ROOT.glob(pattern):
            path.write_text(text(path.read_text()))


if __name__ == "__main__":
    main()
