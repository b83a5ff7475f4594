"""Is the package laid out as its architecture says: small folders, unique names, no circles, short lists of parameters?

Figures of one or several revisions or checkouts, from the text of the files alone (nothing of them is imported):

- modules per folder, without ``__init__`` and without sub-folders;
- circles of imports, function-level imports counted;
- names of files that occur twice (``settings``, ``contract`` and ``__init__`` may);
- public functions and methods with more than eight parameters, ``self`` not counted;
- references (``:mod:`` and its like, and dotted names of the package) to what does not exist;
- modules that no command, no public noun and no listed room of a library reaches;
- files that one thing of another package takes, for every registry (as in the tests of entry points), and of those the
  six changes that a stranger is most likely to make;
- modules with a loop of their own over the steps of a run;
- imports of the command line from rooms below ``workflow``;
- lines per room.

    python -m benchmarks.house                    # the checkout that this file lies in
    python -m benchmarks.house v0.1.0 HEAD        # revisions, before and after
    python -m benchmarks.house ../other-checkout
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.result import Claim, write_result

HERE = Path(__file__).resolve().parents[1]
PACKAGE = "mlsim"
MODULES_PER_FOLDER = 12
PARAMETERS = 8
#: Names of files that may occur once in every room.
REPEATED = {"__init__", "settings", "contract"}
#: A noun and its file, imported where it is used: the only circles that may stay.
ALLOWED_CIRCLES = (
    {"mlsim.dataset.frames", "mlsim.dataset.storage"},
    {"mlsim.analysis.surfaces.surface", "mlsim.analysis.surfaces.surface_file"},
)
#: Rooms that are libraries of their own: called by users' programs, whether or not a command reaches all of them.
LIBRARIES = tuple(f"{PACKAGE}.{r}" for r in ("repr", "samplers", "testing", "dataset", "fitting.density", "models.ebm"))
#: What is claimed of every figure that must be empty.
RULES = {
    "crowded_folders": f"folders with more than {MODULES_PER_FOLDER} modules",
    "circles": "circles of imports, function-level imports counted",
    "repeated_names": "names of files that occur twice",
    "long_signatures": f"public functions with more than {PARAMETERS} parameters",
    "broken_references": "references to what does not exist",
    "unreached": "modules that nothing reaches",
    "options_with_tasks": "files of the command line that import a room below workflow",
    "scattered_additions": "things of another package, by entry point, that take more than one file",
}
#: The changes that a stranger is most likely to make -> what the tests add of them, each by an entry point.
CHANGES = {
    "generalized Born model with a formula of its own, as a baseline": ("mlsim.potentials: fixed-born",),
    "collective variable, analysed and biased": ("mlsim.observables: height",),
    "encoder": ("mlsim.encoders: projection",),
    "quantity of compare": ("mlsim.quantities: largest-difference",),
    "water model of three and of four sites": ("mlsim.waters: tip3pfb", "mlsim.waters: tip4pfb"),
    "learned model of a third party": ("mlsim.models: pairs",),
}
#: Rule -> what it belongs to in the list of claims.
IDS = {"scattered_additions": "7.2"}
#: First parts of references to other packages.
OUTSIDE = {"torch", "openmm", "numpy", "scipy", "mdtraj", "pydantic", "pathlib", "typing", "benchmarks", "transformers"}
#: Groups of entry points are named like modules and are none.
GROUPS = ("potentials", "models", "encoders", "samplers", "observables", "baselines", "quantities", "waters")
ENTRY_POINTS = {f"{PACKAGE}.{group}" for group in GROUPS}
ROLE = re.compile(r":(?:mod|func|class|meth|attr|data|exc|obj):`~?([^`<>]+)`")
DOTTED = re.compile(rf"(?<![\w./-]){PACKAGE}(?:\.[a-z][a-z_0-9]*)+(?:\.[A-Z]\w*)?(?:\.[A-Za-z]\w*)?")


@dataclass(frozen=True)
class House:
    """One checkout.

    Attributes
    ----------
    root : Path
        Folder that holds the package.
    """

    root: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """Dotted name of every module of the package -> its file."""
        paths = sorted((self.root / PACKAGE).rglob("*.py"))
        return {".".join(p.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Dotted name -> parsed file."""
        return {name: ast.parse(path.read_text()) for name, path in self.files.items()}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Module -> modules of the package that it imports anywhere, in functions too."""
        return {name: set(self._imported(tree)) - {name} for name, tree in self.trees.items()}

    def _imported(self, tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield from (n for n in ([inner] if inner in self.files else [node.module]) if n in self.files)
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.files)

    def circles(self) -> list[list[str]]:
        """Groups of modules that import one another, each sorted."""
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        groups: list[list[str]] = []

        def visit(name: str) -> None:
            index[name] = low[name] = len(index)
            stack.append(name)
            for other in self.imports[name]:
                if other not in index:
                    visit(other)
                    low[name] = min(low[name], low[other])
                elif other in stack:
                    low[name] = min(low[name], index[other])
            if low[name] == index[name]:
                group: list[str] = []
                while not group or group[-1] != name:
                    group.append(stack.pop())
                if len(group) > 1:
                    groups.append(sorted(group))

        for name in self.files:
            if name not in index:
                visit(name)
        return sorted(groups)

    def forbidden_circles(self) -> list[list[str]]:
        """Circles other than those that may stay."""
        return [circle for circle in self.circles() if set(circle) not in ALLOWED_CIRCLES]

    def modules_per_folder(self) -> dict[str, int]:
        """Folder -> number of modules directly in it, ``__init__`` not counted."""
        counts = Counter(str(p.parent.relative_to(self.root)) for p in self.files.values() if p.stem != "__init__")
        return dict(counts.most_common())

    def repeated_names(self) -> dict[str, list[str]]:
        """Name of a file -> the modules that share it."""
        names: dict[str, list[str]] = {}
        for module, path in self.files.items():
            if path.stem not in REPEATED:
                names.setdefault(path.stem, []).append(module)
        return {name: modules for name, modules in sorted(names.items()) if len(modules) > 1}

    def long_signatures(self) -> dict[str, int]:
        """Public functions with more than eight parameters -> their number; options and kernel left out."""
        long = {}
        for module, tree in self.trees.items():
            if module.startswith((f"{PACKAGE}.cli", f"{PACKAGE}.deploy.kernel")):
                continue
            for name, node in _functions(tree):
                a = node.args
                count = len([p for p in (*a.posonlyargs, *a.args, *a.kwonlyargs) if p.arg not in ("self", "cls")])
                if count > PARAMETERS:
                    long[f"{module}:{name}"] = count
        return long

    def resolves(self, target: str, tree: ast.Module | None) -> bool:
        """Does a reference name something of the package, of the file it stands in, or of another package?"""
        target = target.removesuffix("()").strip()
        if not target.startswith(f"{PACKAGE}."):
            return target.split(".")[0] in OUTSIDE or (tree is not None and target in _names(tree, members=True))
        for cut in range(target.count(".") + 1, 0, -1):
            home, inner = ".".join(target.split(".")[:cut]), ".".join(target.split(".")[cut:])
            if home in self.files:
                return not inner or inner in _names(self.trees[home])
        return False

    def broken_references(self) -> list[str]:
        """``file: reference`` for every reference that leads nowhere."""
        folders = (self.root / folder for folder in (PACKAGE, "tests", "benchmarks", "examples"))
        paths = [p for folder in folders for p in sorted(folder.rglob("*.py"))]
        paths += [*self.root.glob("*.md"), *(self.root / "benchmarks").glob("*.md")]
        broken = []
        for path in paths:
            text = path.read_text()
            tree = ast.parse(text) if path.suffix == ".py" else None
            targets = set(ROLE.findall(text)) | set(DOTTED.findall(text)) - ENTRY_POINTS
            broken += [f"{path.relative_to(self.root)}: {t}" for t in sorted(targets) if not self.resolves(t, tree)]
        return broken

    def unreached(self) -> list[str]:
        """Modules that no command, public noun or listed library reaches by imports or by name in a string."""
        edges = {name: set(found) for name, found in self.imports.items()}
        for name, tree in self.trees.items():
            texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            edges[name] |= {text.partition(":")[0] for text in texts} & set(self.files)
        project = (self.root / "pyproject.toml").read_text() if (self.root / "pyproject.toml").is_file() else ""
        entries = {m for m in self.files if re.search(rf'"{re.escape(m)}:\w+"', project)}
        start = {PACKAGE, *entries, *(m for m in self.files if m.startswith((f"{PACKAGE}.cli.", *LIBRARIES)))}
        seen: set[str] = set()
        todo = list(start)
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += edges[name] | {name.rsplit(".", 1)[0]} & set(self.files)
        return sorted(set(self.files) - seen)

    def options_with_tasks(self) -> list[str]:
        """Files of the command line that import more than ``workflow``, the foundation and their own room."""
        free = {f"{PACKAGE}.{room}" for room in ("cli", "workflow")}
        below = {
            name: [i for i in found if i.count(".") > 1 and ".".join(i.split(".")[:2]) not in free]
            for name, found in self.imports.items()
            if name.startswith(f"{PACKAGE}.cli.")
        }
        return sorted(name for name, found in below.items() if found)

    def additions(self) -> dict[str, int]:
        """Thing that the tests add by an entry point (``group: name``) -> files of this repository that it takes."""
        path = self.root / "tests" / "integration" / "test_third_parties.py"
        if not path.is_file():
            return {}
        texts = {p: p.read_text() for p in self.files.values()}
        registries = {p: text for p, text in texts.items() if "Registry(" in text or "Registry[" in text}
        found, group = {}, ""
        for line in path.read_text().partition('ENTRY_POINTS = """')[2].partition('"""')[0].split("\n"):
            if line.startswith("["):
                group = line.strip("[]")
            elif " = " in line:
                name, target = line.split(" = ")
                module = target.partition(":")[0]
                named = [p for p, text in registries.items() if re.search(rf"[\"']{re.escape(name)}[\"']", text)]
                found[f"{group}: {name}"] = len({self.root / Path(*module.split(".")), *named})
        return found

    def changes(self) -> dict[str, int | None]:
        """Change -> files that it takes besides its test; None where this checkout has no door for it."""
        files = self.additions()
        return {
            change: max(files[name] for name in names) if set(names) <= set(files) else None
            for change, names in CHANGES.items()
        }

    def scattered_additions(self) -> list[str]:
        """Those of :meth:`additions` that take more than one file."""
        return [name for name, count in self.additions().items() if count > 1]

    def md_loops(self) -> list[str]:
        """Modules of ``md`` with a loop of their own over the steps of a run (``while ... < total``)."""
        return sorted(
            name
            for name, tree in self.trees.items()
            if name.startswith(f"{PACKAGE}.md.")
            and any(
                isinstance(node, ast.While)
                and isinstance(node.test, ast.Compare)
                and any(isinstance(c, ast.Name) and c.id == "total" for c in node.test.comparators)
                for node in ast.walk(tree)
            )
        )

    def lines_per_room(self) -> dict[str, int]:
        """Room (first folder, or the foundation) -> lines of its files."""
        lines: Counter[str] = Counter()
        for path in self.files.values():
            parts = path.relative_to(self.root / PACKAGE).parts
            lines[parts[0] if len(parts) > 1 else "foundation"] += len(path.read_text().splitlines())
        return dict(lines.most_common())


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Public functions and public methods of public classes, constructors included."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and (inner.name == "__init__" or not inner.name.startswith("_")):
                    yield f"{node.name}.{inner.name}", inner


def _names(tree: ast.Module, members: bool = False) -> set[str]:
    """What a file defines or imports, keys of its tables, ``Class.member``; on demand members without their class."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.ClassDef):
            inner = {n for part in ast.walk(node) for n in _defined(part)}
            names |= {f"{node.name}.{n}" for n in inner} | (inner if members else set())
    for statement in tree.body:
        names |= set(_defined(statement))
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Dict):
            keys = [k.value for k in statement.value.keys if isinstance(k, ast.Constant)]
            names |= {key for key in keys if isinstance(key, str)}
    return names


