"""Soft Q-learning: path consistencies against exact answers, the policy, the search and its memory."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers")

from benchmarks.repr.soft_optimum import soft_optimum
from mlsim.errors import CheckpointError, InputError, SettingsError, UnphysicalError
from mlsim.repr.soft_q import path_losses, peptide_rewards
from mlsim.repr.soft_q.alphabet import Alphabet
from mlsim.repr.soft_q.diversity import mean_distance, novelty, set_entropy, unique_fraction
from mlsim.repr.soft_q.policy import GPTSettings, Policy, tiny
from mlsim.repr.soft_q.rewards import Remembered, Shaping
from mlsim.repr.soft_q.search import SoftQ
from mlsim.repr.soft_q.settings import SoftQSettings

SMALL = GPTSettings(width=16, layers=1, heads=2)
KINDS = ("vanilla", "single", "multi", "combined")
#: exp(r) = 3, 1, 2, 2: solved by hand, V("a") = V("b") = log 4, V("") = log 8.
HAND = {"aa": math.log(3), "ab": 0.0, "ba": math.log(2), "bb": math.log(2)}


def every(alphabet: Alphabet) -> list[str]:
    """All strings of an alphabet."""
    lengths = range(alphabet.shortest, alphabet.longest + 1)
    return ["".join(t) for n in lengths for t in itertools.product(alphabet.letters, repeat=n)]


def test_the_two_letter_problem_has_the_values_found_by_hand() -> None:
    optimum = soft_optimum(Alphabet("ab", 2, 2), HAND.__getitem__)
    assert optimum.log_partition == pytest.approx(math.log(8))
    assert optimum.table[""][2:].tolist() == pytest.approx([math.log(4), math.log(4)])
    assert optimum.table["a"].softmax(0)[2:].tolist() == pytest.approx([0.75, 0.25])
    assert optimum.probability("aa", HAND["aa"]) == pytest.approx(3 / 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [(2, 2), (1, 3)])
def test_the_soft_optimum_has_zero_loss_on_any_data(kind: path_losses.Consistency, lengths: tuple[int, int]) -> None:
    alphabet = Alphabet("ab", *lengths)
    reward = {s: math.sin(3.0 * k) for k, s in enumerate(every(alphabet))}
    optimum = soft_optimum(alphabet, reward.__getitem__)
    actions, taken = alphabet.encode(list(reward))
    logits, r = optimum.logits(actions), torch.tensor(list(reward.values()), dtype=torch.float64)
    assert path_losses.consistency(kind, logits, logits, actions, taken, r).item() < 1e-20
    assert path_losses.value_gradient(logits, actions, taken, r).item() < 1e-20
    # a wrong reward is noticed
    assert path_losses.consistency(kind, logits, logits, actions, taken, r + 0.1).item() > 1e-3


def test_the_losses_by_hand_at_a_uniform_policy() -> None:
    alphabet = Alphabet("ab", 2, 2)
    actions, taken = alphabet.encode(["ab"])
    logits = torch.zeros((1, 2, 4)).masked_fill(~alphabet.allowed(), -torch.inf)
    r, step = torch.tensor([1.5]), math.log(2)
    # log pi = -log 2 at both positions, V = log 2 at both
    expected = {
        "vanilla": (0 - step) ** 2 + (0 - 1.5) ** 2,
        "single": (-step - 0) ** 2 + (-step - 1.5 + step) ** 2,
        "multi": (-2 * step - 1.5 + step) ** 2 + (-step - 1.5 + step) ** 2,
    }
    expected["combined"] = (expected["single"] + expected["multi"]) / 2
    for kind in KINDS:
        assert path_losses.consistency(kind, logits, logits, actions, taken, r).item() == pytest.approx(expected[kind])


@pytest.mark.parametrize("kind", ["single", "multi", "combined"])
def test_a_constant_on_all_values_changes_no_policy_loss_but_the_value_loss(kind: path_losses.Consistency) -> None:
    alphabet = Alphabet("abc", 1, 4)
    actions, taken = alphabet.encode(["ab", "cabc", "b"])
    logits = torch.randn((3, 4, alphabet.size), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = logits.masked_fill(~alphabet.allowed(), -torch.inf)
    r = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    losses_at = [path_losses.consistency(kind, logits + c, logits, actions, taken, r).item() for c in (0.0, 7.0)]
    assert losses_at[0] == pytest.approx(losses_at[1], rel=1e-12)
    values_at = [path_losses.value_gradient(logits + c, actions, taken, r).item() for c in (0.0, 7.0)]
    assert abs(values_at[0] - values_at[1]) > 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_behind_the_end_of_a_string_is_not_seen(kind: path_losses.Consistency) -> None:
    alphabet = Alphabet("ab", 1, 4)
    actions, taken = alphabet.encode(["a", "ba"])
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn((2, 4, 4), generator=generator)
    other = torch.where(taken.unsqueeze(-1), logits, torch.full_like(logits, 99.0))
    r = torch.tensor([1.0, 2.0])
    one = path_losses.consistency(kind, logits, logits, actions, taken, r)
    assert path_losses.consistency(kind, other, other, actions, taken, r).item() == pytest.approx(one.item())


def test_the_policy_gradient_is_the_gradient_of_the_mean_reward() -> None:
    alphabet = Alphabet("ab", 2, 2)
    texts = every(alphabet)
    actions, taken = alphabet.encode(texts)
    r = torch.tensor([HAND[t] for t in texts], dtype=torch.float64)
    free = torch.tensor([[0.3, -0.2], [0.1, 0.4], [0.0, 0.5]], dtype=torch.float64, requires_grad=True)

    def logits() -> torch.Tensor:
        first = free[0].expand(4, 2)
        second = torch.stack([free[1], free[1], free[2], free[2]])
        blocked = torch.full((4, 2, 2), -torch.inf, dtype=torch.float64)
        return torch.cat([blocked, torch.stack([first, second], dim=1)], dim=2)

    steps = path_losses.log_policy_of(logits(), actions, taken).sum(1)
    (expected,) = torch.autograd.grad((steps.exp() * r).sum(), free)
    # every string weighted with its probability is the expectation over draws
    weights = steps.detach().exp() * 4
    found = path_losses.policy_gradient(logits(), actions, taken, (r - 0.7) * weights, 0.0)
    (gradient,) = torch.autograd.grad(-found, free)
    assert torch.allclose(gradient, expected, atol=1e-12)


@given(st.integers(2, 5), st.integers(1, 5), st.integers(0, 3), st.data())
@settings(max_examples=40, deadline=None)
def test_encoding_is_undone_by_decoding(count: int, shortest: int, more: int, data: st.DataObject) -> None:
    alphabet = Alphabet("ACDEF"[:count], shortest, shortest + more)
    text = st.text(alphabet.letters, min_size=shortest, max_size=shortest + more)
    texts = data.draw(st.lists(text, min_size=1, max_size=5))
    actions, taken = alphabet.encode(texts)
    assert alphabet.decode(actions) == texts
    assert alphabet.allowed()[torch.arange(alphabet.longest).expand_as(actions)[taken], actions[taken]].all()


@pytest.mark.parametrize("wrong", ["abz", "a", "abcab"])
def test_strings_outside_the_alphabet_are_refused(wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        Alphabet("abc", 2, 4).encode([wrong])


def test_probabilities_of_all_strings_add_up_to_one_and_samples_follow_them() -> None:
    alphabet = Alphabet("ab", 1, 3)
    policy = tiny(alphabet, SMALL, 1)
    texts = every(alphabet)
    with torch.no_grad():
        probability = policy.log_prob(*alphabet.encode(texts)).exp().double()
    assert probability.sum().item() == pytest.approx(1.0, abs=1e-5)
    drawn = alphabet.decode(policy.sample(4000, torch.Generator().manual_seed(1))[0])
    seen = torch.tensor([drawn.count(t) / 4000 for t in texts], dtype=torch.float64)
    assert (seen - probability).abs().max() < 4 * math.sqrt(0.25 / 4000)


def test_a_wide_beam_finds_the_likeliest_strings() -> None:
    alphabet = Alphabet("abc", 1, 3)
    policy = tiny(alphabet, SMALL, 2)
    texts = every(alphabet)
    with torch.no_grad():
        log_p = dict(zip(texts, policy.log_prob(*alphabet.encode(texts)).tolist(), strict=True))
    best = sorted(texts, key=lambda t: -log_p[t])[:5]
    found = policy.beam(100)[:5]
    assert [t for t, _ in found] == best
    assert [p for _, p in found] == pytest.approx([log_p[t] for t in best], abs=1e-5)


def test_top_one_sampling_is_greedy() -> None:
    alphabet = Alphabet("abcd", 4, 4)
    policy = tiny(alphabet, SMALL, 3)
    drawn = alphabet.decode(policy.sample(20, torch.Generator().manual_seed(0), top_k=1)[0])
    assert set(drawn) == {policy.beam(1)[0][0]}


def test_a_model_of_another_vocabulary_is_refused() -> None:
    policy = tiny(Alphabet("abc", 2, 2), SMALL, 0)
    with pytest.raises(InputError, match="vocabulary of 6"):
        Policy(policy.model, Alphabet("abcd", 2, 2))


def test_fresh_weights_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (tiny(Alphabet("ab", 2, 2), SMALL, 5) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_every_string_is_rewarded_once() -> None:
    asked: list[str] = []

    def reward(texts: list[str]) -> list[float]:
        asked.extend(texts)
        return [float(len(t)) for t in texts]

    remembered = Remembered(reward, {"zz": 9.0})
    assert remembered(["a", "bb", "a", "zz"]) == [1.0, 2.0, 1.0, 9.0]
    assert remembered(["bb", "ccc"]) == [2.0, 3.0]
    assert asked == ["a", "bb", "ccc"]
    assert remembered.calls == 3


def test_rewards_that_are_no_numbers_or_too_few_are_refused() -> None:
    with pytest.raises(UnphysicalError, match="'ab' is nan"):
        Remembered(lambda texts: [math.nan for _ in texts])(["ab"])
    with pytest.raises(InputError, match="expected 2 values"):
        Remembered(lambda texts: [1.0])(["a", "b"])


def test_shaping_maps_the_range_onto_plus_minus_the_scale() -> None:
    assert Shaping(0.0, 100.0, 50.0)([0.0, 25.0, 100.0]).tolist() == [-50.0, -25.0, 50.0]
    with pytest.raises(InputError):
        Shaping(1.0, 1.0, 5.0)


def test_diversity_by_hand() -> None:
    assert unique_fraction(["ab", "ab", "ba"]) == pytest.approx(2 / 3)
    assert novelty(["ab", "ab", "ba"], ["ab"]) == pytest.approx(1 / 3)
    assert mean_distance(["ab", "ab"]) == 0.0
    assert mean_distance(["ab", "ba"]) == 1.0
    assert mean_distance(["ab", "a", "cb"]) == pytest.approx(1 - (1 / 3 + 1 / 3) / 2)
    assert set_entropy(["a", "b", "a", "b"]) == pytest.approx(math.log(2))


def search(method: str, seed: int = 1, **other: object) -> SoftQ:
    """A search on strings of four letters that wants many a's."""
    values = {"method": method, "steps": 12, "batch_size": 8, "model": SMALL.model_dump(), "memory": 50, **other}
    given_texts = ["abcd", "aaab", "dcba", "ccca"]
    config = SoftQSettings.parse(values)
    return SoftQ(Alphabet("abcd", 4, 4), lambda ts: [25.0 * t.count("a") for t in ts], config, given_texts, None, seed)


