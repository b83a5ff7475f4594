"""QuIP as a user meets it: encoder, index, tagger, similarity, zero-shot, pre-training, ``mlsim ask``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="LOUD SKIP: mlsim[repr] is not installed")
import torch
from typer.testing import CliRunner

from benchmarks.repr.masked_lm import MaskedObjective
from mlsim.cli.main import app
from mlsim.errors import ArtifactError, CheckpointError, InputError, MissingError
from mlsim.repr.quip.biencoder import BiEncoder, Shape, log_probabilities
from mlsim.repr.quip.learning import facts
from mlsim.repr.quip.learning.cross_encoder import CrossEncoder, CrossObjective, soft_labels
from mlsim.repr.quip.learning.labels import hard_labels
from mlsim.repr.quip.learning.passages import Passage, QuestionAnswer
from mlsim.repr.quip.learning.quip_loop import LoopSettings, run
from mlsim.repr.quip.learning.quip_pretrain import AnswerObjective, PretrainSettings, fit_teacher, pretrain
from mlsim.repr.quip.quip_encoder import HEAD_FILES, QuipEncoder, TokenStates
from mlsim.repr.quip.tasks import zero_shot
from mlsim.repr.quip.tasks.library import Text
from mlsim.repr.quip.tasks.phrase_index import Answer, PhraseIndex, answer
from mlsim.repr.quip.tasks.score import exact_match, recall
from mlsim.repr.quip.tasks.similarity import bert_score, by_layer, similarity
from mlsim.repr.quip.tasks.tagging import Entity, TaggedText, Tagger, TaggerSettings, f1, words
from mlsim.repr.quip.tokenizer import tokenize, train_tokenizer
from mlsim.repr.quip.windows import WindowSettings
from mlsim.repr.registry import load_encoder
from mlsim.repr.shipped_encoders import available

SHAPE = Shape(vocabulary=400, width=16, layers=2, attention_heads=2, feed_forward=32, positions=64)


@pytest.fixture(scope="module")
def passages():
    return facts.generate(80, "train", np.random.default_rng(1), facts_per_passage=2)


@pytest.fixture(scope="module")
def tokenizer(passages):
    return train_tokenizer([p.text for p in passages], 400)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return QuipEncoder(BiEncoder.fresh(SHAPE.roberta(), seed=3, inner=24), tokenizer)


# ---- encoder ----


def test_features_do_not_depend_on_the_batch_and_differ_between_texts(encoder, passages) -> None:
    texts = [p.text for p in passages[:9]]
    for layer in encoder.layers:
        for pool in encoder.pools:
            once = encoder.encode(texts, layer=layer, pool=pool)
            assert once.dtype == np.float32
            assert once.shape == (9, 16)
            np.testing.assert_allclose(once, encoder.encode(texts, layer=layer, pool=pool, batch_size=2), atol=2e-6)
    assert np.linalg.norm(once[0] - once[1]) > 0 or encoder.layers[-1] == "embeddings"


def test_mean_pool_is_the_mean_of_the_token_states(encoder) -> None:
    text = "Zilmor binds Tapnes."
    (states,) = encoder.token_states([text])
    np.testing.assert_allclose(encoder.encode([text])[0], states.vectors.mean(0), atol=1e-6)
    assert text[states.offsets[0, 0] : states.offsets[-1, 1]] == text


def test_a_short_text_is_not_changed_by_windows_and_a_long_one_keeps_all_its_tokens(encoder, passages) -> None:
    long = " ".join(p.text for p in passages[:12])
    (states,) = encoder.token_states([long])
    offsets = encoder.tokenizer.encode(long, add_special_tokens=False).offsets
    assert states.offsets.tolist() == [[a, b] for a, b in offsets if b > a]
    assert len(states.vectors) == len(states.offsets) > 200
    narrow = QuipEncoder(encoder.model, encoder.tokenizer, WindowSettings(size=20, stride=10))
    short = "Zilmor binds it."
    np.testing.assert_array_equal(narrow.token_states([short])[0].vectors, encoder.token_states([short])[0].vectors)
    assert np.abs(narrow.token_states([long])[0].vectors - states.vectors).max() > 1e-3


def test_save_and_load_give_the_same_features_and_answers(tmp_path: Path, encoder, passages) -> None:
    encoder.save(tmp_path / "made")
    again = load_encoder(tmp_path / "made")
    assert isinstance(again, QuipEncoder)
    texts = [p.text for p in passages[:3]]
    np.testing.assert_array_equal(again.encode(texts), encoder.encode(texts))
    np.testing.assert_array_equal(again.question_vectors(["What?"])[0], encoder.question_vectors(["What?"])[0])
    assert again.digest() == encoder.digest()
    assert again.window == encoder.window


def test_released_layout_loads_from_three_places(tmp_path: Path, encoder, passages) -> None:
    """Directory of a masked LM (lm_head beside the encoder), head files (rectangular), tokenizer: weights unchanged."""
    roberta = encoder.model.roberta
    roberta.config.save_pretrained(tmp_path / "hf")
    state = {f"roberta.{name}": tensor for name, tensor in roberta.state_dict().items()}
    torch.save(state | {"lm_head.bias": torch.zeros(400)}, tmp_path / "hf" / "pytorch_model.bin")
    (tmp_path / "heads").mkdir()
    for name, head in zip(HEAD_FILES, (encoder.model.start, encoder.model.end), strict=True):
        torch.save(head.state_dict(), tmp_path / "heads" / name)
    (tmp_path / "tok").mkdir()
    encoder.tokenizer.save(str(tmp_path / "tok" / "tokenizer.json"))
    made = QuipEncoder.from_pretrained(tmp_path / "hf", heads=tmp_path / "heads", tokenizer=tmp_path / "tok")
    texts = [p.text for p in passages[:3]]
    np.testing.assert_allclose(made.encode(texts), encoder.encode(texts), atol=1e-6)
    np.testing.assert_allclose(
        made.question_vectors(["What binds?"])[1], encoder.question_vectors(["What binds?"])[1], atol=1e-6
    )
    headless = QuipEncoder.from_pretrained(tmp_path / "hf", tokenizer=tmp_path / "tok")
    np.testing.assert_allclose(headless.encode(texts), encoder.encode(texts), atol=1e-6)
    with pytest.raises(InputError, match="no question-answering heads"):
        headless.question_vectors(["What?"])
    headless.save(tmp_path / "headless")
    assert QuipEncoder.from_pretrained(tmp_path / "headless").model.start is None
    with pytest.raises(MissingError, match="head file"):
        QuipEncoder.from_pretrained(tmp_path / "hf", heads=tmp_path / "tok", tokenizer=tmp_path / "tok")


def test_bad_input_is_refused(tmp_path: Path, encoder) -> None:
    for wrong in ("one text", [], ["ok", " "], [3]):
        with pytest.raises(InputError):
            encoder.encode(wrong)
    with pytest.raises(InputError, match="layer1"):
        encoder.encode(["ok"], layer="layer9")
    with pytest.raises(MissingError):
        QuipEncoder.from_pretrained(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="not made for each other"):
        QuipEncoder(BiEncoder.fresh(SHAPE.model_copy(update={"vocabulary": 300}).roberta(), 0), encoder.tokenizer)


# ---- pre-training ----


def test_a_killed_training_resumed_ends_with_the_same_weights(tmp_path: Path, tokenizer, passages) -> None:
    shape = SHAPE.model_copy(update={"dropout": 0.1})
    settings = PretrainSettings(steps=12, batch=8, checkpoint_every=4, seed=5)
    labels = hard_labels(passages)

    def stop_at(step: int):
        def watch(done: int, total: int) -> None:
            if done == step:
                raise KeyboardInterrupt

        return watch

    whole = BiEncoder.fresh(shape.roberta(), 0)
    losses = pretrain(whole, tokenizer, passages, labels, settings)
    cut = BiEncoder.fresh(shape.roberta(), 0)
    with pytest.raises(KeyboardInterrupt):
        pretrain(cut, tokenizer, passages, labels, settings, tmp_path, stop_at(10))
    again = BiEncoder.fresh(shape.roberta(), 0)
    assert pretrain(again, tokenizer, passages, labels, settings, tmp_path) == losses
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="belongs to"):
        pretrain(BiEncoder.fresh(shape.roberta(), 1), tokenizer, passages, labels, settings, tmp_path)


def test_pretraining_does_not_touch_the_global_generator(tokenizer, passages) -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    model = BiEncoder.fresh(SHAPE.roberta(), 0)
    pretrain(model, tokenizer, passages, hard_labels(passages), PretrainSettings(steps=2, batch=4))
    assert torch.equal(before, torch.random.get_rng_state())


def test_batch_negatives_lower_the_probability_of_the_answer(encoder, passages) -> None:
    tokens = tokenize(encoder.tokenizer, [p.text for p in passages[:4]], 64)
    asked = tokenize(encoder.tokenizer, [p.questions[0].question for p in passages[:4]], 50)
    with torch.no_grad():
        states, vectors = encoder.model.states(tokens), encoder.model.questions(asked)
        own, both = (
            log_probabilities(states, tokens.content, vectors, torch.arange(4), n) for n in ("passage", "batch")
        )
    torch.testing.assert_close(own.exp().sum(-1), torch.ones(2, 4))
    assert torch.all(both.exp().sum(-1) < 1)
    torch.testing.assert_close((own - both)[tokens.content.expand(2, 4, -1)].isfinite().all(), torch.tensor(True))


def test_a_bi_encoder_learns_and_masked_training_lowers_its_loss(tokenizer, passages) -> None:
    settings = PretrainSettings(steps=40, batch=16, learning_rate=1e-2)
    model = BiEncoder.fresh(SHAPE.roberta(), 0)
    losses = pretrain(model, tokenizer, passages, hard_labels(passages), settings)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1.0
    masked = MaskedObjective(SHAPE.roberta(), tokenizer, passages, seed=0)
    losses = run(masked, LoopSettings(steps=40, batch=16, learning_rate=1e-2), "masked")
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5


def test_a_student_at_its_teachers_distribution_has_no_loss(tokenizer, passages) -> None:
    """Soft labels of the cross-encoder are its distribution: keeping all tokens, its own divergence is zero."""
    teacher = CrossEncoder.fresh(SHAPE.roberta(), 0).eval()
    losses = fit_teacher(teacher, tokenizer, passages, hard_labels(passages), LoopSettings(steps=5, batch=8))
    assert len(losses) == 5
    soft = soft_labels(teacher, tokenizer, passages[:10], keep=64)
    few = soft_labels(teacher, tokenizer, passages[:10], keep=8)
    assert all(abs(sum(x.first_p) - 1) < 1e-5 and len(x.first) <= 8 for own in few for x in own)
    objective = CrossObjective(teacher, tokenizer, passages[:10], soft)
    with torch.no_grad():
        assert abs(float(objective.loss(np.arange(8), np.random.default_rng(0)))) < 1e-4
    hard_loss = CrossObjective(teacher, tokenizer, passages[:10], hard_labels(passages[:10]))
    with torch.no_grad():
        assert float(hard_loss.loss(np.arange(8), np.random.default_rng(0))) > 1.0


def test_passages_without_questions_are_refused(tokenizer, encoder) -> None:
    with pytest.raises(InputError, match="got none"):
        AnswerObjective(encoder.model, tokenizer, [Passage("a")], [()], "batch")


# ---- phrase index ----


def test_the_index_agrees_with_a_loop_over_all_spans(encoder, passages) -> None:
    texts = [Text("a", p.text) for p in passages[:6]]
    index = PhraseIndex.build(encoder, texts)
    question = "What binds Zilmor?"
    start, end = (v[0] for v in encoder.question_vectors([question]))
    best, where = -np.inf, None
    for number, states in enumerate(encoder.token_states([t.text for t in texts])):
        for i in range(len(states.vectors)):
            for j in range(i, min(i + 17, len(states.vectors))):
                score = float(states.vectors[i] @ start + states.vectors[j] @ end)
                if score > best:
                    best, where = score, (number, states.offsets[i, 0], states.offsets[j, 1])
    top = index.query(encoder, question, top_k=1)[0]
    assert (top.number, top.start, top.start + len(top.text)) == where
    assert top.score == pytest.approx(best, abs=1e-4)
    assert top.passage[top.start : top.start + len(top.text)] == top.text
    assert answer(encoder, question, [t.text for t in texts])[0].text == top.text


def test_a_saved_index_answers_the_same_and_refuses_another_encoder(tmp_path: Path, encoder, passages) -> None:
    index = PhraseIndex.build(encoder, [Text("a", p.text) for p in passages[:6]])
    index.save(tmp_path / "index")
    again = PhraseIndex.load(tmp_path / "index")
    assert again.query(encoder, "Where?", 5) == index.query(encoder, "Where?", 5)
    other = QuipEncoder(BiEncoder.fresh(SHAPE.roberta(), seed=4), encoder.tokenizer)
    with pytest.raises(ArtifactError, match="build the index again"):
        again.query(other, "Where?")
    with pytest.raises(MissingError):
        PhraseIndex.load(tmp_path)
    (tmp_path / "index" / "phrases.npz").write_bytes(b"PK broken")
    with pytest.raises(ArtifactError, match="damaged"):
        PhraseIndex.load(tmp_path / "index")
    with pytest.raises(InputError):
        index.query(encoder, "Where?", top_k=0)


def test_recall_counts_places_and_not_words() -> None:
    def found(number: int, start: int, text: str) -> Answer:
        return Answer(text, 0.0, "a", "", start, number)

    asked = [(QuestionAnswer("?", "Zilmor", 3), 5), (QuestionAnswer("?", "Tapnes", 0), 1)]
    got = recall([[found(4, 3, "Zilmor"), found(5, 3, "Zilmor")], [found(1, 2, "Tapnes")]], asked)
    assert (got.first, got.answer, got.passage) == (0.0, 0.5, 1.0)


def test_exact_match_is_one_for_a_reader_that_points_at_the_answer(encoder, passages, monkeypatch) -> None:
    """Token vectors replaced by one-hot ones, question vectors by the answers' tokens: every question is right."""
    some = passages[:5]
    spans = {q.question: (p.text, q) for p in some for q in p.questions}
    states = {p.text: encoder.token_states([p.text])[0] for p in some}
    eye = {text: TokenStates(np.eye(len(s.vectors), 99, dtype=np.float32), s.offsets) for text, s in states.items()}

    def vectors(questions, side: int):
        rows = []
        for question in questions:
            text, q = spans[question]
            edge = states[text].offsets[:, side] == (q.start, q.start + len(q.answer))[side]
            rows.append(np.eye(99, dtype=np.float32)[int(np.flatnonzero(edge)[0])])
        return np.array(rows)

    monkeypatch.setattr(QuipEncoder, "token_states", lambda self, texts: [eye[t] for t in texts])
    monkeypatch.setattr(QuipEncoder, "question_vectors", lambda self, q: (vectors(q, 0), vectors(q, 1)))
    assert exact_match(encoder, some) == 1.0
    monkeypatch.setattr(QuipEncoder, "question_vectors", lambda self, q: (vectors(q, 1) * 0, vectors(q, 1) * 0))
    assert exact_match(encoder, some) < 0.3


