"""The life of an install, as one table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from api.routes.installs import ORDERS
from registry.cursors import pack
from registry.db import make_engine
from registry.errors import Cancelled, InstallNotFound, InvalidRequest, WrongState
from registry.installs.states import ACTIVE, COMMANDS, ENDED, TRANSITIONS, InstallBook
from registry.tables import InstallState, now
from tests.databases import migrated_sqlite


@pytest.fixture
def book(tmp_path: Path) -> InstallBook:
    return InstallBook(make_engine(migrated_sqlite(tmp_path / "registry.db")))


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(InstallState)
    assert set().union(*TRANSITIONS.values()) == set(InstallState)


def test_the_road_that_every_install_wants_to_go(book: InstallBook) -> None:
    install = book.open("hf://a/b")
    road = [
        InstallState.QUEUED,
        InstallState.RESOLVING,
        InstallState.DOWNLOADING,
        InstallState.PROBING,
        InstallState.REGISTERING,
        InstallState.INSTALLED,
    ]
    for _, to in pairwise(road):
        assert book.move(install.id, to).state == to
    assert book.get(install.id).state == InstallState.INSTALLED


@pytest.mark.parametrize("state", ACTIVE)
def test_an_active_install_can_fail_and_be_queued_again_after_a_kill(state: InstallState) -> None:
    assert InstallState.FAILED in TRANSITIONS[state]
    assert state is InstallState.QUEUED or InstallState.QUEUED in TRANSITIONS[state]


@pytest.mark.parametrize("state", ACTIVE)
def test_an_active_install_can_be_paused_and_cancelled(state: InstallState) -> None:
    assert TRANSITIONS[state] >= {InstallState.PAUSED, InstallState.CANCELLED}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_people_may_order_is_in_the_table(name: str) -> None:
    command = COMMANDS[name]
    assert all(command.to in TRANSITIONS[state] for state in command.since)
    assert name in ORDERS


@pytest.mark.parametrize(
    ("orders", "state"),
    [
        (["pause"], InstallState.PAUSED),
        (["pause", "resume"], InstallState.QUEUED),
        (["pause", "cancel"], InstallState.CANCELLED),
        (["cancel"], InstallState.CANCELLED),
        (["cancel", "retry"], InstallState.QUEUED),
    ],
)
def test_orders(book: InstallBook, orders: list[str], state: InstallState) -> None:
    install = book.open("hf://a/b")
    for order in orders:
        last = book.command(install.id, order)
    assert last.state == state


@pytest.mark.parametrize(
    ("orders", "wrong"),
    [([], "resume"), ([], "retry"), (["pause"], "pause"), (["pause"], "retry"), (["cancel"], "resume")],
)
def test_an_order_that_has_no_meaning_now(book: InstallBook, orders: list[str], wrong: str) -> None:
    install = book.open("hf://a/b")
    for order in orders:
        book.command(install.id, order)
    before = book.get(install.id)
    with pytest.raises(WrongState, match=f"nothing to {wrong}"):
        book.command(install.id, wrong)
    assert book.get(install.id) == before


def test_a_failure_is_forgotten_when_it_is_tried_again(book: InstallBook) -> None:
    install = book.open("hf://a/b")
    book.attempt(install.id).end(InstallState.FAILED, {"code": "x"})
    assert book.command(install.id, "retry").error is None


class TestAttempts:
    @pytest.mark.parametrize("orders", [["pause"], ["cancel"], ["pause", "resume"]])
    def test_one_that_somebody_has_ended_notices(self, book: InstallBook, orders: list[str]) -> None:
        """Also when it was queued again before it could look."""
        attempt = book.attempt(book.open("hf://a/b").id)
        for order in orders:
            book.command(attempt.install.id, order)
        after = book.get(attempt.install.id)
        with pytest.raises(Cancelled):
            attempt.check()
        with pytest.raises(Cancelled):
            attempt.move(InstallState.DOWNLOADING)
        attempt.end(InstallState.FAILED, {"code": "x"})
        assert book.get(attempt.install.id) == after

    def test_only_one_works_on_an_install(self, book: InstallBook) -> None:
        install = book.open("hf://a/b")
        book.attempt(install.id)
        with pytest.raises(WrongState):
            book.attempt(install.id)

    def test_its_progress_is_written_now_and_then(self, book: InstallBook) -> None:
        attempt = book.attempt(book.open("hf://a/b").id)
        for done in range(1, 1000):
            attempt.progress(bytes_done=done)
        assert book.get(attempt.install.id).bytes_done < 999


def test_of_two_who_move_at_once_one_wins(book: InstallBook) -> None:
    install = book.open("hf://a/b")

    def cancel(_: int) -> bool:
        try:
            book.move(install.id, InstallState.CANCELLED)
        except WrongState:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(cancel, range(8))) == 1


@pytest.mark.parametrize("order", ["cancel", "pause"])
def test_what_was_ordered_is_not_undone_by_a_service_that_stops(book: InstallBook, order: str) -> None:
    attempt = book.attempt(book.open("hf://a/b").id)
    ordered = book.command(attempt.install.id, order)
    attempt.end(InstallState.QUEUED)
    assert book.get(attempt.install.id).state == ordered.state


def test_what_is_installed_stays_so() -> None:
    assert TRANSITIONS[InstallState.INSTALLED] == set()
    assert set(ENDED).isdisjoint(ACTIVE)


def test_a_move_that_the_table_lacks_is_refused_and_changes_nothing(book: InstallBook) -> None:
    install = book.open("hf://a/b")
    with pytest.raises(WrongState, match="queued"):
        book.move(install.id, InstallState.INSTALLED, model_id=None, bytes_done=5)
    assert (book.get(install.id).state, book.get(install.id).bytes_done) == (InstallState.QUEUED, 0)


def test_an_install_that_is_not_there(book: InstallBook) -> None:
    with pytest.raises(InstallNotFound):
        book.get("nope")
    with pytest.raises(InstallNotFound):
        book.move("nope", InstallState.RESOLVING)


def test_list_is_newest_first_and_by_state(book: InstallBook) -> None:
    first, second = book.open("hf://a/1"), book.open("hf://a/2")
    book.move(first.id, InstallState.FAILED, error={"code": "x"})
    assert [i.id for i in book.list()] == [second.id, first.id]
    assert [i.id for i in book.list(states=ACTIVE)] == [second.id]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_the_list_is_read_page_by_page_newest_first(book: InstallBook, limit: int) -> None:
    same = now()  # of equal times the id settles
    made = [book.open(f"o/{n}", created_at=same if n < 4 else same + timedelta(seconds=n)) for n in range(7)]
    seen, cursor = [], None
    for _ in made:
        page = book.page(limit, cursor)
        seen += [install.id for install in page.installs]
        book.open("o/newer", created_at=same + timedelta(days=1))  # what comes meanwhile moves no page
        if (cursor := page.cursor) is None:
            break
    assert seen == [i.id for i in sorted(made, key=lambda i: (i.created_at, i.id), reverse=True)]
    assert cursor is None


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "e30",
        "x" * 5000,
        pack(["models", "2026-01-01T00:00:00+00:00", "a"]),
        pack(["installs", 7, "a"]),
        pack(["installs", "x", "a"]),
    ],
)
def test_a_cursor_of_no_page_is_refused(book: InstallBook, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        book.page(10, cursor)
