"""An E(n)-equivariant graph layer, written on torch-geometric's message passing.

Every atom carries invariant features h and a vector x that starts as its position. One layer sends messages over all
ordered pairs and updates both:

    m_ij = tanh-or-silu MLP(h_i, h_j, b(d_ij), |x_i - x_j|^2 / c^2) f(d_ij)
    x_i <- x_i + 1/10 sum_j tanh(phi_x(m_ij)) f(d_ij) (x_i - x_j) / (1 + |x_i - x_j|)
    h_i <- h_i + phi_h(h_i, sum_j m_ij)

h stays invariant and x turns along under every rotation, reflection and translation of the positions, in any number of
dimensions; equal atoms may be exchanged. d_ij is the distance of the *positions*, so that a pair beyond the cutoff
sends nothing at all, however x moved. Why a radial basis beside the squared distance of the original paper: a stiff
r^-12 wall is not learned from d^2 alone.

Batches share one graph: features are [B, N, F] with the nodes on the last axis but one (a static graph in the words of
torch-geometric), so nothing is replicated, and ``torch.jit.script`` compiles the layer.

Symbols: b ``basis``, f ``envelope``, d ``distance``, c ``cutoff``; phi_x ``shift``, phi_h ``update``.

Reference: Satorras, Hoogeboom & Welling 2021, arXiv:2102.09844.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from mlsim.models.schnet import activation, linear

#: Factor of the vector update, against blow-up in dense clusters.
_STEP = 0.1


class EquivariantLayer(MessagePassing):  # type: ignore[misc]
    """One round of messages.

    Parameters
    ----------
    features : int
        Width F of the atomic features and messages.
    n_radial : int
        Number R of radial functions.
    cutoff : float
        Scale of the squared distances, in the unit of the positions.
    activation_name : str
        ``tanh`` or ``silu``.
    generator : torch.Generator
        Source of the initial weights.
    """

    def __init__(
        self, features: int, n_radial: int, cutoff: float, activation_name: str, generator: torch.Generator
    ) -> None:
        super().__init__(aggr="sum", node_dim=-2)
        self.inverse_square = 1.0 / cutoff**2
        self.step = _STEP
        self.edge_nodes = linear(features, 2 * features, generator, bias=False)
        self.edge_in = linear(n_radial + 1, features, generator)
        self.edge_out = linear(features, features, generator)
        self.shift = linear(features, 1, generator, bias=False)
        self.update_in = linear(2 * features, features, generator)
        self.update_out = linear(features, features, generator)
        self.activation = activation(activation_name)

    def forward(
        self, features: Tensor, vectors: Tensor, edges: Tensor, basis: Tensor, envelope: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features [B, N, F] and vectors [B, N, s] after one round.

        Parameters
        ----------
        features : Tensor [B, N, F]
        vectors : Tensor [B, N, s]
        edges : int64 Tensor [2, E]
            Source and target of every message.
        basis : Tensor [B, E, R]
        envelope : Tensor [B, E, 1]
        """
        # propagate_type: (sent: Tensor, vectors: Tensor, basis: Tensor, envelope: Tensor)
        found = self.propagate(edges, sent=self.edge_nodes(features), vectors=vectors, basis=basis, envelope=envelope)
        space = vectors.size(-1)
        moved = vectors + self.step * found.narrow(-1, 0, space)
        messages = found.narrow(-1, space, features.size(-1))
        hidden = self.activation(self.update_in(torch.cat([features, messages], dim=-1)))
        return features + self.update_out(hidden), moved

    def message(
        self,
        sent_i: Tensor,
        sent_j: Tensor,
        vectors_i: Tensor,
        vectors_j: Tensor,
        basis: Tensor,
        envelope: Tensor,
    ) -> Tensor:
        """Vector and feature parts of every message, [B, E, s + F]."""
        width = sent_i.size(-1) // 2
        difference = vectors_i - vectors_j
        squared = difference.square().sum(-1, keepdim=True)
        edge = self.edge_in(torch.cat([basis, squared * self.inverse_square], dim=-1))
        edge = self.activation(edge + sent_i.narrow(-1, 0, width) + sent_j.narrow(-1, width, width))
        message = self.activation(self.edge_out(edge)) * envelope
        direction = difference / (1.0 + (squared + 1e-12).sqrt())
        return torch.cat([direction * (torch.tanh(self.shift(message)) * envelope), message], dim=-1)


def all_pairs(first: Tensor, second: Tensor) -> Tensor:
    """Both directions of the unordered pairs ``first``, ``second`` [P]: int64 [2, 2 P]."""
    return torch.stack([torch.cat([first, second]), torch.cat([second, first])])
