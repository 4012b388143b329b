"""``python -m supervisor.trainer SCRIPT ARGS…``: the script under a supervisor."""

from __future__ import annotations

import gc
import sys

gc.disable()  # because all that these imports make also stays: looking it through delays the script

from supervisor.trainer.runner import main  # noqa: E402

if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main(sys.argv[1:]))