# ---- similarity, tagging, zero-shot ----


def test_bert_score_is_one_for_equal_sets_and_matches_the_formula(encoder) -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(5, 8)), draw.normal(size=(3, 8))
    assert bert_score(a, 7.0 * a) == pytest.approx(1.0)
    cosine = np.array([[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in b] for x in a])
    r, p = cosine.max(1).mean(), cosine.max(0).mean()
    assert bert_score(a, b) == pytest.approx(2 * p * r / (p + r))
    assert bert_score(a, b) == pytest.approx(bert_score(b, a))
    texts = ["Zilmor binds Tapnes.", "Where is it?"]
    np.testing.assert_allclose(by_layer(encoder, texts, texts), 1.0, atol=1e-6)
    with pytest.raises(InputError):
        similarity(encoder, texts, texts[:1])


def test_rows_of_a_tagger_begin_at_unit_norm_question_vectors(encoder) -> None:
    questions = {"ligand": "What is a ligand?"}
    tagger = Tagger.fit(encoder, [], questions)
    start = encoder.question_vectors(["What is a generic object?", "What is a ligand?"])[0]
    np.testing.assert_allclose(tagger.weight.numpy(), start / np.linalg.norm(start, axis=1, keepdims=True), atol=1e-6)
    assert tagger.labels == ("O", "ligand")


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_a_tagger_fits_its_examples_and_leaves_the_encoder_alone(encoder, rate: float) -> None:
    before = encoder.digest()
    text = "Zilmor binds Tapnes in water."
    examples = [TaggedText(text, (Entity(0, 6, "receptor"), Entity(13, 19, "ligand")))]
    questions = {"receptor": "What binds?", "ligand": "What is bound?"}
    tagger = Tagger.fit(encoder, examples, questions, TaggerSettings(steps=60, learning_rate=0.1, encoder_rate=rate))
    assert f1(tagger.predict([text]), examples).phrases == 1.0
    assert encoder.digest() == before
    with pytest.raises(InputError, match="got kinase"):
        Tagger.fit(encoder, [TaggedText(text, (Entity(0, 6, "kinase"),))], questions)
    with pytest.raises(InputError, match="neither"):
        Tagger.fit(encoder, [], questions, TaggerSettings(rows="zero"))


