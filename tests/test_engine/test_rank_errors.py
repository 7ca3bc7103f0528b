"""An error of one rank is one of all, wherever in their work it happens."""

import pytest
from processes import evaluate_on_ranks

from mmmedmask.engine.rank_errors import (
    RankError,
    gather_results,
    on_all_ranks,
)


def fail(fails, text='of this rank'):
    if fails:
        raise ZeroDivisionError(text)
    return text


def parts(rank, failing, place):
    """Work in two parts, of which ranks meet after each."""
    def work():
        for number in range(2):
            on_all_ranks(lambda number=number: fail(
                rank == failing and place == ('part', number)))
            # Between two parts, while others are in the next one.
            fail(rank == failing and place == ('between', number))

    on_all_ranks(work)


def test_results_are_those_of_all_ranks(tmp_path):
    def work(rank):
        parts(rank, None, None)
        return [gather_results(lambda: 10 * rank), on_all_ranks(str, rank)]

    assert evaluate_on_ranks(work, tmp_path, 3) == [
        [[0, 10, 20], str(rank)] for rank in range(3)]


def test_errors_are_those_of_all_ranks(tmp_path):
    places = [(kind, number) for kind in ('part', 'between')
              for number in range(2)]

    def work(rank):
        texts = []
        for place in places:
            for failing in range(3):
                with pytest.raises((ZeroDivisionError, RankError)) as caught:
                    parts(rank, failing, place)
                texts.append(str(caught.value))
        with pytest.raises((ZeroDivisionError, RankError)) as caught:
            gather_results(fail, rank > 0, str(rank))
        return [*texts, str(caught.value)]

    for rank, (*texts, several) in enumerate(
            evaluate_on_ranks(work, tmp_path, 3)):
        assert texts == [
            'of this rank' if rank == failing else
            f'rank {failing} has failed: ZeroDivisionError: of this rank'
            for failing in range(3)] * len(places)
        assert several == (str(rank) if rank else '; '.join(
            f'rank {number} has failed: ZeroDivisionError: {number}'
            for number in (1, 2)))
