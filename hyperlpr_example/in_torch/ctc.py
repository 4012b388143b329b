"""The CTC loss of plates; on a GPU from operations that give the same bits every time, which torch's own loss there does not."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows it by
from torch import Tensor

from hyperlpr_example.alphabet import BLANK, CLASSES

_IMPOSSIBLE = -1e30  # a log probability; not -inf, because the gradient of a sum of them would not be a number


def ctc_loss(scores: Tensor, classes: Tensor, lengths: Tensor) -> Tensor:
    """The mean over plates of -log P(plate) / length. Scores (T, N, 84) in float32, classes (N, L), lengths (N) on the CPU."""
    log_probs = scores.log_softmax(2)
    if scores.device.type != "cpu":
        return exact_ctc_loss(log_probs, classes, lengths.to(scores.device, non_blocking=True))
    steps = torch.full_like(lengths, len(scores))
    return F.ctc_loss(log_probs, classes, steps, lengths, blank=BLANK)


def exact_ctc_loss(log_probs: Tensor, classes: Tensor, lengths: Tensor) -> Tensor:
    """The forward recursion of Graves et al. (2006) over blank, c1, blank, c2, … blank, in log space, for the whole batch.

    Emissions are picked with a product, because the gradient of an index adds up in any order on a GPU.
    """
    places = torch.full((len(classes), 2 * classes.shape[1] + 1), BLANK, device=classes.device)
    places[:, 1::2] = classes
    emitted = log_probs.transpose(0, 1) @ F.one_hot(places, CLASSES).transpose(1, 2).to(log_probs.dtype)
    may_skip = places != F.pad(places, (2, 0), value=BLANK)[:, :-2]  # from the character before, over the blank
    not_skipped = torch.where(may_skip & (places != BLANK), 0.0, _IMPOSSIBLE)
    place = torch.arange(places.shape[1], device=classes.device)
    so_far = emitted[:, 0] + torch.where(place < 2, 0.0, _IMPOSSIBLE)
    for step in range(1, emitted.shape[1]):
        one_on = F.pad(so_far, (1, 0), value=_IMPOSSIBLE)[:, :-1]
        two_on = F.pad(so_far, (2, 0), value=_IMPOSSIBLE)[:, :-2] + not_skipped
        so_far = emitted[:, step] + torch.stack([so_far, one_on, two_on]).logsumexp(0)
    ends = (place == 2 * lengths[:, None]) | (place == 2 * lengths[:, None] - 1)
    likelihood = torch.where(ends, so_far, _IMPOSSIBLE).logsumexp(1)
    return (-likelihood / lengths).mean()
