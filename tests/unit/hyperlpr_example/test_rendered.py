"""Rendered plates: laid out by the standard, the same on every machine, whole in the cache or not there."""

from __future__ import annotations

import collections
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from hyperlpr_example import rendered
from hyperlpr_example.alphabet import CHARACTERS, encode
from hyperlpr_example.drawing import Pen
from hyperlpr_example.layout import KINDS, draw_text, layout_of
from hyperlpr_example.rendered import draw_plates, rendered_plates


@pytest.mark.parametrize(("text", "width"), [("皖A12345", 440), ("皖AD12345", 480)])
def test_cells_stand_side_by_side_with_equal_margins(text, width):
    layout = layout_of(text)
    ends = [(left, left + size) for left, size in layout.cells]
    gaps = [after[0] - before[1] for before, after in itertools.pairwise(ends)]
    assert layout.width_mm == width
    assert len(ends) == len(text)
    assert ends[0][0] == width - ends[-1][1] == 15.5
    assert min(gaps) > 0
    assert gaps.index(max(gaps)) == 1  # the wide one is after the letter


def test_blue_plates_have_the_standards_gaps_and_a_dot_in_the_wide_one():
    layout = layout_of("皖A12345")
    (province, _), (letter, _), (first, _) = layout.cells[:3]
    assert letter - province == 45 + 12
    assert first - letter == 45 + 34
    assert layout.dot_mm == first - 17


def test_all_ink_of_characters_lies_in_their_cells(faces):
    ink, red = Pen(faces).ink("皖A88888", np.random.default_rng(3))
    inked = np.asarray(ink)
    assert inked[25:115].max() == 255
    frame = np.asarray(Pen(faces).ink("皖A88888", np.random.default_rng(3))[0])
    assert (inked == frame).all()
    between = int(layout_of("皖A88888").cells[0][0]) + 45 + 4
    assert inked[25:115, between : between + 6].max() == 0
    assert np.asarray(red).max() == 0


def test_only_the_police_character_is_red(faces):
    _, red = Pen(faces).ink("京A1234警", np.random.default_rng(0))
    columns = np.flatnonzero(np.asarray(red).max(axis=0))
    left, width = layout_of("京A1234警").cells[-1]
    assert left - 1 <= columns.min() <= columns.max() <= left + width + 1


def test_every_kind_and_every_character_is_drawn_and_every_text_is_a_plate():
    texts = [draw_text(np.random.default_rng([0, index])) for index in range(6000)]
    kinds = collections.Counter(kind for kind, _ in texts)
    assert kinds.keys() == KINDS.keys()
    assert {character for _, text in texts for character in text} == set(CHARACTERS)
    for kind, text in texts:
        assert len(text) == (8 if kind == "green" else 7)
        encode(text)


def test_a_plate_depends_on_seed_and_index_alone(faces):
    whole = draw_plates(faces, 5, range(12))
    part = draw_plates(faces, 5, range(8, 12))
    assert part.texts == whole.texts[8:]
    assert (part.pictures == whole.pictures[8:]).all()
    assert draw_plates(faces, 6, range(12)).texts != whole.texts


def test_pictures_are_plate_sized_and_not_flat(faces):
    drawn = draw_plates(faces, 1, range(10))
    assert drawn.pictures.shape == (10, 3, 40, 160)
    assert drawn.pictures.dtype == np.uint8
    assert all(picture.std() > 3 for picture in drawn.pictures)


def test_plates_are_drawn_once_and_then_taken_from_the_cache(faces, cache, monkeypatch):
    monkeypatch.setattr(rendered, "find_faces", lambda: faces)
    drawn = rendered_plates(6)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(rendered, "draw_plates", lambda *_: pytest.fail("drawn again"))
    kept = rendered_plates(6)
    assert kept.texts == drawn.texts
    assert (kept.pictures == drawn.pictures).all()


def test_a_damaged_cache_is_never_used(faces, cache, monkeypatch):
    monkeypatch.setattr(rendered, "find_faces", lambda: faces)
    drawn = rendered_plates(6)
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    for damaged in (content[: len(content) // 2], b"", content[:5000] + b"\xff\x00\xff" + content[5003:]):
        file.write_bytes(damaged)
        assert (rendered_plates(6).pictures == drawn.pictures).all()
        assert rendered_plates(6).texts == drawn.texts


def test_another_count_or_seed_has_another_cache(faces, cache, monkeypatch):
    monkeypatch.setattr(rendered, "find_faces", lambda: faces)
    rendered_plates(3)
    rendered_plates(4)
    rendered_plates(3, seed=1)
    assert len(list(cache.iterdir())) == 3


@pytest.mark.slow
def test_a_second_process_draws_the_same_plates(cache, monkeypatch):
    from hyperlpr_example.fonts import find_faces
    from supervisor.core.errors import SetupError

    try:
        faces = find_faces()
    except SetupError as error:
        pytest.skip(f"{error.what}: {error.hint}")
    monkeypatch.setattr(rendered, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(rendered.os, "cpu_count", lambda: 2)
    shared, alone = rendered_plates(20), draw_plates(faces, 0, range(20))
    assert shared.texts == alone.texts
    assert (shared.pictures == alone.pictures).all()


def test_it_is_said_how_many_plates_are_drawn(faces, capsys, monkeypatch):
    monkeypatch.setattr(rendered, "_SAY_EVERY_S", 0.0)
    draw_plates(faces, 0, range(5), rendered._progress(5, 10))
    assert capsys.readouterr().out.splitlines() == [f"plates: about {done} of 10 drawn" for done in (2, 4, 6, 8, 10)]


def test_silence_while_plates_are_drawn_is_never_above_five_seconds():
    assert rendered._SAY_EVERY_S < 5


def test_waiting_for_the_other_half_is_said(monkeypatch):
    monkeypatch.setattr(rendered, "_SAY_EVERY_S", 0.05)
    reads, writes = os.pipe()
    said = []

    def printed(words, **_):
        said.append(words)
        if len(said) == 2:
            os.write(writes, b"\n")  # lets the other process go on

    monkeypatch.setattr("builtins.print", printed)
    words = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.stdout.write('half')"]
    with subprocess.Popen(words, stdin=reads, stdout=subprocess.PIPE) as other:
        assert rendered._content_of(other, 3000) == b"half"
    os.close(reads)
    os.close(writes)
    assert said[:2] == ["plates: half of 3,000 drawn; waiting for the other half"] * 2
