"""Residue names of other programs in a sequence: the residue meant, or a refusal; never four one-letter codes."""

from __future__ import annotations

import pytest

from mlsim.chem import checks
from mlsim.chem.peptide import build
from mlsim.chem.sequence import parse
from mlsim.chem.templates import sequence_of
from mlsim.errors import InputError


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("HISE", "HIE"), ("HISD", "HID"), ("HISH", "HIP"), ("HSD", "HID"), ("hse", "HIE"), ("ASPH", "ASH"),
        ("GLUH", "GLH"), ("LYSH", "LYS"), ("CYSH", "CYS"), ("LSN", "LYN"), ("LYN", "LYN"),
    ],
)  # fmt: skip
def test_the_state_meant_is_built(name: str, state: str) -> None:
    assert parse(f"ACE-{name}-NME").states == ("ACE", state, "NME")
    assert parse(f"ACE-ALA-{name}-GLY-NMA").states == ("ACE", "ALA", state, "GLY", "NME")


@pytest.mark.parametrize("text", ["ACE-DALA-NME", "ACE-D-ALA-NME", "ALA-DVAL-GLY", "ALA-D-VAL", "ACE-dala-NME"])
def test_a_D_amino_acid_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(InputError, match="only L is supported"):
        parse(text)


@pytest.mark.parametrize(("text", "side"), [("ACE-NALA-NME", "N-terminal"), ("NALA-GLY", "N-"), ("GLY-CVAL", "C-")])
def test_a_terminal_name_of_amber_is_refused_with_the_way_to_write_it(text: str, side: str) -> None:
    with pytest.raises(InputError, match=side):
        parse(text)


def test_one_letter_codes_alone_and_between_caps_are_read_as_before() -> None:
    assert parse("NALA").one_letter == "NALA"
    assert parse("ACE-AAQAA-NME").one_letter == "AAQAA"
    assert parse("YYDPETGTWY").one_letter == "YYDPETGTWY"


def test_neutral_lysine_is_built_neutral_and_recognised() -> None:
    molecule = build("ACE-LYN-NME")
    assert molecule.charges.sum() == pytest.approx(0.0, abs=1e-5)
    assert checks.check(molecule).passed
    assert sequence_of(molecule.topology).states == ("ACE", "LYN", "NME")
    assert sequence_of(build("ACE-LYS-NME").topology).states == ("ACE", "LYS", "NME")


def test_neutral_lysine_at_an_end_is_refused() -> None:
    with pytest.raises(InputError, match="N-terminal LYN"):
        parse("LYN-ALA-NME")
