"""Letters and tokens: the strings a policy may write, and the integers a language model sees.

Token 0 begins every sequence and fills the end of short ones, token 1 ends a sequence, letter k is token k + 2. A
sequence x_1 ... x_T is the row [0, x_1, ..., x_T, 1] of actions x_1 ... x_T, end; the end is an action only where the
length is free. A sequence of the greatest length ends by itself, and with equal least and greatest length there is no
end token at all, so that nothing has to be learnt about length that is known.

Why letters and not a tokenizer: peptides, motifs and prompts of this package are strings of single letters, and the
mapping must be bijective for exact log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlsim.errors import InputError

BEGIN, END, FIRST_LETTER = 0, 1, 2
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


@dataclass(frozen=True)
class Alphabet:
    """Strings over ``letters`` of length ``shortest`` to ``longest``.

    Raises
    ------
    InputError
        If letters repeat, are missing, or the lengths are not 1 <= shortest <= longest.
    """

    letters: str
    shortest: int
    longest: int

    def __post_init__(self) -> None:
        if len(self.letters) < 2 or len(set(self.letters)) != len(self.letters):
            raise InputError(f"letters: expected at least two different letters, got '{self.letters}'")
        if not 1 <= self.shortest <= self.longest:
            raise InputError(f"lengths: expected 1 <= shortest <= longest, got {self.shortest} and {self.longest}")

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.letters) + FIRST_LETTER

    def encode(self, sequences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Actions int64 [B, T] (0 behind the end) and which of them were taken, bool [B, T]; T = ``longest``.

        Raises
        ------
        InputError
            If a sequence has another letter or length than allowed.
        """
        index = {letter: k + FIRST_LETTER for k, letter in enumerate(self.letters)}
        actions = torch.zeros((len(sequences), self.longest), dtype=torch.int64)
        taken = torch.zeros_like(actions, dtype=torch.bool)
        for row, text in enumerate(sequences):
            if not self.shortest <= len(text) <= self.longest:
                raise InputError(
                    f"sequence '{text}': expected {self.shortest} to {self.longest} letters, got {len(text)}"
                )
            try:
                tokens = [index[letter] for letter in text]
            except KeyError as error:
                raise InputError(f"sequence '{text}': expected letters of '{self.letters}', got {error}") from None
            if len(text) < self.longest:
                tokens.append(END)
            actions[row, : len(tokens)] = torch.tensor(tokens)
            taken[row, : len(tokens)] = True
        return actions, taken

    def decode(self, actions: Tensor) -> list[str]:
        """Strings of actions [B, T]; everything from the first token that is no letter on is ignored."""
        texts = []
        for row in actions.tolist():
            letters = []
            for token in row:
                if token < FIRST_LETTER:
                    break
                letters.append(self.letters[token - FIRST_LETTER])
            texts.append("".join(letters))
        return texts

    def allowed(self, device: torch.device | None = None) -> Tensor:
        """Which actions are possible at each position, bool [T, size]."""
        mask = torch.zeros((self.longest, self.size), dtype=torch.bool, device=device)
        mask[:, FIRST_LETTER:] = True
        mask[self.shortest :, END] = True
        return mask
