"""Which version of a file each partial file is the beginning of."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Engine, delete
from sqlmodel import Session, col, select

from registry.db import unit_of_work
from registry.installs.origins import Listing, RemoteFile
from registry.tables import Transfer, now


class Transfers:
    """The partial files of one staging folder, in the database: `staging` is the folder's name."""

    def __init__(self, engine: Engine, staging: str) -> None:
        self._engine = engine
        self._staging = staging

    def take_up(self, listing: Listing, file: RemoteFile) -> Transfer | None:
        """The record of what an earlier run left of `file`; None, and a new record, when that is of another version or of an unknown one.

        An announced digest pins its bytes, whatever the commit; without one, the commit does. Elsewhere the ETag must be the same.
        """
        pin = file.sha256 or file.git or listing.revision
        with unit_of_work(self._engine) as session:
            known = session.get(Transfer, (self._staging, file.path))
            same_etag = known is not None and known.etag is not None and known.etag == file.etag
            if known is not None and known.revision == pin and (pin or same_etag):
                return known
            begun = known or Transfer(staging=self._staging, path=file.path)
            begun.sqlmodel_update({"revision": pin, "etag": file.etag, "updated_at": now()})
            session.add(begun)
        return None

    def set_etag(self, path: str, etag: str | None) -> None:
        with unit_of_work(self._engine) as session:
            session.get_one(Transfer, (self._staging, path)).sqlmodel_update({"etag": etag, "updated_at": now()})

    def versions(self) -> dict[str, str | None]:
        """The ETag of each file, by its path at its origin."""
        query = select(col(Transfer.path), col(Transfer.etag)).where(col(Transfer.staging) == self._staging)
        with Session(self._engine) as session:
            return dict(session.exec(query).all())

    def keep_only(self, paths: Collection[str]) -> None:
        """Forget the files that are no longer wanted."""
        gone = delete(Transfer).where(col(Transfer.staging) == self._staging, col(Transfer.path).not_in(paths))
        with unit_of_work(self._engine) as session:
            session.connection().execute(gone)

    @staticmethod
    def forget(engine: Engine, stagings: Collection[str]) -> None:
        with unit_of_work(engine) as session:
            session.connection().execute(delete(Transfer).where(col(Transfer.staging).in_(stagings)))
