from __future__ import annotations

import jiwer
from hypothesis import given
from hypothesis import strategies as st

from tinyvox.report.alignment import compared, unmatched

TEXTS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=9)


@given(TEXTS, TEXTS)
def test_the_edits_are_those_of_jiwer_and_the_rest_is_equal(one: list[str], two: list[str]) -> None:
    first, second, edits = unmatched(one, two)
    counts = jiwer.process_words(" ".join(one), " ".join(two))
    assert edits == counts.substitutions + counts.deletions + counts.insertions
    kept = [word for i, word in enumerate(one) if i not in first]
    assert kept == [word for i, word in enumerate(two) if i not in second]


def test_wrong_missed_and_changed_words_are_marked() -> None:
    texts = compared("two red cats", "two bed cats cats", "two red rats")
    assert [word.text for word in texts.said if word.wrong] == ["red"]
    assert [word.wrong for word in texts.heard].count(True) == 2
    assert texts.heard[1].wrong
    assert texts.heard[1].changed
    assert not texts.heard[0].changed
    assert texts.before is not None
    assert [word.text for word in texts.before if word.wrong] == ["rats"]
    assert compared("a", "", None).before is None
    assert [word.wrong for word in compared("a", "", None).said] == [True]
