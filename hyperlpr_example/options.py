"""The command line of both trainers. It needs no package, so that ``--help`` works before anything is installed."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec

from supervisor.core.errors import FAILED_SETUP
from supervisor.views.wrapping import show_error


def before_imports(*modules: str) -> None:
    """Answer ``--help``; end in two lines where this Python lacks one of ``modules`` and no supervisor started the script.

    A trainer calls this before it imports its framework.
    """
    if {"-h", "--help"}.intersection(sys.argv[1:]):
        read_options()
    lacking = [name for name in modules if find_spec(name) is None]
    if lacking and "SUPERVISOR_RUN_ID" not in os.environ:
        show_error(
            f"this Python has no {' and no '.join(lacking)}",
            f"{sys.executable} -m supervisor start {sys.argv[0]}, which installs what the script needs",
        )
        sys.exit(FAILED_SETUP)


def read_options() -> argparse.Namespace:
    """The command line, with the defaults that follow from --init; --device auto is left to the framework."""
    parser = argparse.ArgumentParser(description="Train HyperLPR's plate recogniser.")
    parser.add_argument("--init", choices=["none", "published"], default="none", help="weights to start from")
    parser.add_argument("--plates", default="auto", help="folder of real plates; auto: the first known one; none")
    parser.add_argument("--rendered", type=int, default=6000, help="how many plates to render")
    parser.add_argument("--width", type=float, help="1.0 is the published network (default: 0.5, published: 1.0)")
    parser.add_argument("--steps", type=int, help="default: 1200, from published weights 500")
    parser.add_argument("--batch", type=int, default=16, help="plates a step; a GPU wants hundreds (and a larger --lr)")
    parser.add_argument("--lr", type=float, help="default: 1.5e-3, from published weights 4e-4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["auto", "cuda", "xla", "cpu"], default="auto", help="xla: a TPU")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; more than one pays only on an idle machine"
    )
    parser.add_argument("--eval-every", type=int, help="steps between evaluations (default: a fifth of all)")
    parser.add_argument("--report-every", type=int, default=50, help="steps between lines")
    options = parser.parse_args()
    fine_tuning = options.init == "published"
    if fine_tuning and options.width not in (None, 1.0):
        parser.error("--init published is the network of --width 1.0")
    options.width = options.width or (1.0 if fine_tuning else 0.5)
    options.steps = options.steps or (500 if fine_tuning else 1200)
    options.lr = options.lr or (4e-4 if fine_tuning else 1.5e-3)
    options.eval_every = options.eval_every or max(1, options.steps // 5)
    return options
