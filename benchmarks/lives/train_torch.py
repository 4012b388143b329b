"""The job as most write it: torch.save onto the mount at the end of each epoch, the newest that loads at the start."""

from __future__ import annotations

import torch

from benchmarks.lives.job import Ledger, told
from benchmarks.lives.torch_model import adam, batch, network, samples, train

KEPT = 3

job = told()
model = network()
optimizer = adam(model)
data = samples()
first = 0
job.store.mkdir(parents=True, exist_ok=True)
for path in sorted(job.store.glob("epoch-*.pt"), reverse=True):
    try:
        found = torch.load(path, weights_only=True)
    except Exception as error:  # noqa: BLE001, because this is what they write
        print(f"{path.name} cannot be loaded ({error}); trying the one before", flush=True)
        continue
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])
    first = found["step"]
    break
ledger = Ledger(job)
for step in range(first, job.steps):
    ledger.begin()
    ledger.end(step, train(model, optimizer, batch(data, step)))
    if (step + 1) % job.every == 0:
        kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
        torch.save(kept, job.store / f"epoch-{step + 1:08d}.pt")
        for old in sorted(job.store.glob("epoch-*.pt"))[:-KEPT]:
            old.unlink()
