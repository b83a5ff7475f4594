"""Design short peptides whose ends meet although they are charged, with few simulations.

The reward is half free (net charge +1) and half a simulation of this package (distance of the ends in vacuum). Every
sequence that was simulated is kept and learnt from again; at the same number of simulations blind choice is drawn
beside it.

python examples/design_peptide.py --calls 60 -o runs/design
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from mlsim.repr.soft_q.alphabet import Alphabet
from mlsim.repr.soft_q.diversity import mean_distance
from mlsim.repr.soft_q.peptide_rewards import charge, scaled, weighted, window
from mlsim.repr.soft_q.policy import GPTSettings
from mlsim.repr.soft_q.search import SoftQ
from mlsim.repr.soft_q.settings import SoftQSettings
from mlsim.workflow.design.design_settings import PropertySettings
from mlsim.workflow.design.peptide_property import SimulatedProperty

LETTERS, LENGTH = "AEKL", 5


def main() -> None:
    """One search, as many blind choices, one figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=24, help="simulations of each kind")
    parser.add_argument("--ps", type=float, default=10.0, help="length of a simulation, ps")
    parser.add_argument("--solvent", default="vacuum", help="a solvent without a box, such as gbn2")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/design"))
    given = parser.parse_args()

    what = PropertySettings(property="end-to-end", solvent=given.solvent, ps=given.ps, discard=0.5, seed=1)
    simulated = SimulatedProperty(what, given.output, progress=lambda s, v: print(f"  {s}: ends {v:.2f} nm apart"))
    closed = scaled(simulated, worst=1.4, best=0.4)
    reward = weighted([closed, window(lambda s: float(charge(s)), 1, 1, slope=50.0)], [1.0, 1.0])

    settings = SoftQSettings(
        method="multi", steps=2000, batch_size=32, written=4, write_every=5, memory=1000, budget=given.calls,
        learning_rate=2e-3, polyak=0.05, reward_scale=5.0, value_weight=0.5, model=GPTSettings(layers=1),
    )  # fmt: skip
    search = SoftQ(Alphabet(LETTERS, LENGTH, LENGTH), reward, settings, seed=1)
    search.fit(given.output)
    learnt = search.reward.known

    generator = np.random.default_rng(1)
    blind: dict[str, float] = {}
    while len(blind) < given.calls:
        text = "".join(LETTERS[k] for k in generator.integers(0, len(LETTERS), LENGTH))
        blind[text] = reward([text])[0]

    best = sorted(learnt, key=lambda s: -learnt[s])[:5]
    for text in best:
        print(f"{text}: reward {learnt[text]:.1f}, charge {charge(text):+d}, ends {simulated([text])[0]:.2f} nm apart")
    print(f"the best five differ at {mean_distance(best):.0%} of their positions")

    figure, axis = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for name, found, colour in (("soft Q-learning", learnt, "C0"), ("blind choice", blind, "C1")):
        values = np.array(list(found.values()))
        count = np.arange(1, len(values) + 1)
        axis.plot(count, values, ".", color=colour, alpha=0.4)
        axis.plot(count, values.cumsum() / count, color=colour, label=name)
    axis.set(xlabel="simulations", ylabel="reward (dots) and its running mean")
    axis.legend(frameon=False)
    figure.savefig(given.output / "design.png", dpi=150)
    print(f"figure in {given.output / 'design.png'}")


if __name__ == "__main__":
    main()
