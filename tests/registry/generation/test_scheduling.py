"""What the queue promises, on any sequence of requests: like after like, nobody overtaken too often, nobody forgotten."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.generation.queue import MAX_OVERTAKEN
from registry.generation.scheduling import Affinity, Waiting, shared, take

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
AFFINITIES = st.tuples(st.sampled_from("AB"), st.sampled_from(["", "x", "y"]), st.sampled_from([0.5, 1.0]))
BOUNDS = st.integers(0, 5)


@st.composite
def queues(draw: st.DrawFn, bound: int) -> list[Waiting[int]]:
    """As `take` leaves them: whoever came later has been overtaken no more often."""
    affinities = draw(st.lists(AFFINITIES, min_size=1, max_size=12))
    counts = sorted(draw(st.lists(st.integers(0, bound), min_size=len(affinities), max_size=len(affinities))))
    return [Waiting(i, a, c) for i, (a, c) in enumerate(zip(affinities, reversed(counts), strict=True))]


@unhurried
@given(st.data(), BOUNDS, AFFINITIES)
def test_one_goes_and_the_others_stay_in_their_order(data: st.DataObject, bound: int, last: Affinity) -> None:
    queue = data.draw(queues(bound))
    chosen, rest = take(queue, last, bound)
    assert sorted([chosen.item, *(w.item for w in rest)]) == [w.item for w in queue]
    assert [w.item for w in rest] == sorted(w.item for w in rest)


@unhurried
@given(st.data(), st.integers(1, 5), AFFINITIES)
def test_it_is_the_oldest_of_the_likest_unless_somebody_has_waited_enough(
    data: st.DataObject, bound: int, last: Affinity
) -> None:
    queue = data.draw(queues(bound))
    chosen, _ = take(queue, last, bound)
    if queue[0].overtaken == bound:
        assert chosen == queue[0]
    else:
        likeness = shared(chosen.affinity, last)
        assert all(shared(w.affinity, last) <= likeness for w in queue)
        assert all(shared(w.affinity, last) < likeness for w in queue[: chosen.item])


@unhurried
@given(st.lists(st.one_of(AFFINITIES, st.none()), max_size=60), BOUNDS)
def test_nobody_is_overtaken_more_often_than_the_bound_and_everybody_is_served(
    happenings: list[Affinity | None], bound: int
) -> None:
    """A happening is a request that arrives, or None: the device is free."""
    queue: tuple[Waiting[int], ...] = ()
    served: list[int] = []
    last: Affinity = ()
    arrived = 0
    for happening in (*happenings, *[None] * len(happenings)):
        if happening is not None:
            queue += (Waiting(arrived, happening),)
            arrived += 1
        elif queue:
            chosen, queue = take(queue, last, bound)
            served.append(chosen.item)
            last = chosen.affinity
    assert sorted(served) == list(range(arrived))
    for place, item in enumerate(served):
        assert sum(earlier > item for earlier in served[:place]) <= bound


@unhurried
@given(st.data(), AFFINITIES)
def test_a_bound_of_zero_is_first_come_first_served(data: st.DataObject, last: Affinity) -> None:
    queue = data.draw(queues(0))
    assert take(queue, last, 0)[0] == queue[0]


def test_the_same_base_comes_before_another_and_the_same_loras_before_the_same_base() -> None:
    queue = [
        Waiting("other base", ("B", "x", 1.0)),
        Waiting("same base", ("A", "y", 1.0)),
        Waiting("same LoRAs", ("A", "x", 0.5)),
        Waiting("the same", ("A", "x", 1.0)),
    ]
    order = []
    last: Affinity = ("A", "x", 1.0)
    while queue:
        chosen, rest = take(queue, last, 16)
        order.append(chosen.item)
        last, queue = chosen.affinity, list(rest)
    assert order == ["the same", "same LoRAs", "same base", "other base"]


def test_shuffled_requests_for_twenty_sets_change_the_set_a_fifth_as_often_as_they_come() -> None:
    """200 requests, of which 64 wait at any time."""
    wanted = [number % 20 for number in range(200)]
    Random(1).shuffle(wanted)
    arriving = [Waiting(number, ("A", chosen, 1.0)) for number, chosen in enumerate(wanted)]

    def changes(bound: int) -> int:
        queue, last, count = tuple(arriving[:64]), (), 0
        for place in range(200):
            chosen, queue = take(queue, last, bound)
            queue += tuple(arriving[64 + place : 65 + place])
            count += chosen.affinity != last
            last = chosen.affinity
        return count

    assert changes(0) > 180
    assert changes(MAX_OVERTAKEN) <= 200 // 4
