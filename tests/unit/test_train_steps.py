"""Training by steps: a resumed one is the one that was never stopped, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlsim.errors import CheckpointError, MissingError, UnphysicalError
from mlsim.fitting.state_file import load_state
from mlsim.fitting.steps import Kept, Plan, Trained, run


class Draws:
    """A generator whose state goes with the checkpoint."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(4)

    def remembered(self) -> dict[str, object]:
        return {"state": self.rng.bit_generator.state}

    def recall(self, remembered: dict[str, object]) -> None:
        self.rng.bit_generator.state = remembered["state"]


def train(kept: Path | None = None, stop: int | None = None, identity: str = "one") -> tuple[nn.Module, list[float]]:
    """Ten steps on a line, with two groups of parameters and batches from a generator that must be remembered."""
    draws = Draws()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = nn.Linear(3, 1)
    groups = [{"params": [module.weight], "lr": 0.1}, {"params": [module.bias], "lr": 0.01}]

    def loss(step: int) -> Tensor:
        x = torch.from_numpy(draws.rng.normal(size=(4, 3)).astype(np.float32))
        return (module(x) - x.sum(1, keepdim=True)).square().mean()

    def progress(done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    plan = Plan(10, lambda step, group: group["initial_lr"] / (1 + step), clip=1.0)
    state = None if kept is None else Kept(kept, identity, 4, draws)
    return module, run(Trained(module, torch.optim.Adam(groups)), loss, plan, state, progress)


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    module, losses = train()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "state.pt", stop=7)
    again, resumed = train(tmp_path / "state.pt")
    assert resumed == losses
    assert len(losses) == 10
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    _, losses = train(tmp_path / "state.pt")
    before = (tmp_path / "state.pt").stat().st_mtime_ns
    assert train(tmp_path / "state.pt")[1] == losses
    assert (tmp_path / "state.pt").stat().st_mtime_ns == before


def test_the_state_of_another_training_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    train(tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="other settings or data"):
        train(tmp_path / "state.pt", identity="two")
    (tmp_path / "state.pt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged"):
        train(tmp_path / "state.pt")
    with pytest.raises(MissingError, match="start without resuming"):
        load_state(tmp_path / "none.pt", "one")


def test_a_loss_that_is_no_number_ends_the_training_before_the_step() -> None:
    module = nn.Linear(1, 1)
    before = module.weight.detach().clone()
    trained = Trained(module, torch.optim.Adam(module.parameters()))
    with pytest.raises(UnphysicalError, match="nan in step 1"):
        run(trained, lambda step: module.weight.sum() * float("nan"), Plan(3, lambda step, group: 0.1))
    assert torch.equal(module.weight, before)


def test_each_group_of_parameters_keeps_its_share_of_the_rate() -> None:
    a, b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    both = nn.ModuleList([a, b])
    start = [m.weight.item() for m in (a, b)]
    optimizer = torch.optim.SGD([{"params": a.parameters(), "lr": 1.0}, {"params": b.parameters(), "lr": 0.25}])
    run(
        Trained(both, optimizer),
        lambda step: a.weight.sum() + b.weight.sum(),
        Plan(1, lambda s, g: 0.5 * g["initial_lr"]),
    )
    moved = [x - m.weight.item() for x, m in zip(start, (a, b), strict=True)]
    assert moved == pytest.approx([0.5, 0.125])
