"""The job under the supervisor: three lines of it are ours."""

from __future__ import annotations

import supervisor
from benchmarks.lives.job import EPOCH_STEPS, Ledger, told
from benchmarks.lives.torch_model import adam, batch, network, samples, train

job = told()
model = network()
optimizer = adam(model)
data = samples()
run = supervisor.attach(model=model, optimizer=optimizer)
ledger = Ledger(job)
for step in run.steps(job.steps, epoch_steps=EPOCH_STEPS):
    ledger.begin()
    loss = train(model, optimizer, batch(data, step))
    run.log(loss=loss)
    ledger.end(step, loss)
