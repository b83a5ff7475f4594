"""Writers through libraries on a disk that is full: one line, the old file, nothing beside it, no abort."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Every file may hold so many bytes, which the system says like a full disk.
LIMITED = """
import resource, signal
from pathlib import Path
import numpy as np
import torch
from mlsim.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path({path!r})
for limit in (0, 100, 1000, 3000, 5000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
{write}
    except StorageError as error:
        print(error)
"""
WRITERS = {
    "script.pt": """
        from mlsim.deploy.bridges.torchscript import to_bytes
        from mlsim.files import write_bytes
        write_bytes(path, to_bytes(torch.jit.script(torch.nn.Linear(40, 40))))
""",
    "state.pt": """
        from mlsim.fitting.state_file import save_state
        save_state(path, "mine", {"x": torch.ones(5000)})
""",
    "bias.npz": """
        from mlsim.chem.catalog import load_system
        from mlsim.potentials.dihedral_bias import DihedralBias
        molecule = load_system("alanine-dipeptide")
        grid = np.random.default_rng(0).random((1, 36, 36))
        DihedralBias(molecule, 300.0, grid).save(path)
""",
    "figure.png": """
        from matplotlib.figure import Figure
        from mlsim.analysis.figures import _write
        figure = Figure()
        figure.subplots().plot([0, 1])
        _write(figure, path)
""",
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("the old file")
    code = LIMITED.format(path=str(path), write=WRITERS[name])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(line.startswith(f"{path}: no space left") for line in lines)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_text() == "the old file"
