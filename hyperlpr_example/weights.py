"""Networks ready to read plates: from a checkpoint of a run, or with the published weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hyperlpr_example.model import SegmentationFree, width_of
from hyperlpr_example.published import DROP_FIRST, published_weights
from supervisor.core.errors import UserError
from supervisor.trainer import folder

if TYPE_CHECKING:
    import torch

PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Reader:
    """A network on its device, and how many of its first output steps are to be dropped."""

    network: SegmentationFree
    drop_first: int
    described: str


def load_reader(checkpoint: str, device: torch.device) -> Reader:
    """The network of a checkpoint folder, of the newest one in a folder of them, or the published one by that word.

    UserError says when there is no such checkpoint, when it is damaged, or not one of this network.
    """
    if checkpoint == PUBLISHED:
        return Reader(_network(published_weights(), device), DROP_FIRST, "HyperLPR's published weights")
    path = newest_in(Path(checkpoint))
    states = folder.read(path)
    try:
        network = _network(states["model"], device)
    except (KeyError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path} is not a checkpoint of the plate recogniser: {str(error).splitlines()[0]}",
            hint="name a checkpoint that trainers/hyperlpr.py made",
        ) from error
    return Reader(network, 0, str(path))


def newest_in(path: Path) -> Path:
    """The folder itself when it is a checkpoint, else the newest under it: of the latest session, the highest step."""
    if (path / "checkpoint.json").is_file():
        return path
    found = sorted(path.glob("**/step-*/checkpoint.json"), key=lambda file: file.parts[-3:])
    if not found:
        raise UserError(
            f"there is no checkpoint in {path}",
            hint="name a checkpoint's folder (python -m supervisor checkpoints export latest DIR makes one), or: published",
        )
    return found[-1].parent


def _network(weights: dict[str, torch.Tensor], device: torch.device) -> SegmentationFree:
    network = SegmentationFree(width_of(weights))
    network.load_state_dict(weights)
    return network.to(device).eval()
