"""Registries: what other packages add by entry points, and what is refused in which words."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

import mlsim
from mlsim import names
from mlsim.errors import DependencyError, InputError, SettingsError
from mlsim.names import Registry, suggestion

#: Writes a distribution: ``install(name, {entry: target}, source of its module)``.
Install = Callable[[str, dict[str, str], str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    def write(name: str, points: dict[str, str], source: str) -> None:
        site = tmp_path / name
        about = site / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{entry} = {target}" for entry, target in points.items()]
        (about / "entry_points.txt").write_text("\n".join(["[acme.things]", *lines]) + "\n")
        (site / f"{name}_module.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))

    return write


def numbers() -> Registry[int]:
    return Registry("number", "acme.things", {"one": 1, "nought": "math:nan"}, lambda x: isinstance(x, int), "an int")


def test_names_of_this_package_come_first_and_are_objects_or_imported_when_asked_for() -> None:
    registry: Registry[object] = Registry("thing", "acme.things", {"one": 1, "root": "math:sqrt"}, callable, "callable")
    assert registry.names() == ("one", "root")
    assert registry.get("one") == 1
    assert registry.get("root")(9.0) == 3.0  # type: ignore[operator]


def test_an_entry_point_adds_a_name_and_its_module_is_imported_only_when_asked_for(install: Install) -> None:
    registry = numbers()
    assert "seven" not in registry
    install("lucky", {"seven": "lucky_module:SEVEN", "bad": "lucky_module:nothing"}, "SEVEN = 7\n")
    assert registry.names() == ("one", "nought", "bad", "seven")
    assert "seven" in registry
    import sys

    assert "lucky_module" not in sys.modules
    assert registry.get("seven") == 7


def test_a_package_that_is_gone_takes_its_names_along(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("brief", {"seven": "brief_module:SEVEN"}, "SEVEN = 7\n")
    registry = numbers()
    assert "seven" in registry
    monkeypatch.undo()
    assert "seven" not in registry


@pytest.mark.parametrize(
    ("asked", "source", "message"),
    [
        ("onne", "", "unknown number 'onne'; did you mean 'one'? known: one, nought"),
        ("xyz", "one+xyz", "unknown number 'xyz' in 'one+xyz'; known: one, nought"),
        ("", "", "unknown number ''; known: one, nought"),
    ],
)
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(asked: str, source: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        numbers().get(asked, source)
    assert str(refusal.value) == message


def test_the_class_of_the_refusals_is_the_registrys() -> None:
    registry: Registry[int] = Registry("number", "acme.things", {}, callable, "an int", SettingsError)
    with pytest.raises(SettingsError, match="unknown number"):
        registry.get("one")


def test_a_name_of_this_package_that_another_claims_is_refused_only_when_asked_for(install: Install) -> None:
    install("greedy", {"one": "greedy_module:ONE", "two": "greedy_module:TWO"}, "ONE, TWO = 11, 2\n")
    registry = numbers()
    assert registry.get("two") == 2
    with pytest.raises(InputError, match="'one' is claimed by mlsim and greedy_module:ONE of the package greedy"):
        registry.get("one")


def test_a_name_that_two_packages_claim_is_refused(install: Install) -> None:
    install("first", {"seven": "first_module:X"}, "X = 7\n")
    install("second", {"seven": "second_module:X"}, "X = 77\n")
    with pytest.raises(InputError, match=r"of the package second and .* of the package first; uninstall"):
        numbers().get("seven")


def test_what_breaks_the_contract_is_refused_with_what_was_expected(install: Install) -> None:
    install("wordy", {"seven": "wordy_module:X"}, "X = 'seven'\n")
    with pytest.raises(
        InputError, match=r"'seven' \(wordy_module:X of the package wordy\): expected an int, got 'seven'"
    ):
        numbers().get("seven")
    with pytest.raises(InputError, match="expected an int, got nan"):
        numbers().get("nought")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_package_at_all\n", "ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("Y = 1\n", "AttributeError: .*'X'"),
        ("raise RuntimeError('two\\nlines')\n", "RuntimeError: two lines"),
    ],
    ids=["package", "attribute", "error"],
)
def test_a_package_that_cannot_be_imported_is_one_line(
    install: Install, source: str, reason: str, request: pytest.FixtureRequest
) -> None:
    name = f"broken_{request.node.callspec.id}"
    install(name, {"seven": f"{name}_module:X"}, source)
    with pytest.raises(DependencyError, match=f"of the package {name}\\) cannot be imported: {reason}") as refusal:
        numbers().get("seven")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("extra", "how"), [("repr", 'with: pip install "mlsim[repr]"'), ("", "beside mlsim")], ids=["extra", "plain"]
)
def test_what_a_thing_of_this_package_needs_is_named_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, how: str
) -> None:
    (tmp_path / "needy.py").write_text("import no_such_package_at_all\n")
    monkeypatch.setattr(mlsim, "__path__", [*mlsim.__path__, str(tmp_path)])
    built_in = {"needy": ".".join(["mlsim", "needy:Thing"])}
    registry: Registry[int] = Registry("thing", "acme.things", built_in, callable, "callable", extra=extra)
    with pytest.raises(DependencyError) as refusal:
        registry.get("needy")
    assert str(refusal.value) == f"thing 'needy' needs no_such_package_at_all; install it {how}"


def test_a_name_can_be_registered_once(install: Install) -> None:
    install("early", {"seven": "early_module:X"}, "X = 7\n")
    registry = numbers()
    registry.register("six", 6)
    registry.register("six", 6)
    assert registry.get("six") == 6
    registry.register("seven", "early_module:X")
    assert registry.get("seven") == 7
    with pytest.raises(InputError, match="'six' is taken by mlsim; choose another name for elsewhere:X"):
        registry.register("six", "elsewhere:X")
    with pytest.raises(InputError, match="'seven' is taken by early_module:X"):
        registry.register("seven", 77)


def test_a_suggestion_is_the_nearest_name_or_nothing() -> None:
    assert suggestion("gbn22", ["vacuum", "gbn2", "obc2"]) == "did you mean 'gbn2'?"
    assert suggestion("xyz", ["vacuum", "gbn2"]) == ""


def test_entry_points_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(names, "entry_points", lambda group: calls.append(group) or ())
    registry: Registry[int] = Registry("number", "acme.never-asked-for-before", {"one": 1}, callable, "an int")
    for _ in range(3):
        registry.get("one")
    assert calls == ["acme.never-asked-for-before"]


def test_entry_points_of_another_metadata_package_are_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign:
        """As importlib-metadata makes them, which takes the place of the standard library's finder once imported."""

        name, value, group, dist = "mine", "math:sqrt", "group.of.a.test", None

    monkeypatch.setattr(names, "entry_points", lambda group: [Foreign()] if group == "group.of.a.test" else [])
    names._found.cache_clear()
    registry: Registry = Registry("thing", "group.of.a.test", {}, callable, "a function")
    assert registry.get("mine") is math.sqrt
    names._found.cache_clear()
