"""ForceFieldArtifact: a trained force field as a directory of files that say what they are.

::

    NAME/card.yaml             what it is, was trained on, how well it does; digests; verification (see ``card``)
         config.yaml           kind and settings of the network
         weights.safetensors   parameters
         model.pt              TorchScript of the network bound to one molecule: forward(positions nm) -> kJ/mol
         molecule.pdb          that molecule, so that the artifact can be verified wherever it is
         table.npz             tabulated filters for the compiled kernel (kinds that have one)
         guard.npz             the region of conformations it was trained on (optional; for ``--guard``)
         committee.npz         further fits whose spread says how sure it is (optional; for ``--guard``)

Loading runs no foreign code: safetensors and ``.npz`` (read with pickle forbidden) hold numbers only, and YAML is read
by the safe loader. ``model.pt`` serves other programs. It could write files when it is loaded or run, so this package
does neither: every bridge makes its program from ``weights.safetensors`` and ``config.yaml``, and ``mlsim verify``
compares ``model.pt`` with that part by part (:mod:`mlsim.deploy.bridges.program_file`) and puts its own in the place of
one that differs.

A reader refuses a missing, changed or undeclared file. A writer fills a temporary directory beside the target and
renames it, so that a directory of that name is complete or absent.

Files are read when they are needed, which may be hours after the card was: a second replica is bound when the first
is done. Somebody may have put another force field of that name there in between. So every file is compared with the
card again when it is read, and a run never mixes two models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.chem.molecule import Molecule
from mlsim.dataset.region import FILE as GUARD
from mlsim.dataset.region import TrainedRegion
from mlsim.deploy.card import Card, Verification
from mlsim.deploy.kernel.table import FilterTable
from mlsim.deploy.travelling_committee import FILE as COMMITTEE
from mlsim.deploy.travelling_committee import MemberSet
from mlsim.errors import ArtifactError, MissingError, SettingsError
from mlsim.files import write_bytes
from mlsim.records import full_digest
from mlsim.runs.restart import write_atomically
from mlsim.settings import read_yaml

if TYPE_CHECKING:
    from mlsim.models.contract import AbstractEnergyModel

CARD, CONFIG, WEIGHTS, SCRIPT, STRUCTURE, TABLE = (
    "card.yaml",
    "config.yaml",
    "weights.safetensors",
    "model.pt",
    "molecule.pdb",
    "table.npz",
)
#: Largest file of a force field, bytes.
_LARGEST = 1024 * limits.MEGABYTE


@dataclass(frozen=True, eq=False)
class ForceFieldArtifact:
    """A force field on disk whose files were checked against its card.

    Attributes
    ----------
    name : str
    directory : Path
    kind : str
        Model kind, e.g. ``issnet``.
    config : dict
        Settings of the network.
    card : Card
    """

    name: str
    directory: Path
    kind: str
    config: dict[str, Any]
    card: Card

    @classmethod
    def read(cls, directory: str | Path) -> ForceFieldArtifact:
        """Read an artifact, verified or not, and check its files.

        Raises
        ------
        MissingError
            If the directory, its card or a declared file is not there.
        ArtifactError
            If a file was changed or is not declared, or the card cannot be understood.
        """
        place = Path(directory)
        if not (place / CARD).is_file():
            raise MissingError(f"{place}: no force field here (no {CARD})")
        try:
            card = Card.parse(read_yaml(place / CARD), str(place / CARD))
            _check_files(place, card)
            config = read_yaml(place / CONFIG)
        except SettingsError as error:
            raise ArtifactError(str(error)) from None
        if set(config) != {"kind", "config"} or config["kind"] != card.kind or not isinstance(config["config"], dict):
            raise ArtifactError(f"{place / CONFIG}: expected 'kind: {card.kind}' and 'config:', got {sorted(config)}")
        return cls(card.name, place, card.kind, config["config"], card)

    @classmethod
    def load(cls, directory: str | Path) -> ForceFieldArtifact:
        """Read an artifact that may be used: ``mlsim verify`` passed for exactly these files.

        Raises
        ------
        MissingError, ArtifactError
            As :meth:`read`, and if it was never verified, failed, or was changed since; with the command to run.
        """
        artifact = cls.read(directory)
        verified, advice = artifact.card.verified, f"run: mlsim verify {artifact.directory}"
        if verified is None:
            raise ArtifactError(f"{artifact.name}: not verified yet, and not to be used before; {advice}")
        if verified.files_digest != artifact.digest:
            raise ArtifactError(f"{artifact.name}: changed since it was verified; {advice}")
        if not verified.passed:
            failed = ", ".join(check.name for check in verified.checks if not check.passed)
            raise ArtifactError(f"{artifact.name}: failed its verification ({failed}); to see how, {advice}")
        return artifact

    def with_verification(self, verified: Verification) -> ForceFieldArtifact:
        """Write the result of a verification into the card on disk; the other files stay as they are."""
        card = self.card.model_copy(update={"verified": verified})
        write_atomically(self.directory / CARD, card.to_yaml())
        return replace(self, card=card)

    @property
    def digest(self) -> str:
        """Identity of the contents (16 hex digits)."""
        return self.card.files_digest

    def weights(self) -> dict[str, NDArray[Any]]:
        """Parameters by the names of the torch module's state; torch is not needed."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found = dict(load(self._same(WEIGHTS)))
        except SafetensorError as error:
            raise ArtifactError(f"{self.directory / WEIGHTS}: cannot be read ({error}); export it again") from None
        if not all(np.isfinite(value).all() for value in found.values()):
            raise ArtifactError(f"{self.directory / WEIGHTS}: holds NaN or infinity; make the model again")
        return found

    def table(self) -> FilterTable | None:
        """The tabulated filters, or None for a kind that has none."""
        if TABLE not in self.card.files:
            return None
        return FilterTable.read(self._same(TABLE), self.directory / TABLE)

    def region(self) -> TrainedRegion | None:
        """The region it was trained on, or None if that was not kept."""
        if GUARD not in self.card.files:
            return None
        self._same(GUARD)
        return TrainedRegion.load(self.directory / GUARD)

    def members(self) -> MemberSet | None:
        """The committee that travels with it, or None if there is none."""
        if COMMITTEE not in self.card.files:
            return None
        return MemberSet.read(self._same(COMMITTEE), self.directory / COMMITTEE)

    def type_indices(self, atom_types: tuple[str, ...]) -> NDArray[np.int64]:
        """Indices of atom types in the vocabulary.

        Raises
        ------
        ArtifactError
            Naming the types that are unknown.
        """
        position = {name: index for index, name in enumerate(self.card.vocabulary)}
        unknown = sorted({name for name in atom_types if name not in position})
        if unknown:
            raise ArtifactError(f"{self.name}: atom types {', '.join(unknown)} are not in its vocabulary")
        return np.array([position[name] for name in atom_types], dtype=np.int64)

    def model(self) -> AbstractEnergyModel:
        """The network in torch, with its trained parameters, in the dtype of the card, ready for evaluation."""
        import torch

        from mlsim.models import weights

        for name in (CONFIG, WEIGHTS):
            self._same(name)
        return weights.load(self.directory).to(getattr(torch, self.card.dtype)).eval()

    def molecule(self) -> Molecule:
        """The molecule that it was exported for."""
        self._same(STRUCTURE)
        return Molecule.from_pdb(self.directory / STRUCTURE)

    def program(self) -> bytes:
        """Content of ``model.pt``; never load or run one that was not compared first."""
        return self._same(SCRIPT)

    def with_program(self, content: bytes) -> ForceFieldArtifact:
        """Put another ``model.pt`` on disk, and its digest into the card; a verification does not count any more."""
        files = {**self.card.files, SCRIPT: full_digest(content)}
        card = self.card.model_copy(update={"files": files, "verified": None})
        write_bytes(self.directory / SCRIPT, content)
        write_atomically(self.directory / CARD, card.to_yaml())
        return replace(self, card=card)

    def _same(self, name: str) -> bytes:
        """Content of a file, if it still is the one that the card was read with.

        Raises
        ------
        ArtifactError
            If another one stands there now.
        """
        path = self.directory / name
        content = _content(path)
        expected, found = self.card.files[name], full_digest(content)
        if found != expected:
            raise ArtifactError(
                f"{path}: expected the file with digest {expected[:16]} that {self.name} was loaded with, found "
                f"{found[:16]}: it was replaced in the meantime; restore it, or start anew with the new force field"
            )
        return content


def _content(path: Path) -> bytes:
    try:
        return limits.file_bytes(path, _LARGEST)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); restore the force field") from None
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from None


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of an artifact but its card."""
    return {
        path.name: full_digest(_content(path))
        for path in sorted(directory.iterdir())
        if path.name != CARD and not path.name.startswith(".")
    }


def _check_files(place: Path, card: Card) -> None:
    present = {p.name for p in place.iterdir() if p.name != CARD and not p.name.startswith(".")}
    for name in sorted(present - card.files.keys()):
        raise ArtifactError(f"{place / name}: not declared in {CARD}; remove it or export again")
    for needed in (CONFIG, WEIGHTS, SCRIPT, STRUCTURE):
        if needed not in card.files:
            raise ArtifactError(f"{place / CARD}: does not declare {needed}; export again")
    for name, expected in card.files.items():
        if Path(name).name != name or name not in present:
            raise MissingError(f"{place / name}: declared in {CARD} but not there; export again")
        if full_digest(_content(place / name)) != expected:
            raise ArtifactError(
                f"{place / name}: does not match its digest in {CARD}: changed or damaged; export again"
            )
