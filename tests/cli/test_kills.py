"""Real processes that signals end at random moments lose nothing (``kills.py`` does the same for longer)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.kills import VERBS, kill, prepare_in


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    prepare_in(folder)
    return folder


@pytest.mark.parametrize(("verb", "seed"), list(zip(VERBS, (2, 0, 1, 2), strict=True)))
def test_a_killed_command_ends_with_the_result_of_an_undisturbed_one(
    verb: str, seed: int, root: Path
) -> None:
    counts = kill(verb, 1, root, seed)
    assert counts["kills"] == 1
    assert counts["identical"] == counts["results"] > 0 and counts["broken"] == 0
