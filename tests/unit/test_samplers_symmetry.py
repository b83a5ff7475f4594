"""Symmetries: group laws, products, species, projection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsim.errors import InputError
from mlsim.samplers.groups.rotations import finite
from mlsim.samplers.groups.symmetry import (
    Symmetry,
    cyclic,
    dihedral,
    orthogonal,
    permutations,
    special_orthogonal,
    translations,
    trivial,
)

ALL = (
    cyclic(4),
    dihedral(3, points=2),
    permutations((0, 0, 1), space=2),
    special_orthogonal(2, points=3) * permutations((0, 1, 1), space=2) * translations(2, points=3),
    orthogonal(2, points=2),
    special_orthogonal(3, points=2),
    orthogonal(3, points=4) * permutations((0, 0, 0, 0), space=3) * translations(3, points=4),
)


@pytest.mark.parametrize(("symmetry", "order"), [(cyclic(6), 6), (dihedral(4), 8), (trivial(3), 1)])
def test_finite_groups_have_their_order(symmetry: Symmetry, order: int) -> None:
    assert symmetry.order == order
    assert len(symmetry.elements(torch.float64)) == order


def test_permutations_stay_within_species() -> None:
    rows = permutations((0, 1, 0, 1, 2), space=3).permutations()
    assert len(rows) == 4
    assert {tuple(sorted((row[0], row[2]))) for row in rows.tolist()} == {(0, 2)}
    assert (rows[:, 4] == 4).all()


@pytest.mark.parametrize("symmetry", ALL, ids=lambda s: s.name)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_elements_keep_lengths_and_commute_with_the_projection(symmetry: Symmetry, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((3, symmetry.dimension), generator=generator, dtype=torch.float64)
    g = symmetry.draw(generator, torch.float64)
    torch.testing.assert_close(symmetry.act(g, x).norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(symmetry.project(symmetry.act(g, x)), symmetry.act(g, symmetry.project(x)))


def test_projection_removes_the_centre_and_only_that() -> None:
    symmetry = translations(3, points=4)
    x = torch.randn((5, 12), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = symmetry.project(x)
    assert symmetry.shaped(once).mean(1).abs().max() < 1e-14
    torch.testing.assert_close(symmetry.project(once), once)
    assert symmetry.freedom == 9


def test_products_take_the_larger_group() -> None:
    assert (cyclic(4) * dihedral(2)).order == 8
    assert (cyclic(4) * special_orthogonal(2)).name == "SO(2)"
    assert (dihedral(3) * special_orthogonal(2)).name == "O(2)"
    assert (permutations((0, 0, 1), 2) * permutations((0, 1, 1), 2)).name == "S3"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cyclic(0), "n >= 1"),
        (lambda: orthogonal(4), "2 or 3"),
        (lambda: cyclic(2) * trivial(3), "combine"),
        (lambda: permutations((0,) * 9, 3).permutations(), "alignment or pull-back"),
        (lambda: orthogonal(2).elements(torch.float64), "continuous"),
        (lambda: orthogonal(2, points=3).shaped(torch.zeros(2, 5)), "6 numbers"),
        (lambda: Symmetry(2, 3, cyclic(2).rotations, (0, 1), False), "does not act"),
        (lambda: Symmetry(2, 2, cyclic(2).rotations, (0,), False), "species"),
        (lambda: Symmetry(0, 2, cyclic(2).rotations, (), False), "at least one point"),
        (lambda: finite("bad", torch.ones((1, 2, 2))), "orthogonal"),
        (lambda: cyclic(1000), "use SO or O"),
    ],
)
def test_bad_groups_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
