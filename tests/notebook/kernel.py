"""A real Jupyter kernel and somebody in front of it, who may close the browser, interrupt a cell or restart the kernel."""

from __future__ import annotations

import contextlib
import queue
import time
from typing import TYPE_CHECKING, Any

from jupyter_client import KernelManager

from tests.notebook.machine import ROOT, WAIT_S_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.notebook.machine import NotebookMachine

LOOK_EVERY_S = 0.2


class Kernel:
    """One kernel. ``shown`` has what each request showed: streams joined, displays as they are now, errors."""

    def __init__(self, machine: NotebookMachine) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=machine.environ(), cwd=str(machine.work))
        self.shown: dict[str, list[Any]] = {}
        self.replies: dict[str, dict[str, Any]] = {}
        self.open()
        self.run(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n%load_ext supervisor")

    def open(self) -> None:
        """Open the page: from now on somebody sees what is shown."""
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=WAIT_S_MAX)

    def close(self) -> None:
        """Close the page: the kernel goes on, nobody listens."""
        self.client.stop_channels()

    def begin(self, code: str) -> str:
        """Run a cell; return its request."""
        return str(self.client.execute(code, stop_on_error=True))

    def run(self, code: str) -> str:
        """Run a cell to its end; return what it shows. Right after an error a kernel may still turn requests away."""
        request = self.begin(code)
        seen = self.ended(request)
        return seen if self.status(request) != "aborted" else self.run(code)

    def ended(self, request: str) -> str:
        """Wait for a cell's end; return what it shows."""
        self.until(lambda: request in self.replies)
        self.until(lambda: self._idle(request))
        return self.text(request)

    def status(self, request: str) -> str:
        """Return "ok", "error" or "aborted"."""
        return str(self.replies[request]["status"])

    def text(self, request: str) -> str:
        """Return what a cell shows now."""
        return "".join(each["text"] for each in self.shown.get(request, []) if "text" in each)

    def until(self, true: Callable[[], Any]) -> Any:
        """Wait until something is so, and see what the kernel says meanwhile."""
        end_s = time.perf_counter() + WAIT_S_MAX
        while not (found := true()):
            assert time.perf_counter() < end_s, f"it did not come: {self.shown}"
            with contextlib.suppress(queue.Empty):
                self._see(self.client.get_iopub_msg(timeout=LOOK_EVERY_S))
            with contextlib.suppress(queue.Empty):
                reply = self.client.get_shell_msg(timeout=0)
                self.replies[reply["parent_header"]["msg_id"]] = reply["content"]
        return found

    def panel(self, request: str, words: str) -> str:
        """Wait until a cell shows some words; return all it shows then."""
        self.until(lambda: words in self.text(request))
        return self.text(request)

    def interrupt(self) -> None:
        """Interrupt the cell that runs."""
        self.manager.interrupt_kernel()

    def restart(self, *, now: bool) -> None:
        """Restart the kernel: it is interrupted, and then asked to end, or ended now as for one who has lost patience."""
        self.close()
        self.manager.restart_kernel(now=now)
        self.shown, self.replies = {}, {}
        self.open()
        self.run(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n%load_ext supervisor")

    def end(self) -> None:
        """Leave nothing."""
        self.close()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()

    def _idle(self, request: str) -> bool:
        return any(each.get("idle") for each in self.shown.get(request, []))

    def _see(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        shown = self.shown.setdefault(message["parent_header"].get("msg_id", ""), [])
        if kind == "stream":
            shown.append({"text": content["text"]})
        elif kind == "error":
            shown.append({"text": "\n".join(content["traceback"]), "error": content["ename"]})
        elif kind in {"display_data", "update_display_data"}:
            name = content["transient"].get("display_id")
            found = next((each for each in shown if each.get("display") == name), None)
            if found is None or kind == "display_data":
                shown.append(found := {"display": name, "drawn": 0})
            found |= {
                "text": content["data"]["text/plain"],
                "html": content["data"]["text/html"],
                "drawn": found["drawn"] + 1,
            }
        elif kind == "status" and content["execution_state"] == "idle":
            shown.append({"idle": True})
