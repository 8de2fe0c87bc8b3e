"""Leases, budgets and who goes first when memory is short."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, Event
from weakref import ref

import pytest

from registry.errors import Cancelled, NotResident, OutOfMemory, WrongState
from registry.holders import Holder
from registry.weights.residency import Residency

WAIT = 30  # seconds, for what should take none


def _load(residency: Residency, key: str, nbytes: int) -> str:
    with residency.lease(key, lambda: nbytes, lambda: f"value of {key}") as value:
        return value


def _keys(residency: Residency) -> list[str]:
    return [entry.key for entry in residency.entries()]


def test_what_was_leased_stays_and_is_not_loaded_again():
    residency, loads = Residency(100), []
    for _ in range(3):
        with residency.lease("a", lambda: 10, lambda: loads.append(1) or "A") as value:
            assert value == "A"
            assert residency.entries()[0].leases == 1
    assert len(loads) == 1
    assert [(e.key, e.nbytes, e.leases) for e in residency.entries()] == [("a", 10, 0)]


def test_the_least_recently_used_goes_first_and_no_more_than_needed():
    residency = Residency(30)
    for key in "abc":
        _load(residency, key, 10)
    _load(residency, "a", 10)
    _load(residency, "d", 10)
    assert _keys(residency) == ["c", "a", "d"]
    _load(residency, "e", 15)
    assert _keys(residency) == ["d", "e"]


def test_what_made_room_is_gone_before_its_successor_is_loaded():
    class Weights: ...

    residency = Residency(10)
    with residency.lease("a", lambda: 10, Weights) as value:
        evicted = ref(value)
    del value
    with residency.lease("b", lambda: 10, lambda: evicted() is None) as was_gone:
        assert was_gone


def test_what_is_leased_is_never_evicted():
    residency = Residency(30)
    with residency.lease("a", lambda: 20, lambda: "A"):
        _load(residency, "b", 10)
        _load(residency, "c", 10)
        assert _keys(residency) == ["a", "c"]
        with pytest.raises(OutOfMemory, match="are in use"):
            _load(residency, "d", 11)
        assert _keys(residency) == ["a", "c"]
    _load(residency, "d", 11)
    assert _keys(residency) == ["c", "d"]


def test_a_failure_of_whoever_is_told_of_what_goes_leaves_the_next_as_if_never_asked_for():
    answers = iter([OSError("the host tier is full"), None])

    def evicted(*_: object) -> None:
        if error := next(answers):
            raise error

    residency = Residency(10, evicted=evicted)
    _load(residency, "a", 10)
    with pytest.raises(OSError, match="full"):
        _load(residency, "b", 10)
    assert _keys(residency) == []
    assert _load(residency, "b", 10) == "value of b"


def test_larger_than_the_whole_budget():
    with pytest.raises(OutOfMemory) as caught:
        _load(Residency(10), "big", 11)
    assert caught.value.detail == {"needed": 11, "budget": 10, "in_use": 0}


def test_many_who_ask_at_once_share_one_load():
    residency, loads, start = Residency(100), [], Barrier(8)

    def ask() -> str:
        start.wait()
        with residency.lease("a", lambda: 10, lambda: loads.append(1) or object()) as value:
            return value

    with ThreadPoolExecutor(8) as threads:
        values = [future.result() for future in [threads.submit(ask) for _ in range(8)]]
    assert len(loads) == 1
    assert len(set(map(id, values))) == 1


def test_a_slow_load_holds_nobody_else_up():
    residency, started, go_on = Residency(100), Event(), Event()

    def slow() -> str:
        started.set()
        assert go_on.wait(10)
        return "slow"

    def lease() -> str:
        with residency.lease("slow", lambda: 10, slow) as value:
            return value

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(lease)
        assert started.wait(10)
        assert _load(residency, "quick", 10) == "value of quick"
        go_on.set()
        assert future.result() == "slow"


def test_a_failed_load_leaves_nothing_behind_and_may_be_tried_again():
    residency = Residency(100)

    def fail() -> str:
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"), residency.lease("a", lambda: 10, fail):
        pass
    assert residency.entries() == ()
    assert _load(residency, "a", 10) == "value of a"


def test_an_error_of_the_lessee_ends_the_lease():
    residency = Residency(100)
    with pytest.raises(ZeroDivisionError), residency.lease("a", lambda: 10, lambda: "A"):
        raise ZeroDivisionError
    assert residency.entries()[0].leases == 0


def test_what_grows_makes_others_leave():
    residency = Residency(30)
    _load(residency, "a", 10)
    with residency.lease("b", lambda: 10, lambda: "B"):
        residency.resize("b", 25)
        assert [(e.key, e.nbytes) for e in residency.entries()] == [("b", 25)]
        with pytest.raises(OutOfMemory):
            residency.resize("b", 31)
        residency.resize("b", 5)
    _load(residency, "a", 25)
    assert _keys(residency) == ["b", "a"]


def test_evicting_by_hand():
    residency = Residency(30)
    with residency.lease("a", lambda: 10, lambda: "A", holder=Holder("job 1"), label="Model A"):
        assert residency.entries()[0].holders == ("job 1",)
        with pytest.raises(WrongState, match="Model A is in use by job 1"):
            residency.evict("a")
    residency.evict("a")
    with pytest.raises(NotResident):
        residency.evict("a")


def test_whoever_wants_to_know_is_told_what_went_before_its_room_is_used():
    told: list[tuple[str, str]] = []
    residency = Residency(20, evicted=lambda key, value: told.append((key, value)))
    for key in "ab":
        _load(residency, key, 10)
    with residency.lease("c", lambda: 20, lambda: list(told)) as seen:
        assert seen == [("a", "value of a"), ("b", "value of b")]


def test_only_what_is_there_is_leased():
    residency = Residency(30)
    with residency.lease_resident("a") as nothing:
        assert nothing is None
    _load(residency, "a", 10)
    with residency.lease_resident("a", holder=Holder("me")) as value:
        assert value == "value of a"
        assert residency.entries()[0].holders == ("me",)
    assert residency.entries()[0].leases == 0


def test_what_was_leased_only_because_it_was_there_counts_as_used():
    residency = Residency(20)
    for key in "ab":
        _load(residency, key, 10)
    with residency.lease_resident("a"):
        pass
    _load(residency, "c", 10)
    assert _keys(residency) == ["a", "c"]


def test_what_somebody_fails_to_load_is_not_there_for_whoever_would_only_have_used_it():
    residency, started, go_on = Residency(30), Event(), Event()

    def load() -> None:
        started.set()
        assert go_on.wait(10)
        raise OutOfMemory("no room on the host")

    def lease() -> None:
        with residency.lease("a", lambda: 10, load):
            pass

    def lease_resident() -> object:
        with residency.lease_resident("a", holder=Holder("me")) as value:
            return value

    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(lease)
        assert started.wait(10)
        using = threads.submit(lease_resident)
        while not any("me" in entry.holders for entry in residency.entries()):
            pass
        go_on.set()
        assert using.result(10) is None
        with pytest.raises(OutOfMemory):
            loading.result(10)
    assert _keys(residency) == []


def test_what_nobody_uses_goes_after_its_time():
    gone = Event()
    residency = Residency(30, keep_alive=0.05, evicted=lambda *_: gone.set())
    with residency.lease("a", lambda: 10, lambda: "A"):
        _load(residency, "b", 10)
        assert gone.wait(10)
        assert _keys(residency) == ["a"]
        gone.clear()
    assert gone.wait(10)
    assert residency.entries() == ()


def test_what_is_kept_for_speed_alone_goes_before_anything_is_evicted():
    spare = {"value of a": 6, "value of b": 4}
    residency = Residency(30, release=lambda value: spare.pop(value, 0))
    for key in "abc":
        _load(residency, key, 10)
    with residency.lease_resident("a"):
        _load(residency, "d", 4)
        assert [(e.key, e.nbytes) for e in residency.entries()] == [("b", 6), ("c", 10), ("a", 10), ("d", 4)]
    _load(residency, "e", 6)
    assert [(e.key, e.nbytes) for e in residency.entries()] == [("b", 6), ("c", 10), ("a", 4), ("d", 4), ("e", 6)]


# --- who wants it no longer, and who waits for room ---------------------------------------------------------------------


class Person:
    """Somebody who works with what is loaded, until he wants nothing any more. `told`: what he was told."""

    def __init__(self, name: str = "") -> None:
        self.gone = Event()
        self.waits = Event()
        self.told: list[str] = []
        self.holder = Holder(name, lambda: not self.gone.is_set(), self._tell)

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self.waits.set()


class Reader:
    """A load of two parts; between them the test may do what it likes."""

    def __init__(self, residency: Residency, key: str) -> None:
        self.residency, self.key = residency, key
        self.loads = 0
        self.half, self.go_on = Event(), Event()
        self.part: ref[object] | None = None

    def __call__(self) -> str:
        class Tensors: ...

        self.loads += 1
        tensors = Tensors()
        self.part = ref(tensors)
        self.half.set()
        assert self.go_on.wait(WAIT)
        self.residency.go_on(self.key)
        return f"value of {self.key}"


def _lease(residency: Residency, key: str, nbytes: int, load: Callable[[], str], person: Person) -> str:
    with residency.lease(key, lambda: nbytes, load, holder=person.holder) as value:
        return value


def test_a_load_that_nobody_wants_any_more_is_given_up_and_leaves_nothing():
    residency, person = Residency(10), Person()
    reader = Reader(residency, "a")
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(_lease, residency, "a", 10, reader, person)
        assert reader.half.wait(WAIT)
        person.gone.set()
        reader.go_on.set()
        error = loading.exception(WAIT)
    assert isinstance(error, Cancelled)
    assert residency.entries() == ()
    assert reader.part is not None
    assert reader.part() is None  # though the error is still there
    assert _load(residency, "b", 10)


def test_a_load_that_another_waits_for_is_finished_for_him():
    residency, first, second = Residency(10), Person(), Person()
    reader = Reader(residency, "a")
    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(_lease, residency, "a", 10, reader, first)
        assert reader.half.wait(WAIT)
        waiting = threads.submit(_lease, residency, "a", 10, reader, second)
        while residency.entries()[0].leases < 2:
            assert not waiting.done()
        first.gone.set()
        reader.go_on.set()
        assert waiting.result(WAIT) == loading.result(WAIT) == "value of a"
    assert (reader.loads, _keys(residency)) == (1, ["a"])


def test_whoever_comes_too_late_for_a_load_that_is_given_up_begins_his_own():
    residency, first, second = Residency(10), Person(), Person()
    reader = Reader(residency, "a")

    def late() -> str:
        """Has been given up when the second asks, and is still in memory."""
        try:
            return reader()
        finally:
            if reader.loads == 1:
                asking.append(threads.submit(_lease, residency, "a", 10, reader, second))
                while residency.entries()[0].leases < 2:
                    assert not asking[0].done()

    asking: list[Future[str]] = []
    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(_lease, residency, "a", 10, late, first)
        assert reader.half.wait(WAIT)
        first.gone.set()
        reader.go_on.set()
        assert isinstance(loading.exception(WAIT), Cancelled)
        assert asking[0].result(WAIT) == "value of a"
    assert (reader.loads, _keys(residency)) == (2, ["a"])


def test_whoever_waits_for_another_s_load_and_wants_it_no_longer_is_let_go():
    residency, first, second = Residency(10), Person(), Person()
    reader = Reader(residency, "a")
    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(_lease, residency, "a", 10, reader, first)
        assert reader.half.wait(WAIT)
        waiting = threads.submit(_lease, residency, "a", 10, reader, second)
        second.gone.set()
        assert isinstance(waiting.exception(WAIT), Cancelled)
        assert residency.entries()[0].leases == 1
        reader.go_on.set()
        assert loading.result(WAIT) == "value of a"


@pytest.mark.parametrize("gone", [False, True])
def test_room_that_another_works_in_is_waited_for_until_it_is_not_wanted(gone: bool):
    residency, worker, person = Residency(10), Person("a load by hand"), Person()
    with ThreadPoolExecutor(1) as threads:
        with residency.lease("a", lambda: 6, lambda: "A", holder=worker.holder, label="Model A"):
            waiting = threads.submit(_lease, residency, "b", 6, lambda: "B", person)
            assert person.waits.wait(WAIT)
            assert not waiting.done()
            if gone:
                person.gone.set()
                assert isinstance(waiting.exception(WAIT), Cancelled)
        assert gone or waiting.result(WAIT) == "B"
    assert person.told == ["room in memory, which Model A (a load by hand) takes up", ""]
    assert _keys(residency) == (["a"] if gone else ["b"])


def test_what_grows_waits_for_room_as_well():
    residency, worker, person = Residency(10), Person("another"), Person()
    with ThreadPoolExecutor(1) as threads, residency.lease("b", lambda: 4, lambda: "B", holder=person.holder):
        with residency.lease("a", lambda: 6, lambda: "A", holder=worker.holder):
            waiting = threads.submit(residency.resize, "b", 5, person.holder)
            assert person.waits.wait(WAIT)
            assert [entry.nbytes for entry in residency.entries() if entry.key == "b"] == [4]
        waiting.result(WAIT)
        assert [(entry.key, entry.nbytes) for entry in residency.entries()] == [("b", 5)]


def test_nobody_waits_for_what_can_never_be():
    residency, person = Residency(10), Person()
    with pytest.raises(OutOfMemory, match="It never fits: raise MODELSHELF_MEMORY_GIB"):
        _lease(residency, "big", 11, lambda: "", person)
    with (
        residency.lease("a", lambda: 6, lambda: "A", holder=person.holder),
        pytest.raises(OutOfMemory, match="It never fits"),  # beside what he works with himself
    ):
        _lease(residency, "b", 6, lambda: "B", person)
    assert person.told == []


def test_two_who_would_wait_for_each_other_do_not():
    residency, people = Residency(10), [Person("first"), Person("second")]
    both = Barrier(2)

    def work(person: Person, key: str) -> bool:
        with residency.lease(key, lambda: 5, lambda: key, holder=person.holder):
            both.wait(WAIT)
            try:
                with residency.lease(f"more of {key}", lambda: 3, lambda: key, holder=person.holder):
                    return True
            except OutOfMemory:
                return False

    with ThreadPoolExecutor(2) as threads:
        outcomes = [threads.submit(work, person, key) for person, key in zip(people, "ab", strict=True)]
        assert sorted(outcome.result(WAIT) for outcome in outcomes) == [False, True]


def test_what_somebody_else_waits_for_is_waited_for_until_he_has_had_it():
    residency, first, second, person = Residency(10), Person(), Person(), Person()
    reader = Reader(residency, "a")
    with ThreadPoolExecutor(3) as threads:
        loading = threads.submit(_lease, residency, "a", 10, reader, first)
        assert reader.half.wait(WAIT)
        same = threads.submit(_lease, residency, "a", 10, reader, second)
        while residency.entries()[0].leases < 2:
            assert not same.done()
        waiting = threads.submit(_lease, residency, "b", 10, lambda: "B", person)
        assert person.waits.wait(WAIT)
        reader.go_on.set()
        assert waiting.result(WAIT) == "B"
        assert loading.result(WAIT) == same.result(WAIT) == "value of a"


def test_whoever_waits_and_has_just_stopped_wanting_it_is_waited_for_until_he_has_seen_that():
    residency, gone, person = Residency(10), Person("given up"), Person()
    with ThreadPoolExecutor(1) as threads:
        with residency.lease("a", lambda: 10, lambda: "A", holder=gone.holder), residency.stuck(gone.holder):
            with pytest.raises(OutOfMemory):
                _lease(residency, "b", 10, lambda: "B", person)
            gone.gone.set()
            waiting = threads.submit(_lease, residency, "b", 10, lambda: "B", person)
            assert person.waits.wait(WAIT)
        assert waiting.result(WAIT) == "B"


def test_whoever_waits_is_told_of_others_alone_and_headers_are_read_once_for_it():
    residency, worker, person, asked = Residency(10), Person("another"), Person("himself"), []

    def size() -> int:
        asked.append(1)
        return 4

    def work() -> None:
        with (
            residency.lease("own", lambda: 4, lambda: "", holder=person.holder),
            residency.lease("more", size, lambda: "", holder=person.holder),
        ):
            pass

    with ThreadPoolExecutor(1) as threads:
        with residency.lease("a", lambda: 6, lambda: "A", holder=worker.holder):
            waiting = threads.submit(work)
            assert person.waits.wait(WAIT)
        waiting.result(WAIT)
    assert person.told == ["room in memory, which a (another) takes up", ""]
    assert len(asked) == 1
