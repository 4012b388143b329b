"""What a job's environment lacks, how it is recorded, and how two machines differ, in sentences."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, field
from typing import TYPE_CHECKING, Any

from supervisor.core import fields, shapes
from supervisor.core.errors import SetupError
from supervisor.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

HEADER = "# training-supervisor environment, version 1: a hashed requirements file for pip or uv"
# Not replaced by what another package asks for: their builds are matched to each other.
_FRAMEWORKS = re.compile(
    r"(torch|torchvision|torchaudio|triton|tensorflow|tf-keras|keras|jax|jaxlib|numpy|nvidia-.+|jax-cuda.+)$"
)
# Not replaced at all beside an accelerator: their builds are matched to the machine's drivers, too.
_DRIVEN = re.compile(r"(torch|torchvision|torchaudio|triton|tensorflow|jax|jaxlib|nvidia-.+|jax-cuda.+)$")
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Direct:
    """A package asked for by a path or an address.

    ``line``: what an installer takes, its paths absolute. ``name``: its normal name, as far as it can be told.
    ``shown``: what the person wrote, without credentials. ``problem``: why it cannot be had here, or "".
    ``fingerprint``: of the local files that state its name and dependencies. ``repository``: it has commits.
    """

    line: str
    name: str
    shown: str
    marker: str = ""
    problem: str = ""
    fingerprint: str = ""
    repository: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A statement that cannot be followed, in two lines. It is none where the package ``here`` is installed."""

    what: str
    hint: str
    here: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a script asks for; `source` says where, in words. `index_options` are pip's own (``--extra-index-url …``).

    ``hashes``: by normal name, the digests that its file may have. ``conda``: packages that another program installs.
    ``notes`` are said and change nothing.
    """

    requirements: tuple[str, ...] = ()
    requires_python: str = ""
    debian: tuple[str, ...] = ()
    index_options: tuple[str, ...] = ()
    source: str = "nothing"
    directs: tuple[Direct, ...] = ()
    constraints: tuple[str, ...] = ()
    hashes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    conda: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Every package that is asked for, as it was written."""
        return (*self.requirements, *(each.shown for each in self.directs))

    @property
    def asks(self) -> bool:
        """Whether anything is asked for that an installer could bring."""
        return bool(self.texts or self.conda or self.problems)


