"""The life of an install, as one table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from registry.db import make_engine, migrate
from registry.errors import InstallNotFound, WrongState
from registry.installs.states import ACTIVE, ENDED, TRANSITIONS, InstallBook
from registry.tables import State


@pytest.fixture
def book(tmp_path: Path) -> InstallBook:
    engine = make_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    return InstallBook(engine)


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    assert set().union(*TRANSITIONS.values()) == set(State)


def test_the_road_that_every_install_wants_to_go(book: InstallBook) -> None:
    install = book.open("hf://a/b")
    road = [State.QUEUED, State.RESOLVING, State.DOWNLOADING, State.PROBING, State.REGISTERING, State.INSTALLED]
    for _, to in pairwise(road):
        assert book.move(install.id, to).state == to
    assert book.get(install.id).state == State.INSTALLED


@pytest.mark.parametrize("state", ACTIVE)
def test_an_active_install_can_fail_and_be_queued_again_after_a_kill(state: State) -> None:
    assert State.FAILED in TRANSITIONS[state]
    assert state is State.QUEUED or State.QUEUED in TRANSITIONS[state]


@pytest.mark.parametrize("state", [s for s in ACTIVE if s is not State.REGISTERING])
def test_an_active_install_can_be_paused_and_cancelled_until_it_registers(state: State) -> None:
    assert TRANSITIONS[state] >= {State.PAUSED, State.CANCELLED}


def test_of_two_who_move_at_once_one_wins(book: InstallBook) -> None:
    install = book.open("hf://a/b")

    def cancel(_: int) -> bool:
        try:
            book.move(install.id, State.CANCELLED)
        except WrongState:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(cancel, range(8))) == 1


def test_an_error_does_not_overwrite_a_cancellation(book: InstallBook) -> None:
    install = book.open("hf://a/b")
    book.move(install.id, State.CANCELLED)
    book.end(install.id, State.FAILED, {"code": "x"})
    assert (book.get(install.id).state, book.get(install.id).error) == (State.CANCELLED, None)


def test_what_is_installed_stays_so() -> None:
    assert TRANSITIONS[State.INSTALLED] == set()
    assert set(ENDED).isdisjoint(ACTIVE)


def test_a_move_that_the_table_lacks_is_refused_and_changes_nothing(book: InstallBook) -> None:
    install = book.open("hf://a/b")
    with pytest.raises(WrongState, match="queued"):
        book.move(install.id, State.INSTALLED, model_id=None, bytes_done=5)
    assert (book.get(install.id).state, book.get(install.id).bytes_done) == (State.QUEUED, 0)


def test_an_install_that_is_not_there(book: InstallBook) -> None:
    with pytest.raises(InstallNotFound):
        book.get("nope")
    with pytest.raises(InstallNotFound):
        book.move("nope", State.RESOLVING)


def test_list_is_newest_first_and_by_state(book: InstallBook) -> None:
    first, second = book.open("hf://a/1"), book.open("hf://a/2")
    book.move(first.id, State.FAILED, error={"code": "x"})
    assert [i.id for i in book.list()] == [second.id, first.id]
    assert [i.id for i in book.list(states=ACTIVE)] == [second.id]
