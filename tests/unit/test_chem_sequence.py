"""Sequences: what is read, and what is refused with which words."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlsim.chem.sequence import ONE_TO_THREE, RESIDUE_ALIASES, VARIANTS, parse
from mlsim.errors import InputError


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("ACE-ALA-NME", ("ACE", "ALA", "NME")),
        ("ace-Ala-nme", ("ACE", "ALA", "NME")),
        ("ALA-ALA", ("ALA", "ALA")),
        ("AA", ("ALA", "ALA")),
        ("ALA GLY", ("ALA", "GLY")),
        ("ACE-ALA", ("ACE", "ALA")),
        ("ALA-NME", ("ALA", "NME")),
        ("ACE-AG-NME", ("ACE", "ALA", "GLY", "NME")),
        ("ACE-A-NME", ("ACE", "ALA", "NME")),
        ("ACE-AAA-NME", ("ACE", "ALA", "ALA", "ALA", "NME")),
        ("AGS", ("ALA", "GLY", "SER")),
        ("ACE-HIS-NME", ("ACE", "HIE", "NME")),
        ("ACE-HIP-NME", ("ACE", "HIP", "NME")),
        ("HH", ("HIE", "HIE")),
    ],
)
def test_one_and_three_letter_codes_with_and_without_caps_are_read(text: str, states: tuple[str, ...]) -> None:
    assert parse(text).states == states


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ACE-ALQ-NME", "did you mean ALA? (for the tripeptide write ALA-LEU-GLN)"),
        ("ALA-GLI", "did you mean GLY?"),
        ("YYZP", "unknown one-letter code 'Z' at position 3"),
        ("ACE-DAL-NME", "DAL is D-alanine"),
        ("D-ALA-GLY", "D-amino acid"),
        ("yydp", "mean D-amino acids"),
        ("YYdP", "would be a D-amino acid"),
        ("ALA", "ambiguous"),
        ("ACE", "ambiguous, the cap ACE"),
        ("A", "ACE-ALA-NME"),
        ("ACE-NME", "no amino acid"),
        ("ALA-ACE-ALA", "cap ACE at position 2"),
        ("ALA-NME-ALA", "cap NME at position 2"),
        ("ACE-CYX-NME", "disulfide"),
        ("ASH-ALA", "no N-terminal ASH"),
        ("A" * 200, "at most 100"),
        ("", "empty"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line_that_says_why(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def _is_residue_name(letters: str) -> bool:
    """Whether four letters are a residue name of another program, or of one end or hand."""
    return letters in RESIDUE_ALIASES or (letters[0] in "DNC" and letters[1:] in {*ONE_TO_THREE.values(), *VARIANTS})


@settings(deadline=None)
@given(st.text(alphabet="".join(ONE_TO_THREE), min_size=4, max_size=30), st.booleans(), st.booleans())
def test_the_spelled_out_text_is_read_back_to_the_same_sequence(letters: str, start: bool, end: bool) -> None:
    assume(not (start or end) or not _is_residue_name(letters))  # refused or another residue, see the other file
    text = ("ACE-" if start else "") + letters + ("-NME" if end else "")
    sequence = parse(text)
    assert sequence.one_letter == letters
    assert parse(sequence.text) == sequence


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_either_read_or_refused_as_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        assert len(parse(text)) >= 2
