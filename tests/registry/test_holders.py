"""What an error keeps, and what it lets go."""

from __future__ import annotations

from weakref import ref

from registry.holders import let_go


class Weights: ...


def test_an_error_that_is_kept_keeps_nothing_of_what_was_worked_on():
    seen = []

    def load() -> None:
        weights = Weights()
        seen.append(ref(weights))
        raise MemoryError

    def again() -> None:
        own = Weights()
        seen.append(ref(own))
        try:
            load()
        except MemoryError as error:
            raise RuntimeError("no memory") from error

    try:
        again()
    except RuntimeError as error:
        kept = error
    assert all(weights() for weights in seen)
    let_go(kept)
    assert [weights() for weights in seen] == [None, None]
    assert isinstance(kept.__cause__, MemoryError)
