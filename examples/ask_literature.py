"""Ask questions of a folder of texts, tag roles from four sentences, and print what was found.

The texts are invented facts, because the shipped encoder knows nothing else; names were never seen in training. For
real literature give the released QuIP weights (see ``QuipEncoder.from_pretrained``) and your own folder of abstracts.

python examples/ask_literature.py -o runs/literature
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mlsim.repr.quip.learning import facts
from mlsim.repr.quip.quip_encoder import QuipEncoder
from mlsim.repr.quip.tasks.phrase_index import PhraseIndex
from mlsim.repr.quip.tasks.tagging import Entity, TaggedText, Tagger


def main() -> None:
    """Write a library, index it, ask; then tag."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/literature"))
    given = parser.parse_args()
    rng = np.random.default_rng(7)
    library = facts.generate(100, "test", rng, facts_per_passage=2)
    folder = given.output / "texts"
    folder.mkdir(parents=True, exist_ok=True)
    for number, passage in enumerate(library):
        (folder / f"abstract-{number:03d}.txt").write_text(passage.text + "\n")

    encoder = QuipEncoder.from_pretrained("quip-facts")
    index = PhraseIndex.build_folder(encoder, folder)
    index.save(given.output / "index")
    print(f"{len(index)} passages, {len(index.vectors)} tokens\n")
    print(f"{'question':<44s} {'answer':<18s} {'score':>6s}  {'source':<18s} true")
    for passage in library[:8]:
        asked = passage.questions[0]
        best = index.query(encoder, asked.question, top_k=1)[0]
        print(f"{asked.question:<44s} {best.text:<18s} {best.score:6.1f}  {best.source:<18s} {asked.answer}")

    inhibits = facts.RELATIONS[0]
    sentences = [facts.sentence(inhibits, tuple(facts.names(2, "test", rng)), "test", rng) for _ in range(8)]
    tagged = [
        TaggedText(
            s.text,
            tuple(Entity(k, k + len(x), r) for k, x, r in zip(s.starts, s.arguments, s.roles, strict=True)),
        )
        for s in sentences
    ]
    reader = QuipEncoder.from_pretrained("quip-roles")  # quip-facts finds phrases, this one knows their roles
    tagger = Tagger.fit(reader, tagged[:4], {"inhibitor": "What inhibits it?", "inhibited": "What does it inhibit?"})
    print(f"\n{'tagged after four sentences':<60s} {'inhibitor':<14s} inhibited")
    for found in tagger.predict([t.text for t in tagged[4:]]):
        by_label = {e.label: found.text[e.begin : e.end] for e in found.entities}
        print(f"{found.text:<60s} {by_label.get('inhibitor', '-'):<14s} {by_label.get('inhibited', '-')}")


if __name__ == "__main__":
    main()
