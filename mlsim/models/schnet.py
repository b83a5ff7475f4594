"""The continuous-filter interaction of SchNet, and the layers it is made of.

One block updates the atomic features h from those of all other atoms through filters that are functions of
the distance alone:

    W_ij = (tanh(b(d_ij) A + a) C + c) f(d_ij)        filter [F], one evaluation per unordered pair
    m_i  = sum_{j != i} (h_j V) * W_ij                continuous-filter sum
    h_i += tanh(m_i P + p) Q + q

Smooth, saturating activations (tanh) are the default: shifted softplus lets the forces of coarse models drift and
is known to destabilise molecular dynamics.

Symbols: b(d) ``basis``, f(d) ``envelope``, A,a ``filter_in``, C,c ``filter_out``, V ``values``,
P,p ``update_in``, Q,q ``update_out``.

Reference: Schuett et al., J. Chem. Phys. 148, 241722 (2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlsim.errors import SettingsError
from mlsim.models.atom_pairs import sum_over_neighbours


def linear(n_in: int, n_out: int, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    """A dense layer with Xavier-uniform weights from ``generator`` and zero bias."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def activation(name: str) -> nn.Module:
    """The smooth activation called ``name``: ``tanh`` or ``silu``."""
    if name == "tanh":
        return nn.Tanh()
    if name == "silu":
        return nn.SiLU()
    raise SettingsError(f"unknown activation '{name}'; expected 'tanh' or 'silu'")


def value_and_slope(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """An activation made by :func:`activation` and its derivative at ``x``, both differentiable."""
    if isinstance(layer, nn.Tanh):
        y = torch.tanh(x)
        return y, 1.0 - y * y
    s = torch.sigmoid(x)
    return x * s, s * (1.0 + x * (1.0 - s))


class InteractionBlock(nn.Module):
    """One round of message passing over all pairs.

    Parameters
    ----------
    features : int
        Width F of the atomic features and filters.
    n_radial : int
        Number R of radial functions.
    activation_name : str
        ``tanh`` or ``silu``.
    generator : torch.Generator
        Source of the initial weights.
    """

    def __init__(self, features: int, n_radial: int, activation_name: str, generator: torch.Generator) -> None:
        super().__init__()
        self.filter_in = linear(n_radial, features, generator)
        self.filter_out = linear(features, features, generator)
        self.values = linear(features, features, generator, bias=False)
        self.update_in = linear(features, features, generator)
        self.update_out = linear(features, features, generator)
        self.activation = activation(activation_name)

    @torch.jit.export
    def filters(self, basis: Tensor, envelope: Tensor) -> Tensor:
        """Filters [..., F] of radial features [..., R] and envelope [...]."""
        return self.filter_out(self.activation(self.filter_in(basis))) * envelope.unsqueeze(-1)

    @torch.jit.export
    def update(self, messages: Tensor) -> Tensor:
        """Change [B, N, F] of the atomic features caused by the messages [B, N, F]."""
        return self.update_out(self.activation(self.update_in(messages)))

    def forward(self, features: Tensor, basis: Tensor, envelope: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Change [B, N, F] of the atomic features [B or 1, N, F].

        ``basis`` [B, P, R] and ``envelope`` [B, P] belong to the pairs ``first``, ``second`` [P].
        """
        weights = self.filters(basis, envelope)
        return self.update(sum_over_neighbours(self.values(features), weights, first, second))
