"""What two counts of one prompt say, and what is learned from them."""

from __future__ import annotations

import pytest

from inferry.policy.prompt_truth import Finding, FindingKind, LearnedLimit, decide_finding

OK, TRUNCATED = FindingKind.OK, FindingKind.TRUNCATED
DOUBLED, WRONG = FindingKind.DOUBLED_BOS, FindingKind.WRONG_TEMPLATE


@pytest.mark.parametrize(
    ("engine", "expected", "bos", "tolerance", "kind"),
    [
        (36, 36, True, 0, OK),
        (0, 0, False, 0, OK),
        (4096, 5120, False, 0, TRUNCATED),
        (2051, 9000, True, 0, TRUNCATED),
        (256, 270, False, 0, TRUNCATED),
        # a template that says less, not a cut: of a short prompt, or by a few tokens of a long one
        (8, 31, False, 0, WRONG),
        (4980, 5000, False, 0, WRONG),
        (37, 36, True, 0, DOUBLED),
        (37, 36, True, 5, DOUBLED),
        (37, 36, False, 0, WRONG),
        (38, 36, True, 0, WRONG),
        (60, 36, False, 0, WRONG),
        (41, 36, False, 5, OK),
        (31, 36, False, 5, OK),
        (42, 36, False, 5, WRONG),
    ],
)
def test_what_two_counts_say(
    engine: int, expected: int, bos: bool, tolerance: int, kind: FindingKind
) -> None:
    """Fewer by a share is a cut, one more before BOS is a doubled one, any other difference another template."""
    found = decide_finding(engine, expected, begins_with_bos=bos, tolerance_tokens=tolerance)
    assert found == Finding(kind, engine, expected)


def test_a_known_limit_tells_a_small_cut() -> None:
    """Where the engine cut before, even a few missing tokens are a cut."""
    assert (
        decide_finding(4096, 4100, begins_with_bos=False, tolerance_tokens=0, limit_tokens=4096).kind
        is TRUNCATED
    )
    assert (
        decide_finding(4095, 4100, begins_with_bos=False, tolerance_tokens=0, limit_tokens=4096).kind is WRONG
    )


def test_the_warning_names_both_counts() -> None:
    """The header's value is one line that says what happened; nothing is said when all is well."""
    assert Finding(TRUNCATED, 4096, 5120).warning() == "prompt-truncated; engine=4096 expected=5120"
    assert Finding(DOUBLED, 37, 36).warning() == "prompt-doubled-bos; engine=37 expected=36"
    assert Finding(WRONG, 9, 36).warning() == "prompt-wrong-template; engine=9 expected=36"
    assert Finding(OK, 36, 36).warning() is None


def test_a_limit_is_the_most_that_came_through_of_a_cut_prompt() -> None:
    """Engines that drop whole messages leave more or less of each; the largest count is nearest to the limit."""
    limit = LearnedLimit()
    assert limit.tokens(0.0) is None
    for engine in (3900, 4050, 3000):
        limit.learn(Finding(TRUNCATED, engine, 9000), 1.0)
    assert limit.tokens(2.0) == 4050
    limit.learn(Finding(WRONG, 5000, 5010), 2.0)
    assert limit.tokens(2.0) == 4050


def test_a_limit_is_disproved_by_a_longer_prompt_that_came_through() -> None:
    """What was taken for a cut was none; and after a whole long prompt, a shorter cut teaches nothing."""
    limit = LearnedLimit()
    limit.learn(Finding(TRUNCATED, 300, 400), 0.0)
    assert limit.tokens(0.0) == 300
    limit.learn(Finding(OK, 301, 301), 0.0)
    assert limit.tokens(0.0) is None
    limit.learn(Finding(TRUNCATED, 300, 400), 0.0)
    assert limit.tokens(0.0) is None


def test_a_limit_is_forgotten_with_time() -> None:
    """An engine that was set right gets long prompts again; one that was not is found out again."""
    limit = LearnedLimit()
    limit.learn(Finding(TRUNCATED, 4096, 9000), 100.0)
    assert limit.tokens(699.0) == 4096
    assert limit.tokens(700.0) is None
    limit.learn(Finding(TRUNCATED, 2048, 9000), 700.0)
    assert limit.tokens(701.0) == 2048
