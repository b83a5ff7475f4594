"""Second stage of a solvent for any peptide: from a fit of forces to one whose populations agree as well.

    FIT (mlsim train peptides) -> force field -> runs under the bias of the explicit frames
    DATA (forces of all peptides, split as FIT split them) + EQUILIBRIUM/NAME/start-*.h5, bias.npz -> populations

EQUILIBRIUM holds packed frames of runs that were long enough to forget their start, with the static bias they were made
under. Validation and test peptides must not be among them. The runs with the first stage's model are made here,
beside the training directory (``DIR-runs``), and continued where they were stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.dataset import split
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.packed import unpack_set
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.card import Description, Training
from mlsim.deploy.export import export
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.deploy.verify import verified
from mlsim.errors import InputError
from mlsim.fitting.settings import TrainSettings
from mlsim.fitting.solvent.population_matching import PopulationSettings
from mlsim.fitting.transferable.many_peptides import ManyPeptides
from mlsim.fitting.transferable.many_populations import ManyPopulations, PeptideEnsembles
from mlsim.fitting.transferable.peptide_arrays import shelve
from mlsim.fitting.transferable.peptide_errors import SetErrors
from mlsim.fitting.transferable.peptide_fit import PeptideFit, Task, carry_out, labelling
from mlsim.md.settings import RunSettings
from mlsim.models import weights
from mlsim.models.transferable.peptide_solvent import TransferableISSNet
from mlsim.records import FitRecord, SplitNote
from mlsim.runs.trajectory import Run
from mlsim.settings import Settings
from mlsim.workflow.simulation.run import run
from mlsim.workflow.training.baseline import keep_molecule
from mlsim.workflow.training.peptide_solvent_fit import peptides_of, validation_errors
from mlsim.workflow.training.populations import explicit_ensemble, generated_ensembles, require_temperature

RUNS, BEFORE, BIAS = "runs", "before", "bias.npz"


class PeptidePopulationSettings(Settings):
    """What ``mlsim train peptide-populations`` takes."""

    ns: float = Field(8.0, gt=0, description="Length of each run with the model of the first stage, ns.")
    replicas: int = Field(2, ge=1, description="Number of runs per peptide.")
    discard_ps: float = Field(100.0, ge=0, description="Beginning of every run that is left out, ps.")
    held_out: float = Field(0.15, gt=0, lt=0.5, description="Share of explicit frames and of runs held out.")
    block_ps: float = Field(100.0, gt=0, description="Length of the blocks of explicit frames that are split, ps.")
    weight: float = Field(0.3, gt=0, description="Weight of the populations beside the forces.")
    pairs: int = Field(64, ge=1, description="Number of pairs of conformations per step, over all peptides.")
    epochs: int = Field(3, ge=1, description="Number of passes over the training frames.")
    batch_size: int = Field(32, ge=1, description="Number of force frames per step.")
    learning_rate: float = Field(5e-4, gt=0, description="Largest learning rate.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the averaged weights; 0 for none.")
    seed: int = Field(1, ge=0, description="Root seed of runs, splits, batches and pairs.")

    def training(self, block_ps: float) -> TrainSettings:
        """Settings of the loop."""
        return TrainSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=50,
            block_ps=block_ps,
            patience=self.epochs,
            ema_decay=self.ema_decay,
            clip_norm=1.0,
            weight_decay=0.0,
            seed=self.seed,
        )


@dataclass(frozen=True, eq=False)
class PopulationsFit:
    """A finished second stage.

    ``pair_losses`` are held-out and by peptide; log 2 = 0.693 where the first stage's model was right already.
    """

    fit: PeptideFit
    pair_losses: dict[str, float]
    validation: SetErrors | None


def match_populations(
    first: Path,
    data: Path,
    equilibrium: Path,
    directory: Path,
    settings: PeptidePopulationSettings,
    progress: Literal["auto", "off"] = "auto",
    start: Literal["new", "resume"] = "new",
) -> PopulationsFit:
    """Correct the populations of a transferable solvent on the peptides of ``equilibrium``.

    Parameters
    ----------
    first : Path
        Training directory of ``mlsim train peptides``.
    data : Path
        The packed set that it was fitted to.
    equilibrium : Path
        Packed frames of long runs, with ``bias.npz`` beside them, one folder per peptide.
    directory : Path
        New training directory.

    Raises
    ------
    MissingError, InputError
        If something of these is not there, or they do not belong together.
    OccupiedError, CheckpointError, StorageError, UnphysicalError
        As every fit and every run.
    """
    record, model = FitRecord.read(first), weights.load(first)
    if not isinstance(model, TransferableISSNet) or record.split is None or record.peptides is None:
        raise InputError(f"{first}: expected a fit of mlsim train peptides, got one of kind {record.kind}")
    peptides = list(peptides_of(data, "training"))
    known = {name: str(told["digest"]) for name, told in record.peptides.items()}
    found = {peptide.name: peptide.frames.digest for peptide, _ in peptides}
    if known != found:
        changed = sorted({*known} ^ {*found} | {n for n in known if found.get(n, known[n]) != known[n]})
        raise InputError(
            f"{data}: not the frames of {first}: {len(changed)} peptides differ, among them {', '.join(changed[:3])}; "
            "held-out frames of the one stage must never be trained on in the other"
        )
    held = list(peptides_of(data, "validation"))
    explicit = _equilibrium(equilibrium, {peptide.name for peptide, _ in held})
    place = directory.parent / f"{directory.name}-{RUNS}"
    artifact = _exported(model, record, peptides[0][1], place / BEFORE)
    ensembles = []
    for name, (molecule, frames) in explicit.items():
        made = _run(name, artifact, equilibrium / name / BIAS, settings, place / name)
        require_temperature(record, made)
        note = SplitNote(
            fractions=(1 - settings.held_out, settings.held_out, 0.0),
            block_ps=settings.block_ps,
            gap_ps=0.0,
            seed=settings.seed,
        )
        parts = split.repeated(frames, note)
        pair = (explicit_ensemble(parts.train, made, 0.0), explicit_ensemble(parts.valid, made, 0.0))
        generated = generated_ensembles(made, molecule, settings.discard_ps, settings.held_out)
        ensembles.append(PeptideEnsembles(name, solvent_atoms(molecule), pair, generated))
    divided = record.split
    arrays = shelve(
        (peptide for peptide, _ in peptides),
        directory.parent / f".{directory.name}-arrays",
        divided.fractions[1],
        divided.block_ps,
        divided.gap_ps,
        divided.seed,
        labelling(model),
    )
    training = settings.training(divided.block_ps)
    extra = PopulationSettings(weight=settings.weight, pairs=settings.pairs)
    temperature = float(record.temperature_K or made.temperature_K)
    objective = ManyPopulations(model, ManyPeptides(model, arrays), ensembles, temperature, extra, settings.seed)
    task = Task(
        "populations", objective.identity(training), training, directory, progress, start, begun_from=record.identity
    )
    result = carry_out(objective, model, arrays, task)
    keep_molecule(peptides[0][1], directory)
    losses = dict(zip(explicit, (float(v) for v in objective.pair_losses()), strict=True))
    return PopulationsFit(result, losses, validation_errors(model, held) if held else None)


def _equilibrium(directory: Path, forbidden: set[str]) -> dict[str, tuple[Molecule, ForceFrames]]:
    """Molecules and frames by name."""
    explicit = {}
    for name, frames in unpack_set(directory).items():
        molecule = build(name)
        if molecule.digest != frames.molecule_digest:
            raise InputError(f"{directory / name}: the frames are of another molecule than {name}")
        if name in forbidden:
            raise InputError(f"{directory / name}: is a validation peptide, which must not be trained on")
        if not (directory / name / BIAS).is_file():
            raise InputError(f"{directory / name}: no {BIAS}; expected the static bias of the frames beside them")
        explicit[name] = molecule, frames
    return explicit


def _exported(model: TransferableISSNet, record: FitRecord, molecule: Molecule, directory: Path) -> ForceFieldArtifact:
    """The first stage's model as a verified force field, made once."""
    if (directory / "card.yaml").is_file():
        return verified(ForceFieldArtifact.read(directory))
    described = Description.parse(
        {
            "role": model.role,
            "scope": "types",
            "temperature_K": record.temperature_K,
            "force_field": record.force_field,
            "water": record.water,
            "training": Training(
                data_digest=record.train_digest,
                data=record.data or "",
                frames=record.n_train,
                settings_digest=record.identity,
                notes="forces alone; for the runs of the second stage",
            ),
        },
        str(directory),
    )
    directory.parent.mkdir(parents=True, exist_ok=True)
    return verified(export(model, molecule, directory, described))


def _run(name: str, artifact: ForceFieldArtifact, bias: Path, settings: PeptidePopulationSettings, place: Path) -> Run:
    """Runs of a peptide with the first stage's model under the bias of its explicit frames; made or continued."""
    wanted = RunSettings(
        system=name,
        solvent=f"issnet:{artifact.directory}",
        ns=settings.ns,
        replicas=settings.replicas,
        bias=str(bias),
        report_ps=0.5,
        seed=settings.seed,
        platform="Reference",
    )
    begun = (place / "run.json").is_file()
    if not (begun and all(r.record.status == "complete" for r in Run.open(place).replicas)):
        run(wanted, place, "resume" if begun else "new")
    return Run.open(place)
