"""Counts and lists in sentences."""

import pytest

from lightning_modules.specs.text import format_count, join_clauses, join_words, name_seeds


@pytest.mark.parametrize(
    ("count", "nouns", "text"),
    [
        (0, ("seed",), "0 seeds"),
        (1, ("seed",), "1 seed"),
        (1_200, ("seed",), "1,200 seeds"),
        (1, ("class", "classes"), "1 class"),
        (2, ("class", "classes"), "2 classes"),
    ],
)
def test_a_noun_is_in_the_singular_for_one_alone(count, nouns, text):
    assert format_count(count, *nouns) == text


def test_seeds_are_named_in_their_order():
    assert [name_seeds([3]), name_seeds({5, 1, 2})] == ["seed 3", "seeds 1, 2 and 5"]
    assert name_seeds(range(12), max_seeds=2) == "seeds 0, 1 and 10 others"


def test_many_words_or_clauses_are_counted():
    assert join_words("ABC") == "A, B and C"
    assert join_words("AB", "or") == "A or B"
    assert join_words("ABCD", max_words=2) == "A, B and 2 others"
    assert join_words([]) == ""
    assert join_clauses(["a, b", "c"], 2) == "a, b; c"
    assert join_clauses(["a, b", "c", "d"], 1) == "a, b; and 2 more"