@dataclass(frozen=True, slots=True)
class Found:
    """What a machine and one interpreter on it have. An empty string or list means: not known or not there."""

    python: str
    python_tag: str
    system: str
    libc: str = ""
    kernel: str = ""
    image: str = ""
    cpu: str = ""
    cores: shapes.Whole = 0
    ram_bytes: shapes.Whole = 0
    accelerators: tuple[str, ...] = ()
    driver: str = ""
    cuda: str = ""
    distributions: Mapping[str, str] = field(default_factory=dict)

    def fits(self, other: Found) -> bool:
        """Whether a lock made for `other` holds here to the letter: same ABI, same kind of accelerator, same packages."""
        mine = (self.python_tag, self.system, self.libc, bool(self.accelerators), dict(self.distributions))
        return mine == (other.python_tag, other.system, other.libc, bool(other.accelerators), dict(other.distributions))


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of the difference: exact version, and the digests any of which its file must have."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def pin(self) -> str:
        """``name==version``."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """A system package: `file` and `digest` ("sha256:…") of its .deb are empty when it was there already."""

    name: str
    version: str
    file: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask the installer for. `replaced`: there, in a version the script cannot use, and shadowed for it alone.

    ``directs``: what is asked for by a path or an address and is not there. ``kept_lines``: lines that what is there
    satisfies; what is shadowed must fit them.
    """

    missing: tuple[str, ...]
    replaced: tuple[str, ...]
    constraints: tuple[str, ...]
    framework_constraints: tuple[str, ...]
    directs: tuple[Direct, ...] = ()
    kept_lines: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether there is something to install."""
        return bool(self.missing or self.directs)

    @property
    def asked(self) -> str:
        """All that is to be installed, in words."""
        return ", ".join([*self.missing, *(each.shown for each in self.directs)])

    @property
    def binary_only(self) -> tuple[str, ...]:
        """Packages that are shadowed only by a finished build: compiling one takes longer than it is worth."""
        return tuple(name for name in self.replaced if _FRAMEWORKS.match(name))

    def without(self, name: str) -> Plan:
        """Return the plan in which the package ``name`` stays as it is there."""
        left = tuple(text for text in self.missing if _name_in(text) != name)
        return replace(self, missing=left, replaced=tuple(each for each in self.replaced if each != name))


@dataclass(frozen=True, slots=True)
class Located:
    """A package that was installed from a path or an address: its version, and its commit where it has one."""

    name: str
    version: str
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """The environment of a run on one machine: what was found, what was wanted, and the difference with its hashes."""

    found: Found
    wanted: tuple[str, ...] = ()
    difference: tuple[Locked, ...] = ()
    debian: tuple[DebianPackage, ...] = ()
    direct: tuple[Located, ...] = ()

    @property
    def name(self) -> str:
        """File name by content, so that two records never overwrite each other."""
        return f"env-{self.found.python_tag}-{hashlib.sha256(self.to_bytes()).hexdigest()[:16]}.txt"

    def to_bytes(self) -> bytes:
        """A requirements file that pip and uv read as it stands; the rest is in its comments. No addresses, no paths."""
        notes: dict[str, Any] = {
            "packages": len(self.difference),
            "found": asdict(self.found),
            "wanted": self.wanted,
            "debian": [asdict(one) for one in self.debian],
        }
        if self.direct:
            notes["direct"] = [asdict(one) for one in self.direct]
        lines = [HEADER, *(f"# {key}: {json.dumps(value, sort_keys=True)}" for key, value in notes.items())]
        return ("\n".join(lines) + "\n" + write_locked(self.difference)).encode()

    @staticmethod
    def from_bytes(content: bytes) -> Record:
        """The record that `to_bytes` wrote; ValueError for anything else."""
        if len(content) > fields.RECORD_BYTES_MAX:
            raise ValueError(f"it is longer than {fields.RECORD_BYTES_MAX:,} bytes")
        text = content.decode()
        if not text.startswith(HEADER):
            raise ValueError("not an environment record of this version")
        plain = {name: fields.plain(value) for name, value in re.findall(r"^# (\w+): (.+)$", text, re.MULTILINE)}
        notes = shapes.of(_Notes, plain)
        locked = read_locked(text)
        whole = notes.packages is None or notes.packages == len(locked)
        if not whole or not text.endswith("\n") or text.endswith("\\\n"):
            raise ValueError("it ends too early")
        return Record(notes.found, notes.wanted, locked, notes.debian, notes.direct)

    def versions(self) -> dict[str, str]:
        """Every package the job sees, with the version it sees."""
        added = {one.name: one.version for one in self.difference}
        return dict(self.found.distributions) | added | {one.name: one.version for one in self.direct}


@dataclass(frozen=True, slots=True)
class _Notes:
    """The JSON note in the comments of a record."""

    found: Found
    wanted: tuple[str, ...]
    debian: tuple[DebianPackage, ...]
    packages: shapes.Whole | None = None
    direct: tuple[Located, ...] = ()


def is_whole(content: bytes) -> bool:
    """Whether it is a record of this version to its end: a drive can hold the beginning of one."""
    try:
        Record.from_bytes(content)
    except ValueError:
        return False
    return True


def plan(wanted: Wanted, found: Found) -> Plan:
    """What `found` lacks of `wanted`; raises SetupError for a wish that no installation may grant here."""
    _check_python(wanted, found)
    for problem in wanted.problems:
        if problem.here not in found.distributions:
            raise SetupError(problem.what, problem.hint)
    missing: list[str] = []
    replaced: list[str] = []
    satisfied: list[str] = []
    rules = _rules(wanted, found)
    for text in wanted.requirements:
        requirement = _applies(text, wanted, found)
        if requirement is None:
            continue
        name = normal_name(requirement.name)
        version = found.distributions.get(name, "")
        if _allows(requirement, rules, version):
            satisfied.append(text)
            if requirement.extras:
                missing.append(text)
        elif not version:
            missing.append(text)
        elif not (found.accelerators and _DRIVEN.match(name)):
            replaced.append(name)
            missing.append(text)
    directs = tuple(each for each in wanted.directs if _is_to_install(each, wanted, found))
    outside = {
        name for name, rule in rules.items() if not rule.contains(found.distributions.get(name, "0"), prereleases=True)
    }
    kept = [
        f"{name}=={version}"
        for name, version in found.distributions.items()
        if name not in replaced and name not in outside and _is_version(version)
    ]
    frameworks = tuple(pin for pin in kept if _FRAMEWORKS.match(pin.partition("==")[0]))
    return Plan(tuple(missing), tuple(replaced), tuple(kept), frameworks, directs, tuple(satisfied) if replaced else ())


def unmet(wanted: Wanted, found: Found, versions: Mapping[str, str]) -> tuple[str, ...]:
    """Say what a job that sees ``versions`` does not get of what is asked for, one phrase each; raises nothing."""
    said = [problem.what for problem in wanted.problems if problem.here not in versions]
    try:
        _check_python(wanted, found)
    except SetupError as error:
        said.append(error.what)
    rules = _rules(wanted, found)
    for text in wanted.requirements:
        try:
            requirement = _applies(text, wanted, found)
        except SetupError as error:
            said.append(error.what)
            continue
        if requirement is not None:
            version = versions.get(normal_name(requirement.name), "")
            if not version:
                said.append(f"{text} is not here")
            elif not _allows(requirement, rules, version):
                said.append(f"{text} is asked for, and {normal_name(requirement.name)} {version} is used")
    absent = [each for each in wanted.directs if each.name not in versions and _marker_holds(each.marker, found)]
    return (*said, *(f"{each.shown} is not here" for each in absent))


def lacking_of_conda(wanted: Wanted, versions: Mapping[str, str]) -> tuple[str, ...]:
    """Return what conda is asked for and the job does not see."""
    return tuple(dict.fromkeys(name for name in wanted.conda if name not in versions))


def drift(old: Record, new: Record) -> tuple[str, ...]:
    """How the machine of `new` differs from that of `old`, one sentence each, what matters most first."""
    was, now = old.found, new.found
    told = [
        _changed("Python", was.python, now.python),
        _changed("the accelerator", _counted(was.accelerators), _counted(now.accelerators)),
        _changed("the NVIDIA driver", was.driver, now.driver),
        _changed("CUDA", was.cuda, now.cuda),
        _changed("the system", f"{was.system} {was.libc}", f"{now.system} {now.libc}"),
        _changed("the machine's image", was.image, now.image),
        _changed("the processor", was.cpu, now.cpu),
        _changed("the number of cores", str(was.cores), str(now.cores)),
        _changed("memory", f"{was.ram_bytes / _GIB:.0f} GiB", f"{now.ram_bytes / _GIB:.0f} GiB"),
    ]
    return tuple(sentence for sentence in (*told, *_packages_drift(old, new)) if sentence)


def read_locked(text: str) -> tuple[Locked, ...]:
    """The pinned packages of a requirements file, by name; comments and options are passed over."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    found = [
        Locked(normal_name(pin[1]), pin[2], tuple(sorted(_HASH.findall(line))))
        for line in joined.splitlines()
        if (pin := _PIN.match(line))
    ]
    return tuple(sorted(found, key=lambda locked: locked.name))


