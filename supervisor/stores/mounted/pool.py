"""Pool of worker processes. Each serves one request at a time and is killed when it misses its deadline."""

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
from supervisor.stores.mounted import ipc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.stores.mounted.ipc import Header

CHECKOUT = Path(__file__).absolute().parent.parent.parent.parent
WORKERS_MAX = 4


class Worker:
    """One worker process; its pipes never block the supervisor."""

    def __init__(self, begin: Header) -> None:
        request_end, self._requests = os.pipe()
        self._answers, answer_end = os.pipe()
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-S", "-P", "-m", "supervisor.stores.mounted.worker"],
                {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())},
                file_actions=[(os.POSIX_SPAWN_DUP2, request_end, 0), (os.POSIX_SPAWN_DUP2, answer_end, 1)],
                setsid=True,  # a Ctrl-C at the terminal is for the supervisor, which still needs its store then
            )
        except OSError:
            _close((self._requests, self._answers))
            raise
        finally:
            _close((request_end, answer_end))
        for fd in (self._requests, self._answers):
            os.set_blocking(fd, False)
        self._begin: Header | None = begin

    def ask(self, header: Header, body: bytes, timeout_s: float) -> tuple[Header, bytes]:
        """Return the answer.

        Raises PeerTimeout if nothing arrives within ``timeout_s``, PeerClosed if the process exited.
        """
        if self._begin is not None:
            ipc.send(self._requests, self._begin, timeout_s=timeout_s)
            self._begin = None
        ipc.send(self._requests, header, body, timeout_s=timeout_s)
        while True:
            answer, body = ipc.receive(self._answers, timeout_s=timeout_s)
            if "tick" not in answer:
                return answer, body

    def kill(self) -> None:
        """Kill the process and close its pipes, without waiting: a call that hangs in the kernel may delay its death."""
        os.kill(self.pid, signal.SIGKILL)
        _close((self._requests, self._answers))

    def close(self) -> None:
        """Close its input; the process then exits."""
        _close((self._requests, self._answers))

    def has_exited(self) -> bool:
        """Return True if the process has exited; it is reaped then."""
        return _reap(self.pid)


class WorkerPool:
    """Pool whose ``ask`` is safe to call from several threads; each call uses its own process."""

    def __init__(self, begin: Header, timeout_s: float, where: str) -> None:
        self._begin, self._timeout_s, self._where = begin, timeout_s, where
        self._idle: list[Worker] = []
        self._killed: list[Worker] = []
        self._busy = 0
        self._changed = threading.Condition()
        weakref.finalize(self, _close_idle, self._idle)

    def ask(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        """Return a worker's answer. Raises StoreError "hung", or "unreadable" if the process exited during the call."""
        worker = self._acquire()
        reusable = False
        try:
            answer = worker.ask(header, body, self._timeout_s)
            reusable = True
        except ipc.PeerTimeout:
            words = f"{self._where} has not answered for {self._timeout_s:g} s ({header['verb']})"
            raise StoreError(words, "hung") from None
        except ipc.PeerClosed:
            words = f"the process that asks {self._where} was ended ({header['verb']})"
            raise StoreError(words) from None
        finally:
            self._release(worker, reusable=reusable)
        return answer

    def _acquire(self) -> Worker:
        with self._changed:
            if not self._changed.wait_for(self._has_free_slot, self._timeout_s):
                raise StoreError(f"{self._where} is busy: {self._busy} calls have not come back", "hung")
            self._killed = [each for each in self._killed if not each.has_exited()]
            if len(self._killed) >= WORKERS_MAX:
                # each of them hangs in the kernel for as long as the drive does; another one would too
                raise StoreError(f"{self._where} hangs: {len(self._killed)} earlier calls have not come back", "hung")
            self._busy += 1
            while self._idle:
                worker = self._idle.pop()
                if not worker.has_exited():
                    return worker
                worker.close()
        try:
            return Worker(self._begin)
        except BaseException as error:
            with self._changed:
                self._busy -= 1
                self._changed.notify()
            if isinstance(error, OSError):
                raise StoreError(f"{self._where} cannot be asked: {error.strerror or error}", "local") from error
            raise

    def _has_free_slot(self) -> bool:
        return self._busy < WORKERS_MAX

    def _release(self, worker: Worker, *, reusable: bool) -> None:
        if not reusable:
            worker.kill()
        with self._changed:
            (self._idle if reusable else self._killed).append(worker)
            self._busy -= 1
            self._changed.notify()


def _import_path() -> list[str]:
    """Return the import path for the worker. It never contains the current folder, which may be on the drive."""
    entries = [str(CHECKOUT), *(os.path.abspath(each) for each in sys.path if each)]
    return list(dict.fromkeys(entries))


def _close_idle(idle: list[Worker]) -> None:
    for worker in idle:
        worker.close()
        worker.has_exited()


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _reap(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True
