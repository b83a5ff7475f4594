"""What the outputs of one network mean in a joint energy-based model of x and y.

    classes     outputs f_1..f_K      u(x) = -logsumexp_y f_y     -log p(y | x) = logsumexp_y f_y - f_y
    regression  outputs a, m, s       u(x) = a                    -log p(y | x) = (y - m)^2 / 2 v + log(v)/2,
                                                                  v = e^s bounded to [e^-12, e^12]

so that exp(f_y) is p(x, y) up to a constant: adding the same number to all logits changes nothing for a classifier, and
is the density here. Constants of log p(y | x) that do not depend on the outputs are left out.

Symbols: f ``logits``; a, m, s the columns of ``outputs``; u :func:`class_energy`, :func:`regression_energy`.

References: Grathwohl et al. 2020, arXiv:1912.03263 (JEM); Gustafsson et al. 2020 (energy-based regression).
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Bound of the log variance of a regression.
_WIDEST = 12.0


def class_energy(logits: Tensor) -> Tensor:
    """u [B] of logits [B, K]."""
    return -torch.logsumexp(logits, dim=-1)


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log p(y | x) for logits [B, K] and classes int64 [B]."""
    return torch.nn.functional.cross_entropy(logits, labels)


def regression_energy(outputs: Tensor) -> Tensor:
    """u [B] of outputs [B, 3]."""
    return outputs[:, 0]


def regression_loss(outputs: Tensor, values: Tensor) -> Tensor:
    """Mean of -log p(y | x) for outputs [B, 3] and values [B]."""
    log_variance = outputs[:, 2].clamp(-_WIDEST, _WIDEST)
    return 0.5 * ((values - outputs[:, 1]).square() * torch.exp(-log_variance) + log_variance).mean()
