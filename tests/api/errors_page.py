"""api/ERRORS.md, made from the error tree. `python -m tests.api.errors_page` writes it anew."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import api
from api.problems import status_of
from registry.errors import every_error, meanings

PAGE = Path(api.__path__[0]) / "ERRORS.md"
HEAD = """# Error codes

Every error of the REST service is `application/problem+json` (RFC 9457) with the members `type` (`urn:modelshelf:CODE`), `title`,
`status`, `code`, `detail` (what went wrong and what to do, for people), `request_id` (as in the header `X-Request-ID` and the log), for an
invalid request `errors` (field, message), and `facts` for programs. Codes are stable: one may be added, none changes its meaning. Under
`/v1/images` there is `error` besides, {message, type, param, code}, as OpenAI's clients read it. The command line prints `detail` and
`[code]`, and exits with a non-zero status.

This page is made from the tree in [registry/errors.py](../registry/errors.py) and the table in [api/problems.py](problems.py) by
`python -m tests.api.errors_page`.

| code | status | meaning |
|---|---|---|
"""


def page() -> str:
    told = meanings()
    rows = {cls.code: f"{status_of(cls)} {HTTPStatus(status_of(cls)).phrase}" for cls in every_error()}
    return HEAD + "".join(f"| `{code}` | {rows[code]} | {told[code]} |\n" for code in sorted(rows))


if __name__ == "__main__":
    PAGE.write_text(page())