def write_locked(locked: Sequence[Locked]) -> str:
    """The requirements file that `read_locked` reads."""
    return "".join(" \\\n    ".join([one.pin, *(f"--hash={digest}" for digest in one.hashes)]) + "\n" for one in locked)


def normal_name(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _check_python(wanted: Wanted, found: Found) -> None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(wanted.requires_python).contains(found.python, prereleases=True)
    except InvalidSpecifier as error:
        raise SetupError(
            f'{wanted.source}: requires-python "{wanted.requires_python}" is not a version rule',
            'write it as in ">=3.11"',
        ) from error
    if not fits:
        raise SetupError(
            f"{wanted.source} needs Python {wanted.requires_python}, and this is Python {found.python}",
            "start with an interpreter that fits, or change requires-python",
        )


def _applies(text: str, wanted: Wanted, found: Found) -> Requirement | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise SetupError(
            f"{wanted.source}: {text!r} is not a requirement", 'write it as in "numpy>=2" (PEP 508)'
        ) from error
    if requirement.marker is not None and not requirement.marker.evaluate(_here(found)):
        return None
    return requirement


def _here(found: Found) -> dict[str, str]:
    system, _, machine = found.system.partition("-")
    return {"python_version": ".".join(found.python.split(".")[:2]), "python_full_version": found.python,
            "sys_platform": system, "platform_machine": machine, "extra": ""}  # fmt: skip


def _marker_holds(marker: str, found: Found) -> bool:
    from packaging.markers import InvalidMarker, Marker

    try:
        return not marker or Marker(marker).evaluate(_here(found))
    except InvalidMarker:  # the installer reads the line too, and says what is wrong with it
        return True


def _is_to_install(direct: Direct, wanted: Wanted, found: Found) -> bool:
    if direct.name in found.distributions or not _marker_holds(direct.marker, found):
        return False
    if direct.problem:
        raise SetupError(
            f"{wanted.source} asks for {direct.shown}, but {direct.problem}",
            "correct or remove that line, or start with --no-install, which uses the packages that are here",
        )
    return True


def _rules(wanted: Wanted, found: Found) -> dict[str, SpecifierSet]:
    """Return the constraints that hold here, by normal name."""
    from packaging.requirements import InvalidRequirement, Requirement

    rules: dict[str, SpecifierSet] = {}
    for text in wanted.constraints:
        try:
            rule = Requirement(text)
        except InvalidRequirement:  # the installer reads the line too, and says what is wrong with it
            continue
        if rule.marker is None or rule.marker.evaluate(_here(found)):
            name = normal_name(rule.name)
            rules[name] = rules[name] & rule.specifier if name in rules else rule.specifier
    return rules


def _allows(requirement: Requirement, rules: Mapping[str, SpecifierSet], version: str) -> bool:
    rule = rules.get(normal_name(requirement.name))
    if not version or not _is_version(version):
        return bool(version)
    return all(each.contains(version, prereleases=True) for each in (requirement.specifier, rule) if each is not None)


def _name_in(text: str) -> str:
    return normal_name(re.split(r"[^\w.-]", text.strip(), maxsplit=1)[0])


def _is_version(text: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        Version(text)
    except InvalidVersion:  # Debian writes versions that no installer reads
        return False
    return True


def _packages_drift(old: Record, new: Record) -> list[str]:
    was, now = old.versions(), new.versions()
    named = {_name_in(text) for text in (*old.wanted, *new.wanted)}
    changed = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]
    close = [name for name in changed if name in named or _FRAMEWORKS.match(name)]
    told = [_changed(name, was.get(name, ""), now.get(name, "")) for name in close]
    rest = len(changed) - len(close)
    return told + ([f"{rest} other package{'s' if rest > 1 else ''} changed version"] if rest else [])


def _changed(what: str, was: str, now: str) -> str:
    return "" if was == now else f"{what} was {was or 'not there'}, is now {now or 'not there'}"


def _counted(accelerators: tuple[str, ...]) -> str:
    return ", ".join(
        f"{accelerators.count(one)} x {one}" if accelerators.count(one) > 1 else one
        for one in dict.fromkeys(accelerators)
    )
