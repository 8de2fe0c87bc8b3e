"""A model repository on the Hugging Face Hub, pinned to one commit.

Facts and bytes come through our own client: hf_hub_download does not resume in a new process, verify SHA-256 or let itself be cancelled
(huggingface_hub issues 4196, 4632), and no request of its client can be cut short. Its grammar, its errors' codes and its login are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self
from urllib.parse import quote, unquote

import httpx
from huggingface_hub import constants, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from registry.errors import (
    FileMissing,
    GatedRepository,
    HubUnusable,
    InvalidSource,
    ModelshelfError,
    Refused,
    RepositoryNotFound,
    RevisionNotFound,
    TokenRefused,
)
from registry.installs.origins.access import Access
from registry.installs.origins.base import CARD, CARD_LIMIT, Listing, RemoteFile, Stream, find_focus, is_plain
from registry.installs.origins.http import HttpFiles
from registry.sources import HubSource


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What the Hub answers (status, X-Error-Code, X-Error-Message; None: any), and what we tell the user."""

    status: int | None
    code: str | None
    says: str | None
    error: type[ModelshelfError]
    message: str


_MISSING = (
    "{hub} has no model repository {repo}, or it is private. Check the name; for a private one, set HF_TOKEN to a "
    "token that may read it."
)
# The first that fits decides.
_MEANINGS = (
    _Meaning(
        None,
        "GatedRepo",
        None,
        GatedRepository,
        "{repo} is gated. Accept its terms at {page}, and set HF_TOKEN to a token of the account that did "
        "({hub}/settings/tokens).",
    ),
    _Meaning(None, "RepoNotFound", None, RepositoryNotFound, _MISSING),
    _Meaning(
        None,
        "RevisionNotFound",
        None,
        RevisionNotFound,
        "{repo} has no branch, tag or commit {revision}; {page}/tree/main shows those it has.",
    ),
    _Meaning(None, "EntryNotFound", None, FileMissing, "{repo} has no file {file} at {revision}."),
    _Meaning(
        None, None, "Access to this resource is disabled.", Refused, "The Hub has disabled {repo}; {page} may say why."
    ),
    _Meaning(
        401,
        None,
        "Invalid credentials in Authorization header",
        TokenRefused,
        "{hub} does not accept the HF_TOKEN it was shown. Make a new one at {hub}/settings/tokens, or unset it.",
    ),
    # To strangers the Hub does not tell a missing repository from a private one.
    _Meaning(401, None, None, RepositoryNotFound, _MISSING),
    _Meaning(
        403,
        None,
        None,
        TokenRefused,
        "{hub} does not show {repo}. Set HF_TOKEN to a token that may read it ({hub}/settings/tokens).",
    ),
)
PUBLIC_ENDPOINT = "https://huggingface.co"
_NO_HUB = (
    "{hub} does not answer like a Hugging Face Hub ({reason}). Check HF_ENDPOINT, or a proxy that asks for a login."
)


