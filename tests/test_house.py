"""The house: layers, sizes, names, circles, references, conversion literals, what ``import mlsim`` loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.house import CHANGES, MODULES_PER_FOLDER, PARAMETERS, House

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mlsim"
FILES = sorted(PACKAGE.rglob("*.py"))


def layers() -> dict[str, tuple[int, set[str]]]:
    """The table of ``ARCHITECTURE.md``: room -> (layer, rooms that it may import besides itself and the foundation)."""
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## Layers")[2].partition("\n## ")[0]
    table: dict[str, tuple[int, set[str]]] = {}
    for layer, rooms, below in re.findall(r"^\| (\d) \|([^|]*)\|([^|]*)\|$", text, re.MULTILINE):
        table |= {name: (int(layer), set(re.findall(r"`(\w+)`", below))) for name in re.findall(r"`(\w+)`", rooms)}
    return table


LAYERS = layers()
FOUNDATION = {name for name, (layer, _) in LAYERS.items() if layer == 0}
#: Rooms in which a heavy package may appear.
HOMES: dict[str, set[str]] = {
    "openmm": {"chem", "potentials", "md", "deploy", "workflow", "testing"},
    "torch": {"models", "samplers", "fitting", "deploy", "repr", "dataset", "seeds", "workflow", "testing"},
    "mdtraj": {"runs", "md", "analysis", "cli", "repr", "workflow"},
    "pymbar": {"analysis"},
}
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}
#: R, kJ/kcal, Coulomb constant, Boltzmann constants in other units.
LITERAL = re.compile(
    r"(?<![\w.])(8\.314\d*|0\.008314\d*|4\.184|138\.93\d*|1\.987\d*|0\.001987\d*|0\.593|0\.5922\d*)(?!\d)"
)


def room(path: Path) -> str:
    """First part of the path below the package; a top-level file is its own room."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names imported anywhere in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


