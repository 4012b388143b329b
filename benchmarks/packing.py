# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.4,<=2.13.0",
#   "numpy>=1.26",
#   "safetensors>=0.4",
# ]
# ///
"""What packing gives and takes on a state that was really trained. `python -m benchmarks.packing [STEPS]`.

A small GPT learns the characters of this program's own source. Then each part of its state is packed and unpacked, each
three times, on one core; compared with zstd alone, in the same run. The last column is the upload below which packing a
file of this kind pays by the rule of supervisor/core/packing.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from supervisor.core.digest import preferred
from supervisor.core.packing import Policy
from supervisor.engine import container

if TYPE_CHECKING:
    import torch

STEPS, REPEATS = 300, 3
WIDTH, LAYERS, HEADS, CONTEXT, BATCH = 256, 6, 4, 64, 16
SOURCES = Path(__file__).resolve().parent.parent / "supervisor"


def main() -> int:
    """Train, then print one line for each part of the state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="?", type=int, default=STEPS, metavar="STEPS", help="training steps")
    parts = trained(parser.parse_args().steps)
    from safetensors.torch import save_file

    print(
        f"{'':12} {'MB':>6} {'zstd -1':>8} {'packed':>8} {'pack MB/s':>10} {'unpack MB/s':>12} {'pays below MB/s':>16}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, tensors in parts.items():
            file = Path(folder) / f"{name}.safetensors"
            save_file(tensors, file)
            print(_row(name, file))
    return 0


def gpt() -> torch.nn.Module:
    """Return a decoder of characters, 4.9 M parameters."""
    import torch
    from torch import nn

    class Gpt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(256, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
            self.head = nn.Linear(WIDTH, 256)
            self.mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)

        def forward(self, characters: torch.Tensor) -> torch.Tensor:
            seen = self.words(characters) + self.places(torch.arange(CONTEXT))
            logits: torch.Tensor = self.head(self.layers(seen, mask=self.mask, is_causal=True))
            return logits

    return Gpt()


def trained(steps: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights and Adam's moments after so many steps."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(1)
    text = b"".join(path.read_bytes() for path in sorted(SOURCES.rglob("*.py")))
    characters = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    model = gpt()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    for step in range(steps):
        starts = torch.randint(len(characters) - CONTEXT - 1, (BATCH,))
        batch = torch.stack([characters[at : at + CONTEXT + 1] for at in starts])
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in {0, steps - 1}:
            print(f"step {step + 1}: loss {loss.item():.2f}", flush=True)
    weights = {name: each.detach() for name, each in model.named_parameters()}
    moments = {
        kind: {name: optimizer.state[each][kind] for name, each in model.named_parameters()}
        for kind in ("exp_avg", "exp_avg_sq")
    }
    return {
        "weights": weights,
        **moments,
        "all": {**weights, **{f"{k}.{n}": t for k in moments for n, t in moments[k].items()}},
    }


def _row(name: str, file: Path) -> str:
    packed, back = file.with_suffix(".packed"), file.with_suffix(".back")
    pack_s = unpack_s = float("inf")
    for _ in range(REPEATS):
        began = perf_counter()
        original, written = container.pack(file, packed, preferred())
        middle = perf_counter()
        brought = container.unpack(packed, back, preferred())
        pack_s, unpack_s = min(pack_s, middle - began), min(unpack_s, perf_counter() - middle)
        if brought != original:
            raise SystemExit(f"{name} does not come back the same")
    import zstandard

    alone = len(zstandard.ZstdCompressor(level=1).compress(file.read_bytes()))
    megabytes, pays_below = original.bytes / 1e6, (original.bytes - written.bytes) / (Policy().gain * pack_s) / 1e6
    return (
        f"{name:12} {megabytes:6.1f} {original.bytes / alone:8.3f} {original.bytes / written.bytes:8.3f} "
        f"{megabytes / pack_s:10.0f} {megabytes / unpack_s:12.0f} {pays_below:16.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
