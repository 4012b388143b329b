"""Our CTC loss against torch's."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from hyperlpr_example.alphabet import BLANK  # noqa: E402
from hyperlpr_example.in_torch.ctc import ctc_loss, exact_ctc_loss  # noqa: E402


@pytest.mark.parametrize("seed", range(5))
def test_loss_and_gradient_are_those_of_torch(seed):
    torch.manual_seed(seed)
    classes = torch.randint(0, 6, (7, 8))  # few classes: many repeats, where the recursion differs
    lengths = torch.tensor([7, 8, 7, 1, 8, 2, 7])
    ours = (3 * torch.randn(20, 7, 84, dtype=torch.float64)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    expected = torch.nn.functional.ctc_loss(theirs.log_softmax(2), classes, torch.full((7,), 20), lengths, blank=BLANK)
    loss = exact_ctc_loss(ours.log_softmax(2), classes, lengths)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert ctc_loss(theirs, classes, lengths).item() == expected.item()
    loss.backward()
    expected.backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-12)


def test_a_plate_read_with_certainty_costs_nothing():
    steps = [BLANK, 12, BLANK, 41, 32, BLANK, 32, 33, 34, 35, BLANK]
    scores = torch.full((len(steps), 1, 84), -40.0)
    scores[range(len(steps)), 0, steps] = 40.0
    classes = torch.tensor([[12, 41, 32, 32, 33, 34, 35, 0]])
    assert exact_ctc_loss(scores.log_softmax(2), classes, torch.tensor([7])).item() == pytest.approx(0, abs=1e-5)