def _defined(node: ast.AST) -> Iterator[str]:
    """Names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            for part in ast.walk(target):
                if isinstance(part, ast.Name):
                    yield part.id
                elif isinstance(part, ast.Attribute):
                    yield part.attr


def figures(house: House, label: str) -> dict[str, Any]:
    """Everything measured, as one row of the result."""
    folders, lines = house.modules_per_folder(), house.lines_per_room()
    return {
        "checkout": label,
        "modules": len(house.files),
        "lines": sum(lines.values()),
        "longest_file": max(len(p.read_text().splitlines()) for p in house.files.values()),
        "modules_per_folder": folders,
        "crowded_folders": {f: n for f, n in folders.items() if n > MODULES_PER_FOLDER},
        "circles": house.forbidden_circles(),
        "repeated_names": house.repeated_names(),
        "long_signatures": house.long_signatures(),
        "broken_references": house.broken_references(),
        "unreached": house.unreached(),
        "options_with_tasks": house.options_with_tasks(),
        "additions": house.additions(),
        "changes": house.changes(),
        "md_loops": house.md_loops(),
        "scattered_additions": house.scattered_additions(),
        "lines_per_room": lines,
    }


def _claims(row: dict[str, Any]) -> list[Claim]:
    """The rules, for one checkout."""
    ids = {key: f"{IDS.get(key, '7.1')} {key}" for key in RULES}
    rules = [Claim(ids[key], text, len(row[key]), "= 0", not row[key]) for key, text in RULES.items()]
    changes = list(row["changes"].values())
    most = max((count for count in changes if count is not None), default=0)
    told = "files that each of six changes takes besides its test"
    loops = len(row["md_loops"])
    return [
        *rules,
        Claim("7.2 changes", told, most, "= 1", all(count == 1 for count in changes)),
        Claim("7.4 md_loops", "modules of md with a loop over the steps of a run", loops, "= 1", loops == 1),
    ]


def _measure(given: str) -> dict[str, Any]:
    """Figures of a checkout (a folder) or of a revision of this repository."""
    if (Path(given) / PACKAGE).is_dir():
        root = Path(given).resolve()
        return figures(House(root), "working tree" if root == HERE else root.name)
    revision = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", f"{given}^{{commit}}"], capture_output=True, text=True
    )
    if revision.returncode:
        raise SystemExit(f"'{given}': expected a folder that holds {PACKAGE}/, or a revision of this repository")
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "checkout.tar"
        subprocess.run(["git", "-C", str(HERE), "archive", "-o", str(packed), given], check=True)
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        return figures(House(Path(folder)), revision.stdout.strip())


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkouts", nargs="*", default=[str(HERE)], help="folders or revisions")
    rows = [_measure(given) for given in parser.parse_args().checkouts]
    for row in rows:
        print(f"\n{row['checkout']}: {row['modules']} modules, {row['lines']} lines, at most {row['longest_file']}")
        for key in RULES:
            print(f"  {key.replace('_', ' ')}: {len(row[key])}")
            for entry in row[key].items() if isinstance(row[key], dict) else row[key]:
                print(f"    {' '.join(map(str, entry)) if isinstance(entry, list | tuple) else entry}")
        print(f"  files per change: {', '.join(f'{change} {n}' for change, n in row['changes'].items())}")
        print(f"  loops over the steps of a run: {', '.join(row['md_loops'])}")
        print(f"  lines per room: {', '.join(f'{room} {n}' for room, n in row['lines_per_room'].items())}")
    write_result("house", (__doc__ or "").split("\n")[0], rows, _claims(rows[-1]))


if __name__ == "__main__":
    main()
