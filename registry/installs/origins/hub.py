"""A model repository on the Hugging Face Hub, pinned to one commit.

Its facts come through huggingface_hub, its bytes through our own client: hf_hub_download does not resume in a new
process, verify SHA-256 or let itself be cancelled (huggingface_hub issues 4196, 4632).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Self
from urllib.parse import quote, unquote, urlsplit

import httpx
from huggingface_hub import HfApi, ModelInfo, errors
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import httpx as hub_httpx  # type: ignore[attr-defined]  # its HTTP library, httpx2

from registry.errors import (
    FileMissing,
    GatedRepository,
    HubUnreachable,
    InvalidSource,
    ModelshelfError,
    Refused,
    RepositoryNotFound,
    RevisionNotFound,
    TokenRefused,
)
from registry.installs.origins.base import CARD, CARD_LIMIT, Listing, RemoteFile, checked, find_focus
from registry.installs.origins.http import HttpFiles, Transient, is_transient, patiently
from registry.sources import HubSource


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What the Hub says (huggingface_hub's exception, or X-Error-Code on a file), and what we tell the user."""

    said: type[Exception]
    code: str | None
    error: type[ModelshelfError]
    message: str


# The first that fits decides: GatedRepoError is a RepositoryNotFoundError.
_MEANINGS = (
    _Meaning(
        errors.GatedRepoError,
        "GatedRepo",
        GatedRepository,
        "{repo} is gated. Accept its terms at {page}, and set HF_TOKEN to a token of the account that did "
        "({hub}/settings/tokens).",
    ),
    _Meaning(
        errors.RepositoryNotFoundError,
        "RepoNotFound",
        RepositoryNotFound,
        "{hub} has no model repository {repo}, or it is private. Check the name; for a private one, set HF_TOKEN to a "
        "token that may read it.",
    ),
    _Meaning(
        errors.RevisionNotFoundError,
        "RevisionNotFound",
        RevisionNotFound,
        "{repo} has no branch, tag or commit {revision}; {page}/tree/main shows those it has.",
    ),
    _Meaning(errors.EntryNotFoundError, "EntryNotFound", FileMissing, "{repo} has no file {file} at {revision}."),
    _Meaning(errors.DisabledRepoError, None, Refused, "The Hub has disabled {repo}; {page} may say why."),
    _Meaning(
        errors.HFValidationError, None, InvalidSource, "{repo} cannot be a repository's name: it is written OWNER/REPO."
    ),
    _Meaning(
        errors.OfflineModeIsEnabled,
        None,
        HubUnreachable,
        "HF_HUB_OFFLINE is set, so {hub} is not asked for {repo}. Unset it.",
    ),
)
# Answers without a code of the Hub.
_BY_STATUS = {
    401: (
        TokenRefused,
        "{hub} does not accept the HF_TOKEN it was shown. Make a new one at {hub}/settings/tokens, or unset it.",
    ),
    403: (
        TokenRefused,
        "{hub} does not show {repo}. Set HF_TOKEN to a token that may read it ({hub}/settings/tokens).",
    ),
}
_NO_HUB = (
    "{hub} does not answer like a Hugging Face Hub ({reason}). Check HF_ENDPOINT, or a proxy that asks for a login."
)


class HubOrigin:
    def __init__(self, source: HubSource, *, endpoint: str, token: str | None, timeout: float) -> None:
        self._source = source
        self._endpoint = endpoint.rstrip("/")
        # False, for None would let huggingface_hub send a token that it finds in the home folder.
        self._api = HfApi(endpoint=self._endpoint, token=token or False, library_name="modelshelf")
        self._timeout = timeout
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._files = HttpFiles(timeout=timeout, headers=headers, refusal=self._refusal)

    def listing(self) -> Listing:
        return self._listing

    def read(self, file: RemoteFile, start: int, length: int) -> bytes:
        return self._files.read(self._url(file.path), start, length)

    def stream(self, file: RemoteFile, start: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        return self._files.stream(self._url(file.path), start)

    def close(self) -> None:
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @cached_property
    def _info(self) -> ModelInfo:
        return patiently(self._ask, urlsplit(self._endpoint).netloc)

    @cached_property
    def _listing(self) -> Listing:
        repo_id = self._source.repo_id
        files = tuple(_remote_file(sibling, repo_id) for sibling in self._info.siblings or ())
        focus = find_focus(self._source.path, files, repo_id)
        card = None
        if any(file.path == CARD for file in files):
            card = self._files.read(self._url(CARD), 0, CARD_LIMIT).decode("utf-8", errors="replace")
        pinned = HubSource(repo_id, self._info.sha, focus)
        return Listing(str(pinned), repo_id, self._info.sha, files, card, focus)

    def _ask(self) -> ModelInfo:
        source = self._source
        try:
            info = self._api.model_info(
                source.repo_id, revision=source.revision, files_metadata=True, timeout=self._timeout
            )
        except Exception as error:
            raise self._translated(error) from error
        if info.sha is None:
            raise self._told(HubUnreachable, _NO_HUB, reason="it names no commit")
        return info

    def _url(self, path: str) -> str:
        return f"{self._endpoint}/{self._source.repo_id}/resolve/{self._info.sha}/{quote(path)}"

    def _translated(self, error: Exception) -> Exception:
        """huggingface_hub's exception in our terms; one that it never announced is returned as it is."""
        for meaning in _MEANINGS:
            if isinstance(error, meaning.said):
                return self._told(meaning.error, meaning.message)
        if isinstance(error, errors.HfHubHTTPError):
            return self._by_status(error.response.status_code)
        if isinstance(error, hub_httpx.TransportError):
            return Transient(str(error) or type(error).__name__)
        if isinstance(error, ValueError | KeyError | TypeError):  # not JSON, or JSON of another shape
            return self._told(HubUnreachable, _NO_HUB, reason=f"{type(error).__name__}: {error}")
        return error

    def _refusal(self, response: httpx.Response) -> Exception:
        file = unquote((response.history or [response])[0].request.url.path).partition(f"/{self._info.sha}/")[2]
        if response.history and response.url.netloc != response.history[0].url.netloc:
            reason = f"{response.url.host}, where it keeps files, answers {response.status_code}"
            return self._told(HubUnreachable, _NO_HUB, reason=reason)
        code = response.headers.get("X-Error-Code")
        for meaning in _MEANINGS:
            if code is not None and meaning.code == code:
                return self._told(meaning.error, meaning.message, file=file)
        return self._by_status(response.status_code, file)

    def _by_status(self, status: int, file: str = "") -> Exception:
        if is_transient(status):
            return Transient(f"it answers {status}")
        error, message = _BY_STATUS.get(status, (HubUnreachable, _NO_HUB))
        return self._told(error, message, file=file, reason=f"status {status}")

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


def _remote_file(sibling: RepoSibling, repo_id: str) -> RemoteFile:
    path = checked(sibling.rfilename, repo_id)
    return (
        RemoteFile(path, sibling.lfs.size, sibling.lfs.sha256) if sibling.lfs else RemoteFile(path, sibling.size, None)
    )
