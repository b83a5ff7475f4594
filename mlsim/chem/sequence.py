"""Sequence: what a user types, turned into residues, or refused with one line.

Accepted are one-letter codes (``YYDPETGTWY``), three-letter codes joined by hyphens or spaces
(``ACE-ALA-NME``, ``Ala-Gly``), and one-letter runs between caps (``ACE-AAQAA-NME``). ``ACE`` (acetyl), ``NME``
(N-methylamide) and ``NHE`` (amide, also ``NH2``) are caps; an end without a cap is charged (NH3+, COO-). Protonation is
that at pH 7: ``HIS`` means the neutral tautomer ``HIE``; ``HID HIE HIP ASH GLH LYN`` name a state explicitly, and so do
the names of other programs (``HISE``, ``HSD``, ``ASPH``). Two ``CYX`` are cysteines with a disulfide bond between them;
of more than two, those with the same number are bonded (``CYX1-GLY-CYX2-GLY-CYX1-GLY-CYX2``). Beside other tokens a
four-letter name such as ``DALA`` or ``NALA`` is a residue in another program's language, never four one-letter codes:
it is refused with the way to write it.

Why so strict: ``ALA`` alone could be one alanine or the tripeptide Ala-Leu-Ala, and lower case one-letter codes
mean D-amino acids in the peptide literature, and ``ACE-GLI-NME`` is a misspelt glycine more often than Gly-Leu-Ile.
Guessing would simulate another molecule than the one meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from mlsim.errors import InputError
from mlsim.names import nearest

#: The 20 amino acids, one-letter to three-letter code.
ONE_TO_THREE = {
    "A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU", "G": "GLY", "H": "HIS",
    "I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER", "T": "THR", "W": "TRP",
    "Y": "TYR", "V": "VAL",
}  # fmt: skip
#: Protonation states that may be asked for by name, and the residue they belong to.
VARIANTS = {"HID": "HIS", "HIE": "HIS", "HIP": "HIS", "ASH": "ASP", "GLH": "GLU", "LYN": "LYS", "CYX": "CYS"}
#: States that ff14SB knows inside a chain only.
INNER_ONLY = ("ASH", "GLH", "LYN")
#: The state meant by a plain residue name, where it is not the name itself.
DEFAULT_STATE = {"HIS": "HIE"}
N_CAP, C_CAPS = "ACE", ("NME", "NHE")
#: Cap to residue name, where the two differ (names of residues are those of PDB files, states those of ff14SB).
_CAP_RESIDUES = {"NHE": "NH2"}
#: Residue names of other programs, and the state they mean.
RESIDUE_ALIASES = {
    "HSD": "HID", "HSE": "HIE", "HSP": "HIP", "HISD": "HID", "HISE": "HIE", "HISH": "HIP", "HISA": "HID",
    "HISB": "HIE", "LSN": "LYN", "LYSH": "LYS", "ASPH": "ASH", "GLUH": "GLH", "CYSH": "CYS", "NMA": "NME",
    "NH2": "NHE",
}  # fmt: skip
#: PDB codes of D-amino acids.
D_AMINO_ACIDS = {
    "DAL": "alanine", "DAR": "arginine", "DSG": "asparagine", "DAS": "aspartate", "DCY": "cysteine",
    "DGN": "glutamine", "DGL": "glutamate", "DHI": "histidine", "DIL": "isoleucine", "DLE": "leucine",
    "DLY": "lysine", "MED": "methionine", "DPN": "phenylalanine", "DPR": "proline", "DSN": "serine",
    "DTH": "threonine", "DTR": "tryptophan", "DTY": "tyrosine", "DVA": "valine",
}  # fmt: skip
#: Residues that users meet and that are not supported, with what to do.
NOT_SUPPORTED = {
    "CYM": "deprotonated cysteine is not supported; use CYS",
    "HYP": "hydroxyproline is not supported; use PRO",
    "MSE": "selenomethionine is not supported; use MET",
    "PCA": "pyroglutamate is not supported; use GLN or GLU",
    "AIB": "aminoisobutyric acid is not supported",
    "ORN": "ornithine is not supported; use LYS",
    "NLE": "norleucine is not supported; use LEU or MET",
    "FOR": "the formyl cap is not supported; use ACE",
    **dict.fromkeys(("SEP", "S1P", "S2P", "SP1", "SP2"), "phosphoserine is not supported; use SER"),
    **dict.fromkeys(("TPO", "T1P", "T2P", "THP1", "THP2"), "phosphothreonine is not supported; use THR"),
    **dict.fromkeys(("PTR", "Y1P", "Y2P", "TP1", "TP2"), "phosphotyrosine is not supported; use TYR"),
}

_AMINO_ACIDS = tuple(ONE_TO_THREE.values())
_CAPS = (N_CAP, *C_CAPS)
_THREE_LETTER = frozenset(_AMINO_ACIDS) | frozenset(VARIANTS)
_ONE_LETTER = {three: one for one, three in ONE_TO_THREE.items()}
_LONGEST = 100


@dataclass(frozen=True)
class Sequence:
    """Residues of a peptide, caps included.

    Attributes
    ----------
    states : tuple of str
        Three-letter codes with the protonation state spelled out, e.g. ``("ACE", "HIE", "NME")``.
    bridges : tuple of pairs of int
        Positions of the cysteines (``CYX``) with a disulfide bond between them, lower first, sorted.
    """

    states: tuple[str, ...]
    bridges: tuple[tuple[int, int], ...] = ()

    @property
    def residues(self) -> tuple[str, ...]:
        """Residue names as a PDB file has them (``HIE`` is ``HIS``)."""
        return tuple(residue_of(s) for s in self.states)

    @property
    def text(self) -> str:
        """The sequence in three-letter codes, as :func:`parse` reads it back."""
        numbers = {k: n for n, pair in enumerate(self.bridges, start=1) for k in pair if len(self.bridges) > 1}
        return "-".join("HIS" if s == "HIE" else f"{s}{numbers.get(k, '')}" for k, s in enumerate(self.states))

    @property
    def one_letter(self) -> str:
        """The amino acids without caps in one-letter codes."""
        return "".join(_ONE_LETTER[r] for r in self.residues if r in _ONE_LETTER)

    def __len__(self) -> int:
        return len(self.states)


def parse(text: str) -> Sequence:
    """Read a peptide sequence.

    Raises
    ------
    InputError
        On an unknown or D-amino acid, a cap inside the chain, an ambiguous code, or an end that ff14SB lacks.
    """
    tokens = [t for t in re.split(r"[-\s]+", text.strip()) if t]
    if not tokens:
        raise InputError("sequence: expected residues such as ACE-ALA-NME or YYDPETGTWY, got an empty text")
    for mark, following in pairwise(tokens):
        if mark.upper() in ("D", "DL") and following.upper() in _THREE_LETTER:
            raise InputError(f"sequence '{text}': {mark}-{following} is a D-amino acid; only L is supported")
    if len(tokens) > 1:
        tokens = [_translated(token, text) for token in tokens]
    labels = [t.upper()[3:] if re.fullmatch(r"CYX\d+", t.upper()) else "" for t in tokens]
    tokens = [t[:3] if label else t for t, label in zip(tokens, labels, strict=True)]
    if len(tokens) == 1 and tokens[0].upper() in {*_THREE_LETTER, *_CAPS}:
        _refuse_ambiguous(text, tokens[0].upper())
    body = [t for t in tokens if t.upper() not in _CAPS]
    by_name = any(t.upper() in _THREE_LETTER or t.upper() in D_AMINO_ACIDS for t in body)
    states: list[str] = []
    for token in tokens:
        if token.upper() in _CAPS:
            states.append(token.upper())
        elif by_name:
            states.append(state_of(token, f"sequence '{text}'"))
        else:
            states.extend(_one_letter_run(token, text))
    return from_states(states, f"sequence '{text}'", _bridges(states, labels, f"sequence '{text}'"))


def _bridges(states: list[str], labels: list[str], source: str) -> tuple[tuple[int, int], ...]:
    """Pairs of cysteines with the same label (there is one token per state where there is a CYX)."""
    places: dict[str, list[int]] = {}
    for k, state in enumerate(states):
        if state == "CYX":
            places.setdefault(labels[k], []).append(k)
    for label, found in places.items():
        if len(found) != 2:
            raise InputError(
                f"{source}: {len(found)} CYX{label}; a disulfide bond has two (write free cysteine as CYS and "
                "number the partners of several bonds: CYX1-GLY-CYX2-GLY-CYX1-GLY-CYX2)"
            )
    return tuple(sorted((pair[0], pair[1]) for pair in places.values()))


def _translated(token: str, text: str) -> str:
    """The token of a longer sequence in the names used here, if it is a residue name of another program.

    Raises
    ------
    InputError
        If it names a D-amino acid or one end of a chain.
    """
    upper = token.upper()
    if upper in RESIDUE_ALIASES:
        return RESIDUE_ALIASES[upper]
    end, rest = upper[:1], upper[1:]
    if len(upper) == 4 and rest in _THREE_LETTER and end in "DNC":
        letters = (
            ""
            if any(c not in ONE_TO_THREE for c in upper)
            else (f" (for the tetrapeptide write {'-'.join(ONE_TO_THREE[c] for c in upper)})")
        )
        if end == "D":
            raise InputError(f"sequence '{text}': {token} is D-{rest}; only L is supported{letters}")
        side = "N-terminal" if end == "N" else "C-terminal"
        raise InputError(
            f"sequence '{text}': {token} is the {side} {rest} of Amber; write {rest} there and no cap{letters}"
        )
    return token


def residue_of(state: str) -> str:
    """Residue name of a state, as a PDB file has it."""
    return VARIANTS.get(state, _CAP_RESIDUES.get(state, state))


def from_states(states: list[str], source: str, bridges: tuple[tuple[int, int], ...] = ()) -> Sequence:
    """Check where caps and states stand, and make the sequence.

    Parameters
    ----------
    bridges : tuple of pairs of int
        Positions of the cysteines with a disulfide bond between them.

    Raises
    ------
    InputError
        If a cap is inside the chain, ff14SB has no parameters for an end, or a ``CYX`` has no partner.
    """
    for k, state in enumerate(states):
        if (state == N_CAP and k > 0) or (state in C_CAPS and k < len(states) - 1):
            side = "first" if state == N_CAP else "last"
            raise InputError(f"{source}: cap {state} at position {k + 1}; it may only be the {side} residue")
    amino = [s for s in states if s not in _CAPS]
    if not amino:
        raise InputError(f"{source}: no amino acid between the caps; the smallest is for example ACE-GLY-NME")
    if len(states) > _LONGEST:
        raise InputError(f"{source}: {len(states)} residues; at most {_LONGEST} are built here")
    if len(states) == 1:
        raise InputError(
            f"{source}: a single amino acid with both ends charged has no ff14SB parameters; cap it, "
            f"for example ACE-{amino[0]}-NME"
        )
    for state, where in ((states[0], "N-terminal"), (states[-1], "C-terminal")):
        if state in INNER_ONLY:
            raise InputError(f"{source}: ff14SB has no {where} {state}; cap that end or use {VARIANTS[state]}")
    for k, state in enumerate(states):
        if (state == "CYX") != any(k in pair for pair in bridges):
            raise InputError(f"{source}: {state} at position {k + 1} has no partner for its disulfide bond; use CYS")
    return Sequence(tuple(states), tuple(sorted(bridges)))


def is_known(code: str) -> bool:
    """Whether a three-letter code (in capitals) is a residue, a state or a cap that can be built."""
    return code in _THREE_LETTER or code in _CAPS


def state_of(code: str, source: str) -> str:
    """Protonation state for a three-letter code of an amino acid.

    Raises
    ------
    InputError
        If the code is unknown (with a suggestion), a D-amino acid, or not supported.
    """
    upper = code.upper()
    if is_known(upper):
        return DEFAULT_STATE.get(upper, upper)
    if upper in D_AMINO_ACIDS:
        raise InputError(f"{source}: {upper} is D-{D_AMINO_ACIDS[upper]}; only L-amino acids are supported")
    raise InputError(_unknown(code, source))


def _unknown(code: str, source: str) -> str:
    if code.upper() in NOT_SUPPORTED:
        return f"{source}: residue '{code}': {NOT_SUPPORTED[code.upper()]}"
    close = nearest(code.upper(), [*_AMINO_ACIDS, *VARIANTS, *_CAPS], 3)
    close.sort(key=lambda known: known[0] != code[0].upper())  # a typist rarely misses the first letter
    hint = f"did you mean {close[0]}?" if close else f"known: {' '.join(_AMINO_ACIDS)} and the caps {' '.join(_CAPS)}"
    return f"{source}: unknown residue '{code}'; {hint}"


def _one_letter_run(token: str, text: str) -> list[str]:
    if token.isalpha() and token == token.lower():
        raise InputError(
            f"sequence '{text}': lower case one-letter codes ('{token}') mean D-amino acids, which are not "
            "supported; write L-amino acids in capitals"
        )
    unknown = [c for c in token if c not in ONE_TO_THREE]
    if not unknown and len(token) == 3 and token != text.strip() and len(set(token)) > 1:
        spelled = "-".join(ONE_TO_THREE[c] for c in token)
        problem = _unknown(token, f"sequence '{text}'")
        raise InputError(f"{problem} (for the tripeptide write {spelled})")
    if not unknown:
        return [DEFAULT_STATE.get(ONE_TO_THREE[c], ONE_TO_THREE[c]) for c in token]
    if len(token) == 3 or token.upper() in NOT_SUPPORTED:
        state_of(token, f"sequence '{text}'")  # raises with a suggestion
    position = token.index(unknown[0]) + 1
    lower = " (lower case would be a D-amino acid, not supported)" if unknown[0].upper() in ONE_TO_THREE else ""
    raise InputError(
        f"sequence '{text}': unknown one-letter code '{unknown[0]}' at position {position} of '{token}'{lower}; "
        f"known: {''.join(ONE_TO_THREE)}"
    )


def _refuse_ambiguous(text: str, code: str) -> None:
    if all(c in ONE_TO_THREE for c in code):
        spelled = "-".join(ONE_TO_THREE[c] for c in code)
        single = f"the cap {code}" if code in _CAPS else f"one residue (write ACE-{code}-NME)"
        raise InputError(f"sequence '{text}': ambiguous, {single} or the tripeptide {spelled} (write it so)")
