"""How a script that nobody changed is told to resume, by the field's conventions: found in its source, and proposed.

``convention`` reads the source. ``proposal`` is the line for the user at the start of a run, ``advice`` its second half.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.core import script_options
from supervisor.core.script_options import FLAG, NUMBER, TEXT, TRUTH, Option, Source, key_of
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

AUTO = "auto"

# Options that give back the whole state, best first; matched against the name in small letters, "_" for "-".
_FULL = (
    r"resume_from_(checkpoint|ckpt)|resume_(checkpoint|ckpt)(_path|_file)?|resume_from(_path|_file)?",
    r"resume_(path|file|model|snapshot|state|training_from)|(path|file|checkpoint|ckpt|model)_(to_)?resume(_from)?",
    r"resume",
    r"(resume|restore|reload|load|continue)_(from_)?((checkpoint|ckpt|model|run|state|snapshot|latest|last)s?_)?(dir|directory|folder)",
    r"(dir|directory|folder)_(to_)?(resume|restore|load)(_from)?",
    r"init_from",
    r"(do_|auto_?|try_|should_)resume|resume_(training|train|run|latest|last)|autoresume|resume_auto",
    r"continue(_from(_checkpoint|_ckpt)?|_train(ing)?|_checkpoint|_path)?|recover|auto_?restart",
    r"restore(_from)?(_checkpoint|_ckpt|_path|_file|_model|_dir|_latest|_last)?",
    r"(re)?load_(from_)?(checkpoint|ckpt|state|snapshot)(_path|_file)?|reload(_from)?|from_(checkpoint|ckpt|snapshot)",
    r"start_(from|checkpoint)(_checkpoint|_ckpt)?|last_(checkpoint|ckpt)|trained_agent",
    r"(checkpoint|ckpt|chkpt|snapshot)(_path|_file|_filename|_to_load|_load|_in)?",
)
_WEIGHTS = (
    r"load(_from|_path|_file)?|load_(model|weights|net|params|pretrained)(_path|_file|_from)?",
    r"saved_model|(init|initial|pretrain|pretrained|trained)_(checkpoint|ckpt|model|weights|path|net|model_path)(_path|_file)?",
    r"weights(_path|_file|_in)?|init_weights|pretrained|pretrain|finetune(_from)?|fine_tune(_from)?|warm_start(_from)?",
    r"model(_path|_file|_checkpoint|_ckpt|_weights|_in|_load)",
)
_PLACE = re.compile(
    r"(resume|start|initial|init|begin|last|from)_(epoch|iter|iteration|step|global_step|it)s?|epoch_(count|start|from)"
)
_FOLDER = re.compile(r"(?:.*_)?(?:dir|directory|folder|dirname|dirpath)(?:_.*)?")
_ROLES = re.compile(
    r"(?:(?:load|resume|pretrained|init|saved|restore)_)?"
    r"(net_?[a-z]|[gd](?=_|$)|generator|discriminator|gen|disc|actor|critic|encoder|decoder|optimizer|optim)"
    r"(?:_(?:path|file|ckpt|checkpoint|weights|model))?"
)
_LOADS = re.compile(
    r"(?i)resum|restor|continu|reload|\bload|start(ing)? from|initiali[sz]|init |from a|saved|previous|pre-?train"
)
_SAVES = re.compile(r"(?i)\bsav(e|ing)\b|output|\bstore|writ|where to|dump|prefix")
_TESTS = re.compile(r"(?i)\btest|\beval|inference|demo")
_BY_ITSELF = {True, "auto", "latest", "last", "must", "True", "yes"}
_CHOICES = ("auto", "latest", "last", "resume", "must", "always", "allow", "yes", "true", "True", "continue")
_CALLS = ("get_last_checkpoint", "latest_checkpoint", "restore_or_initialize", "BackupAndRestore", "latest_step",
          "resume_from_checkpoint=True", "resume=True", "ckpt_path=last", "resume_or_load")  # fmt: skip
_OURS = frozenset({"supervisor"})


@dataclass(frozen=True, slots=True)
class Convention:
    """How a script is told to resume.

    ``option``: its own option, "" for none that is known; ``arguments``: what ``--resume-args`` is to be.
    ``weights_only``: the option's name says that it loads weights and nothing else. ``by_itself``: what in the script
    looks for its own checkpoint without being told. ``attached``: the script uses this program.
    """

    option: str = ""
    arguments: str = ""
    weights_only: bool = False
    by_itself: str = ""
    attached: bool = False


def convention(sources: Sequence[str]) -> Convention:
    """Return how a script is told to resume; ``sources``: its own text, then those of the modules that it imports."""
    source = script_options.read(sources)
    if source.imports & _OURS:
        return Convention(attached=True)
    options: dict[str, Option] = {}
    for option in source.options:
        if option.takes != "none":
            options.setdefault(option.key, option)
    for pattern in _FULL:
        for option in _matching(options.values(), pattern):
            if option.default in _BY_ITSELF and _speaks_of_resuming(option.key):
                return Convention(by_itself=f"{option.name} (default: {option.default})")
            if arguments := _arguments(option, source):
                return Convention(option.name, arguments, weights_only=option.key == "init_from" and "{" in arguments)
    return _nets(options.values()) or _weights(options, source) or _without_option(source, options)


def proposal(found: Convention, arguments: Sequence[str] = (), *, auto: bool = False) -> str:
    """Return the line for the user when a run begins; "" where there is nothing to say.

    ``arguments``: the script's own on this command line. ``auto``: ``--resume-args auto`` adds what was found.
    """
    given = {key_of(word.partition("=")[0]) for word in arguments}
    if found.attached or found.by_itself or key_of(found.option) in given:
        return ""
    if not found.option:
        return f"{advice(found)}: after a death it begins at its first step, unless it looks for its files itself"
    if auto:
        weights = " (by its name it loads weights only)" if found.weights_only else ""
        return f'--resume-args auto: "{found.arguments}" is added when the script goes on{weights}'
    several = "," in found.option
    which = "by their names load" if several else "by its name loads"
    has = f"this script has {found.option}" + (f", which {which} weights only" if found.weights_only else "")
    return f"{has}: {advice(found)}, or it begins at its first step after a death"


def advice(found: Convention) -> str:
    """Return what to add to the command, or that there is no such option."""
    if found.arguments:
        return f'add --resume-args "{found.arguments}"'
    return "this script has no known option to resume"


def _matching(options: Iterable[Option], pattern: str) -> list[Option]:
    """Return the options of these names that load; of several those that take a file come first."""
    found = [option for option in options if re.fullmatch(pattern, option.key) and _is_for_loading(option)]
    return sorted(found, key=lambda option: (option.takes != TEXT, option.takes == NUMBER))


def _is_for_loading(option: Option) -> bool:
    if _speaks_of_resuming(option.key):
        return True
    loads = _LOADS.search(option.help) is not None
    if option.help and not loads and (_SAVES.search(option.help) or _TESTS.search(option.help)):
        return False
    if option.takes == FLAG:
        return option.key.startswith(("load", "auto", "recover", "reload"))
    if re.fullmatch(_FULL[-1], option.key) or re.fullmatch(_WEIGHTS[-1], option.key):  # often where it is saved
        return loads or (not option.help and not option.default)
    return True


def _speaks_of_resuming(key: str) -> bool:
    return any(word in key for word in ("resume", "restore", "continue", "restart", "recover", "init_from"))


def _arguments(option: Option, source: Source) -> str:
    """Return the option with its value, "" where none is known that it takes."""
    if option.key == "init_from" and (option.choices or option.default == "scratch" or "resume" in source.strings):
        return option.given("resume") if "resume" in {*option.choices, *source.strings} else ""
    if option.choices:
        chosen = next((each for each in _CHOICES if each in option.choices), "")
        return option.given(chosen) if chosen else ""
    if option.takes == FLAG:
        return option.given()
    if option.takes == TRUTH:
        return option.given("True")
    if option.takes == NUMBER:
        return option.given("{step}" if re.search("iter|step", option.key + option.help.lower()) else "{epoch}")
    return option.given(_place_of(option, source))


def _place_of(option: Option, source: Source) -> str:
    """Return the field for the checkpoint itself, or for its folder where the option takes one."""
    is_folder = _FOLDER.fullmatch(option.key) or option.key in source.folders
    return "{folder}" if is_folder else "{checkpoint}"


def _nets(options: Iterable[Option]) -> Convention | None:
    """Return the options of a script that loads several nets, each from a file of its own."""
    parts = [(option, role[1]) for option in options if option.takes == TEXT and (role := _ROLES.fullmatch(option.key))]
    parts = [each for each in parts if not each[0].default and (not each[0].help or _LOADS.search(each[0].help))]
    if len(parts) < 2:  # noqa: PLR2004
        return None
    words = []
    for option, part in parts:
        at = option.name.lower().replace("-", "_").rindex(part)
        words.append(option.given(f"{{checkpoint:*{option.name[at : at + len(part)]}*}}"))
    return Convention(", ".join(option.name for option, _ in parts), " ".join(words), weights_only=True)


def _weights(options: dict[str, Option], source: Source) -> Convention | None:
    place = next((each for key, each in options.items() if each.takes == NUMBER and _PLACE.fullmatch(key)), None)
    count = "" if place is None else place.given("{step}" if re.search("iter|step|it$", place.key) else "{epoch}")
    for pattern in _WEIGHTS:
        for option in _matching(options.values(), pattern):
            if option.takes == TEXT and option.default is not True and "name_or_path" not in option.key:
                arguments = f"{option.given(_place_of(option, source))} {count}".strip()
                return Convention(option.name, arguments, weights_only=True)
    helped = (
        each for each in options.values() if each.takes == TEXT and re.search(r"(?i)resum|continue train", each.help)
    )
    for option in helped:
        if not re.search(r"wandb|run_?id|^id$|name", option.key):
            return Convention(option.name, option.given(_place_of(option, source)))
    if place is not None and place.key.startswith("resume"):
        return Convention(place.name, count)
    return None


def _without_option(source: Source, options: dict[str, Option]) -> Convention:
    denied = next(
        (each.name for key, each in options.items() if re.fullmatch(r"no_(resume|restore)|fresh_start", key)), ""
    )
    found = next((call for call in _CALLS if call in source.names), "")
    return _of_hydra(source) if not (denied or found) else Convention(by_itself=denied or found)


def _of_hydra(source: Source) -> Convention:
    """Hydra's options lie in its own files; the script shows only which of them it reads."""
    if "hydra" not in source.imports:
        return Convention()
    paths = r"((?:\w+\.)*(?:ckpt_path|resume_from_checkpoint|resume_from|resume_checkpoint|resume_path))"
    read = re.search(rf"\b(?:cfg|config|conf)\.{paths}\b", source.text)
    read = read or re.search(rf"\b(?:cfg|config|conf)\.get\([\"']{paths}[\"']", source.text)
    return Convention(read[1], rf"++{read[1]}=\'{{checkpoint}}\'") if read else Convention()
