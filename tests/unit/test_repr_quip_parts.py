"""QuIP's parts: facts, tokens, labels, heads, windows, spans."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="LOUD SKIP: mlsim[repr] is not installed")
import torch

from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.repr.quip.biencoder import BiEncoder, Shape, divergence
from mlsim.repr.quip.heads import QaHead, load_head
from mlsim.repr.quip.learning import facts
from mlsim.repr.quip.learning.labels import Label, hard, targets
from mlsim.repr.quip.learning.passages import Passage, QuestionAnswer, read_squad
from mlsim.repr.quip.spans import best_spans
from mlsim.repr.quip.tasks.library import read_folder
from mlsim.repr.quip.tokenizer import load_tokenizer, tokenize, train_tokenizer
from mlsim.repr.quip.windows import WindowSettings, windows


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- facts ----


def test_train_and_test_share_no_name_and_no_combination_of_clause_and_frame() -> None:
    seen = {}
    for split in ("train", "test"):
        passages = facts.generate(150, split, rng(3))
        words = {w.strip(".,?") for p in passages for w in p.text.split()}
        seen[split] = {w for w in words if w[:1].isupper() and len(w) > 4} - {"Which", "Where"}
        assert all(facts.side_of(q.answer) == split for p in passages for q in p.questions if q.answer in seen[split])
    shared = seen["train"] & seen["test"]
    assert shared <= {"Here"}, shared
    relation = facts.RELATIONS[0]
    forms = {
        split: {facts.sentence(relation, ("Aaa", "Bbb"), split, rng(k)).text for k in range(300)}
        for split in ("train", "test")
    }
    assert not forms["train"] & forms["test"]
    assert len(forms["train"]) > 2 * len(forms["test"]) > 10


def test_a_question_has_one_answer_within_one_call() -> None:
    passages = facts.generate(200, "train", rng(5), facts_per_passage=3)
    answers: dict[str, set[str]] = {}
    for p in passages:
        for q in p.questions:
            answers.setdefault(q.question, set()).add(q.answer)
    assert len(answers) > 500
    assert all(len(a) == 1 for a in answers.values())


def test_an_argument_stands_first_as_often_as_second() -> None:
    first = [facts.sentence(facts.RELATIONS[0], ("Aaa", "Bbb"), "train", rng(k)).starts for k in range(300)]
    share = np.mean([a < b for a, b in first])
    assert 0.25 < share < 0.75, "position must not tell the role"


def test_a_wrong_answer_offset_is_refused() -> None:
    with pytest.raises(InputError, match="at character 3"):
        Passage("Zilmor binds Tapnes.", (QuestionAnswer("What binds Tapnes?", "Zilmor", 3),))


def test_squad_files_are_read_and_others_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text(
        '{"data": [{"paragraphs": [{"context": "A binds B.", "qas": [{"question": "What binds B?", '
        '"answers": [{"text": "A", "answer_start": 0}]}, {"question": "none?", "answers": []}]}]}]}'
    )
    (passage,) = read_squad(good)
    assert [q.answer for q in passage.questions] == ["A"]
    bad = tmp_path / "bad.json"
    bad.write_text('{"rows": []}')
    with pytest.raises(InputError, match="SQuAD"):
        read_squad(bad)
    with pytest.raises(MissingError):
        read_squad(tmp_path / "none.json")


# ---- tokens and labels ----


@pytest.fixture(scope="module")
def tokenizer():
    passages = facts.generate(100, "train", rng(1))
    return train_tokenizer([p.text for p in passages], 400)


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=30))
def test_tokens_cover_every_visible_character_of_any_text(tokenizer, text: str) -> None:
    if text != text.lower() or not text.strip():
        return
    batch = tokenize(tokenizer, [text], 500)
    covered = {k for (a, b), c in zip(batch.offsets[0], batch.content[0], strict=True) if c for k in range(a, b)}
    assert {k for k, char in enumerate(text) if not char.isspace()} <= covered


def test_pairs_mark_the_second_text_as_content(tokenizer) -> None:
    batch = tokenize(tokenizer, [("what binds?", "zilmor binds")], 100)
    where = batch.content[0].numpy()
    picked = [("zilmor binds")[a:b] for a, b in batch.offsets[0][where]]
    assert "".join(picked).replace(" ", "") == "zilmorbinds"


def test_cut_texts_end_with_the_end_token_outside_the_content(tokenizer) -> None:
    batch = tokenize(tokenizer, ["zilmor binds tapnes and cleaves dorlex"], 6)
    assert batch.ids.shape == (1, 6)
    assert batch.ids[0, -1] == tokenizer.token_to_id("</s>")
    assert not batch.content[0, -1]
    assert not batch.content[0, 0]


def test_labels_land_on_the_tokens_that_hold_the_answer(tokenizer) -> None:
    passages = facts.generate(20, "train", rng(9))
    batch = tokenize(tokenizer, [p.text for p in passages], 200)
    for row, passage in enumerate(passages):
        indices, p = targets(batch, [hard(q) for q in passage.questions], torch.full((len(passage.questions),), row))
        assert torch.all(p == 1)
        for k, q in enumerate(passage.questions):
            first, last = batch.offsets[row][indices[0, k, 0]], batch.offsets[row][indices[1, k, 0]]
            assert passage.text[first[0] : last[1]] == q.answer


def test_an_answer_that_was_cut_off_has_no_weight(tokenizer) -> None:
    text = "zilmor binds tapnes in water"
    batch = tokenize(tokenizer, [text], 5)
    _, p = targets(batch, [hard(QuestionAnswer("?", "water", text.index("water")))], torch.tensor([0]))
    assert torch.all(p == 0)


@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_fresh_weights_are_as_wide_as_asked(spread: float) -> None:
    model = BiEncoder.fresh(Shape(vocabulary=300, spread=spread).roberta(), 1)
    matrices = [p for name, p in model.roberta.named_parameters() if p.ndim == 2 and "embeddings" not in name]
    assert len(matrices) == 2 * 6
    for matrix in matrices:
        assert float(matrix.detach().std()) == pytest.approx(spread, rel=0.05)


def test_divergence_is_zero_at_the_target_and_cross_entropy_for_one_hot() -> None:
    p = torch.softmax(torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)), -1)
    everywhere = torch.arange(5).expand(2, 3, 5)
    assert abs(float(divergence(p.log(), everywhere, p))) < 1e-6
    other = torch.softmax(torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1)), -1)
    assert float(divergence(other.log(), everywhere, p)) > 0.1
    indices = torch.tensor([[[1], [2], [4]], [[0], [0], [3]]])
    expected = -(p.log().gather(2, indices)).sum(0).mean()
    torch.testing.assert_close(divergence(p.log(), indices, torch.ones(2, 3, 1)), expected)


def test_divergence_gradient_is_model_minus_target() -> None:
    logits = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    target = torch.softmax(torch.randn(2, 4, 6, dtype=torch.float64), -1)
    divergence(torch.log_softmax(logits, -1), torch.arange(6).expand(2, 4, 6), target).backward()
    expected = (torch.softmax(logits, -1) - target) / 4
    torch.testing.assert_close(logits.grad, expected.detach(), rtol=0, atol=1e-12)


def test_soft_labels_on_one_token_add_up(tokenizer) -> None:
    batch = tokenize(tokenizer, ["the binds of"], 20)
    label = Label((0, 4), (0.25, 0.75), (2, 8), (0.5, 0.5))
    indices, p = targets(batch, [label], torch.tensor([0]))
    torch.testing.assert_close(p.sum(-1), torch.ones(2, 1))
    assert indices[0, 0, 0] != indices[0, 0, 1]


def test_a_tokenizer_of_another_layout_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    path = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE()).save(str(path))
    with pytest.raises(ArtifactError, match="RoBERTa's layout"):
        load_tokenizer(path)
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(MissingError, match="no tokenizer"):
        load_tokenizer(tmp_path / "empty.json")
    with pytest.raises(InputError, match="at least 261"):
        train_tokenizer(["a"], 100)


# ---- heads ----


@pytest.mark.parametrize("inner", [16, 24, 5])
def test_head_files_are_read_square_and_rectangular(tmp_path: Path, inner: int) -> None:
    head = QaHead(16, inner)
    torch.save(head.state_dict(), tmp_path / "head.pt")
    x = torch.randn(3, 16)
    torch.testing.assert_close(load_head(tmp_path / "head.pt", 16)(x), head(x))
    expected = torch.tanh(x @ head.dense.weight.T + head.dense.bias) @ head.out_proj.weight.T + head.out_proj.bias
    torch.testing.assert_close(head(x), expected)


def test_broken_head_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        load_head(tmp_path / "none.pt", 16)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ArtifactError, match="damaged"):
        load_head(tmp_path / "text.pt", 16)
    torch.save(QaHead(16, 16).state_dict(), tmp_path / "head.pt")
    with pytest.raises(ArtifactError, match="width 32"):
        load_head(tmp_path / "head.pt", 32)
    torch.save({"dense.weight": torch.zeros(2, 2)}, tmp_path / "part.pt")
    with pytest.raises(ArtifactError, match=r"out_proj\.bias"):
        load_head(tmp_path / "part.pt", 2)


class _Code:
    def __reduce__(self) -> tuple:
        return (print, ("code ran",))


def test_a_head_file_that_carries_code_is_refused_unrun(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"dense.weight": _Code()}, tmp_path / "evil.pt")
    with pytest.raises(ArtifactError):
        load_head(tmp_path / "evil.pt", 16)
    assert "code ran" not in capsys.readouterr().out


# ---- windows ----


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 700), st.integers(1, 90), st.data())
def test_every_token_is_kept_exactly_once_with_context_on_both_sides(count: int, size: int, data) -> None:
    stride = data.draw(st.integers(1, size))
    made = windows(count, WindowSettings(size=size, stride=stride))
    kept = [k for w in made for k in range(w.keep_begin, w.keep_end)]
    assert kept == list(range(count))
    margin = (size - stride) // 2
    for w in made:
        assert w.begin <= w.keep_begin <= w.keep_end <= w.end <= w.begin + size
        assert w.begin == 0 or w.keep_begin - w.begin >= margin
        assert w.end == count or w.end - w.keep_end >= margin
    assert all(b.begin - a.begin == stride for a, b in pairwise(made))


def test_the_papers_windows_merge_centre_halves() -> None:
    first, second, third = windows(1000, WindowSettings())
    assert (first.begin, first.end, first.keep_begin, first.keep_end) == (0, 456, 0, 392)
    assert (second.begin, second.end, second.keep_begin, second.keep_end) == (328, 784, 392, 720)
    assert (third.begin, third.end, third.keep_begin, third.keep_end) == (656, 1000, 720, 1000)


def test_a_stride_that_loses_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="would be lost"):
        WindowSettings.parse({"size": 4, "stride": 5})


# ---- spans ----


def brute(start, end, passage, top_k: int, longest: int) -> list[tuple[int, int]]:
    n = len(start)
    best = []
    for i in range(n):
        inside = [j for j in range(i, min(i + longest, n)) if passage[i] == passage[j]]
        j = max(inside, key=lambda j: end[j])
        best.append((float(np.float32(start[i]) + np.float32(end[j])), i, j))
    found: list[tuple[int, int]] = []
    for _, i, j in sorted(best, key=lambda x: (-x[0], x[1])):
        if len(found) < top_k and all(j < a or i > b for a, b in found):
            found.append((i, j))
    return found


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 6), st.integers(1, 20))
def test_spans_agree_with_brute_force(seed: int, n: int, top_k: int, longest: int) -> None:
    draw = rng(seed)
    start, end = draw.normal(size=(2, n)).astype(np.float32)
    passage = np.sort(draw.integers(0, 4, n))
    found = best_spans(start, end, passage, top_k, longest)
    assert [(s.first, s.last) for s in found] == brute(start, end, passage, top_k, longest)
    every = [start[i] + end[j] for i in range(n) for j in range(i, min(i + longest, n)) if passage[i] == passage[j]]
    assert found[0].score == pytest.approx(max(every))


# ---- library ----


def test_a_folder_becomes_passages_with_their_sources(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("First passage\nof two lines.\n\n\nSecond.\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "1abc.pdb").write_text(
        "TITLE     A TOXIN\nTITLE    2 BOUND\nREMARK   2 RESOLUTION. 1.8 ANGSTROMS.\nATOM      1  N   ALA A   1\n"
    )
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    made = [(t.source, t.text) for t in read_folder(tmp_path)]
    assert made[:2] == [("notes.txt", "First passage of two lines."), ("notes.txt", "Second.")]
    assert [t for s, t in made if s.endswith("1abc.pdb")] == ["A TOXIN BOUND", "RESOLUTION. 1.8 ANGSTROMS."]


def test_empty_missing_and_binary_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        read_folder(tmp_path / "none")
    with pytest.raises(InputError, match="no text"):
        read_folder(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_folder(tmp_path)
