"""Documents are plain technical English: short sentences, the subject first, the standard words of the field.

The rules are those of CONTRIBUTING.md, section "Prose". Code is not prose: fenced blocks are left out, and a span of code
counts as one word.
"""

from __future__ import annotations

import re
from pathlib import Path
from statistics import fmean

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {"api.md"}  # by tools/api_page.py from docstrings, which have tests of their own
QUOTING = {"public_scripts.md"}  # its table quotes the messages of the measured version
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md")),
    ROOT / "hyperlpr_example" / "README.md",
    *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in GENERATED),
]
MEAN_MAX, WORDS_MAX = 20, 25
OPENING = re.compile(r"(What|Which|Whatever|Whether|Who|Whoever|Of)\b")

# Words and phrases of earlier versions, each with the standard term.
BANNED = {
    r"anew|afresh": "again, from step 0",
    r"heed(s|ed)?": "observe, apply",
    r"whoever|nobody|somebody": "the acting component or person",
    r"wish(es)?": "request",
    r"knock(s|ed)?": "probe",
    r"g(ive|ives|iven|ave|iving) (it |its machine |the machine )?back": "release",
    r"go(es|ing)? on (from|with it)|went on from|gone on from": "resume from, continue",
    r"outrank(s|ed)?": "supersede",
    r"withdr(aw|aws|awn|ew)": "roll back",
    r"pass(es|ed|ing) over": "skip",
    r"troubles?": "anomaly, error",
    r"parcels?": "part",
    r"shipments?": "job bundle",
    r"no number": "NaN",
    r"(is|are|proved) whole": "valid, complete",
    r"of which|of whom|whence|thereof|therein|wherein|hitherto|lest|be it": "a sentence of its own",
    r"mend(s|ed|ing)?": "fix, repair",
    r"fates?|perish(es|ed)?": "outcome, end",
    r"at hand": "available",
    r"putting back|puts? back": "restore",
    r"script(s)? that nobody changed": "unmodified script",
}


def blocks(text: str) -> list[tuple[str, bool]]:
    """Return the blocks of prose: paragraphs, list items and cells of tables, and whether it is a cell."""
    text = re.sub(r"^(\| .*\|)[^|]*\|$", r"\1", text, flags=re.MULTILINE) if "| old word |" in text else text
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\[([^\]\s]+\.md)\]\([^)]*\)|`[^`]+`", "code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("*", "")
    found: list[tuple[str, bool]] = []
    for line in text.splitlines():
        if line.startswith("|"):
            found += [(cell.strip(), True) for cell in re.split(r"(?<!\\)\|", line) if re.search(r"\w", cell)]
        elif not line.strip() or line.startswith("#"):
            found.append(("", False))
        elif item := re.match(r"\s*(?:-|\d+\.) (.*)", line):
            found.append((item[1], False))
        elif found and found[-1][0] and not found[-1][1]:
            found[-1] = (f"{found[-1][0]} {line.strip()}", False)
        else:
            found.append((line.strip(), False))
    return [each for each in found if each[0]]


def sentences(text: str) -> list[tuple[str, bool]]:
    """Return the sentences of a document, each with whether it stands in a table."""
    return [
        (sentence, cell)
        for block, cell in blocks(text)
        for sentence in re.split(r" · |(?<=[.!?])[)\"']?\s+(?=[A-Z\"(\[]|code)", block)
    ]


def words(sentence: str) -> int:
    """Return how many words a sentence has."""
    return len(re.findall(r"\w[\w'.,:-]*", sentence))


def faults(text: str) -> list[str]:
    """Return each sentence that breaks a rule, with the rule."""
    found = []
    for sentence, cell in sentences(text):
        if words(sentence) > WORDS_MAX:
            found.append(f"{words(sentence)} words, over {WORDS_MAX}: {sentence}")
        if OPENING.match(sentence) and not sentence.endswith("?") and not cell:
            found.append(f"begins with a relative clause: {sentence}")
        for banned, better in BANNED.items():
            if match := re.search(rf"\b({banned})\b", sentence, re.IGNORECASE):
                found.append(f"{match[0]!r} (better: {better}): {sentence}")
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_is_plain_english(path: Path) -> None:
    text = path.read_text()
    assert not faults(re.sub(r"^\|.*$", "", text, flags=re.MULTILINE) if path.name in QUOTING else text)


def test_the_newest_section_of_the_changelog_is_plain_english() -> None:
    assert not faults((ROOT / "CHANGELOG.md").read_text().split("\n## ")[1])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_mean_sentence_of_a_document_is_short(path: Path) -> None:
    lengths = [words(sentence) for sentence, cell in sentences(path.read_text()) if not cell]
    assert fmean(lengths) <= MEAN_MAX


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"{'word ' * 26}.", "26 words"),
        ("It is one. Which of them counts is open.", "relative clause"),
        ("The machine\nis given back.", "better: release"),
        ("- An item that nobody reads.", "better: the acting component"),
        ("| row | it goes on from step 3 |", "better: resume from"),
    ],
)
def test_a_sentence_that_breaks_a_rule_is_found(text: str, rule: str) -> None:
    (fault,) = faults(text)
    assert rule in fault


def test_code_and_short_sentences_break_no_rule() -> None:
    text = "What is a run? One training.\n\n```\ngoing on from step 3, given back\n```\n\nThe word `nobody` is code. Read [this page](anew.md).\n"
    assert not faults(text)
    assert [words(sentence) for sentence, _ in sentences(text)] == [4, 2, 5, 3]
