"""Exactly known densities on the (phi, psi) torus, with samplers: the ruler for the analysis tests.

p(phi, psi) = sum_k a_k vonMises(phi; mu_k, kappa_k) vonMises(psi; nu_k, lambda_k); bin probabilities come from the
von Mises CDF. ``chain`` is a stationary correlated sequence: each frame keeps the last one with probability ``stay``,
else draws anew, so that every observable has rho_tau = stay^tau and g = (1 + stay) / (1 - stay).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import vonmises

from mlsim.analysis.surfaces import basins


@dataclass(frozen=True)
class Torus:
    """Mixture of von Mises products: rows (weight, phi degrees, kappa, psi degrees, kappa)."""

    rows: tuple[tuple[float, float, float, float, float], ...]

    def probability(self, bins: int = 24) -> np.ndarray:
        """Exact bin probabilities [bins, bins]."""
        edges = np.linspace(-np.pi, np.pi, bins + 1)
        total = np.zeros((bins, bins))
        for weight, phi, kappa, psi, lam in self.rows:
            x = np.diff(vonmises.cdf(edges, kappa, loc=np.radians(phi)))
            y = np.diff(vonmises.cdf(edges, lam, loc=np.radians(psi)))
            total += weight * np.outer(x, y)
        return total / total.sum()

    def populations(self) -> np.ndarray:
        """Populations of ``basins.BASINS`` from a fine grid, [4], good to 1e-3."""
        bins = 720
        axis = (np.arange(bins) + 0.5) * 2.0 * np.pi / bins - np.pi
        region = basins.assign(*np.meshgrid(axis, axis, indexing="ij"))
        return np.bincount(region.ravel(), weights=self.probability(bins).ravel())

    def log_density(self, cv: np.ndarray) -> np.ndarray:
        """ln p(phi, psi) [F] of points [F, 2] rad."""
        parts = [
            w * vonmises.pdf(cv[:, 0], k, loc=np.radians(a)) * vonmises.pdf(cv[:, 1], m, loc=np.radians(b))
            for w, a, k, b, m in self.rows
        ]
        return np.log(np.sum(parts, axis=0) / sum(row[0] for row in self.rows))

    def sample(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Independent points [count, 2] rad."""
        table = np.array(self.rows)
        row = table[generator.choice(len(table), size=count, p=table[:, 0] / table[:, 0].sum())]
        return np.stack(
            [
                generator.vonmises(np.radians(row[:, 1]), row[:, 2]),
                generator.vonmises(np.radians(row[:, 3]), row[:, 4]),
            ],
            axis=1,
        )

    def chain(self, count: int, stay: float, generator: np.random.Generator) -> np.ndarray:
        """Correlated points [count, 2] rad with statistical inefficiency (1 + stay) / (1 - stay)."""
        fresh = self.sample(count, generator)
        new = generator.random(count) > stay
        new[0] = True
        return fresh[np.maximum.accumulate(np.where(new, np.arange(count), 0))]


#: Like alanine dipeptide: alphaR, PII, C5, alphaL.
ALANINE = Torus(((0.33, -75, 8, -20, 6), (0.42, -70, 9, 145, 8), (0.20, -150, 7, 155, 8), (0.05, 55, 12, 45, 9)))
#: The same basins with other weights.
SHIFTED = Torus(((0.45, -75, 8, -20, 6), (0.33, -70, 9, 145, 8), (0.17, -150, 7, 155, 8), (0.05, 55, 12, 45, 9)))
#: Wide, covers the whole circle.
WIDE = Torus(((0.5, -90, 1.0, 60, 0.6), (0.5, 60, 0.6, -20, 0.5)))
