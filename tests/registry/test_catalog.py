"""Writes of models, and finding one of them; on every kind of database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, update
from sqlalchemy.exc import IntegrityError

from registry.catalog import Catalog, Entry
from registry.errors import InvalidRequest, ModelNotFound
from registry.models import Digest, Model, ModelFile, Provenance, Statement, Trigger, computed
from registry.queries import Query
from registry.revisions import reclassify, revise
from registry.rows import MODEL

REPORT = {"reason": "because"}


@pytest.fixture
def catalog(engine: Engine, tmp_path: Path) -> Catalog:
    made = Catalog(engine, tmp_path)
    for model in (
        row("Base", "checkpoint", "sd-1", sources=(Provenance("hf://o/base@1"),), digests=computed(blake3="b3")),
        row(
            "outline",
            "lora",
            "sd-1",
            trigger_words=(Trigger("outline style", "header"),),
            digests=computed(sha256="aa"),
        ),
        row("fast", "lcm_lora", "sdxl", sources=(Provenance("hf://latent/fast_100%@1", "latent/fast_100%"),)),
    ):
        made.add(model, REPORT)
    return made


def row(name: str, kind: str, family: str, **more: Any) -> Model:
    facts = {"id": f"{name.lower()}-id"[:12], "format": "safetensors", "path": name, "size": 5_000_000_000}
    return Model(name=name, kind=kind, family=family, **{**facts, **more})


def names(models: Sequence[Model]) -> list[str]:
    return [m.name for m in models]


@pytest.mark.parametrize("name", ["outline", "OUTLINE", "outline-id", "ink_v1.5", "Trained “as”"])
def test_a_lora_is_called_by_its_name_its_file_s_or_the_one_it_was_trained_under(catalog: Catalog, name: str) -> None:
    trained = Statement("output_name", "Trained “as”", "file header")
    catalog.remove(catalog.get("outline"))
    path = "lora/sd-1/ink_v1.5.safetensors"
    catalog.add(row("outline", "lora", "sd-1", path=path, statements=(trained,)), REPORT)
    catalog.add(row("other", "lora", "sd-1", path="lora/sd-1/inkXv1.5.safetensors"), REPORT)
    assert catalog.called(name).name == "outline"


def test_a_name_that_is_several_models_file_is_told_and_one_that_is_none_s(catalog: Catalog) -> None:
    for folder in ("a", "b"):
        catalog.add(row(folder, "lora", "sd-1", path=f"{folder}/ink.safetensors"), REPORT)
    with pytest.raises(InvalidRequest, match="several models: a, b"):
        catalog.called("ink")
    for unknown in ("nk", "ink.safetensors", "%", "\0"):
        with pytest.raises(ModelNotFound):
            catalog.called(unknown)


def test_list_is_by_name_whatever_the_case(catalog: Catalog) -> None:
    assert names(catalog.list()) == ["Base", "fast", "outline"]
    assert names(catalog.page(Query(limit=2)).models) == ["Base", "fast"]


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"kind": "lora"}, ["outline"]),
        ({"family": "sd-1"}, ["Base", "outline"]),
        ({"kind": "lora", "family": "sdxl"}, []),
        ({"text": "OUTLINE"}, ["outline"]),
        ({"text": "style"}, ["outline"]),
        ({"text": "latent/"}, ["fast"]),
        ({"text": "100%"}, ["fast"]),
        ({"text": "_a"}, []),
    ],
)
def test_filters(catalog: Catalog, criteria: dict[str, str], expected: list[str]) -> None:
    assert names(catalog.list(Query(**criteria))) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("reference", ["base-id", "Base", "bASE", "Ｂａｓｅ", "base-"])
def test_a_model_is_found_by_id_by_name_and_by_the_beginning_of_its_id(catalog: Catalog, reference: str) -> None:
    assert catalog.get(reference).name == "Base"


@pytest.mark.parametrize(
    "names", [[], ["nobody"], ["fast"], ["Base", "OUTLINE", "fast-id", "nobody", "fast", "base-", "nul\0"]]
)
def test_several_are_read_together_by_id_or_by_name(catalog: Catalog, engine: Engine, names: list[str]) -> None:
    expected = {"fast": "fast", "Base": "Base", "OUTLINE": "outline", "fast-id": "fast"}
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        found = catalog.known(names)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert {reference: model.name for reference, model in found.items()} == {
        name: expected[name] for name in names if name in expected
    }
    assert all(model == catalog.get(model.id) for model in found.values())
    assert len([statement for statement in asked if statement.startswith(("SELECT", "WITH"))]) <= 2


def test_an_id_goes_before_a_name_that_is_spelled_like_it(catalog: Catalog) -> None:
    catalog.add(row("outline-id", "lora", "sd-1", id="another-one"), REPORT)
    assert catalog.known(["outline-id", "another-one"])["outline-id"].name == "outline"
    assert catalog.get("outline-id").name == "outline"


@pytest.mark.parametrize(
    "reference", ["", "nothing", "bas", "%", "____", "'; drop table model; --", "nul\0", "half \ud800"]
)
def test_a_model_that_is_not_there(catalog: Catalog, reference: str) -> None:
    with pytest.raises(ModelNotFound, match="modelshelf list"):
        catalog.get(reference)


def test_an_ids_beginning_that_two_models_share_asks_for_more(catalog: Catalog) -> None:
    catalog.add(row("other", "lora", "sdxl", id="outlines"), REPORT)
    with pytest.raises(InvalidRequest, match=r"outline-id.*outlines|outlines.*outline-id"):
        catalog.get("outl")
    assert catalog.get("outlines").name == "other"
    assert catalog.get("outline").id == "outline-id"


def test_names_are_unique_whatever_the_case(catalog: Catalog) -> None:
    assert catalog.has_name("OUTline")
    assert not catalog.has_name("outlin")
    with pytest.raises(IntegrityError):
        catalog.add(row("OUTLINE", "lora", "sdxl", id="again", path="elsewhere"), REPORT)


def test_find_by_source_or_computed_digest(catalog: Catalog) -> None:
    found = catalog.find(source="hf://o/base@1")
    assert found is not None
    assert found.name == "Base"
    found = catalog.find(source="elsewhere", sha256="aa")
    assert found is not None
    assert found.name == "outline"
    assert catalog.find(source=None, sha256=None, blake3="nope") is None
    assert catalog.find(sha256="b3") is None, "another algorithm's"
    catalog.add_digests(found, [Digest("sha256", "cc", by="sidecar")])
    assert catalog.find(sha256="cc") is None, "a claim is no proof"


def test_everything_that_is_added_comes_back(catalog: Catalog) -> None:
    model = row(
        "full",
        "lora",
        "sdxl",
        digests=(*computed(autov3="ee", sha256="dd"), Digest("autov3", "ff", by="sshs_model_hash")),
        sources=(Provenance("hf://a/b@1/f", "a/b", "1", "main", "f", "dd"), Provenance("https://mirror/f")),
        trigger_words=(Trigger("ink", "sidecar"), Trigger("line", "sidecar")),
        statements=(
            Statement("title", "Full", "file header"),
            Statement("weight", 0.8, "sidecar"),
            Statement("weight", 0.7, "model card", "0.6 to 0.8", 0.6, 0.8),
        ),
        tags=("anime", "style"),
    )
    files = [ModelFile("", 5, "dd", "bb")]
    catalog.add(model, {"reason": "tested", "deep": [1, None]}, files)
    kept = catalog.get("full")
    assert kept == model
    assert kept.recipe["weight"]["value"] == 0.8, "the first of a name counts"
    assert (kept.claims, kept.autov3) == ((Digest("autov3", "ff", "sshs_model_hash"),), "ee")
    assert catalog.report(kept) == {"reason": "tested", "deep": [1, None]}
    assert catalog.files(kept) == files


def test_what_is_said_of_several_models_is_told_apart(catalog: Catalog) -> None:
    """It is read by one query, whatever the tables: the same words in several of them, and values of every kind of JSON."""
    values: list[Any] = ["notes", 0.1, 1, True, None, ["a", {"b": "é"}], "0.5"]
    said = tuple(Statement(f"fact{n}", value, "header", minimum=0.1 + n) for n, value in enumerate(values))
    catalog.add(row("one", "lora", "sd-1", tags=("notes", "Éa", "a"), statements=said), REPORT)
    words = tuple(Trigger(word, "header") for word in ("notes", "b", "a"))
    catalog.add(row("two", "lora", "sd-1", tags=("notes",), trigger_words=words), REPORT)
    for name in ("one", "two"):
        catalog.override(name, {"notes": f"of {name}", "weight": 0.3, "triggers": ["b", "a"]})
    one, two, plain = (catalog.get(name) for name in ("one", "two", "Base"))
    assert (one.statements, one.tags) == (said, ("a", "notes", "éa"))
    assert (two.trigger_words, two.tags, two.statements) == (words, ("notes",), ())
    assert [model.overrides["notes"] for model in (one, two)] == ["of one", "of two"]
    assert (two.overrides["weight"], two.triggers) == (0.3, ["b", "a"])
    assert (plain.tags, plain.statements, plain.overrides) == ((), (), {})


def test_of_other_bytes_the_users_settings_stay_and_where_the_old_ones_came_from_does_not(catalog: Catalog) -> None:
    catalog.override("outline", {"weight": 0.6})
    before = catalog.get("outline")
    catalog.add_source(before, Provenance("https://mirror/outline"))
    later = row("outline", "lora", "sdxl", statements=(Statement("weight", 0.9, "model card"),), tags=("new",))
    with catalog.writing() as connection:
        revise(connection, later, {"reason": "better"}, [ModelFile("", 5)])
    after = catalog.get("outline")
    assert after.overrides == {"weight": 0.6}
    assert after.sources == later.sources
    assert (after.family, after.recipe["weight"]["value"], after.tags, after.triggers) == ("sdxl", 0.9, ("new",), [])
    assert (after.digests, catalog.report(after)) == ((), {"reason": "better"})


def test_a_setting_is_taken_back_with_none(catalog: Catalog) -> None:
    assert catalog.override("outline", {"weight": 0.6, "scheduler": "lcm"}).overrides == {
        "weight": 0.6,
        "scheduler": "lcm",
    }
    assert catalog.override("outline", {"weight": None}).overrides == {"scheduler": "lcm"}
    assert catalog.override("outline", {}).overrides == {"scheduler": "lcm"}


def test_a_second_source_is_kept_beside_the_first_and_found_by_search(catalog: Catalog) -> None:
    model = catalog.get("Base")
    for etag in ("old", "new"):
        model = catalog.add_source(model, Provenance("hf://o/mirror@2", "o/mirror", "2", etag=etag))
    assert [(s.url, s.etag) for s in model.sources] == [("hf://o/base@1", None), ("hf://o/mirror@2", "new")]
    assert model.source == "hf://o/base@1"
    assert names(catalog.list(Query(text="o/mirror"))) == ["Base"]


def test_a_newer_digest_takes_the_older_ones_place(catalog: Catalog) -> None:
    model = catalog.get("outline")
    assert model.hashed_at is None
    catalog.add_digests(model, [Digest("sha256", "claimed", by="sidecar")])
    assert catalog.get("outline").hashed_at is None
    catalog.add_digests(model, computed(sha256="new", blake3="bb"))
    after = catalog.get("outline")
    assert (after.sha256, after.blake3, [c.value for c in after.claims]) == ("new", "bb", ["claimed"])
    assert after.hashed_at is not None


def test_many_are_added_all_or_none(catalog: Catalog) -> None:
    new, taken = row("new", "lora", "sd-1"), row("BASE", "lora", "sd-1", id="x", path="x")
    with pytest.raises(IntegrityError):
        catalog.add_many([Entry(new, REPORT), Entry(taken, REPORT)])
    assert not catalog.has_name("new")


def test_the_version_counts_every_change_and_no_reading(catalog: Catalog) -> None:
    seen = [catalog.version()]
    catalog.list(), catalog.get("Base"), catalog.find(sha256="aa")
    assert catalog.version() == seen[0]
    for change in (
        lambda: catalog.add(row("new", "lora", "sd-1"), REPORT),
        lambda: catalog.override("new", {"weight": 1.0}),
        lambda: catalog.add_source(catalog.get("new"), Provenance("https://mirror/new")),
        lambda: catalog.add_digests(catalog.get("new"), computed(sha256="12")),
        lambda: catalog.set(catalog.get("new"), path="elsewhere"),
        lambda: catalog.remove(catalog.get("new")),
    ):
        change()
        assert catalog.version() not in seen
        seen.append(catalog.version())


def test_a_change_that_fails_does_not_count(catalog: Catalog) -> None:
    before = catalog.version()
    with pytest.raises(IntegrityError):
        catalog.add(row("BASE", "lora", "sd-1", id="x", path="x"), REPORT)
    assert catalog.version() == before


def test_versions_of_two_databases_differ(catalog: Catalog, tmp_path: Path) -> None:
    from registry.db import migrate
    from tests.databases import engine_of

    with engine_of(f"sqlite:///{tmp_path / 'other.db'}") as engine:
        migrate(engine)
        other = Catalog(engine, tmp_path)
        assert other.version().split("-")[0] != catalog.version().split("-")[0]


def test_the_users_own_triggers_and_tags_are_found_and_survive_a_later_probe(catalog: Catalog) -> None:
    edited = catalog.override("outline", {"triggers": ["line art"], "tags": ["Comic", "probed"], "notes": "mine"})
    assert (edited.triggers, edited.tags) == (["line art"], ("comic", "probed"))
    with catalog.writing() as connection:
        revise(connection, row("outline", "lora", "sd-1", tags=("probed", "other")), REPORT)
    again = catalog.get("outline")
    assert (again.triggers, again.tags, again.overrides["notes"]) == (
        ["line art"],
        ("comic", "other", "probed"),
        "mine",
    )
    assert names(catalog.list(Query(tag="comic"))) == names(catalog.list(Query(text="LINE ART comic"))) == ["outline"]
    assert catalog.list(Query(text="outline style")) == []
    back = catalog.override("outline", {"triggers": None, "tags": None})
    assert "comic" not in back.tags
    assert names(catalog.list(Query(text="comic"))) == []


def test_a_model_gets_another_name_and_keeps_its_file(catalog: Catalog) -> None:
    renamed = catalog.override("outline", {}, name="Line Art")
    assert (renamed.name, renamed.path) == ("Line Art", "outline")
    assert catalog.get("line art").id == renamed.id
    assert names(catalog.list(Query(text="line art"))) == ["Line Art"]
    assert not catalog.has_name("outline")
    assert catalog.override("LINE ART", {}, name="LINE art").name == "LINE art"
    with pytest.raises(InvalidRequest, match="Another model is named “bAse”"):
        catalog.override("line art", {"notes": "not kept"}, name="bAse")
    assert catalog.get("line art").overrides == {}


def test_a_tag_of_the_user_s_stays_when_the_probe_no_more_says_the_same(catalog: Catalog) -> None:
    with catalog.writing() as connection:
        revise(connection, row("outline", "lora", "sd-1", tags=("anime",)), REPORT)
    assert catalog.override("outline", {"tags": ["Anime"]}).tags == ("anime",)
    assert names(catalog.list(Query(tag="anime"))) == ["outline"]
    with catalog.writing() as connection:
        revise(connection, row("outline", "lora", "sd-1"), REPORT)
    assert names(catalog.list(Query(tag="anime"))) == ["outline"]
    assert catalog.override("outline", {"tags": None}).tags == ()


def test_a_probe_s_tags_are_those_of_its_last_look_at_the_same_bytes(catalog: Catalog) -> None:
    with catalog.writing() as connection:
        revise(connection, row("outline", "lora", "sd-1", tags=("pony", "anime")), REPORT)
    catalog.override("outline", {"tags": ["anime"]})
    with catalog.writing() as connection:
        reclassify(connection, row("outline", "lora", "sd-1", tags=("noob",)), REPORT)
    assert catalog.get("outline").tags == ("anime", "noob")
    assert names(catalog.list(Query(tag="noob"))) == names(catalog.list(Query(text="noob"))) == ["outline"]
    assert catalog.list(Query(tag="pony")) == []


def test_a_row_that_an_earlier_release_adds_beside_is_listed_and_told_of_with_its_next_change(
    catalog: Catalog, engine: Engine
) -> None:
    """Whose service still ran when the database was migrated."""
    with engine.begin() as connection:  # which knows nothing of that column
        connection.execute(update(MODEL).where(MODEL.c.name == "outline").values(said="[]"))
    assert [m.triggers for m in catalog.list() if m.name == "outline"] == [[]]
    assert catalog.override("outline", {"weight": 0.5}).triggers == ["outline style"]


def test_a_newer_version_takes_over_the_user_s_tags_and_is_found_by_them(catalog: Catalog) -> None:
    catalog.override("outline", {"tags": ["anime"], "triggers": ["ink"]})
    catalog.add(row("newer", "lora", "sd-1"), REPORT)
    catalog.succeed(catalog.get("outline"), catalog.get("newer"), "1")
    assert catalog.get("outline").id == "newer-id"
    assert names(catalog.list(Query(tag="anime"))) == ["outline", "outline@1"]
    assert names(catalog.list(Query(text="ink anime"))) == ["outline", "outline@1"]
