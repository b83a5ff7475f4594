"""Names by which users ask for a potential: ``--solvent issnet``, ``gbn2+issnet:correction``.

A specification is one or more names joined by ``+``; a name may carry an argument after a colon:
``vacuum``, ``gbn2``, ``tip3p``, ``issnet``, ``issnet:my-model``, ``gbn2+issnet:correction``.
Names come from this package (``vacuum``, the GB models), from the water models (:mod:`mlsim.chem.solvent`) and from the
entry-point group ``mlsim.potentials``, where any installed package may register a factory
``(argument, request) -> Potential`` (see :mod:`mlsim.names`).
This package's own learned force fields arrive the same way, so nothing here imports torch.
"""

from __future__ import annotations

from mlsim.chem.molecule import Molecule
from mlsim.chem.solvent import WATER_MODELS, WATERS
from mlsim.errors import InputError
from mlsim.names import Registry
from mlsim.potentials.born import GB_MODELS, GeneralizedBorn
from mlsim.potentials.contract import Factory, Potential, PotentialRequest, Sum
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.vacuum import Vacuum


def _vacuum(argument: str | None, request: PotentialRequest) -> Potential:
    _no_argument("vacuum", argument)
    return Vacuum()


def _water(model: str) -> Factory:
    def factory(argument: str | None, request: PotentialRequest) -> Potential:
        _no_argument(model, argument)
        return ExplicitWater(name=model)

    return factory


def _generalized_born(model: str) -> Factory:
    def factory(argument: str | None, request: PotentialRequest) -> Potential:
        _no_argument(model, argument)
        return Sum.of(model, (Vacuum(), GeneralizedBorn(model)))

    return factory


def _no_argument(name: str, argument: str | None) -> None:
    if argument is not None:
        raise InputError(f"solvent '{name}:{argument}': '{name}' takes no argument")


FACTORIES: dict[str, Factory] = {
    "vacuum": _vacuum,
    **{model: _water(model) for model in WATER_MODELS},
    **{model: _generalized_born(model) for model in GB_MODELS},
}


POTENTIALS: Registry[Factory] = Registry(
    "potential", "mlsim.potentials", FACTORIES, callable, "a factory (argument, request) -> Potential"
)


def resolve(specification: str, request: PotentialRequest) -> Potential:
    """The potential for a specification such as ``issnet`` or ``gbn2+issnet:correction``.

    Raises
    ------
    InputError
        Unknown or empty name (with a suggestion).
    """
    terms: list[Potential] = []
    for part in specification.split("+"):
        name, _, argument = part.strip().partition(":")
        factory = _water(name) if name in WATERS and name not in POTENTIALS else POTENTIALS.get(name, specification)
        terms.append(factory(argument or None, request))
    return terms[0] if len(terms) == 1 else Sum.of(specification, terms)


def solvation(name: str, molecule: Molecule) -> Potential:
    """The solvation term of a solvent with a formula, by itself: what a network may be trained on top of.

    Parameters
    ----------
    name : str
        Name of a potential, of this package or of another one, whose solvent (``part``) is one term.
    molecule : Molecule
        The solute.

    Raises
    ------
    InputError
        If there is no such name, or no single term of it is a solvent with a formula.
    """
    whole = resolve(name, PotentialRequest(molecule))
    terms = whole.terms if isinstance(whole, Sum) else (whole,)
    solvents = [term for term in terms if getattr(term, "part", "") == "solvent"]
    if len(solvents) != 1 or solvents[0].name != name:
        raise InputError(f"baseline '{name}': expected a solvent with a formula of that name, such as gbn2")
    return solvents[0]
