"""``docs/api.md`` made from the docstrings of what a script uses: ``python3 tools/api_page.py`` writes it.

Sources are read and never imported, so that no framework need be there. A test compares the page with the sources.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
BEGIN = """\
# What a script can use

Made from the docstrings by `python3 tools/api_page.py`. All names are of the package: `import supervisor`, then `supervisor.attach(…)`.
[recipes.md](recipes.md) has a whole script for each kind of loop, [frameworks.md](frameworks.md) what is exact.
"""


class Shown(NamedTuple):
    """One public name: where it is defined, and the members that a script uses ("" for a function)."""

    name: str
    file: str
    members: tuple[str, ...] = ()


SHOWN = (
    Shown("attach", "attach.py"),
    Shown("Run", "run.py", (
        "step", "resumed", "steps", "epochs", "log", "save", "flush", "before_update", "section", "scratch", "begin", "advance", "end",
    )),
    Shown("resume_step", "attach.py"),
    Shown("ResumableShuffleSampler", "order.py", ("skip", "epoch", "state_dict", "load_state_dict")),
    Shown("load_model_state", "trained.py"),
    Shown("read_checkpoint", "folder.py"),
    Shown("KerasCallback", "callbacks/keras.py"),
    Shown("TransformersCallback", "callbacks/transformers.py"),
    Shown("LightningCallback", "callbacks/lightning.py"),
    Shown("AccelerateRun", "callbacks/accelerate.py", ("epochs",)),
)  # fmt: skip
DEFINED_AS = {"read_checkpoint": "read"}


def page() -> str:
    """Return the whole page."""
    parts = [BEGIN]
    for shown in SHOWN:
        tree = ast.parse((ROOT / "supervisor" / "trainer" / shown.file).read_text(encoding="utf-8"))
        wanted = DEFINED_AS.get(shown.name, shown.name)
        (node,) = (each for each in tree.body if isinstance(each, _Documented) and each.name == wanted)
        parts.append(_section(shown, node))
    return "\n".join(parts)


_Documented = ast.ClassDef | ast.FunctionDef


def _section(shown: Shown, node: _Documented) -> str:
    if isinstance(node, ast.FunctionDef):
        return f"## `{_signature(shown.name, node)}`\n\n{_doc(node)}\n"
    found = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
    made = found.get("__init__")
    title = shown.name if made is None or shown.name == "Run" else _signature(shown.name, made)
    lines = [f"## `{title}`\n", f"{_doc(node)}\n"]
    for name in shown.members:
        if name in found:
            lines.append(f"- **`{_member(found[name])}`** {_doc(found[name], indent='  ')}")
        else:
            lines.append(f"- **`{name}`** {_attribute(shown, name)}")
    return "\n".join(lines) + "\n"


def _attribute(shown: Shown, name: str) -> str:
    """Return the words on a plain attribute; KeyError for one that has none here."""
    return {("Run", "step"): "Steps that are done, over all machines and attempts.",
            ("Run", "resumed"): "Whether there was a checkpoint to go on from."}[shown.name, name]  # fmt: skip


def _member(node: ast.FunctionDef) -> str:
    is_value = any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)
    return node.name if is_value else _signature(node.name, node)


def _signature(name: str, node: ast.FunctionDef) -> str:
    arguments = ast.unparse(node.args)
    for word in ("self, ", "self"):
        arguments = arguments.removeprefix(word)
    return f"{name}({arguments})"


def _doc(node: _Documented, indent: str = "") -> str:
    text = ast.get_docstring(node)
    if text is None:
        raise LookupError(f"{node.name} has no docstring")
    return text.replace("``", "`").replace("\n", f"\n{indent}").replace(f"\n{indent}\n", "\n\n")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
