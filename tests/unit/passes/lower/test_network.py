from __future__ import annotations

import random

import pytest

from ml2sc.passes.lower.network import applied, completed, gathered, routed


@pytest.mark.parametrize("seed", range(5))
def test_a_network_permutes_as_it_is_told(seed: int) -> None:
    generator = random.Random(seed)
    permutation = list(range(256))
    generator.shuffle(permutation)
    stages = routed(permutation)
    assert len(stages) <= 15
    word = generator.getrandbits(256)
    result = applied(stages, word)
    assert all(result >> place & 1 == word >> source & 1 for place, source in enumerate(permutation))


def test_what_stays_needs_no_stage() -> None:
    assert routed(list(range(256))) == []


def test_a_part_of_a_permutation_is_completed() -> None:
    part = {3: 200, 200: 7, 9: 9}
    permutation = completed(part)
    assert sorted(permutation) == list(range(256))
    assert {place: permutation[place] for place in part} == part


@pytest.mark.parametrize("seed", range(3))
def test_bits_are_gathered_from_several_words(seed: int) -> None:
    generator = random.Random(seed)
    wanted = {name: (generator.randrange(3), generator.randrange(256)) for name in range(200)}
    terms, found = gathered(wanted)
    words = [generator.getrandbits(256) for _ in range(3)]
    result = 0
    for term in terms:
        part = words[term.word] << term.shift if term.shift >= 0 else words[term.word] >> -term.shift
        assert result & term.mask == 0
        result |= part & term.mask
    assert len(set(found.values())) == len(wanted)
    assert all(result >> found[name] & 1 == words[word] >> bit & 1 for name, (word, bit) in wanted.items())
