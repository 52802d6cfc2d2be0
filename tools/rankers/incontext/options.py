"""Search spaces as tensors: one row per option, over all positions.

The network sees a space only through these tensors. An option has neither a name nor a number:
it is described by the options that share its position, by the equal options at positions with
the same list of choices (its group), and, at ordered positions, by its distance to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm_searcher.spaces.landscapes.space_shape import SpaceShape


@dataclass(frozen=True)
class OptionTensors:
    """The options of a batch of spaces, padded to the largest number of options.

    Shapes: b spaces, m options (over all positions of a space), p positions.
    """

    offsets: Tensor
    """[b, p] long: the row of each position's first option; `m` for a padded position."""
    valid: Tensor
    """[b, m] float: 1 for an option, 0 for padding."""
    place: Tensor
    """[b, m]: an option's place within its ordered position, -1 to 1; 0 at unordered positions."""
    ordered: Tensor
    """[b, m] float: 1 for an option of an ordered position."""
    size: Tensor
    """[b, m]: the number of options at the option's position."""
    positions: Tensor
    """[b]: the number of positions of the space."""
    near: Tensor
    """[b, m, m]: similarity of two options of one position, 1 for itself, 0 across positions."""
    same: Tensor
    """[b, m, m]: 1 for equal options at positions of one group."""
    together: Tensor
    """[b, m, m]: 1 for two options of one position."""

    @classmethod
    def of(cls, shapes: Sequence[SpaceShape], device: torch.device | str = "cpu") -> OptionTensors:
        """The tensors of a batch of spaces."""
        rows = max(int(space.cardinalities.sum()) for space in shapes)
        columns = max(space.positions for space in shapes)
        size_of_batch = (len(shapes), rows)
        offsets = np.full((len(shapes), columns), rows)
        # Padding has a negative number of its own in each row, so that it equals no other row.
        position, group, option = (np.full(size_of_batch, -1 - np.arange(rows)) for _ in range(3))
        place, ordered, size, valid = (np.zeros(size_of_batch, np.float32) for _ in range(4))
        for b, space in enumerate(shapes):
            counts = space.cardinalities
            m, starts = int(counts.sum()), np.cumsum(counts) - counts
            offsets[b, : space.positions] = starts
            position[b, :m] = np.repeat(np.arange(space.positions), counts)
            option[b, :m] = np.arange(m) - np.repeat(starts, counts)
            group[b, :m] = np.repeat(space.groups, counts)
            ordered[b, :m] = np.repeat(space.ordered, counts)
            place[b, :m] = space.places[position[b, :m], option[b, :m]] * ordered[b, :m]
            size[b, :m] = np.repeat(counts, counts)
            valid[b, :m] = 1
        together = position[:, :, None] == position[:, None, :]
        itself = np.eye(rows, dtype=bool)
        # Ordered options: a sharp and a wide bump around each, so that neighbours are alike.
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
            tensor([space.positions for space in shapes]),
            tensor(near),
            tensor(same),
            tensor(together),
        )

    def member(self, codes: Tensor) -> Tensor:
        """Membership: codes [b, n, p] -> [b, n, m], 1 for the options of each architecture."""
        b, n, _ = codes.shape
        rows = self.valid.shape[1]
        # Padded positions write to an extra last row, which is cut off.
        index = (self.offsets[:, None] + codes.long()).clamp(max=rows)
        member = torch.zeros(b, n, rows + 1, device=self.valid.device)
        return member.scatter_(2, index, 1.0)[:, :, :rows]