def test_words_are_never_split_and_punctuation_stands_alone(encoder) -> None:
    text = "Zilmor-Tapnes binds 2.5 nM, which holds."
    (states,) = encoder.token_states([text])
    number = words(text, states.offsets)
    spans = [(states.offsets[number == k][0, 0], states.offsets[number == k][-1, 1]) for k in range(number[-1] + 1)]
    got = [text[a:b] for a, b in spans]
    assert got == ["Zilmor", "-", "Tapnes", "binds", "2", ".", "5", "nM", ",", "which", "holds", "."]
    tagger = Tagger.fit(encoder, [], {"a": "What?", "b": "Where is it?"})
    for entity in tagger.predict([text])[0].entities:
        assert entity.begin in {a for a, _ in spans}
        assert entity.end in {b for _, b in spans}


def test_f1_counts_exact_phrases_and_characters() -> None:
    true = [TaggedText("abcdef", (Entity(0, 2, "x"), Entity(3, 5, "y")))]
    got = f1([TaggedText("abcdef", (Entity(0, 2, "x"), Entity(3, 6, "y")))], true)
    assert got.phrases == pytest.approx(0.5)
    assert got.characters == pytest.approx(2 * 4 / (4 + 5))
    with pytest.raises(InputError):
        f1([TaggedText("other", ())], true)
    with pytest.raises(InputError):
        TaggedText("abc", (Entity(2, 2, "x"),))


