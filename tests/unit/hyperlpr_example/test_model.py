"""The published network, restated."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from hyperlpr_example.in_torch.network import SegmentationFree, state_of, width_of  # noqa: E402
from hyperlpr_example.in_torch.reading import reader_of  # noqa: E402
from hyperlpr_example.metrics import measure  # noqa: E402
from hyperlpr_example.published import published_layers  # noqa: E402
from hyperlpr_example.reading import read_plates  # noqa: E402


def test_the_full_network_has_the_published_number_of_parameters():
    assert sum(weights.numel() for weights in SegmentationFree().parameters()) == 2_447_700


@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
def test_twenty_steps_of_84_scores_at_any_width(width):
    network = SegmentationFree(width).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 160, 40)).shape == (20, 2, 84)
    assert width_of(network.state_dict()) == width


def test_reading_leaves_the_network_in_its_mode_and_unchanged():
    network = SegmentationFree(0.25).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    read_plates(reader_of(network), torch.zeros(3, 3, 40, 160, dtype=torch.uint8).numpy())
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.network
@pytest.mark.plates
@pytest.mark.slow
def test_the_published_weights_read_as_many_plates_as_measured_elsewhere(real_plates):
    from hyperlpr_example.real import read_folder

    network = SegmentationFree()
    network.load_state_dict(state_of(published_layers()))
    plates = read_folder(real_plates)
    assert measure(read_plates(reader_of(network), plates.pictures, drop_first=2), plates.texts).exact == pytest.approx(
        0.871, abs=0.006
    )