class HubOrigin:
    reads_in_parallel = True

    def __init__(
        self,
        source: HubSource,
        *,
        endpoint: str,
        token: str | None,
        timeout: float,
        access: Access,
        check: Callable[[], None],
    ) -> None:
        self._source = source
        self._endpoint = endpoint.rstrip("/")
        self._files = HttpFiles(
            timeout=timeout,
            access=access,
            refusal=self._refusal,
            check=check,
            home=self._endpoint,
            token=token or _login(self._endpoint),
        )

    def listing(self) -> Listing:
        return self._listing

    def read(self, file: RemoteFile, start: int, length: int) -> bytes:
        return self._files.read(self._url(file.path), start, length)

    def stream(
        self, file: RemoteFile, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> AbstractContextManager[Stream]:
        return self._files.stream(self._url(file.path), start, end, etag)

    def close(self) -> None:
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @cached_property
    def _listing(self) -> Listing:
        repo_id, info = self._source.repo_id, self._info
        try:
            listed = [_remote_file(sibling) for sibling in info.get("siblings") or ()]
            files = tuple(file for file in listed if is_plain(file.path))
        except (KeyError, TypeError, AttributeError) as error:
            raise self._told(HubUnusable, _NO_HUB, reason=f"{type(error).__name__}: {error}") from error
        focus = find_focus(self._source.path, files, repo_id)
        card = None
        if any(file.path == CARD for file in files):
            card = self._files.read(self._url(CARD), 0, CARD_LIMIT).decode("utf-8", errors="replace")
        pinned = HubSource(repo_id, self._commit, focus)
        left_out = tuple(file for file in listed if not is_plain(file.path))
        return Listing(str(pinned), repo_id, self._commit, files, card, focus, self._source.revision, left_out=left_out)

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        """The Hub's answer about the repository at its revision."""
        source = self._source
        try:
            validate_repo_id(source.repo_id)
        except HFValidationError as error:
            message = "{repo} cannot be a repository's name: it is written OWNER/REPO."
            raise self._told(InvalidSource, message) from error
        if constants.is_offline_mode():
            raise self._told(HubUnusable, "HF_HUB_OFFLINE is set, so {hub} is not asked for {repo}. Unset it.")
        revision = f"/revision/{quote(source.revision, safe='')}" if source.revision else ""
        response = self._files.get(f"{self._endpoint}/api/models/{source.repo_id}{revision}?blobs=true")
        if not response.is_success:
            raise self._refusal(response)
        try:
            info = response.json()
        except ValueError as error:
            raise self._told(HubUnusable, _NO_HUB, reason=f"no JSON: {error}") from error
        if not isinstance(info, dict) or not isinstance(info.get("sha"), str):
            raise self._told(HubUnusable, _NO_HUB, reason="it names no commit")
        return info

    @property
    def _commit(self) -> str:
        return str(self._info["sha"])

    def _url(self, path: str) -> str:
        return f"{self._endpoint}/{self._source.repo_id}/resolve/{self._commit}/{quote(path)}"

    def _refusal(self, response: httpx.Response) -> ModelshelfError:
        asked = (response.history or [response])[0].request.url
        file = unquote(asked.path).partition("/resolve/")[2].partition("/")[2]
        if response.url.netloc != asked.netloc:
            reason = f"{response.url.host}, where it keeps files, answers {response.status_code}"
            return self._told(HubUnusable, _NO_HUB, reason=reason)
        seen = (response.status_code, response.headers.get("X-Error-Code"), response.headers.get("X-Error-Message"))
        for meaning in _MEANINGS:
            wanted = (meaning.status, meaning.code, meaning.says)
            if all(w in (None, s) for w, s in zip(wanted, seen, strict=True)):
                return self._told(meaning.error, meaning.message, file=file)
        return self._told(HubUnusable, _NO_HUB, file=file, reason=f"status {response.status_code}")

    def _told(self, error: type[ModelshelfError], message: str, *, file: str = "", reason: str = "") -> ModelshelfError:
        source = self._source
        facts = {
            "hub": self._endpoint,
            "page": f"{self._endpoint}/{source.repo_id}",
            "repo": source.repo_id,
            "revision": source.revision or "main",
            "file": file,
            "reason": reason,
        }
        return error(message.format(**facts), repo_id=source.repo_id, revision=source.revision)


def _login(endpoint: str) -> str | None:
    """The token of `hf auth login`, which is meant for the public Hub; a mirror is shown only what HF_TOKEN says."""
    return get_token() if endpoint == PUBLIC_ENDPOINT else None


def _remote_file(sibling: Mapping[str, Any]) -> RemoteFile:
    path = sibling["rfilename"]
    if lfs := sibling.get("lfs"):
        return RemoteFile(path, lfs["size"], lfs["sha256"])
    return RemoteFile(path, sibling.get("size"), None, sibling.get("blobId"))
