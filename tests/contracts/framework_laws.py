"""The laws of ``supervisor.trainer.frameworks.framework.Framework``, for one row in a process of its own.

``python -m tests.contracts.framework_laws ROW FOLDER``: keeps a checkpoint in the folder and what shall come of it, or, where
there is one already, puts it back. Prints one JSON object: what was wrong, by law; nothing where nothing was.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.trainer import folder, frameworks, rng
from supervisor.trainer.folder import Draft
from supervisor.trainer.layout import plan
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.snapshot import Snapshot
from supervisor.trainer.state import State
from supervisor.trainer.tree import Capture, framework_of, rebuild, value_of_bytes
from supervisor.trainer.writer import NewFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contracts.frameworks import Row

STEP = "step-000000005-1"
TOLD_MAX = 3000


class Holder:
    def __init__(self, state: Any = None) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


class Kept:
    """In the first process: the laws that one process can show, and a checkpoint for the second."""

    def __init__(self, row: Row, where: Path) -> None:
        self.row, self.where = row, where
        self.there = imported()
        self.framework = frameworks.named(row.row)

    def values_come_back_bit_for_bit(self) -> None:
        for name, value in self.row.values().items():
            assert self.seen(in_memory(value)) == self.seen(value), name

    def any_part_of_the_bytes_can_be_read(self) -> None:
        for name, value in self.row.values().items():
            _, leaf = self.framework.keep(value, name) or (None, None)
            if leaf is None or leaf.bytes > 10_000:
                continue
            whole = bytearray(leaf.bytes)
            leaf.framework.read(value, 0, memoryview(whole))
            for first in range(0, leaf.bytes, 7):
                part = bytearray(min(13, leaf.bytes - first))
                leaf.framework.read(value, first, memoryview(part))
                assert part == whole[first : first + 13], name

    def equal_tokens_mean_equal_forms(self) -> None:
        forms: dict[Any, Any] = {}
        for name, value in self.row.values().items():
            node, leaf = self.framework.keep(value, "x") or (None, None)
            if leaf is None:
                continue
            token = self.framework.token(value)
            assert token is not None, name
            assert forms.setdefault(token, (node, leaf[:4])) == (node, leaf[:4]), name
            assert self.framework.token(value) == token, name

    def one_value_held_twice_is_kept_once_and_two_equal_ones_twice(self) -> None:
        ours, theirs = self.row.values(), self.row.values()
        name = next(each for each in ours if each.endswith(("-big", "-cube", "bytearray")))
        capture = Capture(frameworks.loaded())
        capture.node([ours[name], {"again": ours[name]}, theirs[name]], "it")
        assert list(capture.leaves) == ["it.0", "it.2"]
        back = in_memory([ours[name], ours[name], theirs[name]])
        assert back[0] is back[1]
        assert back[0] is not back[2]

    def what_has_no_exact_form_is_refused_by_name(self) -> None:
        for name, value in self.row.refused().items():
            with pytest.raises(RefusedError) as refused:
                Capture(frameworks.loaded()).node({"deep": [value]}, "thing")
            assert refused.value.path == "thing.deep.0", name
            assert refused.value.hint, name

    def what_changes_after_the_copy_is_not_in_it(self) -> None:
        if (found := self.row.pair()) is None:
            return
        value, change = found
        before = self.row.bits(value)
        state = State({"it": Holder({"value": value, "twice": [value]})})
        captured = state.captured()
        layout = plan(captured.leaves)
        snapshot = Snapshot(layout, captured.leaves, captured.values)
        copying = snapshot.take(captured.values)
        change()
        assert copying.wait()
        assert self.row.bits(value) != before
        assert before in bytes(snapshot.bytes_of(layout.pieces[0]))
        again = state.captured()
        assert again.structure == captured.structure, "it was walked anew, though its form is the same"
        assert snapshot.take(again.values).wait()
        assert self.row.bits(value) in bytes(snapshot.bytes_of(layout.pieces[0]))

    def a_node_of_another_size_is_refused(self) -> None:
        value = next(value for name, value in self.row.values().items() if name.endswith(("-cube", "view")))
        node, leaf = self.framework.keep(value, "x") or ({}, None)
        assert leaf is not None
        if self.row.row == "plain":
            return  # bytes say nothing of their length but by their length
        with pytest.raises(ValueError, match="bytes for"):
            self.framework.target(node, leaf.bytes + 1, None, on_host=True)

    def one_element_may_be_logged_and_changed_afterwards(self) -> None:
        found = {name: each for name, each in self.row.values().items() if name in {"float32-scalar", "int32-scalar"}}
        for name, value in found.items():
            kept = self.framework.logged(value)
            number = (self.framework.scalars([kept, kept]) or [None])[1]
            assert type(number) is (float if "float" in name else int), name

    def nothing_else_is_brought_along(self) -> None:
        assert imported() == self.there

    def the_state_that_did_not_change_its_form_is_followed_not_walked(self) -> None:
        state = State(self.row.objects(1))
        first = state.captured().structure
        self.row.use(state.attached)
        second = state.captured().structure  # what an optimizer makes at its first step is there now
        self.row.use(state.attached)
        data = {"data", "checkpoint"} & set(state.attached)  # a position has no fixed length
        assert state.captured().structure <= (second + 1 if data else second), (first, second)

    def draws_go_on_where_they_were(self) -> None:
        self.row.objects(3)
        self.row.draw()
        kept = rng.Taken(rng.taken(frameworks.loaded()), rng.NOTHING).as_kept()
        wanted = self.row.draw()
        self.row.objects(4)
        rng.put_back(rng.states(json.loads(json.dumps(kept))))
        assert self.row.draw() == wanted

    def staged_for_a_new_process(self) -> None:
        objects = self.row.objects(1)
        self.row.use(objects)
        values = self.row.values()
        captured = State(objects | {"values": Holder(values)}).captured()
        layout = plan(captured.leaves)
        snapshot = Snapshot(layout, captured.leaves, captured.values)
        assert snapshot.take(captured.values).wait()
        wanted = {
            "values": {name: self.seen(value) for name, value in values.items()},
            "drawn": None,
            "used": None,
        }
        draft = Draft(5, 9, None, captured.text, captured.generators, [], {}, {}, layout.split)
        files = [NewFile(each.name, pages=snapshot.bytes_of(each), bytes=each.bytes) for each in layout.pieces]
        folder.write(self.where, STEP, draft, files)
        wanted["drawn"] = self.row.draw()
        wanted["used"] = self.row.use(objects)
        (self.where / "wanted.json").write_text(json.dumps(wanted))

    def seen(self, value: Any) -> list[Any]:
        """All of a value, short."""
        return [self.row.form(value), hashlib.sha256(self.row.bits(value)).hexdigest()]


class Back(Kept):
    """In the second process: other objects, other seeds, then the checkpoint."""

    def __init__(self, row: Row, where: Path) -> None:
        super().__init__(row, where)
        self.wanted = json.loads((where / "wanted.json").read_text())

    def a_new_process_gets_the_same_values(self) -> None:
        found = folder.read(self.where / STEP)["values"]
        assert {name: self.seen(value) for name, value in found.items()} == self.wanted["values"]

    def live_objects_go_on_in_a_new_process(self) -> None:
        objects, values = self.row.objects(2), Holder(self.row.values())
        values.load_state_dict = lambda state: setattr(values, "got", state)  # a variable's value is no variable
        state = State(objects | {"values": values})
        state.materialise()
        words = state.restore(folder.open_folder(self.where / STEP))
        assert words == [], words
        words = state.put_back_rng()
        assert words == [], words
        assert self.row.draw() == self.wanted["drawn"]
        assert self.row.use(objects) == self.wanted["used"]
        assert {name: self.seen(each) for name, each in values.got.items()} == self.wanted["values"]


def laws(kind: type[Kept]) -> list[str]:
    """Return the names of the laws of a process, in the order in which they are shown."""
    return [name for name, each in vars(kind).items() if callable(each) and not name.startswith("_") and name != "seen"]


def imported() -> set[str]:
    return {name for name in frameworks.ROWS if name in sys.modules}


def in_memory(value: Any) -> Any:
    """Through nodes and leaves, without files."""
    capture = Capture(frameworks.loaded())
    node = json.loads(json.dumps(capture.node(value, "it")))
    kept = {}
    for name, leaf in capture.leaves.items():
        kept[name] = bytearray(leaf.bytes)
        leaf.framework.read(capture.values[name], 0, memoryview(kept[name]))
    made: dict[str, Any] = {}

    def value_of(found: dict[str, Any]) -> Any:
        assert framework_of(found).name == found["!"].partition(".")[0]
        if found["leaf"] not in made:
            made[found["leaf"]] = value_of_bytes(found, kept[found["leaf"]])
        return made[found["leaf"]]

    return rebuild(node, value_of)


def main(name: str, where: Path) -> None:
    from tests.contracts.frameworks import rows

    row = rows()[name]()
    os.environ.update(row.environ)
    for module in row.needs.split():
        importlib.import_module(module)
    kind = Back if (where / "wanted.json").exists() else Kept
    shown = kind(row, where)
    wrong = {}
    for law in laws(kind):
        check: Callable[[], None] = getattr(shown, law)
        try:
            check()
        except Exception:  # noqa: BLE001  # whatever it is, the test of that law tells it
            wrong[law] = traceback.format_exc()[-TOLD_MAX:]
    print(json.dumps({"laws": laws(kind), "wrong": wrong}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