def test_calibration_removes_what_a_question_scores_on_any_text(encoder) -> None:
    questions = {"a": "Why is it stable?", "b": "What binds?"}
    texts = ["Zilmor binds Tapnes.", "It was stable."]
    verdicts = zero_shot.classify(encoder, texts, questions)
    plain = zero_shot.classify(encoder, texts, questions, calibration=())
    shifts = [{k: p.scores[k] - v.scores[k] for k in questions} for v, p in zip(verdicts, plain, strict=True)]
    assert shifts[0] == pytest.approx(shifts[1])
    (same,) = zero_shot.classify(encoder, ["of"], questions, calibration=("of",))
    assert same.scores == pytest.approx({"a": 0.0, "b": 0.0}, abs=1e-5)
    assert all(v.rationale in t for v, t in zip(verdicts, texts, strict=True))
    with pytest.raises(InputError, match="two classes"):
        zero_shot.classify(encoder, texts, {"a": "Why?"})


# ---- the shipped encoder ----


def test_the_shipped_encoder_answers_about_names_it_has_never_seen() -> None:
    made = load_encoder("quip-facts")
    assert isinstance(made, QuipEncoder)
    fresh = facts.generate(40, "test", np.random.default_rng(4321), facts_per_passage=2)
    assert exact_match(made, fresh) > 0.5, "the card says 0.69"
    untrained = QuipEncoder(BiEncoder.fresh(made.model.roberta.config, 0), made.tokenizer)
    assert exact_match(untrained, fresh) < 0.2


