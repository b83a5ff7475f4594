"""Makes the shipped encoders: pre-training on template facts, scores on unseen names, the card.

    python -m benchmarks.repr.shipped_quip --negatives batch -o mlsim/repr/pretrained/quip-facts      to search with
    python -m benchmarks.repr.shipped_quip --negatives passage -o mlsim/repr/pretrained/quip-roles    to tag with

Passages of one to three facts, so that the encoder meets every length up to its windows. Negatives of a whole batch are
learnt last, by going on from the encoder with negatives of its own passage (shared in ``--work``). It can be killed and
started again; the encoder is written at the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import yaml
from tqdm import tqdm

from mlsim.files import write_text
from mlsim.repr.quip.biencoder import BiEncoder, Negatives, Shape
from mlsim.repr.quip.learning.facts import Split, generate
from mlsim.repr.quip.learning.labels import hard_labels
from mlsim.repr.quip.learning.passages import Passage
from mlsim.repr.quip.learning.quip_pretrain import PretrainSettings, pretrain
from mlsim.repr.quip.quip_encoder import QuipEncoder
from mlsim.repr.quip.tasks.library import Text
from mlsim.repr.quip.tasks.phrase_index import PhraseIndex
from mlsim.repr.quip.tasks.score import exact_match, recall
from mlsim.repr.quip.tokenizer import train_tokenizer
from mlsim.repr.quip.windows import WindowSettings
from mlsim.seeds import numpy_stream

SEED = 20
FACTS = (1, 2, 2, 3)
PER_LENGTH, VOCABULARY = 1000, 700
SHAPE = {"width": 64, "layers": 2, "feed_forward": 128, "positions": 66, "spread": 0.1}
WINDOW = WindowSettings(size=48, stride=34)
#: Kind of negatives -> settings, in the order of training.
STAGES: dict[Negatives, PretrainSettings] = {
    "passage": PretrainSettings(steps=2000, batch=16, learning_rate=2e-3, seed=SEED, negatives="passage"),
    "batch": PretrainSettings(steps=1000, batch=16, learning_rate=2e-3, seed=SEED, negatives="batch"),
}
NOTE = (
    "Trained on invented facts in template sentences and on nothing else. Good for: trying the tools (phrase index, "
    "tagging, ask) and as a test object. Not good for: English. For real literature load the released QuIP weights: "
    "QuipEncoder.from_pretrained(ENCODER, heads=HEADS, tokenizer=TOKENIZER)."
)


def passages(split: Split, per_length: int) -> list[Passage]:
    """Passages of all lengths."""
    return [
        p
        for k, count in enumerate(FACTS)
        for p in generate(per_length, split, numpy_stream(SEED, f"{split}-{k}"), facts_per_passage=count)
    ]


def stages(last: Negatives) -> list[PretrainSettings]:
    """Settings of the stages up to ``last``."""
    return list(STAGES.values())[: list(STAGES).index(last) + 1]


def make(work: Path, last: Negatives) -> QuipEncoder:
    """Train the encoder through the stages up to ``last``, or go on with it."""
    train = passages("train", PER_LENGTH)
    tokenizer = train_tokenizer([p.text for p in train] + [q.question for p in train for q in p.questions], VOCABULARY)
    model = BiEncoder.fresh(Shape(vocabulary=tokenizer.get_vocab_size(), **SHAPE).roberta(), SEED)
    for settings in stages(last):
        stage = settings.negatives
        with tqdm(total=settings.steps, unit="step", desc=stage, disable=not sys.stderr.isatty()) as bar:

            def show(done: int, total: int, bar: tqdm[NoReturn] = bar) -> None:
                bar.update(done - bar.n)

            pretrain(model, tokenizer, train, hard_labels(train), settings, work / stage, show)
    return QuipEncoder(model, tokenizer, WINDOW)


def scores(encoder: QuipEncoder) -> dict[str, float]:
    """Exact match and recall on names and combinations of clause and frame that training never saw."""
    library = generate(1000, "test", numpy_stream(SEED, "library"), facts_per_passage=2)
    every = [(q, k) for k, p in enumerate(library) for q in p.questions]
    asked = [every[k] for k in numpy_stream(SEED, "asked").permutation(len(every))[:500]]
    index = PhraseIndex.build(encoder, [Text("library", p.text) for p in library])
    found = recall(index.query_many(encoder, [q.question for q, _ in asked], top_k=10), asked)
    return {
        "exact_match_one_passage": exact_match(encoder, passages("test", 50)),
        "answer_recall_at_1_of_1000_passages": found.first,
        "answer_recall_at_10_of_1000_passages": found.answer,
    }


def main() -> None:
    """Train, score, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, default=Path("runs/quip-shipped"), help="checkpoint")
    parser.add_argument("--negatives", choices=tuple(STAGES), required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    encoder = make(given.work, given.negatives)
    measured = {name: round(value, 3) for name, value in scores(encoder).items()}
    card = {
        "name": given.output.name,
        "summary": "RoBERTa pretrained by question answering: token and text features, phrase search, tagging",
        "note": NOTE,
        "data": f"{PER_LENGTH * len(FACTS)} generated passages of 1 to 3 facts "
        "(mlsim.repr.quip.learning.facts, train side)",
        "command": f"python -m benchmarks.repr.shipped_quip --negatives {given.negatives} -o {given.output.name}",
        "parameters": int(sum(np.prod(t.shape) for t in encoder.state().values())),
        "training": [settings.model_dump(mode="json") for settings in stages(given.negatives)],
        "scores": measured,
    }
    encoder.save(given.output)
    write_text(given.output / "card.yaml", yaml.safe_dump(card, sort_keys=False, width=110))
    print(yaml.safe_dump(measured))


if __name__ == "__main__":
    main()
