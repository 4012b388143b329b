"""A child that a script forks ends as it likes: the end of the script is its parent's alone."""

from __future__ import annotations

import pytest

from supervisor.core.messages import Finished, SaveFailed, ScriptFailed, Staged
from tests.integration.test_attach import Played, rows, script

pytestmark = pytest.mark.slow

LOOP = """\
import multiprocessing, os, sys
import supervisor
from supervisor.trainer.order import Order

run = supervisor.attach(data=Order(9))
for step in run.steps(6):
    run.log(step_seen=step)
    if step in (1, 4):
        {child}
print("done", run.step)
"""
WAYS = {
    "sys.exit": "child = os.fork()\n        if child == 0: sys.exit(0)\n        assert os.waitpid(child, 0)[1] == 0",
    "an error": "child = os.fork()\n        if child == 0: raise ValueError('of the child')\n        assert os.waitpid(child, 0)[1] == 256",
    "os._exit": "child = os.fork()\n        if child == 0: os._exit(0)\n        os.waitpid(child, 0)",
    "end of the script": "child = os.fork()\n        if child == 0: break\n        os.waitpid(child, 0)",
    "a process with a queue": (
        "fork = multiprocessing.get_context('fork'); queue = fork.Queue()\n"
        "        worker = fork.Process(target=queue.put, args=(step,)); worker.start()\n"
        "        assert queue.get(timeout=400) == step; worker.join()"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_child_ends_without_a_word_to_the_supervisor(tmp_path, way):
    played = Played(tmp_path, script(tmp_path, LOOP.format(child=WAYS[way])))
    assert played.end() == 0, played.output
    assert played.all_of(Finished) == [Finished(6)]
    assert played.all_of(SaveFailed) == played.all_of(ScriptFailed) == []
    (staged,) = played.all_of(Staged)
    assert staged.step == 6
    assert [row["step_seen"] for row in rows(played.staging / staged.folder)] == list(range(6))
    assert "training-supervisor" not in played.output
    assert ("of the child" in played.output) == (way == "an error")
