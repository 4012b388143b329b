"""The first process of a machine made of namespaces: gives it its own name and boot, then keeps it up while its input is open."""

import json
import signal
import socket
import subprocess
import sys

host, binds = json.loads(sys.argv[1])
socket.sethostname(host)
for source, target in binds:
    subprocess.run(["mount", "--bind", source, target], check=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans of the machine are given to it, and nobody else buries them
print("up", flush=True)
sys.stdin.read()
