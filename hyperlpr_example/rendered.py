"""Rendered plates, made once and cached on disk; a second process draws half of them where there is a second core."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL

from hyperlpr_example.caches import cache_folder, write_whole
from hyperlpr_example.drawing import Pen
from hyperlpr_example.fonts import Faces, find_faces
from hyperlpr_example.layout import draw_text
from hyperlpr_example.plates import PLATE_HEIGHT, PLATE_WIDTH, LabelledPlates

if TYPE_CHECKING:
    from collections.abc import Callable

_SHAPE = (3, PLATE_HEIGHT, PLATE_WIDTH)
_WORTH_A_PROCESS = 500
_SAY_EVERY_S = 4.0
_SOURCES = ("drawing.py", "layout.py", "rendered.py")


def rendered_plates(count: int, seed: int = 0) -> LabelledPlates:
    """The plates 0..count-1 of a seed, from the cache when they were drawn before with the same fonts and code."""
    faces = find_faces()
    cached = cache_folder() / f"rendered-{count}-{_digest(faces, seed)[:16]}.npz"
    kept = _read(cached, count)
    if kept is None:
        if count >= _WORTH_A_PROCESS:
            print(f"plates: drawing {count:,}, once; they are kept in {cached.parent}", flush=True)
        kept = _in_two_processes(faces, seed, count)
        packed = io.BytesIO()
        np.savez(packed, pictures=kept.pictures, texts=np.array(kept.texts))
        write_whole(cached, packed.getbuffer())
    return kept


def draw_plates(
    faces: Faces, seed: int, indexes: range, drawn: Callable[[int], None] = lambda _: None
) -> LabelledPlates:
    """Each plate is a function of (seed, index) and the faces: who draws it makes no difference.

    ``drawn`` is told after each plate how many there are.
    """
    pen = Pen(faces)
    pictures = np.empty((len(indexes), *_SHAPE), np.uint8)
    texts = []
    for place, index in enumerate(indexes):
        rng = np.random.default_rng([seed, index])
        kind, text = draw_text(rng)
        pictures[place] = pen.plate(kind, text, rng)
        texts.append(text)
        drawn(len(texts))
    return LabelledPlates(pictures, texts)


def _progress(share: int, count: int) -> Callable[[int], None]:
    """Print now and then how many of ``count`` plates are drawn; this process draws ``share`` of them."""
    said_s = [time.perf_counter()]

    def drawn(done: int) -> None:
        if (now_s := time.perf_counter()) - said_s[0] >= _SAY_EVERY_S:
            said_s[0] = now_s
            print(f"plates: about {done * count // share:,} of {count:,} drawn", flush=True)

    return drawn


def _in_two_processes(faces: Faces, seed: int, count: int) -> LabelledPlates:
    if count < _WORTH_A_PROCESS or (os.cpu_count() or 1) < 2:
        return draw_plates(faces, seed, range(count), _progress(count, count))
    half = count // 2
    # The other half comes through a pipe, because a process that outlives us then ends at its first write.
    command = [sys.executable, "-m", "hyperlpr_example.rendered", str(seed), str(half), str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as other:
        mine = draw_plates(faces, seed, range(half), _progress(half, count))
        content = _content_of(other, count)
    if other.returncode != 0:
        raise RuntimeError(f"the second drawing process ended with {other.returncode}")
    with np.load(io.BytesIO(content), allow_pickle=False) as theirs:
        pictures = np.concatenate([mine.pictures, theirs["pictures"]])
        return LabelledPlates(pictures, mine.texts + theirs["texts"].tolist())


def _content_of(other: subprocess.Popen[bytes], count: int) -> bytes:
    """Return what the other process has drawn; a line now and then says that it is waited for."""
    while True:
        try:
            return other.communicate(timeout=_SAY_EVERY_S)[0]
        except subprocess.TimeoutExpired:
            print(f"plates: half of {count:,} drawn; waiting for the other half", flush=True)


def _read(path: Path, count: int) -> LabelledPlates | None:
    """None when the file is not there or not whole; the archive's checksums tell."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            pictures, texts = kept["pictures"], kept["texts"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return LabelledPlates(pictures, texts) if pictures.shape == (count, *_SHAPE) and len(texts) == count else None


def _digest(faces: Faces, seed: int) -> str:
    """What the pictures follow from: fonts, seed, the drawing code and the libraries that draw."""
    code = b"".join((Path(__file__).parent / name).read_bytes() for name in _SOURCES)
    made_of = f"{faces.digest()} {seed} {PIL.__version__} {np.__version__} {hashlib.sha256(code).hexdigest()}"
    return hashlib.sha256(made_of.encode()).hexdigest()


def _draw_to_stdout(seed: int, first: int, end: int) -> None:
    drawn = draw_plates(find_faces(), seed, range(first, end))
    packed = io.BytesIO()
    np.savez(packed, pictures=drawn.pictures, texts=np.array(drawn.texts))
    sys.stdout.buffer.write(packed.getbuffer())


if __name__ == "__main__":
    _draw_to_stdout(*(int(argument) for argument in sys.argv[1:]))
