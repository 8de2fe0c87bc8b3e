"""So many at once, oldest first; who waits for something outside keeps nobody from working."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from threading import Event

import pytest

from registry.errors import Cancelled
from registry.installs import crew as crews
from registry.installs.crew import Crew

SOON = 10.0  # seconds; nothing here takes them


def go_on() -> None:
    """A check that nothing has come of."""


@pytest.fixture
def crew() -> Iterator[Crew[str]]:
    made = Crew[str](1, "test")
    yield made
    made.close()


def test_one_after_another_in_their_order(crew: Crew[str]) -> None:
    done: list[str] = []
    go = Event()

    def task(name: str) -> str:
        go.wait(SOON)
        done.append(name)
        return name

    futures = [crew.submit(lambda name=name: task(name)) for name in "abc"]
    assert [future.running() for future in futures] == [True, False, False]
    go.set()
    assert [future.result(SOON) for future in futures] == done == ["a", "b", "c"]


def test_another_works_in_the_place_of_one_that_has_stepped_aside(crew: Crew[str]) -> None:
    go, came_back = Event(), Event()

    def waits() -> str:
        with crew.aside(go_on):
            go.wait(SOON)
        came_back.set()
        return "waited"

    def works() -> str:
        go.set()
        assert not came_back.wait(0.3)  # its place is taken
        return "worked"

    waiting, working = crew.submit(waits), crew.submit(works)
    assert (working.result(SOON), waiting.result(SOON)) == ("worked", "waited")


def test_who_comes_back_goes_before_who_has_not_begun(crew: Crew[str]) -> None:
    order: list[str] = []
    aside, back = Event(), Event()

    def waits() -> str:
        with crew.aside(go_on):
            aside.set()
            back.wait(SOON)
        order.append("back")
        return ""

    def works() -> str:
        back.set()
        while not crew._returning:
            pass
        order.append("working")
        return ""

    first = crew.submit(waits)
    assert aside.wait(SOON)
    others = [crew.submit(works), crew.submit(lambda: order.append("new") or "")]
    for future in (first, *others):
        future.result(SOON)
    assert order == ["working", "back", "new"]


def test_giving_up_while_it_waits_for_a_place(crew: Crew[str]) -> None:
    go = Event()
    aside = Event()

    def no_more() -> None:
        if go.is_set():
            raise Cancelled("Cancelled.")

    def waits() -> str:
        with crew.aside(no_more):
            aside.set()
            go.wait(SOON)
        return ""

    def works() -> str:
        go.set()
        with pytest.raises(Cancelled):
            waiting.result(SOON)
        return "worked"

    waiting = crew.submit(waits)
    assert aside.wait(SOON)
    assert crew.submit(works).result(SOON) == "worked"
    assert crew.submit(lambda: "and on").result(SOON) == "and on"
    assert (crew._free, crew._aside) == (1, 0)


def test_an_error_while_aside_and_one_in_the_task(crew: Crew[str]) -> None:
    def fails(inside: bool) -> str:
        if inside:
            with crew.aside(go_on):
                raise KeyError
        raise ValueError

    for inside, error in ((True, KeyError), (False, ValueError)):
        with pytest.raises(error):
            crew.submit(lambda inside=inside: fails(inside)).result(SOON)
    assert crew.submit(lambda: "fine").result(SOON) == "fine"


def test_while_many_are_aside_no_other_begins(crew: Crew[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "MOST_ASIDE", 1)
    go, began = Event(), Event()

    def waits() -> str:
        with crew.aside(go_on):
            go.wait(SOON)
        return ""

    waiting, other = crew.submit(waits), crew.submit(lambda: str(began.set()))
    assert not began.wait(0.2)
    go.set()
    assert (waiting.result(SOON), other.result(SOON)) == ("", "None")


def test_nothing_begins_after_its_end(crew: Crew[str]) -> None:
    done = [crew.submit(lambda: "done") for _ in range(3)]
    crew.close()  # waits for all
    assert [future.result(0) for future in done] == ["done"] * 3
    with pytest.raises(RuntimeError, match="No task begins"):
        crew.submit(lambda: "late")


def test_what_has_not_begun_when_it_closes_never_does() -> None:
    crew, began, go = Crew[str](1, "test"), Event(), Event()

    def runs() -> str:
        began.set()
        return str(go.wait(SOON))

    running, waiting = crew.submit(runs), crew.submit(lambda: "never")
    assert began.wait(SOON)
    waiting.add_done_callback(lambda _: go.set())
    crew.close(cancel=True)
    assert running.result(SOON) == "True"
    with pytest.raises(CancelledError):
        waiting.result(SOON)
