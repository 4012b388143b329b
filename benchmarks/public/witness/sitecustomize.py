"""Witness inside the trainer process: records the files that it opens for reading and the optimizer steps that it makes.

Python imports this file at start-up because its folder is on PYTHONPATH. It shares no code with the supervisor, so that
its record can contradict the supervisor. It also lends old scripts and a CPU build of torchvision the names that they lack.
"""

import os
import sys

RECORD = os.environ.get("PUBLIC_WITNESS", "")


def _watch() -> None:
    file = os.open(RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    home = os.environ["PUBLIC_WORK"].rstrip("/") + "/"
    steps: dict[int, int] = {}
    hooked = False

    def stepped(optimizer, _given, _named) -> None:
        count = steps[id(optimizer)] = steps.get(id(optimizer), 0) + 1
        if count == max(steps.values()):
            os.write(file, f"step {os.getpid()} {count}\n".encode())

    def heard(event: str, given: tuple) -> None:
        nonlocal hooked
        if event not in {"open", "import"}:
            return
        module = sys.modules.get("torch.optim.optimizer")
        if not hooked and hasattr(module, "register_optimizer_step_post_hook"):
            hooked = True
            module.register_optimizer_step_post_hook(stepped)
        if event == "open" and isinstance(given[0], str) and isinstance(given[2], int):
            path = os.path.abspath(given[0])
            if path.startswith(home) and not path.endswith((".py", ".pyc")):
                kind = "read" if given[2] & os.O_ACCMODE == os.O_RDONLY else "write"
                os.write(file, f"{kind} {os.getpid()} {path}\n".encode())

    sys.addaudithook(heard)


def _lend() -> None:
    """Lend names: numpy.int of NumPy 1; torchvision without the operators that a CPU build of torch cannot load."""
    sys.modules["torchvision._meta_registrations"] = type(sys)("torchvision._meta_registrations")
    if os.environ.get("PUBLIC_OLD_NUMPY"):
        import numpy

        numpy.int = int  # noqa: NPY001
    from importlib.abc import MetaPathFinder

    class Lender(MetaPathFinder):
        """Have torchvision's datasets take the stand-in files, whose checksums are others."""

        def find_spec(self, name, path, target=None):  # noqa: ARG002
            if name == "torchvision.datasets.cifar":
                sys.modules["torchvision.datasets.utils"].check_integrity = lambda path, md5=None: os.path.isfile(path)  # noqa: ARG005

    sys.meta_path.insert(0, Lender())


if RECORD and os.environ.get("SUPERVISOR_RUN_ATTEMPT"):
    _watch()
    _lend()
