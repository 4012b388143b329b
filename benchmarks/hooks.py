# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.4,<=2.13.0",
#   "numpy>=1.26",
#   "safetensors>=0.4",
# ]
# ///
"""What the hooks cost a script that nobody changed: a loop with and without them, by turns in one process; prints JSON.

python -m benchmarks.hooks [--blocks 60] [--keras]      microseconds a step, and their share of a step of 10 ms
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

from supervisor.core.messages import encode
from supervisor.trainer.client import BEAT_EVERY_S
from supervisor.trainer.hooks import keras as keras_hook
from supervisor.trainer.hooks import torch as torch_hook
from supervisor.trainer.hooks.unattached import Unattached
from supervisor.trainer.life import Life
from supervisor.trainer.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_US = 10_000.0
SHARE_MAX = 0.01
BLOCK_STEPS = 200


def main() -> int:
    """Measure, print; 1 if the limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("--keras", action="store_true", help="Keras's callbacks too (imports its backend)")
    options = parser.parse_args()
    script = Unattached(Life(read_settings({}, "train.py")))
    threading.Thread(target=_beat, args=(script,), daemon=True).start()
    found = {"torch": _torch(script, options.blocks)}
    if options.keras:
        found["keras"] = _keras(script, options.blocks)
    for name, row in found.items():
        row["share of a 10 ms step, %"] = 100 * row["added, us"] / STEP_US
        print(f"{name:6}", "  ".join(f"{what} {value:.3f}" for what, value in row.items()))
    print(json.dumps({name: {what: round(value, 4) for what, value in row.items()} for name, row in found.items()}))
    return int(any(row["added, us"] > SHARE_MAX * STEP_US for row in found.values()))


def _beat(script: Unattached) -> None:
    """As the channel's thread does."""
    while True:
        beat = script.beat()
        if beat is not None:
            encode(beat)
        time.sleep(BEAT_EVERY_S)


def _torch(script: Unattached, blocks: int) -> dict[str, float]:
    import torch
    from torch.optim.optimizer import _global_optimizer_post_hooks as after_step

    torch.set_num_threads(1)
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    data = torch.randn(16, 8)

    def steps() -> None:
        for _ in range(BLOCK_STEPS):
            optimizer.zero_grad()
            model(data).pow(2).mean().backward()
            optimizer.step()

    bare = torch.autograd.backward
    torch_hook.install(torch, script)
    hooked, hooks = torch.autograd.backward, dict(after_step)

    def switch(on: bool) -> None:
        torch.autograd.backward = hooked if on else bare
        after_step.clear()
        after_step.update(hooks if on else {})

    return _by_turns(steps, switch, blocks)


def _keras(script: Unattached, blocks: int) -> dict[str, float]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    told = keras.callbacks.CallbackList
    bare = dict(vars(told))
    keras_hook.install(keras, script)
    hooked = {name: value for name, value in vars(told).items() if bare.get(name) is not value}
    callbacks = told([], add_history=True)
    logs = {"loss": 0.5, "accuracy": 0.5}

    def steps() -> None:
        for batch in range(BLOCK_STEPS):
            callbacks.on_train_batch_end(batch, logs)

    def switch(on: bool) -> None:
        for name, value in hooked.items():
            setattr(told, name, value if on else bare[name])

    return _by_turns(steps, switch, blocks)


def _by_turns(steps: Callable[[], Any], switch: Callable[[bool], None], blocks: int) -> dict[str, float]:
    """Return the median microseconds of a step without and with the hooks, and of their difference from block to block."""
    took_us: dict[bool, list[float]] = {False: [], True: []}
    for number in range(-3, blocks):  # the first ones warm up
        for on in (False, True) if number % 2 else (True, False):
            switch(on)
            began_s = time.perf_counter()
            steps()
            if number >= 0:
                took_us[on].append(1e6 * (time.perf_counter() - began_s) / BLOCK_STEPS)
    added = [with_us - without_us for without_us, with_us in zip(took_us[False], took_us[True], strict=True)]
    bare_us = statistics.median(took_us[False])
    return {
        "bare, us": bare_us,
        "added, us": statistics.median(added),
        "ratio of this tiny step": (bare_us + statistics.median(added)) / bare_us,
    }


if __name__ == "__main__":
    raise SystemExit(main())
