# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.4,<=2.13.0",
#   "numpy>=1.26",
#   "pillow>=10.3",
#   "manimgx-fonts-cjk",
#   "fontpkg-barlow-semi-condensed",
# ]
# ///
"""Train HyperLPR's plate recogniser on real and rendered plates: in minutes on one CPU core, on a GPU or a TPU where there is one.

python3 -m supervisor start trainers/hyperlpr.py                                             from scratch, half width
python3 -m supervisor start trainers/hyperlpr.py --name published -- --init published        from HyperLPR's own weights
python trainers/hyperlpr.py                                                                 without a supervisor
"""

from __future__ import annotations

import sys
from pathlib import Path

# Nothing need be installed for this file to run from a checkout.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hyperlpr_example.options import before_imports, read_options

if __name__ == "__main__":
    before_imports("torch", "numpy", "PIL")

import torch
from torch import nn

import supervisor
from hyperlpr_example import training
from hyperlpr_example.batches import ahead
from hyperlpr_example.in_torch import devices
from hyperlpr_example.in_torch.batches import Batches
from hyperlpr_example.in_torch.ctc import ctc_loss
from hyperlpr_example.in_torch.network import SegmentationFree, state_of
from hyperlpr_example.in_torch.reading import reader_of
from hyperlpr_example.published import published_layers


def main() -> None:
    """Find the plates, build the network, train it, judge it."""
    options = read_options()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.deterministic = True
    device = devices.device_named(options.device)
    half = devices.half_precision(device)
    print(f"device: {devices.in_words(device, half)}", flush=True)
    found = training.find_plates(options)
    data = found.learned
    batches = Batches(data, device)

    devices.seed_everything(options.seed, device)
    network = SegmentationFree(options.width).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        network.parameters(), options.lr, weight_decay=training.WEIGHT_DECAY, fused=device.type == "cuda"
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: training.warm_up_then_cosine(step / options.steps)
    )
    scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)
    run = supervisor.attach(model=network, optimizer=optimizer, scheduler=scheduler, scaler=scaler, data=data)
    if options.init == "published" and not run.resumed:
        network.load_state_dict(state_of(published_layers()))

    report = training.Report(options, run, found, reader_of(network))
    # batches.batch(N) is always the same: the step number is the position in the data, so resuming skips nothing.
    for step, batch in ahead(batches.batch, run.steps(options.steps, data.epoch_steps)):
        with torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None):
            scores = network(batch.pictures.contiguous(memory_format=torch.channels_last))
        loss = ctc_loss(scores.float(), batch.classes, batch.lengths)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), training.GRADIENT_NORM_MAX)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()

        run.log(loss=loss.detach(), lr=scheduler.get_last_lr()[0])
        devices.step_ends(device)
        report.step_done(step, loss.detach())
    report.end()


if __name__ == "__main__":
    training.as_script(main)
