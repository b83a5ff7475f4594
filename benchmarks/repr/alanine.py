"""Collective variables of alanine dipeptide: does the slowest coordinate of each method find the phi > 0 basin?

Trajectories in the learned solvent at 600 K, one for training, one held out; inputs are the 45 distances of the
ten heavy atoms. Of every method the first, slowest coordinate is judged on the held-out trajectory:

    separation    balanced accuracy of one threshold, set on the training trajectory, for the basin 0 < phi <= 130
    degrees timescale     -lag / ln rho(lag), rho the autocorrelation of the coordinate; 95 % bootstrap over blocks of
    0.5 ns

A coordinate with a longer timescale is the better one (variational principle); phi's own basin indicator stands in the
table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from benchmarks.result import Claim
from mlsim.analysis.basins import BASINS, assign
from mlsim.chem.catalog import load_system
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.md.settings import RunSettings
from mlsim.md.trajectory import Run
from mlsim.repr import images
from mlsim.repr.encoder import InputSettings
from mlsim.repr.hsic.objectives import ObjectiveSettings
from mlsim.repr.hsic.pretrain import PretrainSettings
from mlsim.repr.hsic.slow_axes import slow_axes
from mlsim.repr.hsic.time_lagged import TimeLaggedHSIC, TimeLaggedSettings
from mlsim.repr.registry import PRETRAINED
from mlsim.workflow.run import run

if TYPE_CHECKING:
    from benchmarks.repr.rows import Rows

NS, TEMPERATURE_K, REPORT_PS = 2.0, 600.0, 0.5
#: Frames.
LAG, BLOCK = 10, 500
SEEDS = {"train": 31, "test": 32}
REPEATS = (1, 2, 3)
INPUTS = InputSettings(kind="distances", atoms="heavy")


def trajectory(work: Path, role: str) -> Run:
    """The run, made or continued if it is not complete."""
    place = work / f"alanine-{role}"
    settings = RunSettings(ns=NS, temperature_K=TEMPERATURE_K, seed=SEEDS[role], report_ps=REPORT_PS)
    if not (place / "run.json").exists():
        run(settings, place, "new")
    elif Run.open(place).record["status"] != "complete":
        run(settings, place, "resume")
    return Run.open(place)


def distances(made: Run) -> NDArray[np.float64]:
    """Distances of all pairs of heavy atoms, nm [F, 45]."""
    return images.prepare(made.replicas[0].positions(), made.topology, INPUTS).astype(np.float64)


def left(made: Run) -> NDArray[np.bool_]:
    """Frames in the basin 0 < phi <= 130 degrees [F]."""
    quadruples = ramachandran_atoms(load_system("alanine-dipeptide"))[1].reshape(-1, 4)
    angles = dihedrals(made.replicas[0].positions(), quadruples)
    return np.asarray(assign(angles[:, 0], angles[:, 1]) == BASINS.index("alphaL"))


def balanced(coordinate: NDArray[Any], inside: NDArray[np.bool_], threshold: float, sign: float) -> float:
    """Mean of the shares told right in and outside the basin."""
    told = sign * (coordinate - threshold) > 0
    return 0.5 * float((told[inside]).mean() + (~told[~inside]).mean())


def threshold(coordinate: NDArray[Any], inside: NDArray[np.bool_]) -> tuple[float, float]:
    """Threshold and side with the best balanced accuracy."""
    candidates = np.quantile(coordinate, np.linspace(0, 1, 401)[1:-1])
    best = max((balanced(coordinate, inside, c, s), float(c), s) for c in candidates for s in (1.0, -1.0))
    return best[1], best[2]


def timescale(coordinate: NDArray[Any], lag: int) -> list[float]:
    """Implied timescale in ps with its 95 % interval."""
    x = coordinate - coordinate.mean()
    starts = range(0, len(x) - lag, BLOCK)
    sums = np.array(
        [
            [(x[a:b] * x[a + lag : b + lag]).sum(), 0.5 * (x[a:b] ** 2 + x[a + lag : b + lag] ** 2).sum()]
            for a, b in ((a, min(a + BLOCK, len(x) - lag)) for a in starts)
        ]
    )
    rng = np.random.default_rng(0)
    counts = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), 2000)
    rho = np.clip(np.divide(*(counts @ sums).T), 1e-9, 1 - 1e-9)
    value = float(sums[:, 0].sum() / sums[:, 1].sum())
    found = [-lag / np.log(max(value, 1e-9)), *np.percentile(-lag / np.log(rho), [2.5, 97.5])]
    return [round(float(t) * REPORT_PS, 1) for t in found]


def vampnet(train: NDArray[np.float64], seed: int) -> Any:
    """Deeptime's VAMPnet with the same hidden layers, lag and about as many steps: a transform to its slow axes."""
    from deeptime.decomposition.deep import VAMPNet
    from deeptime.util.data import TrajectoryDataset
    from torch import nn
    from torch.utils.data import DataLoader

    torch.manual_seed(seed)
    width = train.shape[1]
    lobe = nn.Sequential(
        nn.BatchNorm1d(width), nn.Linear(width, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 4)
    )
    net = VAMPNet(lobe=lobe, learning_rate=1e-3, epsilon=1e-6)
    data = DataLoader(TrajectoryDataset(LAG, train.astype(np.float32)), batch_size=512, shuffle=True)
    model = net.fit(data, n_epochs=20).fetch_model()
    axes = slow_axes([model.transform(train.astype(np.float32)).astype(np.float64)], LAG)
    return lambda x: axes.project(model.transform(x.astype(np.float32)).astype(np.float64))


