"""Every fixture against every signature: the right family matches, and no other one does."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from probes import Hints, Report, probe
from probes.families import SIGNATURES
from probes.subject import Subject
from tests.probes import headers

NAMES = headers.names()


REPORTED = {field.name for field in fields(Report)}


@pytest.mark.parametrize("name", NAMES)
def test_fixture_is_what_it_is(name: str) -> None:
    fixture = headers.load(name)
    report = probe(fixture.header)
    expect = {"outcome": "identified", **{key: value for key, value in fixture.expect.items() if key in REPORTED}}
    seen = json.loads(json.dumps(report.as_dict()))
    assert {key: seen[key] for key in expect} == expect, report.reason
    assert report.reason
    assert report.evidence


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_right_signatures_match(name: str) -> None:
    """`families` names all of them where shapes fit several and only words decide."""
    fixture = headers.load(name)
    subject = Subject(fixture.header, Hints())
    matched = {signature.family for signature in SIGNATURES if signature.match(subject).ok}
    if fixture.expect.get("outcome") == "unknown":
        assert not matched
    else:
        assert matched == set(fixture.expect.get("families") or [fixture.expect.get("family")])
