"""Every fixture against every signature: the right family matches, and no other one does."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from probes import Hints, Report, probe
from probes.contenders import contest
from probes.families import SIGNATURES
from probes.signature import match_all
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
    left, _ = contest([match for match in match_all(SIGNATURES, subject) if match.ok], subject)
    matched = {match.signature.family for match in left}
    if fixture.expect.get("outcome") == "unknown":
        assert not matched
    else:
        assert matched == set(fixture.expect.get("families") or [fixture.expect.get("family")])
