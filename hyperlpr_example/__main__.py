"""Judge a checkpoint on a folder of plates, or read plate pictures with it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hyperlpr_example.checkpoints import PUBLISHED, is_keras, newest_in
from supervisor.core.errors import FAILED_SETUP, UserError
from supervisor.views.wrapping import show, show_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperlpr_example.weights import Reader

CHECKPOINT = "a checkpoint's folder, a folder of checkpoints (the newest is taken), or the word: published"

ROOT = Path(__file__).resolve().parent.parent
TRAINERS = ROOT / "trainers"
SECOND_TRY = "HYPERLPR_EXAMPLE_SECOND_TRY"
INSTALL = "use a Python that has what the trainer asks for, for example the one the run was trained with"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; what a person did wrong is said in two lines."""
    options = _parser().parse_args(arguments)
    try:
        if options.checkpoint != PUBLISHED:
            make_digests_known()
        return _evaluate(options) if options.verb == "evaluate" else _predict(options)
    except ModuleNotFoundError as error:
        return _again_where_it_is(error, options.checkpoint, sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        show_error(error.what, error.hint)
        return error.exit_code


def make_digests_known() -> None:
    """Make xxhash, by which checkpoints are verified, importable as in the trainer: the supervisor brings it along."""
    from supervisor.bootstrap import private_folder
    from supervisor.trainer.own_packages import make_xxhash_importable

    make_xxhash_importable(str(private_folder() or ""))


def _again_where_it_is(error: ModuleNotFoundError, checkpoint: str, arguments: Sequence[str]) -> int:
    """Run the command in the environment that the checkpoint's trainer has, making that if need be."""
    if os.environ.get(SECOND_TRY):
        show_error(f"this needs {error.name}, which {sys.executable} does not have", INSTALL)
        return FAILED_SETUP
    try:
        from supervisor.bootstrap import ensure
        from supervisor.environments.prepare import prepare

        ensure()
        in_keras = checkpoint != PUBLISHED and is_keras(newest_in(Path(checkpoint)))
        trainer = TRAINERS / ("hyperlpr_keras.py" if in_keras else "hyperlpr.py")
        made = prepare(trainer, python=sys.executable, root=ROOT, recorded=None, wheels=None, say=_say)
    except UserError as refused:
        show_error(refused.what, refused.hint)
        return refused.exit_code
    environ = {**made.env, "PYTHONPATH": str(ROOT), SECOND_TRY: "1"}
    again = [made.python, "-m", "hyperlpr_example", *arguments]
    return os.spawnve(os.P_WAIT, made.python, again, environ)  # noqa: S606  our own program


def _say(words: str) -> None:
    show(words, sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hyperlpr_example", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    evaluate = verbs.add_parser("evaluate", help="accuracy and throughput on labelled plates")
    evaluate.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    evaluate.add_argument(
        "folder", metavar="FOLDER", type=Path, help="pictures with labels.csv, plate texts or CCPD names"
    )
    evaluate.add_argument(
        "--split",
        choices=["held-out", "all"],
        default="held-out",
        help="the fifth of the plates that training leaves out, or all: honest only for a folder never trained on",
    )
    predict = verbs.add_parser("predict", help="the texts of plate pictures")
    predict.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    predict.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="a picture of one plate, cut out")
    for verb in (evaluate, predict):
        verb.add_argument("--device", default="cpu", choices=["cpu", "cuda", "xla"], help="default: cpu; xla: a TPU")
        verb.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def _evaluate(options: argparse.Namespace) -> int:
    from hyperlpr_example.reading import judge
    from hyperlpr_example.real import read_folder

    plates = read_folder(options.folder)
    reader = _reader(options)
    for file, why in plates.bad:
        print(f"left out: {file}: {why}")
    judged = plates.part(held_out=True) if options.split == "held-out" else plates
    began_s = time.perf_counter()
    accuracy = judge(reader.best_classes, judged, drop_first=reader.drop_first)
    rate = accuracy.plates / (time.perf_counter() - began_s)
    print(f"{reader.described} on {options.split} plates of {options.folder} ({len(plates.bad)} files left out)")
    print(f"{accuracy}  {rate:.0f} plates/s")
    return 0


def _predict(options: argparse.Namespace) -> int:
    import numpy as np
    from PIL import Image

    from hyperlpr_example.reading import read_plates
    from hyperlpr_example.real import fitted

    pictures = []
    for path in options.images:
        try:
            with Image.open(path) as picture:
                pictures.append(fitted(picture))
        except OSError as error:
            raise UserError(f"{path} cannot be read as a picture: {error}", hint="name pictures of plates") from error
    reader = _reader(options)
    texts = read_plates(reader.best_classes, np.stack(pictures), drop_first=reader.drop_first)
    for path, text in zip(options.images, texts, strict=True):
        print(f"{path}\t{text}")
    return 0


def _reader(options: argparse.Namespace) -> Reader:
    from hyperlpr_example.weights import load_reader

    return load_reader(options.checkpoint, device=options.device, threads=options.threads)


if __name__ == "__main__":
    sys.exit(main())
