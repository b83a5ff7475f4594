"""Commands that nobody means, and files that are damaged, end in one line and leave nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import fuzz_verbs

CASES = 25


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fuzz_verbs.warm()
    place = tmp_path_factory.mktemp("fuzz") / "honest"
    place.mkdir()
    fuzz_verbs.prepare(place)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("verb", fuzz_verbs.VERBS)
def test_any_input_ends_as_the_doors_say(verb: str, honest: Path, tmp_path: Path) -> None:
    tally = fuzz_verbs.fuzz(verb, CASES, honest, tmp_path, seed=1)
    assert tally.cases >= CASES // 2
    assert tally.faults == []


def test_every_verb_of_the_fuzzer_exists_and_its_options_are_found() -> None:
    for verb in fuzz_verbs.VERBS:
        assert verb == "systems" or fuzz_verbs.options_of(verb), verb