def test_the_shipped_encoder_is_small_and_its_card_says_what_it_is_not_for() -> None:
    (shipped,) = (s for s in available() if s.name == "quip-facts")
    assert sum(p.stat().st_size for p in shipped.directory.iterdir()) < 5e6
    assert "Not good for: English" in shipped.card["note"]
    assert set(shipped.card["scores"]) >= {"exact_match_one_passage", "answer_recall_at_10_of_1000_passages"}


# ---- command line ----


def test_ask_answers_keeps_its_index_and_notices_changes(tmp_path: Path, encoder) -> None:
    encoder.save(tmp_path / "encoder")
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "one.txt").write_text("Zilmor binds Tapnes.\n\nIt was found in water.")
    words = ["ask", str(folder), "What binds Tapnes?", "--encoder", str(tmp_path / "encoder")]
    words += ["--index", str(tmp_path / "index"), "--top", "2"]
    first = CliRunner().invoke(app, words, catch_exceptions=False)
    assert first.exit_code == 0
    assert "one.txt" in first.output
    written = (tmp_path / "index" / "index.json").stat().st_mtime_ns
    assert CliRunner().invoke(app, words, catch_exceptions=False).output == first.output
    assert (tmp_path / "index" / "index.json").stat().st_mtime_ns == written
    (folder / "two.txt").write_text("Dorlex cleaves Vanrit.")
    CliRunner().invoke(app, words, catch_exceptions=False)
    assert len(PhraseIndex.load(tmp_path / "index")) == 3
    with pytest.raises(MissingError):
        CliRunner().invoke(app, ["ask", str(tmp_path / "none"), "What?", *words[3:5]], catch_exceptions=False)


# ---- the released weights ----


def test_released_weights_answer_a_question() -> None:
    where = os.environ.get("MLSIM_WEIGHTS")
    if not where:
        pytest.skip("LOUD SKIP: MLSIM_WEIGHTS does not name a folder with quip-hf/, quip/ and roberta-large/")
    root = Path(where)
    if not (root / "quip-hf").is_dir():
        pytest.skip(f"LOUD SKIP: {root} has no quip-hf/; the released QuIP weights are not tested")
    tokenizer = root / "roberta-large" if (root / "roberta-large").is_dir() else "roberta-large"
    made = QuipEncoder.from_pretrained(root / "quip-hf", heads=root / "quip", tokenizer=tokenizer)
    assert made.dimension == 1024
    text = "Aspirin inhibits cyclooxygenase, which was discovered in 1976. Its structure was solved at 3.5 angstrom."
    assert "cyclooxygenase" in answer(made, "What does aspirin inhibit?", [text])[0].text
    assert "1976" in answer(made, "When was cyclooxygenase discovered?", [text])[0].text
