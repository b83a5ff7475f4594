"""The contract of an encoder: subclass ``EncoderContract`` once per class and every claim below is tested."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.repr.encoder import WEIGHTS, Encoder
from mlsim.repr.registry import encoder_type, load_encoder
from mlsim.repr.shipped_encoders import CONFIG

COUNT = 7


class EncoderContract:
    """What every encoder promises. Subclasses implement :meth:`build` and :meth:`inputs`."""

    #: Largest difference between features of the same input in batches of other sizes.
    tolerance = 2e-6

    @classmethod
    def build(cls) -> Encoder:
        """A small encoder of a registered kind, with random parameters."""
        raise NotImplementedError

    @classmethod
    def inputs(cls, count: int) -> Any:
        """``count`` different inputs that it accepts: an array or a list."""
        raise NotImplementedError

    @pytest.fixture
    def encoder(self) -> Encoder:
        return built(type(self))  # type: ignore[arg-type]  # a class can be hashed

    def test_its_kind_is_registered(self, encoder: Encoder) -> None:
        assert encoder_type(encoder.kind) is type(encoder)

    def test_every_layer_and_pool_gives_one_finite_row_of_float32_per_input(self, encoder: Encoder) -> None:
        inputs = self.inputs(COUNT)
        assert encoder.pools[0] == "mean"
        for layer in ("last", *encoder.layers):
            for pool in encoder.pools:
                features = encoder.encode(inputs, layer=layer, pool=pool)
                assert features.dtype == np.float32
                assert features.ndim == 2
                assert len(features) == COUNT
                assert np.isfinite(features).all()

    def test_last_is_the_last_layer_and_has_the_dimension_it_says(self, encoder: Encoder) -> None:
        features = encoder.encode(self.inputs(COUNT))
        assert features.shape == (COUNT, encoder.dimension)
        np.testing.assert_array_equal(features, encoder.encode(self.inputs(COUNT), layer=encoder.layers[-1]))

    def test_different_inputs_have_different_features(self, encoder: Encoder) -> None:
        features = encoder.encode(self.inputs(COUNT))
        assert len(np.unique(features, axis=0)) == COUNT

    def test_features_depend_neither_on_the_batch_nor_on_the_other_inputs(self, encoder: Encoder) -> None:
        inputs = self.inputs(COUNT)
        for layer in encoder.layers:
            for pool in encoder.pools:
                whole = encoder.encode(inputs, layer=layer, pool=pool)
                parts = encoder.encode(inputs, layer=layer, pool=pool, batch_size=2)
                scale = max(1.0, float(np.abs(whole).max()))
                np.testing.assert_allclose(parts, whole, rtol=0, atol=self.tolerance * scale)
        backwards = encoder.encode(inputs[::-1])[::-1]
        whole = encoder.encode(inputs)
        np.testing.assert_allclose(backwards, whole, rtol=0, atol=self.tolerance * max(1.0, float(np.abs(whole).max())))

    def test_encoding_twice_gives_the_same_bits_and_leaves_inputs_and_parameters_alone(self, encoder: Encoder) -> None:
        inputs = self.inputs(COUNT)
        kept, state = copy.deepcopy(inputs), {name: t.clone() for name, t in encoder.state().items()}
        np.testing.assert_array_equal(encoder.encode(inputs), encoder.encode(inputs))
        assert all(np.array_equal(one, other) for one, other in zip(kept, inputs, strict=True))
        assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state().items())

    def test_progress_counts_every_input_once(self, encoder: Encoder) -> None:
        seen: list[tuple[int, int]] = []
        encoder.encode(self.inputs(COUNT), batch_size=3, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(3, 7), (6, 7), (7, 7)]

    def test_what_it_does_not_have_is_refused_by_name(self, encoder: Encoder) -> None:
        inputs = self.inputs(2)
        with pytest.raises(InputError, match="layer: expected 'last' or one of"):
            encoder.encode(inputs, layer="no-such-layer")
        with pytest.raises(InputError, match="pool: expected one of mean"):
            encoder.encode(inputs, pool="no-such-pool")
        with pytest.raises(InputError, match="at least 1"):
            encoder.encode(inputs, batch_size=0)
        with pytest.raises(InputError, match="at least one"):
            encoder.encode(inputs[:0])
        with pytest.raises(InputError, match="device"):
            encoder.to("no-such-device")

    def test_inputs_of_another_kind_are_refused(self, encoder: Encoder) -> None:
        for wrong in (object(), np.full((3, 5, 1, 2, 1), np.nan)):
            with pytest.raises(InputError):
                encoder.encode(wrong)

    def test_a_saved_encoder_comes_back_bit_for_bit_from_files_alone(self, encoder: Encoder, tmp_path: Path) -> None:
        encoder.save(tmp_path / "mine")
        again = load_encoder(tmp_path / "mine")
        assert type(again) is type(encoder)
        assert again.inputs == encoder.inputs
        assert (again.layers, again.pools, again.dimension) == (encoder.layers, encoder.pools, encoder.dimension)
        np.testing.assert_array_equal(again.encode(self.inputs(COUNT)), encoder.encode(self.inputs(COUNT)))
        assert json.loads(json.dumps(encoder.config)) == again.config

    def test_damaged_files_are_refused(self, encoder: Encoder, tmp_path: Path) -> None:
        directory = encoder.save(tmp_path / "mine")
        weights, whole = directory / WEIGHTS, load_file(directory / WEIGHTS)
        name = next(name for name, tensor in whole.items() if tensor.is_floating_point())
        save_file({n: t for n, t in whole.items() if n != name}, weights)
        with pytest.raises(ArtifactError):
            load_encoder(directory)
        save_file({**whole, name: torch.full_like(whole[name], float("nan"))}, weights)
        with pytest.raises(ArtifactError, match="NaN"):
            load_encoder(directory)
        save_file({**whole, name: torch.zeros([*whole[name].shape, 2])}, weights)
        with pytest.raises(ArtifactError):
            load_encoder(directory)
        weights.write_bytes(b"nothing")
        with pytest.raises(ArtifactError, match="damaged"):
            load_encoder(directory)
        weights.unlink()
        with pytest.raises(MissingError):
            load_encoder(directory)

    def test_the_files_of_another_kind_are_refused(self, encoder: Encoder, tmp_path: Path) -> None:
        directory = encoder.save(tmp_path / "mine")
        record = json.loads((directory / CONFIG).read_text())
        (directory / CONFIG).write_text(json.dumps(record | {"kind": "no-such-kind"}))
        with pytest.raises(InputError, match="no-such-kind"):
            load_encoder(directory)
        with pytest.raises(ArtifactError, match="no-such-kind"):
            type(encoder).from_pretrained(directory)


@cache
def built(contract: type[EncoderContract]) -> Encoder:
    """The contract's encoder, built once per class."""
    return contract.build()
