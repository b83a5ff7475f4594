"""The six models of the QuIP benchmark: one size, the same passages, as many steps.

A step takes ``PASSAGES`` passages (reading, masking) or ``PAIRS`` pairs of question and passage (cross-encoder), about
as many tokens. Half of the passages hold one fact and half two: one fact leaves nothing but the role to tell
apart, and is what a small model learns first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from transformers import RobertaConfig

from benchmarks.repr.masked_lm import MaskedObjective
from mlsim.repr.quip.biencoder import BiEncoder, Negatives, Shape
from mlsim.repr.quip.learning import facts
from mlsim.repr.quip.learning.cross_encoder import CrossEncoder, soft_labels
from mlsim.repr.quip.learning.labels import hard_labels
from mlsim.repr.quip.learning.passages import Passage
from mlsim.repr.quip.learning.quip_loop import LoopSettings, run
from mlsim.repr.quip.learning.quip_pretrain import PretrainSettings, digest_of, fit_teacher, pretrain
from mlsim.repr.quip.quip_encoder import QuipEncoder
from mlsim.repr.quip.tokenizer import train_tokenizer
from mlsim.seeds import numpy_stream

TRAIN, FACTS = 5000, (1, 2)
STEPS, RATE, WIDTH, LAYERS, VOCABULARY, SPREAD = 1200, 2e-3, 64, 2, 700, 0.1
PASSAGES, PAIRS = 16, 32  # per step


@dataclass(frozen=True)
class Setup:
    """What the models of a seed have in common."""

    seed: int
    place: Path
    passages: list[Passage]
    tokenizer: Tokenizer
    config: RobertaConfig

    @classmethod
    def of(cls, seed: int, place: Path) -> Setup:
        """Passages and tokenizer of a seed; checkpoints go to ``place``."""
        passages = [
            passage
            for count in FACTS
            for passage in facts.generate(
                TRAIN // len(FACTS), "train", numpy_stream(seed, f"train-{count}"), facts_per_passage=count
            )
        ]
        words = [p.text for p in passages] + [q.question for p in passages for q in p.questions]
        tokenizer = train_tokenizer(words, VOCABULARY)
        shape = Shape(
            vocabulary=tokenizer.get_vocab_size(), width=WIDTH, layers=LAYERS, feed_forward=2 * WIDTH, spread=SPREAD
        )
        return cls(seed, place, passages, tokenizer, shape.roberta())

    def settings(self, batch: int) -> dict[str, float]:
        """Length and optimizer, the same for all models."""
        return {"steps": STEPS, "learning_rate": RATE, "seed": self.seed, "batch": batch}

    def random(self) -> QuipEncoder:
        """Not trained."""
        return QuipEncoder(BiEncoder.fresh(self.config, self.seed), self.tokenizer)

    def reader(self, name: str) -> QuipEncoder:
        """A bi-encoder by its name; "QA, batch" goes on from "QA" for half as many steps."""
        model = BiEncoder.fresh(self.config, self.seed)
        labels, settings = hard_labels(self.passages), self.settings(PASSAGES)
        negatives: Negatives = "passage"
        if name == "student":
            labels = soft_labels(self.cross(), self.tokenizer, self.passages)
        elif name == "QA, batch":
            model, negatives = self.reader("QA").model, "batch"
            settings["steps"] = STEPS // 2
        parsed = PretrainSettings.parse({**settings, "negatives": negatives}, name)
        pretrain(model, self.tokenizer, self.passages, labels, parsed, self.place / name)
        return QuipEncoder(model, self.tokenizer)

    def masked(self) -> QuipEncoder:
        """Masked language model (with fresh heads)."""
        objective = MaskedObjective(self.config, self.tokenizer, self.passages, self.seed)
        identity = digest_of(objective.module, self.tokenizer, self.passages, hard_labels(self.passages))
        run(objective, LoopSettings.parse(self.settings(PASSAGES), "masked"), identity, self.place / "masked")
        model = BiEncoder.fresh(self.config, self.seed)
        model.roberta = objective.module.roberta
        return QuipEncoder(model, self.tokenizer)

    def cross(self) -> CrossEncoder:
        """Cross-encoder trained on the given answers."""
        model = CrossEncoder.fresh(self.config, self.seed)
        settings = LoopSettings.parse(self.settings(PAIRS), "cross")
        fit_teacher(model, self.tokenizer, self.passages, hard_labels(self.passages), settings, self.place / "cross")
        return model
