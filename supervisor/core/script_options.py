"""Which options a training script declares, read from its source: argparse, click, typer, absl, fire, dataclass parsers.

The source is parsed, never run. What cannot be read is left out.
"""

from __future__ import annotations

import ast
import re
from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FLAG, TEXT, NUMBER, TRUTH = "flag", "text", "number", "truth"
_ADDS = frozenset({"add_argument", "add_arg", "add_option", "add", "option", "Option"})
_FLAGS = frozenset({"store_true", "BooleanOptionalAction", "argparse.BooleanOptionalAction", "store_const"})
_NUMBERS = frozenset({"int", "float", "click.INT", "click.FLOAT", "INT", "FLOAT"})
_TRUTHS = re.compile(r"(?i)bool|.*str(ing)?_?(2|to)_?bool.*|.*boolean.*|.*eval")
_RUNNERS = {  # function that makes a command line of a function or class: how its options are written
    "typer.run": "- ", "tyro.cli": "- ", "jsonargparse.CLI": "_ ", "CLI": "_ ",
    "jsonargparse.auto_cli": "_ ", "auto_cli": "_ ", "defopt.run": "- ", "HfArgumentParser": "_ ", "TrlParser": "_ ",
    "transformers.HfArgumentParser": "_ ", "simple_parsing.parse": "_ ", "pyrallis.parse": "_=", "draccus.parse": "_=",
    "add_arguments": "_ ", "H4ArgumentParser": "_ ", "pyrallis.wrap": "_=", "draccus.wrap": "_=",
}  # fmt: skip
_FIRES = frozenset({"fire.Fire", "Fire"})
COMPONENT_DEPTH_MAX = 3
_TRAINER_ARGUMENTS = re.compile(r"\w*TrainingArguments|(SFT|DPO|PPO|GRPO|KTO|ORPO|Reward|RLOO|CPO)Config")


@dataclass(frozen=True, slots=True)
class Option:
    """An option as the script declares it. ``takes``: FLAG for no value, or the kind of its value.

    ``joined``: name and value are written as one word. ``default``: its constant, None where there is none.
    """

    names: tuple[str, ...]
    takes: str = TEXT
    default: object = None
    choices: tuple[str, ...] = ()
    help: str = ""
    joined: bool = False

    @property
    def name(self) -> str:
        """Its first long name, as it is typed."""
        return next((name for name in self.names if name.startswith("--")), self.names[0])

    @property
    def key(self) -> str:
        """Its name without dashes, in small letters and underscores."""
        return key_of(self.name)

    def given(self, value: str = "") -> str:
        """Return the option as a person types it with this value."""
        return self.name if not value else f"{self.name}{'=' if self.joined else ' '}{value}"


@dataclass(frozen=True, slots=True)
class Source:
    """All modules of a script together: its options, and words that tell how it resumes."""

    options: tuple[Option, ...] = ()
    text: str = ""
    names: frozenset[str] = field(default_factory=frozenset)  # all that is called or passed by keyword, dotted
    strings: frozenset[str] = field(default_factory=frozenset)
    imports: frozenset[str] = field(default_factory=frozenset)
    folders: frozenset[str] = field(default_factory=frozenset)  # names, as keys, to which a file name is joined


class _Known(NamedTuple):
    functions: Mapping[str, ast.FunctionDef | ast.AsyncFunctionDef]
    classes: Mapping[str, ast.ClassDef]


def key_of(name: str) -> str:
    """Return a name as options are compared: ``--resume-from`` is ``resume_from``."""
    return name.lstrip("-").replace("-", "_").lower()


def read(sources: Sequence[str]) -> Source:
    """Read the script (first) and the modules that it imports; one that does not parse is left out."""
    trees = [tree for tree in map(_parsed, sources) if tree is not None]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    known = _Known(
        {node.name: node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)},
        {node.name: node for node in nodes if isinstance(node, ast.ClassDef)},
    )
    text = "\n".join(sources)
    found = [*_declared(nodes), *_of_runners(nodes, known, text), *_of_lightning(nodes, known)]
    if trees:
        found += [*_configured(trees[0], text), *_of_argv(nodes), *_of_docopt(trees[0], text)]
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return Source(
        tuple(found),
        text,
        frozenset(_called(nodes)),
        frozenset(strings),
        frozenset(_imported(nodes)),
        frozenset(_joined(nodes)),
    )


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def dotted(node: ast.AST | None) -> str:
    """Return ``a.b.c`` of such an expression, "" for another."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        above = dotted(node.value)
        return f"{above}.{node.attr}" if above else node.attr
    return ""


def _called(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the last name of what is called, and each keyword with a constant as ``name=value``."""
    for node in nodes:
        if isinstance(node, ast.Call):
            yield dotted(node.func).rpartition(".")[2]
            for word in node.keywords:
                if word.arg and isinstance(word.value, ast.Constant):
                    yield f"{word.arg}={word.value.value!s}"


