"""The Hilbert-Schmidt independence criterion: exact, and from random features.

With Gram matrices K, L of N samples and the centring matrix H = 1 - 1 1^T / N

    HSIC(X, Y) = tr(K H L H) / N^2  ~  |Phi_c^T Psi_c|_F^2 / N^2

where Phi, Psi are random features from independent draws and the index c subtracts the mean over samples. Both are the
V-statistic; the second has it as its mean and costs O(N D^2) instead of O(N^2).

For self-supervised learning Y is the identity of the thing of which Z holds K views each, Z [K, B, d]. Up to a constant

    HSIC(Z, Y) = mean over i and p != q of k(z_i^p, z_i^q)  -  mean over all pairs of k

(same-thing pairs more alike than any pairs), and HSIC(Z, Z) penalises features that use the kernel's whole range.

Why the pairs p = q are left out of the first term: they contribute k(z, z) = const for kernels of the distance and for
normalised features, so leaving them out makes HSIC(Z, Y) zero for a collapsed Z.

Symbols: K, L ``gram``; Z ``views`` [K, B, d]; k ``kernel``, c ``scale``; D ``count``.

References: Gretton et al., ALT 2005; Li, Pogodin, Sutherland & Gretton 2021, arXiv:2106.08320.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlsim.errors import InputError
from mlsim.repr.hsic.random_features import Kernel


def centred(gram: Tensor) -> Tensor:
    """H K H: the Gram matrix [N, N] of centred feature vectors."""
    return gram - gram.mean(0, keepdim=True) - gram.mean(1, keepdim=True) + gram.mean()


def from_grams(first: Tensor, second: Tensor) -> Tensor:
    """tr(K H L H) / N^2 of two Gram matrices [N, N]."""
    return (centred(first) * second).sum() / first.shape[0] ** 2


def from_features(first: Tensor, second: Tensor) -> Tensor:
    """|Phi_c^T Psi_c|_F^2 / N^2 of two sets of features [N, D], [N, D']."""
    cross = (first - first.mean(0)).mT @ (second - second.mean(0))
    return cross.square().sum() / first.shape[0] ** 2


def hsic(
    x: Tensor,
    y: Tensor,
    kernels: tuple[Kernel, Kernel],
    scales: tuple[Tensor | float, Tensor | float] = (1.0, 1.0),
) -> Tensor:
    """Exact HSIC of paired samples.

    Parameters
    ----------
    x, y : Tensor [N, d], [N, e]
    kernels : (Kernel, Kernel)
        Of x and of y.
    scales : (float, float)
        Their length scales.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    InputError
        If the two are not paired.
    """
    _paired(x, y)
    return from_grams(kernels[0].gram(x, x, scales[0]), kernels[1].gram(y, y, scales[1]))


def hsic_random(
    x: Tensor,
    y: Tensor,
    kernels: tuple[Kernel, Kernel],
    scales: tuple[Tensor | float, Tensor | float],
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """HSIC from ``count`` random frequencies per kernel, drawn independently for x and y; see :func:`hsic`."""
    _paired(x, y)
    first = kernels[0].features(x, count, scales[0], generator)
    return from_features(first, kernels[1].features(y, count, scales[1], generator))


def identity_hsic(views: Tensor, kernel: Kernel, scale: Tensor | float) -> Tensor:
    """HSIC(Z, Y) of views [K, B, d], Y the identity of the B things; exact."""
    rows = views.flatten(0, 1)
    return identity_from_gram(kernel.gram(rows, rows, scale), len(views))


def identity_from_gram(gram: Tensor, n_views: int) -> Tensor:
    """HSIC(Z, Y) from the Gram matrix [K B, K B] of K = ``n_views`` views, view after view."""
    n_things = len(gram) // n_views
    own = torch.diagonal(gram.view(n_views, n_things, n_views, n_things), dim1=1, dim2=3)
    same = (own.sum() - gram.diagonal().sum()) / (n_things * n_views * (n_views - 1))
    return same - gram.mean()


def identity_hsic_random(
    views: Tensor, kernel: Kernel, scale: Tensor | float, count: int, generator: torch.Generator
) -> Tensor:
    """HSIC(Z, Y) of views [K, B, d] from random features; its mean is :func:`identity_hsic`."""
    n_views, n_things, _ = views.shape
    features = kernel.features(views.flatten(0, 1), count, scale, generator).view(n_views, n_things, -1)
    own = features.sum(0).square().sum() - features.square().sum()
    return own / (n_things * n_views * (n_views - 1)) - features.mean((0, 1)).square().sum()


def _paired(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise InputError(f"HSIC: expected paired samples [N, d] and [N, e], got {list(x.shape)} and {list(y.shape)}")
