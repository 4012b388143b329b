"""Each command that README or a document names stands in the tables of the test that runs them, or is left out for a reason."""

from __future__ import annotations

import pytest

from tests.documented import ROOT, commands_of
from tests.integration.test_documents import LEFT, RUN, words_of


def test_every_documented_command_is_run_or_left_out_for_a_reason() -> None:
    known = RUN.keys() | LEFT.keys()
    new = {words: document for words, document in words_of().items() if words not in known}
    assert not new, "put these into RUN of tests/integration/test_documents.py, or into LEFT with a reason"
    assert not known - words_of().keys(), "no document names these any more"
    assert not RUN.keys() & LEFT.keys()


@pytest.mark.parametrize("words", sorted(LEFT))
def test_what_is_left_out_has_a_reason_and_a_test_that_exists(words: str) -> None:
    reason, covered = LEFT[words]
    assert reason
    assert not covered or (ROOT / covered).is_file()


def test_commands_are_found_wherever_a_document_has_them() -> None:
    text = "Try `python3 -m x y`, `start a.py --b` or `… predict IMAGE`; `value` is none.\n```\n$ make z   # why\nmade z\n```\n"
    text += "```sh\nA=1 python3 -m w v\n#SBATCH --x\n```\n```python\nimport supervisor\n```\n"
    found = [each.words for each in commands_of(text, "README.md")]
    assert found == ["make z", "A=1 python3 -m w v", "python3 -m x y", "start a.py --b", "… predict IMAGE"]
