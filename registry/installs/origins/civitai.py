"""One file of a version on Civitai, and what Civitai tells of it: by the version before it is fetched, by its SHA-256 afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from registry.errors import FileMissing, HubUnreachable, HubUnusable, ModelshelfError, Refused, TokenRefused
from registry.installs.origins.access import CIVITAI_FILE, Access, Civitai
from registry.installs.origins.base import Listing
from registry.installs.origins.url import UrlOrigin
from registry.sources import CIVITAI_PAGE, UrlSource


class CivitaiOrigin(UrlOrigin):
    """As any address of a file, but the digest is announced, and a model's page without a version stands for its newest one."""

    def __init__(
        self, source: UrlSource, civitai: Civitai, *, timeout: float, access: Access, check: Callable[[], None]
    ) -> None:
        self._civitai = civitai
        super().__init__(
            source,
            timeout=timeout,
            access=access,
            check=check,
            home=civitai.endpoint,
            token=civitai.token,
        )

    def told_of(self, sha256: str) -> Mapping[str, Any] | None:
        """Its record of the version that has a file of this digest; of the version's files only that one."""
        record = self._ask(f"model-versions/by-hash/{sha256}")
        return record and {**record, "files": [f for f in _files(record) if _sha256(f) == sha256]}

    def _look(self) -> tuple[Listing, bytes]:
        if page := CIVITAI_PAGE.fullmatch(urlsplit(self._url).path):
            self._url = self._newest(page[1])
        listing, prefix = super()._look()
        [file] = listing.files
        version = CIVITAI_FILE.fullmatch(urlsplit(self._url).path)
        try:
            record = self._ask(f"model-versions/{version[1]}") if version else None
        except (HubUnreachable, Refused):
            record = None  # the file can be had without: it is only not known beforehand
        announced = [_sha256(f) for f in _files(record or {}) if f.get("name") == file.path]
        if len(announced) == 1 and announced[0]:
            listing = replace(listing, files=(replace(file, sha256=announced[0]),))
        return listing, prefix

    def _newest(self, model: str) -> str:
        versions = (self._ask(f"models/{model}") or {}).get("modelVersions")
        first = versions[0] if isinstance(versions, list) and versions else None
        if not isinstance(first, dict) or not isinstance(first.get("id"), int):
            raise FileMissing(f"{self._civitai.endpoint} shows no model {model} that could be downloaded.", model=model)
        return f"{self._civitai.endpoint}/api/download/models/{first['id']}"

    def _ask(self, what: str) -> dict[str, Any] | None:
        """None: it does not know. Raises HubUnusable, HubUnreachable, Refused."""
        response = self._aside.get(f"{self._civitai.endpoint}/api/v1/{what}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if not response.is_success:
            raise self._refusal(response)
        try:
            record = response.json()
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise HubUnusable(f"{self._civitai.endpoint} answers {what} with something that is no record.")
        return record

    def _refusal(self, response: httpx.Response) -> ModelshelfError:
        asked = response.history[0].request.url if response.history else response.request.url
        if response.status_code in (401, 403) and asked.host == urlsplit(self._civitai.endpoint).hostname:
            return TokenRefused(
                f"{asked.host} shows this to accounts only. Set CIVITAI_API_TOKEN to a key of yours that may see it "
                f"({self._civitai.endpoint}/user/account).",
                status=response.status_code,
            )
        return super()._refusal(response)


def _files(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    files = record.get("files")
    return [f for f in files if isinstance(f, dict)] if isinstance(files, list) else []


def _sha256(file: Mapping[str, Any]) -> str | None:
    hashes = file.get("hashes")
    value = hashes.get("SHA256") if isinstance(hashes, dict) else None
    return value.lower() if isinstance(value, str) and re.fullmatch("[0-9a-fA-F]{64}", value) else None
