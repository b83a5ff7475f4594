"""Models on disk: what was saved comes back, and nothing else is accepted."""

from __future__ import annotations

import pytest
import torch
import yaml

from mlsim.errors import ArtifactError, MissingError, SettingsError
from mlsim.models import weights
from mlsim.models.contract import create


def model(**config):
    return create("issnet", {"features": 6, "n_radial": 5, **config}, seed=3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_model_comes_back_with_settings_weights_and_precision(tmp_path, dtype):
    saved = model(cutoff_nm=0.7).to(dtype)
    weights.save(saved, tmp_path / "m")
    back = weights.load(tmp_path / "m")
    assert back.config == saved.config
    assert next(back.parameters()).dtype == dtype
    x = torch.rand(2, 3, 3, dtype=dtype)
    args = (back.type_indices(["C", "O", "N"]), torch.zeros(3, dtype=dtype))
    assert torch.equal(back(x, *args), saved(x, *args))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["config.yaml", "weights.safetensors"]


def test_missing_and_damaged_files_are_refused(tmp_path):
    weights.save(model(), tmp_path)
    path = tmp_path / weights.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="damaged"):
        weights.load(tmp_path)
    path.unlink()
    with pytest.raises(MissingError, match="weights"):
        weights.load(tmp_path)
    with pytest.raises(MissingError, match=r"config\.yaml"):
        weights.load(tmp_path / "nowhere")


def test_weights_of_another_shape_and_unknown_settings_are_refused(tmp_path):
    weights.save(model(), tmp_path)
    config = yaml.safe_load((tmp_path / weights.CONFIG).read_text())
    config["config"]["features"] = 7
    (tmp_path / weights.CONFIG).write_text(yaml.safe_dump(config))
    with pytest.raises(ArtifactError, match="does not fit"):
        weights.load(tmp_path)
    config["config"]["featurs"] = 7
    (tmp_path / weights.CONFIG).write_text(yaml.safe_dump(config))
    with pytest.raises(SettingsError, match="did you mean 'features'"):
        weights.load(tmp_path)
    (tmp_path / weights.CONFIG).write_text("kind: issnet\n")
    with pytest.raises(SettingsError, match="expected the keys"):
        weights.load(tmp_path)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    broken = model()
    with torch.no_grad():
        broken.embedding[0, 0] = float("nan")
    weights.save(broken, tmp_path)
    with pytest.raises(ArtifactError, match="NaN"):
        weights.load(tmp_path)
