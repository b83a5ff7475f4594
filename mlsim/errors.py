"""Errors of the package: one family, each member also the matching builtin.

A door (settings, files, public verbs) raises one of these with a message that says what was
expected, what came, and what to do. The command line prints that message on one line and exits
with ``exit_code``; library users may catch either ``MlsimError`` or the builtin.
"""

from __future__ import annotations


class MlsimError(Exception):
    """Base of every error that mlsim raises on purpose."""

    exit_code = 2


class InputError(MlsimError, ValueError):
    """A value, file content or molecule that cannot be used."""


class SettingsError(InputError):
    """A configuration key or value that is not accepted."""


class MissingError(MlsimError, FileNotFoundError):
    """A file, directory, system or force field that is not there."""

    def __str__(self) -> str:  # FileNotFoundError formats errno; ours is plain text
        return str(self.args[0]) if self.args else ""


class OccupiedError(MlsimError, FileExistsError):
    """An output place that is in use or already holds results."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class StorageError(MlsimError, OSError):
    """The file system refused a write (full disk, quota, permissions)."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ArtifactError(InputError):
    """A force field artifact that is broken, unverified, or does not match the molecule."""


class CheckpointError(InputError):
    """A checkpoint that is corrupt or belongs to another run."""


class WorkerError(MlsimError, RuntimeError):
    """A process of a run that was killed from outside, e.g. for want of memory."""


class DependencyError(MlsimError, ImportError):
    """An optional package that this call needs is not usable here."""


class UnphysicalError(MlsimError, ArithmeticError):
    """NaN, runaway temperature or an energy jump: the numbers can no longer be trusted."""

    exit_code = 3
