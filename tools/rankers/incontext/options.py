"""Search spaces as tensors: one row an option, whatever its position.

Everything the network sees of a space goes through here. An option has no name and no number:
it is known by which others share its position, by which others share its name at positions with
the same list (its group), and, where its position is ordered, by how near the others are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm_searcher.spaces.landscapes.space_shape import SpaceShape


@dataclass(frozen=True)
class Options:
    """The options of a batch of spaces, padded to the most any has.

    Shapes: b spaces, m options in all, p positions.
    """

    offsets: Tensor
    """[b, p] long: the row of each position's first option; `m` where there is no such position."""
    valid: Tensor
    """[b, m] float: 1 for an option, 0 for padding."""
    place: Tensor
    """[b, m]: where the option lies in [-1, 1]; 0 at unordered positions."""
    ordered: Tensor
    """[b, m] float."""
    size: Tensor
    """[b, m]: the number of options at the position."""
    positions: Tensor
    """[b]: how many positions the space has."""
    near: Tensor
    """[b, m, m]: similarity of two options of one position, 1 for itself, 0 across positions."""
    same: Tensor
    """[b, m, m]: 1 where two options are one and the same, at positions of one group."""
    together: Tensor
    """[b, m, m]: 1 where two options belong to one position."""

    @classmethod
    def of(cls, layouts: Sequence[SpaceShape], device: torch.device | str = "cpu") -> Options:
        """The tensors of some layouts."""
        rows = max(int(x.cardinalities.sum()) for x in layouts)
        columns = max(x.positions for x in layouts)
        shape = (len(layouts), rows)
        offsets = np.full((len(layouts), columns), rows)
        position, group, option = (np.full(shape, -1 - np.arange(rows)) for _ in range(3))
        place, ordered, size, valid = (np.zeros(shape, np.float32) for _ in range(4))
        for b, layout in enumerate(layouts):
            counts = layout.cardinalities
            m, starts = int(counts.sum()), np.cumsum(counts) - counts
            offsets[b, : layout.positions] = starts
            position[b, :m] = np.repeat(np.arange(layout.positions), counts)
            option[b, :m] = np.arange(m) - np.repeat(starts, counts)
            group[b, :m] = np.repeat(layout.groups, counts)
            ordered[b, :m] = np.repeat(layout.ordered, counts)
            place[b, :m] = layout.places[position[b, :m], option[b, :m]] * ordered[b, :m]
            size[b, :m] = np.repeat(counts, counts)
            valid[b, :m] = 1
        together = position[:, :, None] == position[:, None, :]
        itself = np.eye(rows, dtype=bool)
        apart = place[:, :, None] - place[:, None, :]
        smooth = 0.2 * itself + 0.3 * np.exp(-((apart / 0.4) ** 2)) + 0.5 * np.exp(-(apart**2))
        near = together * np.where(ordered[:, :, None] > 0, smooth, itself)
        same = (group[:, :, None] == group[:, None, :]) & (option[:, :, None] == option[:, None, :])

        def tensor(array: object, kind: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(array, dtype=kind, device=device)

        return cls(
            tensor(offsets, torch.long),
            tensor(valid),
            tensor(place),
            tensor(ordered),
            tensor(size),
            tensor([x.positions for x in layouts]),
            tensor(near),
            tensor(same),
            tensor(together),
        )

    def member(self, codes: Tensor) -> Tensor:
        """Which options each architecture is made of: codes [b, n, p] -> [b, n, m] of 0 and 1."""
        b, n, _ = codes.shape
        rows = self.valid.shape[1]
        index = (self.offsets[:, None] + codes.long()).clamp(max=rows)
        member = torch.zeros(b, n, rows + 1, device=self.valid.device)
        return member.scatter_(2, index, 1.0)[:, :, :rows]