@pytest.mark.parametrize("method", ["vanilla", "single", "multi", "combined", "mle", "pg", "mle+pg"])
def test_every_method_runs_and_logs(method: str) -> None:
    run = search(method)
    run.fit(log_every=4)
    assert [row["step"] for row in run.history] == [4, 8, 12]
    assert all(math.isfinite(row["loss"]) for row in run.history)
    assert ("unique" in run.history[-1]) == (method != "mle")
    assert ("entropy" in run.history[-1]) == (method != "mle")


def test_learning_raises_the_reward() -> None:
    run = search("multi", steps=250, batch_size=32, learning_rate=3e-3, polyak=0.05, reward_scale=4.0, value_weight=0.5)
    run.fit()
    texts = run.sample(500, torch.Generator().manual_seed(9))
    # uniform strings have one a in four
    assert sum(t.count("a") for t in texts) / 2000 > 0.6


def test_the_target_follows_by_the_polyak_share() -> None:
    run = search("multi", polyak=0.25)
    before = [p.clone() for p in run.target.parameters()]
    run.advance()
    for old, slow, fast in zip(before, run.target.parameters(), run.policy.parameters(), strict=True):
        assert torch.allclose(slow, 0.75 * old + 0.25 * fast, atol=1e-7)


def test_an_interrupted_search_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = search("combined")
    whole.fit(log_every=3)
    first = search("combined")
    first.fit(tmp_path, log_every=3, stop=lambda: first.step == 5)
    assert first.step == 5
    second = search("combined")
    second.fit(tmp_path, log_every=3)
    assert second.history == whole.history
    assert second.reward.known == whole.reward.known
    pairs = zip(whole.policy.parameters(), second.policy.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_checkpoint_of_another_search_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    search("multi").fit(tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        search("single").fit(tmp_path)
    (tmp_path / "search.pt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged"):
        search("multi").fit(tmp_path)


def test_the_budget_is_never_exceeded() -> None:
    run = search("multi", budget=19, steps=100)
    run.fit()
    assert run.reward.calls == 19
    assert run.step < 100


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(SettingsError, match="write_every 1"):
        SoftQSettings.parse({"method": "pg", "write_every": 2})
    with pytest.raises(SettingsError, match="reward_low < reward_high"):
        SoftQSettings.parse({"reward_low": 1.0, "reward_high": 0.0})
    with pytest.raises(InputError, match="given sequences"):
        SoftQ(Alphabet("ab", 2, 2), lambda t: [0.0] * len(t), SoftQSettings(method="mle"))


def test_charge_and_moment_by_hand() -> None:
    assert peptide_rewards.charge("KRDEH") == 0
    assert peptide_rewards.charge("KKA") == 2
    # a full turn between residues: the vectors add up
    assert peptide_rewards.amphipathic_moment("LL", 360.0) == pytest.approx(1.06)
    assert peptide_rewards.amphipathic_moment("LL", 180.0) == pytest.approx(0.0, abs=1e-12)
    # one face oily, the other charged, against the same letters in another order
    face = peptide_rewards.amphipathic_moment("LKKLLKKLLKKL")
    assert face > 2 * peptide_rewards.amphipathic_moment("LLLLLLKKKKKK")
    with pytest.raises(InputError, match="'B'"):
        peptide_rewards.amphipathic_moment("AB")


def test_rewards_are_combined_by_their_weights() -> None:
    charged = peptide_rewards.window(lambda s: float(peptide_rewards.charge(s)), 1, 2, 25.0)
    assert charged(["KA", "KKA", "A", "DDDDD"]) == [100.0, 100.0, 75.0, 0.0]
    short = peptide_rewards.scaled(lambda texts: [float(len(t)) for t in texts], 5.0, 1.0)
    assert short(["A", "AAA", "AAAAAAA"]) == [100.0, 50.0, 0.0]
    both = peptide_rewards.weighted([charged, short], [3.0, 1.0])
    assert both(["KAA"]) == [pytest.approx((3 * 100 + 50) / 4)]
    with pytest.raises(InputError, match="low <= high"):
        peptide_rewards.window(float, 2, 1, 1.0)


def test_imitation_comes_first_and_the_target_starts_from_it() -> None:
    run = search("multi", imitate_steps=3)
    for _ in range(3):
        row = run.advance()
        assert "reward" not in row
    pairs = zip(run.target.parameters(), run.policy.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert "reward" in run.advance()
    with pytest.raises(InputError, match="imitate_steps"):
        search("pg", imitate_steps=3)
