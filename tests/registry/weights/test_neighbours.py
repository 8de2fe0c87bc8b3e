"""A stack of tensors that lie one after another is a view of them."""

from __future__ import annotations

import torch

from registry.weights.neighbours import adjacent, neighbours


def test_neighbours_are_a_view() -> None:
    whole = torch.arange(60.0)
    parts = [whole[at : at + 6].view(2, 3) for at in (0, 10, 20, 30)]  # with gaps between, as alignment leaves them
    stack = neighbours(parts)
    assert stack.data_ptr() == whole.data_ptr()
    assert torch.equal(stack, torch.stack(parts))
    assert neighbours(parts[1:2]).data_ptr() == parts[1].data_ptr()


def test_others_are_copied() -> None:
    whole = torch.arange(60.0)
    at_unequal_distances = [whole[at : at + 6] for at in (0, 10, 30)]
    backwards = [whole[at : at + 6] for at in (20, 10, 0)]
    overlapping = [whole[at : at + 6] for at in (0, 3, 6)]
    apart = [torch.ones(6), torch.zeros(6)]
    for parts in (at_unequal_distances, backwards, overlapping, apart):
        assert adjacent(parts) is None
        assert torch.equal(neighbours(parts), torch.stack(parts))
