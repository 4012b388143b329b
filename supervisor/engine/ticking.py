"""A word every few seconds while something takes long, so that a person sees that it goes on."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from supervisor.engine import threads
from supervisor.engine.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERY_S = 4.0  # under the five seconds after which a person asks whether it hangs


@contextmanager
def told_every(say: Callable[[str], None], words: Callable[[float], str]) -> Iterator[None]:
    """Say ``words(seconds so far)`` every few seconds while the block runs; what ends sooner says nothing."""
    over, clock = Event(), BootClock()
    began_s = clock.now().mono_s

    def tell() -> None:
        while not over.wait(EVERY_S):
            say(words(clock.now().mono_s - began_s))

    threads.start(tell, "ticking")
    try:
        yield
    finally:
        over.set()
