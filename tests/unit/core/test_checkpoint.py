"""Where a run resumes: the newest that is whole, never step 0 after work, never unreadable taken for absent."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.checkpoint import (
    AskUser,
    CheckpointId,
    Examine,
    FileEntry,
    Found,
    Manifest,
    ManifestError,
    NewerFormat,
    ResumeFrom,
    StartAfresh,
    Verdict,
    manifest_body,
    manifest_name,
    parse_manifest,
    resume_point,
)
from tests.unit.core.draws import IDS, METRICS

FOUND = st.builds(
    Found, IDS, st.sampled_from(["a", "b (1)", "c"]), st.none(), st.sampled_from([None, *Verdict]), st.just("why")
)
MANY = st.lists(FOUND, max_size=8, unique_by=lambda each: (each.id, each.path))
ENTRIES = st.builds(
    FileEntry, st.sampled_from(["state.json", "a.bin"]), st.just("e00000001-a/step-000000001/x"), st.integers(0, 2**40),
    st.just("sha256:00"), st.integers(0, 3), st.sampled_from(["", "host"]),
)  # fmt: skip
LOGS = ENTRIES.map(lambda entry: replace(entry, name="log-000001-000000000-000000001.jsonl"))


def in_its_place(manifest):
    """Return the manifest with its files where its session puts them."""
    session = str(manifest.id.rank)
    files = tuple(replace(each, path=f"{session}/step-{manifest.id.step:09d}/x") for each in manifest.files)
    log = manifest.log and replace(manifest.log, path=f"{session}/{manifest.log.name}")
    return replace(manifest, files=files, log=log)


MANIFESTS = st.builds(
    Manifest, IDS, st.lists(ENTRIES, max_size=3, unique_by=lambda each: each.name).map(tuple), st.one_of(st.none(), st.integers(0, 9)), METRICS,
    st.one_of(st.none(), IDS), st.one_of(st.none(), LOGS), st.dictionaries(st.just("python"), st.just("3.13"), max_size=1),
).map(in_its_place)  # fmt: skip


@given(MANY, st.randoms(use_true_random=False), st.booleans())
def test_the_choice_does_not_depend_on_the_order_of_the_listing(found, chance, signs):
    shuffled = chance.sample(found, len(found))
    assert resume_point(found, signs_of_work=signs) == resume_point(shuffled, signs_of_work=signs)


@given(MANY, st.booleans())
def test_whatever_is_above_the_choice_was_read_and_is_broken(found, signs):
    answer = resume_point(found, signs_of_work=signs)
    if isinstance(answer, ResumeFrom):
        above = [each for each in found if (each.id, each.path) > (answer.found.id, answer.found.path)]
        assert all(each.verdict in {Verdict.BROKEN, Verdict.PACKED} for each in above)
        assert set(above) == set(answer.skipped)
        assert answer.found.verdict is Verdict.WHOLE
    if isinstance(answer, Examine):
        assert answer.found.verdict is None


@given(MANY, st.booleans())
def test_step_0_is_never_chosen_where_anything_shows_earlier_work(found, signs):
    answer = resume_point(found, signs_of_work=signs)
    assert isinstance(answer, StartAfresh) == (not found and not signs)


@given(MANY)
def test_unreadable_is_never_passed_over(found):
    answer = resume_point(found, signs_of_work=True)
    best = max(found, key=lambda each: (each.id, each.path), default=None)
    if best and best.verdict in {Verdict.UNREADABLE, Verdict.NEWER}:
        assert isinstance(answer, AskUser)
    if isinstance(answer, ResumeFrom):
        assert not [each for each in found if each.id > answer.found.id and each.verdict is Verdict.UNREADABLE]


def test_a_later_session_outranks_a_later_step():
    early = Found(CheckpointId(1, 900, "a", 1), "a", verdict=Verdict.WHOLE)
    late = Found(CheckpointId(2, 10, "b", 1), "b", verdict=Verdict.WHOLE)
    assert resume_point([early, late], signs_of_work=True) == ResumeFrom(late, ())


@given(MANIFESTS)
def test_a_manifest_reads_back_and_its_name_binds_its_bytes(manifest):
    body = manifest_body(manifest)
    read = parse_manifest(manifest_name(manifest.id.seq, body), body)
    assert (read.id, read.files, read.parent, read.log, read.total_steps) == (
        manifest.id, manifest.files, manifest.parent, manifest.log, manifest.total_steps,
    )  # fmt: skip
    assert manifest_body(read) == body
    assert read.bytes == sum(each.bytes for each in read.all_files())


@given(MANIFESTS, st.data())
def test_a_manifest_with_a_changed_bit_is_refused(manifest, data):
    body = manifest_body(manifest)
    at = data.draw(st.integers(0, len(body) - 1))
    damaged = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    with pytest.raises(ManifestError):
        parse_manifest(manifest_name(manifest.id.seq, body), damaged)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(["format", "schema", "id", "files"]), inner)
            ),
        ).map(lambda tree: json.dumps(tree).encode()),
    )
)
def test_bytes_that_are_no_manifest_raise_nothing_else(body):
    with pytest.raises(ManifestError):
        parse_manifest(manifest_name(1, body), body)


@given(
    st.dictionaries(
        st.sampled_from(["id", "files", "parent", "log", "metrics", "schema", "made_by"]),
        st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
        min_size=1,
    )
)
def test_a_manifest_with_a_field_of_another_type_is_refused_in_words(changes):
    good = json.loads(manifest_body(Manifest(CheckpointId(1, 2, "a", 1), ())))
    body = json.dumps({**good, **changes}).encode()
    with suppress(ManifestError):
        assert isinstance(parse_manifest(manifest_name(1, body), body), Manifest)


def test_a_manifest_of_a_newer_version_is_told_apart():
    body = b'{"format":"training-supervisor-manifest","schema":99}'
    with pytest.raises(NewerFormat):
        parse_manifest(manifest_name(1, body), body)


def test_metrics_that_are_not_numbers_do_not_break_a_manifest():
    manifest = Manifest(CheckpointId(1, 2, "a", 1), (), metrics={"loss": float("nan"), "best": float("-inf")})
    body = manifest_body(manifest)
    assert json.loads(body, parse_constant=pytest.fail)["metrics"] == {"loss": "nan", "best": "-inf"}


ENTRY = {"name": "state.json", "path": "e00000001-a/step-000000002/state.json", "bytes": 1, "digest": "sha256:00"}
OUTWARD = ["../x", "../../x", "/etc/x", "a/b", "", ".", "..", "a\0b", "x" * 300, "\ud800"]
PATHS_OUTWARD = ["../x/y", "e1-a/../../x", "/etc/passwd", "e1-a//x", "e1-a/", "", "x", "e1-a/a\0b", "\ud800/x"]


def forged(**changes):
    """Return the name and bytes of a manifest with these fields, under its right hash."""
    good = json.loads(manifest_body(Manifest(CheckpointId(1, 2, "a", 1), ())))
    body = json.dumps({**good, "files": [ENTRY], **changes}).encode()
    return manifest_name(1, body), body


def test_the_manifest_that_the_forged_ones_are_made_of_can_be_read():
    assert parse_manifest(*forged()).files == (FileEntry(**ENTRY),)


@pytest.mark.parametrize("where", ["files", "log"])
@pytest.mark.parametrize(
    "changes",
    [
        *({"name": name} for name in OUTWARD),
        *({"path": path} for path in PATHS_OUTWARD),
        *({"name": other} for other in (1.5, 7, None, ["a"], True)),
        *({"path": other} for other in (1.5, 7, None, ["a"])),
        *({"bytes": other} for other in ("x", -1, 1.5, None, True)),
        *({"digest": other} for other in (7, "", "00", None)),
        {"rank": "first"},
    ],
    ids=lambda changes: repr(changes)[:40],
)  # fmt: skip
def test_an_entry_that_leads_out_or_is_of_another_type_is_damage(where, changes):
    entry = {**ENTRY, **changes}
    with pytest.raises(ManifestError) as refused:
        parse_manifest(*forged(**{where: [entry] if where == "files" else entry}))
    assert not isinstance(refused.value, NewerFormat)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [ENTRY, ENTRY]}, {"log": ENTRY}, {"files": {"a": 1}}, {"files": [5]}, {"files": "ab"},
        {"id": {"epoch": 1.5, "step": 2, "writer": "a", "seq": 1}}, {"id": {"epoch": 1, "step": 2, "writer": "../a", "seq": 1}},
        {"id": {"epoch": 1, "step": -2, "writer": "a", "seq": 1}}, {"parent": [1]}, {"parent": "x"}, {"schema": "1"},
        {"schema": None}, {"metrics": [1]}, {"made_by": {"python": 3}}, {"total_steps": "many"},
    ],
    ids=lambda changes: repr(changes)[:40],
)  # fmt: skip
def test_a_manifest_whose_fields_cannot_be_is_damage(changes):
    with pytest.raises(ManifestError) as refused:
        parse_manifest(*forged(**changes))
    assert not isinstance(refused.value, NewerFormat)


def test_a_manifest_that_is_nested_too_deep_is_damage():
    body = b'{"metrics":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(ManifestError):
        parse_manifest(manifest_name(1, body), body)
