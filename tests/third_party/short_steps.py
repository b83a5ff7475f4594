"""A sampler."""

from __future__ import annotations

from typing import Any

from mlsim.samplers.methods.langevin import ula


def short_steps(log_density: Any, symmetry: Any, settings: Any) -> Any:
    """Langevin dynamics of short steps, as a sampler."""
    return ula(log_density, 0.01 * settings.length**2, project=symmetry.project)