def _imported(nodes: Sequence[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _joined(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names to which a file name is joined: ``join(a.x, "f")``, ``Path(x) / "f"``, ``f"{x}/f"``, ``x + "/f"``."""
    for node in nodes:
        parts: list[ast.expr] = []
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in {"join", "joinpath"}:
            above = [node.func.value] if isinstance(node.func, ast.Attribute) and node.func.attr == "joinpath" else []
            parts = [*above, *node.args]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.left, node.right]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts = [node.left, node.right] if _begins_with_slash(node.right) else []
        elif (
            isinstance(node, ast.JoinedStr) and len(node.values) > 1 and isinstance(node.values[0], ast.FormattedValue)
        ):
            parts = [node.values[0].value, node.values[1]] if _begins_with_slash(node.values[1]) else []
        if len(parts) > 1 and _is_text(parts[1]):
            yield key_of(_name_of(parts[0]))


def _begins_with_slash(node: ast.expr) -> bool:
    first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
    return str(_constant(first) or "").startswith("/")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(_constant(node), str)


def _name_of(node: ast.expr) -> str:
    """Return ``x`` of ``x``, ``args.x``, ``args["x"]``, ``Path(args.x)`` and ``x.rstrip("/")``."""
    if isinstance(node, ast.Call):
        called = node.func
        return _name_of(node.args[0]) if dotted(called).endswith("Path") and node.args else _name_of(called)
    if isinstance(node, ast.Subscript):
        return str(_constant(node.slice) or "")
    if isinstance(node, ast.Attribute) and node.attr in {"rstrip", "strip", "expanduser", "resolve", "absolute"}:
        return _name_of(node.value)
    return dotted(node).rpartition(".")[2]


# --- options that are declared one by one ---------------------------------------------------------------------------


def _declared(nodes: Sequence[ast.AST]) -> Iterator[Option]:
    aliases = {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign) and dotted(node.value).endswith((".add_argument", ".add_option"))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func)
        last = called.rpartition(".")[2]
        if last in _ADDS or called in aliases:
            if (option := _argument(node)) is not None:
                yield option
        elif last.startswith("DEFINE_") and (option := _absl(node, last)) is not None:
            yield option


def _argument(call: ast.Call) -> Option | None:
    """Return the option of ``add_argument("-r", "--resume", …)``, ``click.option(…)`` or ``typer.Option(…, "--resume")``."""
    given = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    pairs = [name for name in given if name.startswith("-")]
    names = tuple(name.partition("/")[0].strip() for name in pairs)
    if not names or any(" " in name for name in names):
        return None
    words = {each.arg: each.value for each in call.keywords if each.arg}
    default = _constant(words.get("default"))
    return Option(
        names,
        _takes(words, default, paired=any("/" in name for name in pairs)),
        default,
        _choices(words.get("choices") or words.get("type")),
        str(_constant(words.get("help")) or ""),
    )


def _takes(words: Mapping[str, ast.expr], default: object, *, paired: bool) -> str:
    action = str(_constant(words.get("action")) or dotted(words.get("action")))
    if paired or action in _FLAGS or _constant(words.get("is_flag")) is True:
        return FLAG
    if action in {"store_false", "version", "help", "count"}:
        return "none"
    told = words.get("type")
    if told is None:
        return FLAG if isinstance(default, bool) and "nargs" not in words and "action" in words else TEXT
    name = dotted(told.func if isinstance(told, ast.Call) else told)
    if isinstance(told, ast.Lambda) or _TRUTHS.fullmatch(name.rpartition(".")[2]):
        return TRUTH
    return NUMBER if name in _NUMBERS else TEXT


def _absl(call: ast.Call, kind: str) -> Option | None:
    if not call.args or not isinstance(call.args[0], ast.Constant):
        return None
    takes = {"DEFINE_bool": FLAG, "DEFINE_boolean": FLAG, "DEFINE_integer": NUMBER, "DEFINE_float": NUMBER}
    words = {each.arg: each.value for each in call.keywords}
    default = _constant(call.args[1] if len(call.args) > 1 else words.get("default"))
    told = [each for each in call.args[2:] if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    choices = _choices(call.args[2]) if kind == "DEFINE_enum" and len(call.args) > 2 else ()  # noqa: PLR2004
    help_ = str(_constant(told[-1] if told else words.get("help")) or "")
    return Option((f"--{call.args[0].value!s}",), takes.get(kind, TEXT), default, choices, help_, joined=True)


def _constant(node: ast.AST | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _choices(node: ast.AST | None) -> tuple[str, ...]:
    if isinstance(node, ast.Call) and dotted(node.func).endswith("Choice") and node.args:
        node = node.args[0]
    if not isinstance(node, ast.List | ast.Tuple | ast.Set):
        return ()
    return tuple(str(each.value) for each in node.elts if isinstance(each, ast.Constant))


# --- options that are made of the parameters of a function or the fields of a class -----------------------------------


def _of_runners(nodes: Sequence[ast.AST], known: _Known, text: str) -> Iterator[Option]:
    for node in nodes:
        if isinstance(node, ast.Call):
            yield from (
                _of_fire(node, nodes, known, text) if dotted(node.func) in _FIRES else _of_call(node, known, text)
            )
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(_is_typer(each) for each in node.decorator_list):
                yield from _parameters(node, "- ")
            elif any(
                dotted(_function(each)) in {"pyrallis.wrap", "draccus.wrap", "parser.wrap"}
                for each in node.decorator_list
            ):
                for config in node.args.args[:1]:
                    yield from _of_object(dotted(config.annotation), known, "_=", text)
        elif isinstance(node, ast.ClassDef) and any(dotted(base).endswith("Tap") for base in node.bases):
            yield from _fields(node, known, "_ ")


def _of_call(call: ast.Call, known: _Known, text: str) -> Iterator[Option]:
    called = dotted(call.func)
    how = _RUNNERS.get(called) or _RUNNERS.get(called.rpartition(".")[2])
    for given in [*call.args, *(word.value for word in call.keywords)] if how else ():
        for each in given.elts if isinstance(given, ast.Tuple | ast.List) else [given]:
            yield from _of_object(dotted(each), known, how or "", text)


def _of_fire(call: ast.Call, nodes: Sequence[ast.AST], known: _Known, text: str) -> Iterator[Option]:
    """Yield the options of ``fire.Fire(component)``: a function, a class, an object, a dict or list of these.

    Fire takes the options of a constructor before or behind the name of the method. Without a component the commands
    are all that the module defines.
    """
    given = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "component")]
    if not given:
        for name in (*known.functions, *known.classes):
            yield from _component(ast.Name(name), nodes, known, text)
    for each in given:
        yield from _component(each, nodes, known, text)


def _component(
    given: ast.expr | None, nodes: Sequence[ast.AST], known: _Known, text: str, depth: int = 0
) -> Iterator[Option]:
    if given is None or depth > COMPONENT_DEPTH_MAX:
        return
    if isinstance(given, ast.Dict | ast.List | ast.Tuple):
        for each in given.values if isinstance(given, ast.Dict) else given.elts:
            yield from _component(each, nodes, known, text, depth + 1)
        return
    name = dotted(given.func if isinstance(given, ast.Call) else given).rpartition(".")[2]
    if name in known.classes:
        yield from _of_class(known.classes[name], known, text, made=isinstance(given, ast.Call))
    elif name in known.functions:
        yield from _parameters(known.functions[name], "_=")
    elif isinstance(given, ast.Name):
        for node in nodes:
            if isinstance(node, ast.Assign) and any(dotted(target) == name for target in node.targets):
                yield from _component(node.value, nodes, known, text, depth + 1)


def _of_class(given: ast.ClassDef, known: _Known, text: str, *, made: bool) -> Iterator[Option]:
    """Yield the options of a class's public methods, and of its constructor unless the script has ``made`` the object."""
    for base in given.bases:
        name = dotted(base).rpartition(".")[2]
        if name != given.name and name in known.classes:
            yield from _of_class(known.classes[name], known, text, made=made)
    if not made and given.decorator_list:  # a dataclass
        yield from _fields(given, known, "_=", text)
    for node in given.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
            not node.name.startswith("_") or node.name == "__call__" or (node.name == "__init__" and not made)
        ):
            yield from _parameters(node, "_=")


def _function(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _is_typer(decorator: ast.expr) -> bool:
    """Say whether it is ``@app.command()`` of typer: click's options are declared by decorators of their own."""
    return isinstance(decorator, ast.Call) and dotted(decorator.func).rpartition(".")[2] == "command" and (
        not dotted(decorator.func).startswith("click")
    )  # fmt: skip


def _of_object(name: str, known: _Known, how: str, text: str) -> Iterator[Option]:
    last = name.rpartition(".")[2]
    if last in known.functions:
        yield from _parameters(known.functions[last], how)
    elif last in known.classes:
        yield from _fields(known.classes[last], known, how, text)
    elif _TRAINER_ARGUMENTS.fullmatch(last) and "resume_from_checkpoint" in text:
        yield Option(("--resume_from_checkpoint",))


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, how: str) -> Iterator[Option]:
    arguments = [*function.args.posonlyargs, *function.args.args]
    bare: list[ast.expr | None] = [None] * (len(arguments) - len(function.args.defaults))
    pairs = [
        *zip(arguments, [*bare, *function.args.defaults], strict=True),
        *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        if argument.arg in {"self", "cls"}:
            continue
        if default is None and not function.args.kwonlyargs and how == "- ":
            continue  # typer takes it by its place
        if isinstance(default, ast.Call) and any(str(_constant(each)).startswith("--") for each in default.args):
            continue  # it is declared with its own name
        value = default.args[0] if isinstance(default, ast.Call) and default.args else default
        yield _made(argument.arg, argument.annotation, value, how)


def _fields(made: ast.ClassDef, known: _Known, how: str, text: str = "") -> Iterator[Option]:
    for base in made.bases:
        if made.name != dotted(base).rpartition(".")[2]:
            yield from _of_object(dotted(base), known, how, text)
    for node in made.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            value = node.value
            help_ = ""
            if isinstance(value, ast.Call):
                words = {each.arg: each.value for each in value.keywords}
                help_ = _help_of(words.get("metadata"))
                value = words.get("default")
            yield _made(node.target.id, node.annotation, value, how, help_)


def _help_of(metadata: ast.AST | None) -> str:
    if not isinstance(metadata, ast.Dict):
        return ""
    pairs = zip(metadata.keys, metadata.values, strict=True)
    return next((str(_constant(value) or "") for key, value in pairs if _constant(key) == "help"), "")


def _made(name: str, annotation: ast.expr | None, default: ast.expr | None, how: str, help_: str = "") -> Option:
    typed = ast.unparse(annotation) if annotation is not None else ""
    value = _constant(default)
    is_text = "str" in typed or "Path" in typed
    if (typed == "bool" or isinstance(value, bool)) and not is_text:
        takes = TRUTH if how == "_=" else FLAG
    elif (typed in {"int", "float", "int | None", "Optional[int]"} or isinstance(value, int | float)) and not is_text:
        takes = NUMBER
    else:
        takes = TEXT
    shown = name.replace("_", "-") if how.startswith("-") else name
    return Option((f"--{shown}",), takes, value, (), help_, joined=how.endswith("="))


# --- other ways -----------------------------------------------------------------------------------------------------


def _of_lightning(nodes: Sequence[ast.AST], known: _Known) -> Iterator[Option]:
    """LightningCLI's ``fit`` takes ``--ckpt_path``; with ``run=False`` it has no such subcommand and refuses it."""
    own = {
        name
        for name, each in known.classes.items()
        if any(dotted(base).endswith("LightningCLI") for base in each.bases)
    }
    for node in nodes:
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in {"LightningCLI", *own}:
            runs = next((_constant(each.value) for each in node.keywords if each.arg == "run"), True)
            if runs is not False:
                yield Option(("--ckpt_path",))


def _configured(script: ast.Module, text: str) -> Iterator[Option]:
    """Variables of the script that nanoGPT's configurator lets the command line change."""
    if not re.search(r"exec\(open\(|configurator", text):
        return
    for node in script.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.targets[0], ast.Name)
        ):
            value = node.value.value
            takes = TRUTH if isinstance(value, bool) else NUMBER if isinstance(value, int | float) else TEXT
            yield Option((f"--{node.targets[0].id}",), takes, value, joined=True)


def _of_argv(nodes: Sequence[ast.AST]) -> Iterator[Option]:
    """Options that are looked for in ``sys.argv`` by hand."""
    for node in nodes:
        if isinstance(node, ast.Compare) and any(isinstance(each, ast.In) for each in node.ops):
            told = _constant(node.left)
            if (
                isinstance(told, str)
                and told.startswith("--")
                and any("argv" in dotted(each) for each in node.comparators)
            ):
                yield Option((told,), FLAG)


def _of_docopt(script: ast.Module, text: str) -> Iterator[Option]:
    words = ast.get_docstring(script) or ""
    if "docopt" not in text:
        return
    for found in re.finditer(r"(?m)^\s+(?:-\w,?\s+)?(--[\w-]+)(=\s*<?\w+>?| <\w+>| [A-Z]+)?(.*)$", words):
        yield Option((found[1],), TEXT if found[2] else FLAG, help=found[3].strip(), joined=True)
