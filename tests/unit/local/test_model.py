"""The page that the test model knows by heart. The training itself proves that it does."""

from collections import Counter

from local.model import PAGE

LEAST_WORDS = 600


def test_no_phrase_of_the_page_comes_twice_so_that_every_prompt_has_one_continuation() -> None:
    words = PAGE.split()
    phrases = Counter(zip(words, words[1:], words[2:], strict=False))
    assert [" ".join(phrase) for phrase, times in phrases.items() if times > 1] == []


def test_the_page_is_long_enough_for_streams_that_last() -> None:
    assert len(PAGE.split()) >= LEAST_WORDS
