"""What a fit of one solvent to many peptides is asked for. Loads neither torch nor OpenMM."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mlsim.fitting.settings import TrainSettings
from mlsim.models.transferable.forms import Form
from mlsim.settings import Settings


class PeptideSolventSettings(Settings):
    """What ``mlsim train peptides`` takes."""

    form: Form = Field("screened+additive", description="What the network gives, e.g. additive or screened+additive.")
    features: int = Field(64, ge=1, le=1024, description="Width of the network.")
    blocks: int = Field(2, ge=1, le=16, description="Number of interaction blocks.")
    n_radial: int = Field(24, ge=2, le=512, description="Number of radial functions of the filters.")
    cutoff_nm: float = Field(0.6, gt=0, description="Range of the network, nm.")
    dielectric: float = Field(95.0, gt=1, description="Dielectric constant of the water (TIP3P: 94-97).")
    shells: Literal[1, 2] = Field(1, description="Number of shells of bonded neighbours that make a kind of atom.")
    epochs: int = Field(8, ge=1, description="Number of passes over the training frames.")
    batch_size: int = Field(32, ge=1, description="Number of frames per step.")
    learning_rate: float = Field(2e-3, gt=0, description="Largest learning rate.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the averaged weights; 0 for none.")
    held_out: float = Field(0.1, gt=0, lt=0.5, description="Share of every training peptide's frames held out.")
    block_ps: float = Field(25.0, gt=0, description="Length of the blocks of time that are split, ps.")
    gap_ps: float = Field(1.0, ge=0, description="Time left out between training and held-out frames, ps.")
    seed: int = Field(1, ge=0, description="Root seed of weights and batches.")
    split_seed: int = Field(1, ge=0, description="Root seed of the split into training and held-out frames.")
    begin_at: Path | None = Field(
        None,
        description="Fit or force field whose weights are taken to begin with (fine-tuning); its architecture counts.",
    )
    system: str | None = Field(None, description="Molecule of the frames, if DATA is one file of them.")
    teachers: tuple[Path, ...] = Field(
        (),
        description="Training directory of a fit to the same frames; the mean force of several is learned in place of "
        "that of the frames.",
    )
    threads: int | None = Field(None, ge=1, le=1024, description="Number of processor threads.")
    max_minutes: float | None = Field(None, gt=0, description="Maximum time of this call, minutes.")

    def training(self) -> TrainSettings:
        """Settings of the loop; without early stopping, since the schedule ends where it should."""
        return TrainSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=50,
            block_ps=self.block_ps,
            patience=self.epochs,
            ema_decay=self.ema_decay,
            clip_norm=1.0,
            weight_decay=0.0,
            seed=self.seed,
            max_minutes=self.max_minutes,
        )
