"""The toy, which eats all memory there is as soon as a file named "eat" appears where it works: the kernel then kills it."""

import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # because this script is run by its path

from trainers import toy

BITE_BYTES = 20_000_000
WISH = "eat"


def eat() -> None:
    """Wait for the wish, then hold more and more."""
    while not Path(WISH).exists():
        time.sleep(0.02)  # because another process makes it
    Path(WISH).unlink()
    held = []
    while True:
        held.append(bytearray(b"x") * BITE_BYTES)


if __name__ == "__main__":
    threading.Thread(target=eat, daemon=True).start()
    toy.main()
