"""Invented scientific facts in template sentences: passages, questions, answers, roles, paraphrases.

What they are for: tests and benchmarks of question-answering pre-training, where every answer, every word's role and
every paraphrase is known. What they are not: English. An encoder trained on them knows these templates, nothing else.

How leakage is kept out: a name belongs to the training or the test side by a hash of its letters, whatever the
seed, and a pair (clause, frame) by its number, so that a test sentence has names never seen and a combination of clause
and frame never seen, though each clause and each frame is known by itself. Facts are about names and so never
shared. Names say nothing about roles: an inhibitor and what it inhibits come from one pool, and most clauses
put the second argument first.

A passage has one topic, which takes part in each of its facts, now as the first argument, now as the second; the same
relation may occur in both directions ("A inhibits B. C inhibits A."), so that a reader must tell the roles apart.
Within one call of ``generate`` a question has one answer only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlsim.errors import InputError
from mlsim.repr.quip.learning.passages import Passage, QuestionAnswer
from mlsim.seeds import derive

Split = Literal["train", "test"]

FRAMES = (
    "{s}.",
    "We found that {s}.",
    "In earlier work {s}.",
    "At neutral pH {s}.",
    "{s} in all experiments.",
    "Here we show that {s}.",
    "{s}, as reported before.",
    "It is known that {s}.",
)
METHODS = ("NMR", "crystallography", "simulation", "spectroscopy", "calorimetry", "microscopy", "scattering")
_INVENTORY = (
    "bet bex bix bon den des dol dram dres drim fem fil fol get glin glis glit glor glun glux gur kat kix "
    "kom kren krir krix lan las lel lil lur lux mes met mol mus nom pas pet pix plut pos pun ril rit ros "
    "stol sum tel tin ton tot tres tul tun ven vet vur vut zar zen zir"
)
_SYLLABLES = _INVENTORY.split()
#: One name in this many belongs to the test side, and one (clause, frame) pair in this many.
_TEST_SHARE = 4


@dataclass(frozen=True)
class Relation:
    """A relation of two arguments, its clauses, and the questions that ask for each argument (none: not asked for)."""

    name: str
    roles: tuple[str, str]
    clauses: tuple[str, ...]
    asks_first: tuple[str, ...]
    asks_second: tuple[str, ...]
    second: Literal["molecule", "organism", "method", "kelvin", "angstrom"] = "molecule"


def _verbs(name: str, roles: tuple[str, str], verbs: Sequence[tuple[str, str, str]]) -> Relation:
    """A relation of two molecules from (third person, participle, base form) of its verbs."""
    clauses: list[str] = []
    for third, participle, _ in verbs:
        clauses += [f"{{a}} {third} {{b}}", f"{{b}} is {participle} by {{a}}"]
        clauses.append(f"{{b}}, which {{a}} {third}, was purified")
    first = [
        q for v, p, _ in verbs for q in (f"What {v} {{b}}?", f"Which molecule {v} {{b}}?", f"What is {{b}} {p} by?")
    ]
    second = [q for v, p, base in verbs for q in (f"What does {{a}} {base}?", f"What is {p} by {{a}}?")]
    return Relation(name, roles, tuple(clauses), tuple(first), tuple(second))


RELATIONS = (
    _verbs(
        "inhibits", ("inhibitor", "inhibited"), (("inhibits", "inhibited", "inhibit"), ("blocks", "blocked", "block"))
    ),
    _verbs("binds", ("receptor", "ligand"), (("binds", "bound", "bind"), ("captures", "captured", "capture"))),
    _verbs("activates", ("activator", "activated"), (("activates", "activated", "activate"),)),
    _verbs("cleaves", ("protease", "substrate"), (("cleaves", "cleaved", "cleave"), ("cuts", "cut", "cut"))),
    Relation(
        "found",
        ("molecule", "organism"),
        ("{a} was found in {b}", "{b} produces {a}", "{a} occurs in {b}"),
        ("What was found in {b}?", "What does {b} produce?", "Which molecule occurs in {b}?"),
        ("Where was {a} found?", "What produces {a}?", "Where does {a} occur?"),
        "organism",
    ),
    Relation(
        "studied",
        ("molecule", "method"),
        ("{a} was studied by {b}", "{b} was applied to {a}"),
        (),
        ("How was {a} studied?", "Which method was applied to {a}?"),
        "method",
    ),
    Relation(
        "unfolds",
        ("molecule", "temperature"),
        ("{a} unfolds at {b}", "{a} melts at {b}"),
        (),
        ("At what temperature does {a} unfold?", "When does {a} melt?"),
        "kelvin",
    ),
    Relation(
        "solved",
        ("molecule", "resolution"),
        ("the structure of {a} was solved at {b}", "{a} was resolved to {b}"),
        (),
        ("At what resolution was {a} solved?", "How well was {a} resolved?"),
        "angstrom",
    ),
)


@dataclass(frozen=True)
class Fact:
    """One sentence, its two arguments and where they stand.

    Attributes
    ----------
    text : str
    arguments : tuple of str
        First and second argument.
    starts : tuple of int
        Character at which each begins in ``text``.
    roles : tuple of str
    """

    relation: Relation
    text: str
    arguments: tuple[str, str]
    starts: tuple[int, int]

    @property
    def roles(self) -> tuple[str, str]:
        """Names of the two roles."""
        return self.relation.roles

    def questions(self, side: int) -> tuple[str, ...]:
        """Every way to ask for argument ``side`` (0 or 1)."""
        forms = (self.relation.asks_first, self.relation.asks_second)[side]
        return tuple(f.format(a=self.arguments[0], b=self.arguments[1]) for f in forms)


def names(count: int, split: Split, rng: np.random.Generator, ending: str = "") -> list[str]:
    """Draw ``count`` different invented names of the given side (two or three syllables, capitalised)."""
    found: dict[str, None] = {}
    for _ in range(200 * count + 1000):
        if len(found) == count:
            return list(found)
        parts = [_SYLLABLES[int(rng.integers(len(_SYLLABLES)))] for _ in range(2 + int(rng.random() < 0.3))]
        name = ("".join(parts) + ending).capitalize()
        if side_of(name) == split:
            found[name] = None
    raise InputError(f"expected at most some 60,000 different names, got {count}; ask for fewer")


def side_of(name: str) -> Split:
    """The side to which a name belongs: a hash of its letters decides."""
    return "test" if derive(0, name) % _TEST_SHARE == 0 else "train"


def sentence(
    relation: Relation,
    arguments: tuple[str, str],
    split: Split,
    rng: np.random.Generator,
    frames: Sequence[str] = FRAMES,
) -> Fact:
    """Put a fact into words with a (clause, frame) pair of the given side."""
    pairs = [(c, f) for c in range(len(relation.clauses)) for f in range(len(frames))]
    allowed = [(c, f) for c, f in pairs if ((c + f) % _TEST_SHARE == 0) == (split == "test")]
    c, f = allowed[int(rng.integers(len(allowed)))]
    marked = frames[f].format(s=relation.clauses[c]).replace("{a}", "\0").replace("{b}", "\1")
    return _fill(relation, marked, arguments)


def _fill(relation: Relation, marked: str, arguments: tuple[str, str]) -> Fact:
    text, starts = "", [0, 0]
    for char in marked[0].upper() + marked[1:]:
        if char in "\0\1":
            starts[ord(char)] = len(text)
            text += arguments[ord(char)]
        else:
            text += char
    return Fact(relation, text, arguments, (starts[0], starts[1]))


def second_argument(
    relation: Relation, molecules: Sequence[str], organisms: Sequence[str], rng: np.random.Generator
) -> str:
    """Draw what stands second in ``relation``."""
    if relation.second == "kelvin":
        return f"{rng.integers(290, 400)} kelvin"
    if relation.second == "angstrom":
        return f"{rng.integers(8, 40) / 10:.1f} angstrom"
    pool = {"molecule": molecules, "organism": organisms, "method": METHODS}[relation.second]
    return pool[int(rng.integers(len(pool)))]


def generate(count: int, split: Split, rng: np.random.Generator, facts_per_passage: int = 4) -> list[Passage]:
    """Passages of ``facts_per_passage`` facts about one topic each, every fact with its questions.

    Parameters
    ----------
    count : int
    split : {"train", "test"}
        Side of names and of (clause, frame) pairs.
    rng : numpy.random.Generator
    facts_per_passage : int

    Returns
    -------
    list of Passage
        No question has two answers within one call; one wording of each question is drawn at random.
    """
    molecules = names(max(2 * count, 8), split, rng)
    organisms = names(max(count, 8), split, rng, ending="us")
    topics, partners = molecules[:count], molecules
    asked: set[tuple[str, int, str]] = set()
    passages = []
    for topic in topics:
        drawn: list[Fact] = []
        for _ in range(50 * facts_per_passage):
            if len(drawn) == facts_per_passage:
                break
            relation = RELATIONS[int(rng.integers(len(RELATIONS)))]
            pair = (topic, second_argument(relation, partners, organisms, rng))
            if relation.second == "molecule" and rng.random() < 0.5:
                pair = (pair[1], pair[0])
            keys = {(relation.name, 1, pair[0]), (relation.name, 0, pair[1])}
            keys = {k for k in keys if k[1] == 1 or relation.asks_first}
            if pair[0] == pair[1] or keys & asked:
                continue
            asked |= keys
            drawn.append(sentence(relation, pair, split, rng))
        passages.append(_join(drawn, rng))
    return passages


def _join(drawn: Sequence[Fact], rng: np.random.Generator) -> Passage:
    text, pairs = "", []
    for fact in drawn:
        shift = len(text) + (1 if text else 0)
        text = f"{text} {fact.text}" if text else fact.text
        for side in (0, 1):
            forms = fact.questions(side)
            if forms:
                form = forms[int(rng.integers(len(forms)))]
                pairs.append(QuestionAnswer(form, fact.arguments[side], shift + fact.starts[side]))
    return Passage(text, tuple(pairs))