#: Calls that only the one file may make: where files appear, and where things get their digests.
ONLY_IN = {
    "files.py": re.compile(r"\bos\.(replace|rename)\b|\bmkdtemp\b|\bmkstemp\b|NamedTemporaryFile"),
    "records.py": re.compile(r"\bhashlib\b|\bhexdigest\b"),
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_appear_and_digests_are_made_in_one_place_each(path: Path) -> None:
    text = path.read_text()
    for home, pattern in ONLY_IN.items():
        if path != PACKAGE / home:
            found = pattern.search(text)
            assert found is None, f"{found and found.group()}: belongs into {home}"


def test_the_architecture_names_every_room_and_every_folder_in_one() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## Rooms")[2].partition("\n## ")[0]
    for folder in sorted({p.parent for p in FILES} - {PACKAGE}):
        name = folder.relative_to(PACKAGE).as_posix()
        if name.count("/") < 2 and not name.startswith("cli/"):
            said = f"`{folder.name}`" if "/" not in name else f"`{folder.name}/`"
            assert said in text, f"ARCHITECTURE.md does not name {name}"


def test_there_is_a_house() -> None:
    assert len(FILES) > 40


def test_the_table_of_layers_knows_every_room_and_only_goes_down() -> None:
    assert {room(path) for path in FILES} - {"__init__"} <= set(LAYERS)
    for name, (layer, below) in LAYERS.items():
        assert all(LAYERS[other][0] < layer for other in below), f"{name} may import a room that is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("mlsim.") and name.count(".") >= 1}
    above = rooms - FOUNDATION - {here} - LAYERS[here][1] - {"__version__"}
    assert not above, f"{here} must not import {sorted(above)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_in_their_rooms(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    for package, homes in HOMES.items():
        if package in tops:
            assert room(path) in homes, f"{package} does not belong into {room(path)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short_and_have_a_docstring(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert path.name not in FORBIDDEN_NAMES
    assert ast.get_docstring(ast.parse(text)), "a module says what it is"


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "units.py"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_conversion_literals_live_in_units(path: Path) -> None:
    code = ast.parse(path.read_text())
    numbers = [n.value for n in ast.walk(code) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
    found = [value for value in numbers if LITERAL.search(repr(value))]
    assert not found, f"conversion literal {found}: use mlsim.units"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_functions_take_no_keyword_soup(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert node.args.kwarg is None, f"{node.name} takes **{node.args.kwarg and node.args.kwarg.arg}"
            defaults = [*node.args.defaults, *node.args.kw_defaults]
            mutable = [d for d in defaults if isinstance(d, ast.List | ast.Dict | ast.Set)]
            assert not mutable, f"{node.name} has a mutable default"


@pytest.mark.parametrize("statement", ["import mlsim", "import mlsim.cli.main"])
def test_importing_loads_neither_torch_nor_openmm(statement: str) -> None:
    heavy = ("torch", "openmm", "mdtraj", "transformers")
    code = f"import sys; {statement}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_product_names_no_machine_path_or_registry() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if tracked.returncode:
        pytest.skip("LOUD SKIP: not a git checkout, nothing to list")
    pattern = re.compile(r"/work/|/root/|pypi\.org|files\.pythonhosted")
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if (
            path.suffix in {".py", ".md", ".toml", ".yaml", ".json", ".cff"}
            and path.is_file()
            and path != Path(__file__)
        ):
            match = pattern.search(path.read_text())
            assert match is None, f"{name} mentions {match and match.group()}"


# ---- the shape of the whole, measured by ``benchmarks.house`` ----

HOUSE = House(ROOT)

#: What still breaks a rule. Each list may only become shorter: an entry that is mended must go.
CROWDED: set[str] = set()
SHARED_NAMES: set[str] = set()
LONG_SIGNATURES: set[str] = set()
BROKEN_REFERENCES: set[str] = set()
#: Modules that wait for their command.
UNREACHED: set[str] = set()


def require_only(found: set[str], excused: set[str], rule: str) -> None:
    """Nothing but the excused breaks the rule, and nothing is excused that keeps it."""
    assert not found - excused, f"{rule}: {sorted(found - excused)}"
    assert not excused - found, f"kept by now, take them off the list in this file: {sorted(excused - found)}"


def test_a_folder_fits_on_a_screen() -> None:
    crowded = {folder for folder, count in HOUSE.modules_per_folder().items() if count > MODULES_PER_FOLDER}
    require_only(crowded, CROWDED, f"at most {MODULES_PER_FOLDER} modules in a folder")


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert not HOUSE.forbidden_circles(), "function-level imports count"


def test_no_name_of_a_file_occurs_twice() -> None:
    require_only(set(HOUSE.repeated_names()), SHARED_NAMES, "names of files that occur twice")


def test_public_functions_have_few_parameters() -> None:
    require_only(set(HOUSE.long_signatures()), LONG_SIGNATURES, f"more than {PARAMETERS} parameters: make settings")


def test_every_reference_leads_somewhere() -> None:
    require_only(set(HOUSE.broken_references()), BROKEN_REFERENCES, "references to what does not exist")


def test_every_module_is_reached_by_a_command_a_noun_or_a_library() -> None:
    require_only(set(HOUSE.unreached()), UNREACHED, "modules that nothing reaches")


def test_mypy_is_strict_on_what_everything_stands_on() -> None:
    settings = (ROOT / "pyproject.toml").read_text().partition("[[tool.mypy.overrides]]")[2].partition("[tool.")[0]
    strict = set(re.findall(r'"mlsim\.(\w+)(?:\.\*)?"', settings.partition("]\n")[0]))
    assert strict == FOUNDATION | {"dataset", "potentials", "runs"}


def test_one_module_loops_over_the_steps_of_a_run() -> None:
    assert HOUSE.md_loops() == ["mlsim.md.session"]


def test_each_of_six_changes_takes_one_file() -> None:
    assert HOUSE.changes() == dict.fromkeys(CHANGES, 1)


def test_the_measures_of_the_house_see_what_they_must(tmp_path: Path) -> None:
    package = tmp_path / "mlsim"
    for name, text in {
        "__init__.py": "",
        "a/__init__.py": "",
        "a/one.py": "from P.a import two\n\n\ndef many(a, b, c, d, e, f, g, h, i):\n    return a\n",
        "a/two.py": '"""See :FUNC:`P.a.one.none`, :FUNC:`P.b.one`."""\ndef f():\n    import P.a.one\n',
        "b/one.py": "",
        "cli/go.py": "from P.a import one\n",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text.replace("P.", "mlsim.").replace("FUNC", "func"))
    root = package.name
    house = House(tmp_path)
    assert house.circles() == [[f"{root}.a.one", f"{root}.a.two"]]
    assert house.repeated_names() == {"one": [f"{root}.a.one", f"{root}.b.one"]}
    assert house.long_signatures() == {f"{root}.a.one:many": 9}
    assert house.broken_references() == [f"mlsim/a/two.py: {root}.a.one.none"]
    assert house.unreached() == [f"{root}.b.one"]
    assert house.modules_per_folder()["mlsim/a"] == 2
