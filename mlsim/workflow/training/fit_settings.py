"""What the fits of one molecule's solvent are asked for. Loads neither torch nor OpenMM.

A field that is None by default is decided by the data: by their number, and by whether they carry error bars.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mlsim.settings import Settings

_BY_DATA = "[default: by the data]"


class FitSettings(Settings):
    """What every fit has.

    ``threads`` and ``max_minutes`` decide nothing of the result.
    """

    system: str | None = Field(None, description="Molecule of the frames. [default: the known system that fits]")
    seed: int = Field(1, ge=0, description="Root seed of weights, split, batches and pairs.")
    threads: int | None = Field(None, ge=1, le=1024, description="Number of processor threads.")
    max_minutes: float | None = Field(
        None, gt=0, description="Maximum time of this call, minutes; it stops after an epoch."
    )


class IssnetSettings(FitSettings):
    """An ISSNet by force matching."""

    features: int = Field(64, ge=1, le=1024, description="Width of the network.")
    blocks: int = Field(2, ge=1, le=16, description="Number of interaction blocks.")
    n_radial: int = Field(32, ge=2, le=512, description="Number of radial functions of the filters.")
    cutoff_nm: float = Field(1.2, gt=0, description="Range of the filters, nm.")
    activation: Literal["silu", "tanh"] = Field(
        "silu", description="Activation: silu (learns faster), or tanh as in the article."
    )
    baseline: str = Field(
        "none",
        min_length=1,
        description="Model under the network: none, obc2 (for charged side chains), gbn2, or another formula.",
    )
    epochs: int | None = Field(None, ge=1, description=f"Number of passes over the training frames. {_BY_DATA}")
    batch_size: int | None = Field(None, ge=1, description=f"Number of frames per step. {_BY_DATA}")
    learning_rate: float | None = Field(None, gt=0, description=f"Largest learning rate. {_BY_DATA}")
    ema_decay: float | None = Field(
        None, ge=0, lt=1, description=f"Decay of the average of the weights; 0 for no average. {_BY_DATA}"
    )
    patience: int | None = Field(
        None, ge=1, description=f"Number of epochs without improvement before stopping. {_BY_DATA}"
    )
    held_out: float = Field(
        0.1, gt=0, lt=0.5, description="Share of the frames for early stopping; as many again for the test."
    )
    block_ps: float = Field(100.0, gt=0, description="Length of the blocks of time that are split, ps.")
    gap_ps: float = Field(2.0, ge=0, description="Time left out between parts, ps.")

    def model(self) -> dict[str, Any]:
        """Settings of the network."""
        return self.model_dump(include={"features", "blocks", "n_radial", "cutoff_nm", "activation", "baseline"})

    def training(self) -> dict[str, Any]:
        """Settings of the loop that do not wait for the data."""
        keys = {"epochs", "batch_size", "learning_rate", "ema_decay", "patience", "seed", "block_ps"}
        given = {key: value for key, value in self.model_dump(include=keys).items() if value is not None}
        return given | {"max_minutes": self.max_minutes}


class PopulationsSettings(FitSettings):
    """The second stage: the populations of basins of a fitted model are corrected."""

    fit: Path = Field(description="Training directory of the model to correct.")
    run: Path = Field(
        description="Directory of a run with that model, under a fixed bias (best that of the frames) or none."
    )
    weight: float = Field(0.3, gt=0, description="Weight of the populations beside the forces.")
    epochs: int = Field(3, ge=1, description="Number of passes over the force frames.")
    batch_size: int = Field(32, ge=1, description="Number of force frames per step.")
    pairs: int = Field(64, ge=1, description="Number of pairs per step.")
    learning_rate: float = Field(5e-4, gt=0, description="Largest learning rate.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the average of the weights; 0 for no average.")
    discard_ps: float = Field(0.0, ge=0, description="Start of the explicit frames that is left out, ps.")
    discard_run_ps: float = Field(100.0, ge=0, description="Start of the run that is left out, ps.")

    def training(self) -> dict[str, Any]:
        """Settings of the loop, but for the blocks, which are those of the first stage."""
        return self.model_dump(include={"epochs", "batch_size", "learning_rate", "ema_decay", "seed", "max_minutes"})


class RefineSettings(Settings):
    """One round of active learning: the run, the labels, and the fits of the new members.

    ``uncertain_share`` of the run's frames, those with the largest force spread, are candidates (at least as many as
    there shall be labels); frames before ``discard_ps`` are not. ``held_out`` of the labels stop the training early, as
    many again test it.
    """

    system: str = Field(description="Molecule.")
    ns: float = Field(1.0, gt=0, le=1e6, description="Length of the run, ns.")
    bias: str = Field(
        "metadynamics", description="Bias of the run: metadynamics, none, or path of the bias .npz of an earlier run."
    )
    count: int = Field(50, ge=1, description="Number of new labels.")
    stderr_kJ_mol_nm: float | None = Field(
        6.0, gt=0, description="Standard error at which a label is done, kJ/mol/nm; none for labels of full length."
    )
    max_ps: float = Field(100.0, gt=0, description="Maximum length of a label, ps.")
    uncertain_share: float = Field(
        0.1, gt=0, le=1, description="Share of the frames, the most uncertain, that labels are taken from."
    )
    discard_ps: float = Field(20.0, ge=0, description="Start of the run that is left out, ps.")
    box: Path | None = Field(None, description="Directory of a run in explicit water whose box is taken.")
    epochs: int | None = Field(None, ge=1, description="Number of passes over the labels. [default: by their number]")
    block_ps: float = Field(100.0, gt=0, description="Length of the blocks of time that are split, ps.")
    held_out: float = Field(
        0.1, gt=0, lt=0.5, description="Share of the labels for early stopping; as many again for the test."
    )
    seed: int = Field(1, ge=0, lt=2**63, description="Root seed of run and labels.")
    platform: str = Field("auto", description="OpenMM platform of the labels: auto, CPU, CUDA, OpenCL, HIP.")
    threads: int = Field(0, ge=0, le=1024, description="Number of processor threads per label process; 0 for all.")
    processes: int = Field(1, ge=1, description="Number of labels at the same time.")


class EbmSettings(Settings):
    """What ``mlsim train ebm`` takes; what is None is decided by the data."""

    system: str | None = Field(None, description="Molecule, where the source does not say.")
    frames: int | None = Field(None, ge=2, description=f"Maximum number of training conformations. {_BY_DATA}")
    bias: Path | None = Field(
        None,
        description="Path of the bias.npz that the frames were made with: part of the training, left out of the model. "
        "[default: frames are weighted]",
    )
    begin_at: Path | None = Field(
        None, description="Finished fit of the same data whose weights and negatives are taken to begin with."
    )
    features: int = Field(32, description="Width of the network.")
    layers: int = Field(2, description="Number of equivariant layers.")
    epochs: int | None = Field(None, description=f"Number of passes over the conformations. {_BY_DATA}")
    batch_size: int = Field(64, ge=1, description="Number of conformations per step.")
    learning_rate: float = Field(3e-3, gt=0, description="Largest learning rate.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the average of the weights; 0 for none.")
    warm: float | None = Field(None, ge=0, le=1, description=f"Share of the steps that only denoise. {_BY_DATA}")
    negatives: str | None = Field(
        None, description=f"Sampler of negatives: langevin, kinetic, mala, esvgd or metropolised-esvgd. {_BY_DATA}"
    )
    particles: str = Field("model", description="Particle set of esvgd: model, or model+data.")
    steps: int | None = Field(None, description=f"Number of sampler steps per training step. {_BY_DATA}")
    step_length: float = Field(0.1, description="Length of a sampler step, of the data's length.")
    noise: float | None = Field(None, description=f"Noise of the denoising term, of the data's length. {_BY_DATA}")
    smoothing: float | None = Field(
        None, description=f"Noise on the conformations of the contrastive term, of the data's length. {_BY_DATA}"
    )
    buffer: int | None = Field(None, ge=4, description=f"Number of negatives kept between training steps. {_BY_DATA}")
    reset: float | None = Field(None, description=f"Share of the negatives that start afresh at every step. {_BY_DATA}")
    divergence: float = Field(1.0, description="Weight of the contrastive term.")
    denoising: float = Field(1.0, description="Weight of the denoising term.")
    energy_square: float = Field(1e-4, description="Weight of the squared energies.")
    temperature_K: float | None = Field(
        None, gt=0, description="Temperature of the conformations, K. [default: what frames or run say]"
    )
    held_out: float = Field(0.1, description="Share of the conformations held out.")
    seed: int = Field(1, ge=0, description="Root seed of weights, draws and negatives.")
    threads: int | None = Field(None, ge=1, le=1024, description="Number of processor threads.")
    max_minutes: float | None = Field(
        None, gt=0, description="Maximum time of this call, minutes; it stops after an epoch."
    )
