"""A few worker processes that are asked one thing each at a time, and given up as soon as one is silent for too long."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.ports import StoreError
from supervisor.stores import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.stores.wire import Header

CHECKOUT = Path(__file__).absolute().parent.parent.parent
WORKERS_MAX = 4


class Worker:
    """One process; its pipes never block us."""

    def __init__(self, begin: Header) -> None:
        asks, self._requests = os.pipe()
        self._answers, says = os.pipe()
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-S", "-P", "-m", "supervisor.stores.worker"],
                {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())},
                file_actions=[(os.POSIX_SPAWN_DUP2, asks, 0), (os.POSIX_SPAWN_DUP2, says, 1)],
                setsid=True,  # a Ctrl-C at the terminal is for the supervisor, who still needs its store then
            )
        except OSError:
            _close((self._requests, self._answers))
            raise
        finally:
            _close((asks, says))
        for fd in (self._requests, self._answers):
            os.set_blocking(fd, False)
        self._begin: Header | None = begin

    def ask(self, header: Header, body: bytes, patience_s: float) -> tuple[Header, bytes]:
        """Return the answer. Raises Silent if nothing is heard for so long, Ended if the process is."""
        if self._begin is not None:
            wire.send(self._requests, self._begin, patience_s=patience_s)
            self._begin = None
        wire.send(self._requests, header, body, patience_s=patience_s)
        while True:
            answer, body = wire.receive(self._answers, patience_s=patience_s)
            if "tick" not in answer:
                return answer, body

    def kill(self) -> None:
        """Kill it and let it go. Never waited for, because a call that hangs in the kernel may not let it die."""
        os.kill(self.pid, signal.SIGKILL)
        _close((self._requests, self._answers))

    def let_go(self) -> None:
        """Close its input, at which it ends."""
        _close((self._requests, self._answers))

    def is_over(self) -> bool:
        """Whether it has ended; it is reaped then."""
        return _reaped(self.pid)


class Workers:
    """``ask`` may be called from several threads; each call has a process of its own while it lasts."""

    def __init__(self, begin: Header, patience_s: float, where: str) -> None:
        self._begin, self._patience_s, self._where = begin, patience_s, where
        self._idle: list[Worker] = []
        self._lost: list[Worker] = []
        self._busy = 0
        self._changed = threading.Condition()
        weakref.finalize(self, _let_go, self._idle)

    def ask(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        """Return a worker's answer. Raises StoreError "hung" or, where the process ended over it, "unreadable"."""
        worker = self._take()
        kept = False
        try:
            answer = worker.ask(header, body, self._patience_s)
            kept = True
        except wire.Silent:
            words = f"{self._where} has not answered for {self._patience_s:g} s ({header['verb']})"
            raise StoreError(words, "hung") from None
        except wire.Ended:
            words = f"the process that asks {self._where} was ended ({header['verb']})"
            raise StoreError(words) from None
        finally:
            self._give_back(worker, kept=kept)
        return answer

    def _take(self) -> Worker:
        with self._changed:
            if not self._changed.wait_for(self._may_begin, self._patience_s):
                raise StoreError(f"{self._where} is busy: {self._busy} calls have not come back", "hung")
            self._lost = [each for each in self._lost if not each.is_over()]
            if len(self._lost) >= WORKERS_MAX:
                # each of them hangs in the kernel for as long as the drive does; one more would too
                raise StoreError(f"{self._where} hangs: {len(self._lost)} earlier calls have not come back", "hung")
            self._busy += 1
            while self._idle:
                worker = self._idle.pop()
                if not worker.is_over():
                    return worker
                worker.let_go()
        try:
            return Worker(self._begin)
        except BaseException as error:
            with self._changed:
                self._busy -= 1
                self._changed.notify()
            if isinstance(error, OSError):
                raise StoreError(f"{self._where} cannot be asked: {error.strerror or error}", "local") from error
            raise

    def _may_begin(self) -> bool:
        return self._busy < WORKERS_MAX

    def _give_back(self, worker: Worker, *, kept: bool) -> None:
        if not kept:
            worker.kill()
        with self._changed:
            (self._idle if kept else self._lost).append(worker)
            self._busy -= 1
            self._changed.notify()


def _import_path() -> list[str]:
    """Return where the worker finds what this process imports from; never the current folder, which may be on the drive."""
    entries = [str(CHECKOUT), *(os.path.abspath(each) for each in sys.path if each)]
    return list(dict.fromkeys(entries))


def _let_go(idle: list[Worker]) -> None:
    for worker in idle:
        worker.let_go()
        worker.is_over()


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _reaped(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True
