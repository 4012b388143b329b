"""watchdog is imported by two threads of a start: by the watch of the fence and by the watch of a script's files."""

from __future__ import annotations

import subprocess
import sys

TWO_THREADS = """
import sys, threading, time

class Slow:
    \"\"\"Delays each import of a part of watchdog, so that the two threads meet.\"\"\"

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("watchdog"):
            time.sleep(0.05)

sys.meta_path.insert(0, Slow)
from supervisor.engine import file_events

def load():
    both.wait()
    try:
        loaded.append(file_events.observe(sys.argv[1]))
    except BaseException as error:
        print(repr(error))

both, loaded = threading.Barrier(2), []
threads = [threading.Thread(target=load) for _ in range(2)]
for each in threads: each.start()
for each in threads: each.join()
print(len(loaded))
"""


def test_two_threads_can_import_watchdog_at_the_same_moment(tmp_path):
    ran = subprocess.run([sys.executable, "-c", TWO_THREADS, tmp_path], capture_output=True, text=True, check=True)
    assert ran.stdout == "2\n"