def learner(name: str, gamma: float, seed: int) -> TimeLaggedHSIC:
    """TimeLaggedHSIC as it is shipped, or with another objective."""
    objective = ObjectiveSettings(name=name, gamma=gamma)  # type: ignore[arg-type]
    training = PretrainSettings(objective=objective, seed=seed, steps=400, batch_size=128)
    return TimeLaggedHSIC(LAG, TimeLaggedSettings(training=training), INPUTS)


def judge(work: Path, method: str, seed: int) -> dict[str, Any]:
    """One method, one initial state of its network."""
    runs = {role: trajectory(work, role) for role in SEEDS}
    x = {role: distances(made) for role, made in runs.items()}
    inside = {role: left(made) for role, made in runs.items()}
    if method == "basin indicator":
        coordinates = {role: inside[role].astype(np.float64) for role in SEEDS}
    else:
        if method == "pca":
            transform = PCA(2).fit(x["train"]).transform
        elif method == "tica":
            transform = slow_axes([x["train"]], LAG).project
        elif method == "vampnet":
            transform = vampnet(x["train"], seed)
        else:
            name, _, gamma = method.partition(" gamma ")
            transform = learner(name, float(gamma or 0), seed).fit([x["train"]]).transform
        coordinates = {role: np.asarray(transform(x[role]), dtype=np.float64)[:, 0] for role in SEEDS}
    cut, side = threshold(coordinates["train"], inside["train"])
    return {
        "part": "peptide",
        "method": method,
        "seed": seed,
        "separation": balanced(coordinates["test"], inside["test"], cut, side),
        "timescale_ps": timescale(coordinates["test"], LAG),
        "share_inside": float(inside["test"].mean()),
        "visits": int((np.diff(inside["test"].astype(int)) == 1).sum()),
    }


def ship(work: Path) -> Path:
    """Train the encoder on the training trajectory and write it with its card into the package."""
    made = trajectory(work, "train")
    encoder = learner("hsic", SHIPPED_GAMMA, REPEATS[0])
    encoder.fit([distances(made)])
    place = encoder.save(PRETRAINED / SHIPPED)
    scores = judge(work, OURS, REPEATS[0])
    card = {
        "name": SHIPPED,
        "summary": "slow coordinates of alanine dipeptide; column one tells the phi > 0 basin from the rest",
        "data": f"one run of {NS:g} ns in the learned solvent at {TEMPERATURE_K:g} K, frames {REPORT_PS} ps apart",
        "command": "python -m benchmarks.repr.alanine",
        "inputs": "distances of the ten heavy atoms, nm [45]",
        "lag_ps": LAG * REPORT_PS,
        "training": encoder.settings.model_dump(mode="json"),
        "scores": {
            "held_out_balanced_accuracy_phi_positive": round(scores["separation"], 4),
            "held_out_timescale_ps": scores["timescale_ps"],
        },
        "caution": "timescales are those of the learned solvent at that temperature, not of water at 300 K",
    }
    (place / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False, width=110))
    return place


METHODS = {"basin indicator": (1,), "pca": (1,), "tica": (1,), "vampnet": REPEATS, "infonce": REPEATS}
HSIC = tuple(f"hsic gamma {g:g}" for g in (0.0, 0.3, 1.0))
SHIPPED, SHIPPED_GAMMA = "hsic-alanine-dipeptide", 0.3
OURS = f"hsic gamma {SHIPPED_GAMMA}"


def compare(work: Path, rows: Rows) -> list[dict[str, Any]]:
    """All methods; rows that are there are kept."""
    plan = METHODS | dict.fromkeys(HSIC, REPEATS)
    return [
        rows.get(f"peptide/{method}/{seed}", lambda method=method, seed=seed: judge(work, method, seed))
        for method, seeds in plan.items()
        for seed in seeds
    ]


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Separation of the basin by the shipped setting, worst of its seeds; its timescale over TICA's."""
    ours = [row for row in rows if row["method"] == OURS]
    tica = next(row for row in rows if row["method"] == "tica")
    worst = min(row["separation"] for row in ours)
    ratio = float(np.mean([row["timescale_ps"][0] for row in ours])) / tica["timescale_ps"][0]
    name = f"alanine dipeptide, held out: {OURS}, coordinate 1"
    return [
        Claim(
            "5.2",
            f"{name} tells phi > 0, balanced accuracy, worst of {len(ours)} seeds",
            worst,
            ">= 0.95",
            worst >= 0.95,
        ),
        Claim("5.2", f"{name}, implied timescale over TICA's", ratio, ">= 1 (reported)", ratio >= 1),
    ]


def main() -> None:
    """Ship the encoder."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/hsic"))
    print(ship(parser.parse_args().work))


if __name__ == "__main__":
    main()
