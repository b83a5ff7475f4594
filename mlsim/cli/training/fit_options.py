"""Options that every fit of ``mlsim train`` has, said once.

An option is the second half of an annotation, so that type and default stay with the verb: ``Annotated[float, RATE]``
with a number for an energy-based model, ``Annotated[float | None, RATE]`` and None where the data decide. Options whose
words differ from verb to verb (frames or conformations, blocks or shares) stay with their verb.
"""

from __future__ import annotations

from typing import Any

import typer

#: Spellings of options beside the keys of the settings.
SHORT = {"batch_size": "--batch", "learning_rate": "--lr", "ema_decay": "--ema"}
#: Help text of the option of a settings file.
FILE = "Path of a YAML file with settings of the fit."
OUTPUT = typer.Option("--output", "-o", help="Training directory of the result.")
RATE = typer.Option(help="Largest learning rate.")
AVERAGE = typer.Option(help="Decay of the average of the weights; 0 for none.")
THREADS = typer.Option(help="Number of processor threads.")
MAX_MINUTES = typer.Option(help="Maximum time of this call, minutes; it stops after an epoch.")
RESUME = typer.Option("--resume", help="Continue in -o; repeat the other options as they were.")

#: What :data:`mlsim.fitting.loop.Stopped` means, in words.
STOPPED = {"finished": "all epochs done", "early": "no improvement", "time": "out of time; continue with --resume"}


def training(epochs: int | None, batch: int | None, lr: float | None, ema: float | None, seed: int) -> dict[str, Any]:
    """Entries of :class:`mlsim.fitting.settings.TrainSettings` for the options that were given."""
    given = {"epochs": epochs, "batch_size": batch, "learning_rate": lr, "ema_decay": ema}
    return {key: value for key, value in given.items() if value is not None} | {"seed": seed}
