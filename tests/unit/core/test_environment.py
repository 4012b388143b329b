"""The laws of what is missing, what is recorded, and how machines differ."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.environment import (
    DebianPackage,
    Direct,
    Found,
    Located,
    Locked,
    Problem,
    Record,
    Wanted,
    drift,
    normal_name,
    plan,
    read_locked,
    unmet,
    write_locked,
)
from supervisor.core.errors import SetupError

COLAB = Found(
    python="3.12.1",
    python_tag="cp312",
    system="linux-x86_64",
    libc="glibc 2.35",
    cores=2,
    ram_bytes=13 * 2**30,
    accelerators=("Tesla T4",),
    driver="550.54.15",
    distributions={"numpy": "2.1.3", "requests": "2.32.0", "rich": "13.9.4", "torch": "2.11.0+cu128"},
)
NAMES = st.text("abcxyz09", min_size=1, max_size=8)
VERSIONS = st.tuples(st.integers(0, 999), st.integers(0, 999), st.sampled_from(["", "+cu128", "rc1"])).map(
    "{0[0]}.{0[1]}{0[2]}".format
)
DIGESTS = st.binary(min_size=32, max_size=32).map(lambda content: f"sha256:{content.hex()}")
LOCKS = st.dictionaries(NAMES, st.tuples(VERSIONS, st.sets(DIGESTS, min_size=1, max_size=3)), max_size=4).map(
    lambda chosen: tuple(
        Locked(name, version, tuple(sorted(hashes))) for name, (version, hashes) in sorted(chosen.items())
    )
)


def wish(*requirements: str, python: str = "") -> Wanted:
    return Wanted(requirements, python, source="job.py's script block")


def test_what_is_there_and_good_enough_is_not_asked_for():
    assert plan(wish("torch>=2.2", "NumPy", "rich<14"), COLAB).missing == ()


def test_a_local_build_satisfies_the_public_version():
    assert plan(wish("torch==2.11.0"), COLAB).missing == ()


def test_only_what_is_missing_is_asked_for_and_everything_there_is_held():
    todo = plan(wish("torch", "einops>=0.8"), COLAB)
    assert todo.missing == ("einops>=0.8",)
    assert "requests==2.32.0" in todo.constraints
    assert set(todo.framework_constraints) == {"torch==2.11.0+cu128", "numpy==2.1.3"}


def test_a_package_there_in_a_wrong_version_is_asked_for_and_not_held():
    todo = plan(wish("rich>=14"), COLAB)
    assert todo.missing == ("rich>=14",)
    assert todo.replaced == ("rich",)
    assert not [pin for pin in todo.constraints if pin.startswith("rich")]


def test_extras_are_left_to_the_installer():
    assert plan(wish("rich[jupyter]"), COLAB).missing == ("rich[jupyter]",)


@pytest.mark.parametrize("requirement", ["torch<2", "torch==2.13.0"])
def test_a_framework_beside_its_accelerator_is_never_replaced_and_that_is_said(requirement: str):
    todo = plan(wish(requirement), COLAB)
    assert not todo.asks
    (said,) = unmet(wish(requirement), COLAB, COLAB.distributions)
    assert requirement in said
    assert "torch 2.11.0+cu128 is used" in said


def test_a_pin_that_differs_is_asked_for_with_the_lines_that_must_fit_it():
    todo = plan(wish("numpy==1.26.4", "requests"), COLAB)
    assert (todo.missing, todo.replaced, todo.kept_lines) == (("numpy==1.26.4",), ("numpy",), ("requests",))
    assert todo.binary_only == ("numpy",)
    assert not todo.without("numpy").asks


def test_a_framework_gives_way_to_a_pin_where_there_is_no_accelerator():
    assert plan(wish("torch<2"), replace(COLAB, accelerators=())).replaced == ("torch",)


def test_a_constraint_counts_for_what_is_there():
    constrained = Wanted(("rich",), constraints=("rich<13",), source="requirements.txt")
    assert plan(constrained, COLAB).replaced == ("rich",)
    assert "requests==2.32.0" in plan(replace(constrained, constraints=("rich<14",)), COLAB).constraints


def test_a_package_that_is_here_satisfies_its_address():
    line = "torch @ git+https://host.invalid/x"
    asked = Direct(line, "torch", line, repository=True)
    assert plan(Wanted(directs=(asked,)), COLAB).directs == ()
    assert unmet(Wanted(directs=(asked,)), COLAB, COLAB.distributions) == ()


def test_an_address_whose_package_is_not_here_is_asked_for_unless_its_marker_is_for_another_machine():
    asked = Direct("git+https://host.invalid/thing", "thing", "git+https://host.invalid/thing")
    assert plan(Wanted(directs=(asked,)), COLAB).directs == (asked,)
    assert plan(Wanted(directs=(replace(asked, marker='sys_platform == "win32"'),)), COLAB).directs == ()


def test_a_problem_is_none_where_its_package_is_here():
    problem = Problem("line 3 is a line of a conda export", "write it anew", here="torch")
    assert plan(Wanted(problems=(problem,)), COLAB).missing == ()
    with pytest.raises(SetupError, match="line 3"):
        plan(Wanted(problems=(replace(problem, here="toolz"),)), COLAB)


def test_what_is_not_met_is_said_without_raising_anything():
    wanted = Wanted(
        ("numpy<2", "part", "numpy >>= 2"), ">=3.99", source="requirements.txt", problems=(Problem("line 3", "hint"),)
    )
    said = unmet(wanted, COLAB, COLAB.distributions)
    for word in ("line 3", "needs Python", "numpy 2.1.3", "part is not here", "is not a requirement"):
        assert any(word in each for each in said), word
    assert len(said) == 5


def test_a_marker_for_another_machine_asks_for_nothing():
    assert plan(wish('pywin32; sys_platform == "win32"', 'tomli; python_version < "3.11"'), COLAB).missing == ()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (wish(python=">=3.13"), "needs Python >=3.13, and this is Python 3.12.1"),
        (wish(python="three"), "not a version rule"),
        (wish("numpy >>= 2"), "is not a requirement"),
        (
            Wanted(directs=(Direct("", "x", "./x", problem="./x is not here"),), source="job.py's script block"),
            "asks for ./x, but ./x is not here",
        ),
    ],
)
def test_an_impossible_wish_is_refused_in_words(wanted: Wanted, words: str):
    with pytest.raises(SetupError, match=re.escape(words)) as refusal:
        plan(wanted, COLAB)
    assert refusal.value.exit_code == 3
    assert "job.py" in refusal.value.what
    assert refusal.value.hint


def test_a_version_no_installer_reads_is_not_made_a_constraint():
    odd = replace(COLAB, distributions={"python-apt": "2.6.0-ubuntu-5", "six": "1.16.0"})
    assert plan(wish("einops"), odd).constraints == ("six==1.16.0",)


@given(LOCKS)
def test_a_lock_is_read_as_it_was_written(locked: tuple[Locked, ...]):
    assert read_locked(write_locked(locked)) == locked


@given(LOCKS, st.lists(NAMES, max_size=3), st.text(max_size=20))
def test_a_record_is_read_as_it_was_written(locked: tuple[Locked, ...], wanted: list[str], cpu: str):
    record = Record(
        replace(COLAB, cpu=cpu), tuple(wanted), locked, (DebianPackage("libgl1", "1.7", "libgl1_1.7.deb", "sha256:0"),)
    )
    assert Record.from_bytes(record.to_bytes()) == record


def test_a_record_keeps_the_commit_of_what_has_one_and_one_without_is_written_as_before():
    kept = Record(COLAB, ("mine @ git+https://host.invalid/x",), (), (), (Located("mine", "1.0", "ab" * 20),))
    assert Record.from_bytes(kept.to_bytes()) == kept
    assert kept.versions()["mine"] == "1.0"
    assert b"direct" not in Record(COLAB).to_bytes()


def test_a_record_is_named_by_its_content():
    one, other = Record(COLAB), Record(COLAB, ("numpy",))
    assert one.name == Record(COLAB).name
    assert one.name != other.name
    assert re.fullmatch(r"env-cp312-[0-9a-f]{16}\.txt", one.name)


def test_a_record_holds_no_address_and_no_path():
    record = Record(COLAB, ("numpy",), (Locked("einops", "0.8.2", ("sha256:" + "0" * 64,)),))
    assert not re.search(rb"://|/(home|root|usr|tmp|content)/", record.to_bytes())


@given(st.binary(max_size=200))
def test_other_bytes_are_not_a_record(content: bytes):
    with pytest.raises(ValueError):  # noqa: PT011  any reason is a good one
        Record.from_bytes(content)


@given(st.integers(0, 400))
def test_a_record_cut_short_is_not_taken_for_a_whole_one(kept: int):
    whole = Record(COLAB, ("numpy",)).to_bytes()
    with pytest.raises(ValueError):  # noqa: PT011  any reason is a good one
        Record.from_bytes(whole[: min(kept, len(whole) - 30)])


def test_the_same_machine_has_no_drift():
    record = Record(COLAB, ("numpy",))
    assert drift(record, record) == ()


def test_drift_names_what_matters_first_and_counts_the_rest():
    other = replace(
        COLAB,
        python="3.13.0",
        accelerators=("A100", "A100"),
        driver="560.1",
        distributions={"numpy": "2.2.0", "requests": "2.33.0", "rich": "13.9.5", "torch": "2.11.0+cu128"},
    )
    assert drift(Record(COLAB, ("numpy>=2",)), Record(other, ("numpy>=2",))) == (
        "Python was 3.12.1, is now 3.13.0",
        "the accelerator was Tesla T4, is now 2 x A100",
        "the NVIDIA driver was 550.54.15, is now 560.1",
        "numpy was 2.1.3, is now 2.2.0",
        "2 other packages changed version",
    )


def test_an_accelerator_that_is_gone_is_said_to_be_gone():
    sentences = drift(Record(COLAB), Record(replace(COLAB, accelerators=(), driver="")))
    assert "the accelerator was Tesla T4, is now not there" in sentences


def test_drift_compares_what_the_job_sees_not_where_it_lies():
    laid_over = Record(replace(COLAB, distributions={}), ("rich",), (Locked("rich", "13.9.4", ()),))
    built_in = Record(replace(COLAB, distributions={"rich": "13.9.4"}), ("rich",))
    assert drift(laid_over, built_in) == ()


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({"cores": 96, "ram_bytes": 1, "kernel": "6", "cpu": "other"}, True),
        ({"accelerators": ("A100",)}, True),
        ({"accelerators": ()}, False),
        ({"python_tag": "cp313"}, False),
        ({"libc": "glibc 2.31"}, False),
        ({"distributions": {}}, False),
    ],
)
def test_a_lock_fits_where_the_same_files_would_be_chosen(change: dict[str, object], fits: bool):
    assert replace(COLAB, **change).fits(COLAB) is fits


def test_names_are_compared_as_the_index_compares_them():
    assert normal_name("Typing_Extensions") == normal_name("typing.extensions") == "typing-extensions"
