"""The learned length scale of a kernel.

The features move while they are trained, and with them the distances at which a kernel of fixed scale has its slope.
The scale c therefore follows them: after every step it climbs the mean over pairs of log |d^2 dk/d(d^2)|, see
``kernels``. The features do not see this gradient, and the loss does not move c; otherwise the loss would be lowered
by c alone.

Symbols: c ``value``; d^2 ``squared``.

Reference: Li, Pogodin, Sutherland & Gretton 2021, arXiv:2106.08320, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlsim.repr.hsic.random_features import Kernel, squared_distances


class KernelScale(nn.Module):
    """A positive scalar c = exp(l) with its own optimiser.

    Parameters
    ----------
    kernel : Kernel
    start : float
        First value of c.
    rate : float
        Learning rate of Adam for l = log c; zero keeps c at ``start``.
    """

    def __init__(self, kernel: Kernel, start: float = 1.0, rate: float = 0.01) -> None:
        super().__init__()
        self.kernel = kernel
        self.log_scale = nn.Parameter(torch.tensor(float(start)).log())
        self._optimizer = torch.optim.Adam([self.log_scale], lr=rate) if rate > 0 else None

    @property
    def value(self) -> Tensor:
        """c, without gradient."""
        return self.log_scale.detach().exp()

    def update(self, vectors: Tensor) -> None:
        """One step on the distances between different ones of the vectors [N, d]."""
        if self._optimizer is None:
            return
        with torch.no_grad():
            n = len(vectors)
            first, second = torch.triu_indices(n, n, offset=1)
            squared = squared_distances(vectors, vectors)[first, second]
        with torch.enable_grad():
            self._optimizer.zero_grad()
            (-self.kernel.log_slope(squared, self.log_scale.exp()).mean()).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
