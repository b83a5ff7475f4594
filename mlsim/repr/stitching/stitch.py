"""The stitch: a small affine map from the activations of one network to those of another.

    linear    y = x W + w      on the last axis: features [b, c], tokens [b, t, c], atoms [b, n, c]
    conv1x1   the same on the channels of maps [b, c, h, w]
    vector    Y = X W          on the channels of vectors [..., c, 3], no bias

First W, w solve the ridge problem  min |X W + w - Y|^2 + r tr(cov X)/c |W|^2  on matched activations, then the task may
train them further.

Why least squares first: from a random start a few hundred steps of Adam leave early layers with a penalty of several
points even between a network and itself, which then reads as dissimilarity.

Why vectors have no bias: only W commutes with rotations. A constant vector added to all would point somewhere in the
laboratory, and the stitched model would no longer be equivariant.

Symbols: W ``weight`` [c, c']; w ``bias`` [c']; r ``ridge``.

References: Bansal, Nakkiran & Barak 2021, arXiv:2106.07682; Csiszarik et al. 2021, arXiv:2110.14633 (least squares).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlsim.errors import InputError


class Stitch(nn.Module):
    """Affine map of channels.

    Parameters
    ----------
    n_in, n_out : int
        Channels c and c'.
    channel_axis : int
        -1, or 1 for maps [b, c, h, w].
    """

    def __init__(self, n_in: int, n_out: int, channel_axis: int = -1) -> None:
        super().__init__()
        self.channel_axis = channel_axis
        self.weight = nn.Parameter(torch.zeros(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Activations with c' channels."""
        moved = x.movedim(self.channel_axis, -1) @ self.weight + self.bias
        return moved.movedim(-1, self.channel_axis)

    @torch.no_grad()
    def solve(self, x: Tensor, y: Tensor, ridge: float = 1e-6) -> None:
        """Least squares: make the map of ``x`` as close as possible to ``y`` (same shapes but for the channels)."""
        rows, targets = (t.movedim(self.channel_axis, -1).flatten(0, -2).double() for t in (x, y))
        means = rows.mean(0), targets.mean(0)
        weight = _ridge(rows - means[0], targets - means[1], ridge)
        self.weight.copy_(weight)
        self.bias.copy_(means[1] - means[0] @ weight)


class VectorStitch(nn.Module):
    """Linear map of the channels of vectors [..., c, 3], without bias; commutes with rotations."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_in, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [..., c', 3]."""
        return torch.einsum("...cx,cd->...dx", x, self.weight)

    @torch.no_grad()
    def solve(self, x: Tensor, y: Tensor, ridge: float = 1e-6) -> None:
        """Least squares over all vectors and components, not centred."""
        rows, targets = (t.movedim(-2, -1).flatten(0, -2).double() for t in (x, y))
        self.weight.copy_(_ridge(rows, targets, ridge))


def stitch_between(x: Tensor, y: Tensor, family: str = "auto") -> Stitch | VectorStitch:
    """An unsolved stitch that takes activations like ``x`` to activations like ``y``.

    Parameters
    ----------
    x, y : Tensor
        Activations of the bottom and of the top network for the same inputs.
    family : str
        ``linear``, ``conv1x1``, ``vector``, or ``auto``: conv1x1 for four axes, else linear.

    Raises
    ------
    InputError
        If the shapes differ in more than the number of channels.
    """
    if family == "auto":
        family = "conv1x1" if x.ndim == 4 else "linear"
    axes = {"linear": -1, "conv1x1": 1, "vector": -2}
    if family not in axes:
        raise InputError(f"family: expected auto, {', '.join(axes)}, got '{family}'")
    axis = axes[family]
    rest = [list(t.movedim(axis, -1).shape[:-1]) for t in (x, y)] if x.ndim == y.ndim else [[x.ndim], [y.ndim]]
    if rest[0] != rest[1] or (family == "conv1x1" and x.ndim != 4) or (family == "vector" and x.shape[-1] != 3):
        raise InputError(
            f"{family} stitch: activations {list(x.shape)} and {list(y.shape)} may differ in channels only; "
            "choose layers with the same grid or tokens"
        )
    if family == "vector":
        return VectorStitch(x.shape[-2], y.shape[-2])
    return Stitch(x.shape[axis], y.shape[axis], axis)


def _ridge(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """W that minimises |x W - y|^2 + penalty, float64; directions in which x does not vary get none."""
    gram = x.mT @ x
    size = float(gram.diagonal().mean())
    if size == 0.0:
        return torch.zeros(x.shape[1], y.shape[1], dtype=x.dtype, device=x.device)
    gram.diagonal().add_(ridge * size)
    return torch.linalg.solve(gram, x.mT @ y)
