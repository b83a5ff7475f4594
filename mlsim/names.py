"""Names that a user may ask for: registries open to other packages, one form of refusal, spelling suggestions.

What: potentials, models, encoders, samplers and collective variables are asked for by name. A :class:`Registry` knows
those of this package and those that any installed package adds through an entry point of the registry's group,

    [project.entry-points."mlsim.models"]
    mine = "my_package.my_module:MyModel"

Why in one place: a misspelt name, a name that two packages claim, and a package that cannot be imported are then
refused in the same words everywhere. What an entry point names is imported when it is first asked for, so that
listing names loads nothing.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from mlsim.errors import DependencyError, InputError

T = TypeVar("T")


def nearest(word: str, known: Iterable[str], count: int = 1, alike: float = 0.6) -> list[str]:
    """The known names that are spelt most like ``word``, best first: at most ``count``, each ``alike`` (0 to 1)."""
    return difflib.get_close_matches(word, list(known), n=count, cutoff=alike)


def suggestion(word: str, known: Iterable[str], alike: float = 0.6) -> str:
    """``did you mean 'NAME'?`` for the known name that is spelt most like ``word``; empty if none is."""
    close = nearest(word, known, 1, alike)
    return f"did you mean '{close[0]}'?" if close else ""


class Registry(Generic[T]):
    """Things of one kind by name: those of this package, those registered by a call, those of entry points.

    Parameters
    ----------
    what : str
        What a thing is called in messages, e.g. ``potential``.
    group : str
        Group of entry points by which other packages add theirs.
    built_in : mapping
        Name -> the thing, or ``"module:attribute"`` where it is imported from at first use.
    fits : callable
        Whether an imported object keeps the contract, as far as one can see without using it.
    contract : str
        What ``fits`` asks for, in words.
    error : type
        Class of the refusals.
    extra : str
        Extra of this package that installs what the built-in ones need, if any.
    """

    def __init__(
        self,
        what: str,
        group: str,
        built_in: Mapping[str, T | str],
        fits: Callable[[Any], bool],
        contract: str,
        error: type[InputError] = InputError,
        extra: str = "",
    ) -> None:
        self.what = what
        self.group = group
        self._own: dict[str, T | str] = dict(built_in)
        self._fits = fits
        self._contract = contract
        self._error = error
        self._extra = extra

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in _points(self.group)

    def names(self) -> tuple[str, ...]:
        """All names: those of this package, then those of others by the alphabet."""
        return (*self._own, *sorted(_points(self.group).keys() - self._own.keys()))

    def register(self, name: str, target: T | str) -> None:
        """Add a thing under a name, for this process.

        Parameters
        ----------
        name : str
        target : object or str
            The thing, or ``"module:attribute"`` where it is imported from at first use.

        Raises
        ------
        InputError
            If the name is taken by something else.
        """
        holders = self._holders(name)
        if holders and not any(_same(holder, target) for holder in holders):
            raise self._error(
                f"{self.what} '{name}' is taken by {_shown(holders[0])}; choose another name for {_shown(target)}"
            )
        self._own[name] = target

    def get(self, name: str, source: str = "") -> T:
        """What a name stands for.

        Parameters
        ----------
        name : str
        source : str
            The whole of what the user wrote, if the name is only a part of it.

        Raises
        ------
        InputError
            If there is no such name (with all names and a suggestion), if two packages claim it, or if what its
            entry point names does not keep the contract.
        DependencyError
            If it cannot be imported.
        """
        holders = self._holders(name)
        if not holders:
            known = ", ".join(self.names())
            whole = f" in '{source}'" if source not in ("", name) else ""
            hint = suggestion(name, self.names())
            raise self._error(f"unknown {self.what} '{name}'{whole}; {hint + ' ' if hint else ''}known: {known}")
        if len(holders) > 1:
            claims = " and ".join(_shown(holder) for holder in holders)
            raise self._error(f"{self.what} '{name}' is claimed by {claims}; uninstall or rename one of them")
        (holder,) = holders
        if not isinstance(holder, str | EntryPoint):
            return holder
        point = EntryPoint(name, holder, self.group) if isinstance(holder, str) else holder
        return self._imported(point)

    def _holders(self, name: str) -> list[T | str | EntryPoint]:
        """All that claim a name; the same module and attribute twice is one claim."""
        own: list[T | str | EntryPoint] = [self._own[name]] if name in self._own else []
        return own + [p for p in _points(self.group).get(name, ()) if not (own and _same(p, own[0]))]

    def _imported(self, point: EntryPoint) -> T:
        asked = f"{self.what} '{point.name}' ({_shown(point)})"
        try:
            found: T = point.load()
        except Exception as error:
            missing = error.name if isinstance(error, ImportError) else None
            if point.value.startswith("mlsim."):
                if not missing or missing.startswith("mlsim"):
                    raise
                how = f'with: pip install "mlsim[{self._extra}]"' if self._extra else "beside mlsim"
                raise DependencyError(f"{self.what} '{point.name}' needs {missing}; install it {how}") from None
            reason = " ".join(str(error).split())
            raise DependencyError(f"{asked} cannot be imported: {type(error).__name__}: {reason}") from error
        if not self._fits(found):
            raise self._error(f"{asked}: expected {self._contract}, got {found!r}")
        return found


@lru_cache(maxsize=64)
def _found(group: str, path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    points: dict[str, dict[str, EntryPoint]] = {}
    for found in entry_points(group=group):
        point = found if isinstance(found, EntryPoint) else _standard(found)
        points.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: tuple(claims.values()) for name, claims in points.items()}


def _standard(point: Any) -> EntryPoint:
    """An entry point of the standard library's class, also of what importlib-metadata found in its place."""
    made = EntryPoint(point.name, point.value, point.group)
    vars(made).update(dist=point.dist)
    return made


def _points(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Entry points by name, looked up once for every state of ``sys.path``."""
    return _found(group, tuple(sys.path))


def _same(holder: object, target: object) -> bool:
    """Whether two claims are one: the same object, or the same module and attribute."""
    one, other = (claim.value if isinstance(claim, EntryPoint) else claim for claim in (holder, target))
    return one == other if isinstance(one, str) and isinstance(other, str) else one is other


def _shown(holder: object) -> str:
    """Where a thing comes from, for a message."""
    if isinstance(holder, EntryPoint):
        return f"{holder.value} of the package {holder.dist.name}" if holder.dist else holder.value
    return holder if isinstance(holder, str) else "mlsim"
