"""What this installation can do: versions, platforms, bridges, shipped force fields."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Literal

from mlsim.records import versions

#: Packages without which nothing runs, and what to do if one is missing.
REQUIRED = ("openmm", "torch", "numpy", "mdtraj", "numba")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    state: Literal["ok", "note", "bad"]
    text: str
    advice: str | None = None


def examine() -> tuple[Finding, ...]:
    """All findings, in the order in which a user would look for a fault."""
    return (*_packages(), _bridge(), *_platforms(), *_force_fields(), *_optional())


def _packages() -> list[Finding]:
    found = versions()
    lines = [Finding("python", "ok", f"{found['python']} on {found['system']}")]
    for package in ("mlsim", *REQUIRED):
        version = found.get(package)
        if version is None:
            advice = "pip install mlsim installs it" if package != "mlsim" else "pip install . in the checkout"
            lines.append(Finding(package, "note" if package == "mlsim" else "bad", "not installed", advice))
        else:
            lines.append(Finding(package, "ok", version))
    return lines


def _bridge() -> Finding:
    from mlsim.deploy.bridges.openmm_force import torchforce_opencl_problem, torchforce_problem

    problem = torchforce_problem() or torchforce_opencl_problem()
    if problem is None:
        return Finding("TorchForce", "ok", "openmmtorch usable (--bridge torch)")
    return Finding("TorchForce", "note", problem, "nothing to do: mlsim works through PythonForce (--bridge python)")


def _platforms() -> list[Finding]:
    from openmm import Platform

    from mlsim.md.platforms import available

    names = available()
    lines = [Finding("platforms", "ok", ", ".join(names))]
    if not {"CUDA", "HIP", "OpenCL"} & set(names):
        lines.append(Finding("GPU", "note", "no GPU platform", "for NVIDIA cards: pip install 'mlsim[cuda12]'"))
    for failure in Platform.getPluginLoadFailures():
        text = " ".join(str(failure).split())
        # a missing GPU driver is the platform's line above; the Torch plugins are loaded when they are used
        if not any(word in text for word in ("libcuda", "OpenCL", "OpenMMTorch")):
            lines.append(Finding("plugin", "note", text[:160]))
    return lines


def _force_fields() -> list[Finding]:
    from mlsim.chem.catalog import forcefield_directory, forcefields
    from mlsim.deploy.artifact import ForceFieldArtifact
    from mlsim.errors import MlsimError

    lines = []
    for name in forcefields():
        try:
            ForceFieldArtifact.load(forcefield_directory(name))
            lines.append(Finding("force field", "ok", name))
        except MlsimError as error:
            lines.append(Finding("force field", "bad", f"{name}: {error}", "reinstall mlsim or export the model again"))
    if not lines:
        lines.append(Finding("force field", "note", "none found", "train one: mlsim train issnet; mlsim export"))
    return lines


def _optional() -> list[Finding]:
    lines = []
    modules = (("repr", "transformers"), ("repr", "sklearn"), ("gromacs", "parmed"), ("gromacs", "MDAnalysis"))
    for extra, module in (*modules, ("cluster", "dask"), ("test", "pytest")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(module)
            lines.append(Finding(module, "ok", f"usable (extra '{extra}')"))
        except ImportError as error:
            lines.append(
                Finding(module, "note", f"not usable ({error})", f"pip install 'mlsim[{extra}]' if you need it")
            )
    return [*lines, _gromacs()]


def _gromacs() -> Finding:
    from mlsim.errors import DependencyError
    from mlsim.md.gromacs.program import executable

    try:
        return Finding("GROMACS", "ok", executable())
    except DependencyError:
        advice = "install GROMACS (Debian: apt install gromacs) for mlsim reference --engine gromacs"
        return Finding("GROMACS", "note", "no gmx program", advice)
