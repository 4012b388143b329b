"""Each form in which people state packages is read as what it is, or refused by its own words with the way out."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import pytest

from supervisor.core.environment import Found, plan, unmet
from supervisor.core.errors import SetupError, UserError
from supervisor.environments import wish

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.core.environment import Wanted

HERE = Found(
    "3.11.7", "cp311", "linux-x86_64", distributions={"numpy": "2.1.3", "transformers": "5.2.0", "clip": "1.0"}
)


def read(folder: Path, script: str = "", *, install: bool = True, **files: str | bytes) -> Wanted:
    """Read the wish of a script beside ``files``; ``_`` in a name stands for a dot."""
    for name, content in {"job_py": script, **files}.items():
        path = folder / ".".join(name.rsplit("_", 1))
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return wish.read(folder / "job.py", install=install).wanted


def refusal(wanted: Wanted) -> UserError:
    with pytest.raises(SetupError) as refused:
        plan(wanted, HERE)
    assert "\n" not in refused.value.what + refused.value.hint
    return refused.value


def project(folder: Path, text: str = '[project]\nname = "My_Lib"\nversion = "1"\n') -> Path:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(text)
    return folder


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + b"numpy>=2\r\ntoolz==0.12.0\r\n",
        "numpy>=2\r\ntoolz==0.12.0\r\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "numpy>=2\ntoolz==0.12.0".encode("utf-16-be"),
        "numpy>=2\ntoolz==0.12.0\n".encode("utf-16-le"),
        "# caf\xe9 -*- coding: latin-1 -*-\nnumpy>=2\rtoolz==0.12.0\r".encode("latin-1"),
    ],
    ids=["utf-8 mark and CRLF", "utf-16 mark", "utf-16-be mark", "utf-16 without a mark", "declared latin-1 and CR"],
)
def test_a_file_of_any_usual_encoding_is_read(tmp_path: Path, content: bytes):
    assert read(tmp_path, requirements_txt=content).requirements == ("numpy>=2", "toolz==0.12.0")


def test_a_script_in_a_declared_encoding_and_one_with_a_mark_are_read(tmp_path: Path):
    block = "# /// script\n# dependencies = ['toolz']\n# ///\n"
    (tmp_path / "job.py").write_bytes(f"# -*- coding: latin-1 -*-\n# é\n{block}".encode("latin-1"))
    assert wish.read(tmp_path / "job.py").wanted.requirements == ("toolz",)
    (tmp_path / "job.py").write_bytes(codecs.BOM_UTF8 + block.encode())
    assert wish.read(tmp_path / "job.py").wanted.requirements == ("toolz",)


@pytest.mark.parametrize(
    "line", ['-r "req files/base.txt"', "-r req files/base.txt", "--requirement='req files/base.txt'"]
)
def test_an_included_file_whose_name_has_a_space_is_read(tmp_path: Path, line: str):
    (tmp_path / "req files").mkdir()
    (tmp_path / "req files" / "base.txt").write_text("-r deeper.txt\n")
    (tmp_path / "req files" / "deeper.txt").write_text("toolz\n-r base.txt\n")
    assert read(tmp_path, requirements_txt=line).requirements == ("toolz",)


def test_an_included_file_that_is_absent_is_named_with_its_line(tmp_path: Path):
    refused = refusal(read(tmp_path, requirements_txt="numpy\n-r 'other file.txt'\n"))
    assert "line 2: cannot read" in refused.what
    assert "other file.txt" in refused.what
    assert "training script" not in refused.hint


def test_constraints_are_read_and_hashes_kept(tmp_path: Path):
    (tmp_path / "my limits.txt").write_text("numpy<2\n")
    wanted = read(tmp_path, requirements_txt=f"numpy\ntoolz==1 --hash=sha256:{'AB' * 32}\n-c 'my limits.txt'\n")
    assert wanted.constraints == ("numpy<2",)
    assert wanted.hashes == (("toolz", (f"sha256:{'ab' * 32}",)),)
    assert plan(wanted, HERE).replaced == ("numpy",)


def test_options_are_for_the_installer_noted_or_refused(tmp_path: Path):
    (tmp_path / "wheels").mkdir()
    wanted = read(
        tmp_path,
        requirements_txt="--extra-index-url=https://host.invalid/x\n-f wheels\n--pre\n--require-hashes\n--use-feature=x\n",
    )
    assert wanted.index_options == (
        "--extra-index-url", "https://host.invalid/x", "--find-links", str(tmp_path / "wheels"), "--pre"
    )  # fmt: skip
    assert "--use-feature is left out" in wanted.notes[0]
    assert "--upgraed is no option" in refusal(read(tmp_path, requirements_txt="--upgraed\n")).what


@pytest.mark.parametrize("line", ["-e .", "-e ./", "--editable=.", "-e file://{folder}", "."])
def test_the_project_beside_the_script_is_asked_for_in_place(tmp_path: Path, line: str):
    project(tmp_path / "code")
    wanted = read(tmp_path / "code", requirements_txt=line.format(folder=tmp_path / "code"))
    (asked,) = plan(wanted, HERE).directs
    assert asked.name == "my-lib"
    assert asked.line == f"-e {tmp_path / 'code'}"


@pytest.mark.parametrize(
    "text", ["./lib", "../code/lib", "lib/", "-e ./lib[extra]", "my-lib @ ./lib", "./lib ; python_version>'3'"]
)
def test_a_local_project_is_found_by_its_path(tmp_path: Path, text: str):
    project(tmp_path / "code" / "lib")
    (asked,) = plan(read(tmp_path / "code", requirements_txt=text), HERE).directs
    assert asked.name == "my-lib"
    assert asked.line.startswith(f"-e {tmp_path / 'code'}")


def test_the_name_of_a_project_comes_from_whichever_file_states_it(tmp_path: Path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "setup.py").write_text("from setuptools import setup\nsetup(name='clip', version='1')\n")
    project(tmp_path / "poems", '[tool.poetry]\nname = "transformers"\n')
    wanted = read(tmp_path, requirements_txt="-e ./old\n./poems\n")
    assert [each.name for each in wanted.directs] == ["clip", "transformers"]
    assert not plan(wanted, HERE).asks


def test_a_wheel_beside_is_asked_for_by_its_name_and_content(tmp_path: Path):
    (tmp_path / "toolz-1.0-py3-none-any.whl").write_bytes(b"one")
    first = read(tmp_path, requirements_txt="./toolz-1.0-py3-none-any.whl\n")
    (tmp_path / "toolz-1.0-py3-none-any.whl").write_bytes(b"two")
    assert first.directs[0].name == "toolz"
    assert first != read(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-e ./absent", "./absent is not here"),
        ("thing @ file:///croot/thing_1/work", "is not here"),
        ("C:\\wheels\\thing-1.0.whl", "is not here"),
        ("-e ./plain", "no pyproject.toml, setup.py or setup.cfg"),
    ],
)
def test_a_path_that_cannot_be_installed_is_refused_with_the_way_out(tmp_path: Path, text: str, words: str):
    (tmp_path / "plain").mkdir()
    refused = refusal(read(tmp_path, requirements_txt=text))
    assert words in refused.what
    assert "--no-install" in refused.hint


@pytest.mark.parametrize(
    "text",
    [
        "git+https://host.invalid/transformers",
        "transformers @ git+https://host.invalid/x.git@main",
        "-e git+https://host.invalid/x.git@v1#egg=transformers",
        "git+ssh://git@host.invalid/openai/CLIP.git",
        "https://host.invalid/wheels/clip-1.0-py3-none-any.whl",
        "git+https://host.invalid/x#subdirectory=python&egg=clip",
        "transformers[torch] @ git+https://host.invalid/x",
        "numpy @ file:///croot/numpy_1/work",
    ],
)
def test_an_address_whose_package_is_here_is_satisfied(tmp_path: Path, text: str):
    wanted = read(tmp_path, requirements_txt=text)
    assert not plan(wanted, HERE).asks
    assert unmet(wanted, HERE, HERE.distributions) == ()


def test_an_address_in_a_script_block_is_read_and_its_credentials_are_not_shown(tmp_path: Path):
    block = '# /// script\n# dependencies = ["mine @ git+https://token@host.invalid/mine@v1"]\n# ///\n'
    (asked,) = plan(read(tmp_path, block), HERE).directs
    assert asked.line == "mine @ git+https://token@host.invalid/mine@v1"
    assert asked.shown == "mine @ git+https://host.invalid/mine@v1"


@pytest.mark.parametrize("line", ["toolz=0.12.0=py39h_0", "toolz=0.12.0", "_libgcc_mutex=0.1=main"])
def test_a_line_of_a_conda_export_is_refused_by_its_own_words(tmp_path: Path, line: str):
    refused = refusal(read(tmp_path, requirements_txt=f"# platform: linux-64\nnumpy=2.1.3=py311\n{line}\n"))
    assert f"line 3: '{line}' is a line of a conda export" in refused.what
    assert "pip list --format=freeze" in refused.hint


ENVIRONMENT = """name: mine
channels:
  - conda-forge
dependencies:
  - python=3.9
  - numpy=1.2=py_0
  - conda-forge::pytorch>=2   # the framework
  - "cudatoolkit=11.3"
  - pip:
    - toolz==0.12.0
    - -r more.txt
    - git+https://host.invalid/clip
  - scipy
prefix: /x
"""


def test_of_an_environment_yml_the_pip_part_is_read_and_the_rest_is_compared(tmp_path: Path):
    wanted = read(tmp_path, environment_yml=ENVIRONMENT, more_txt="einops\n")
    assert wanted.requirements == ("toolz==0.12.0", "einops")
    assert wanted.conda == ("numpy", "torch", "cudatoolkit", "scipy")
    assert plan(wanted, HERE).missing == ("toolz==0.12.0", "einops")


def test_an_environment_yml_without_indentation_and_one_in_brackets_are_read(tmp_path: Path):
    loose = "dependencies:\n- numpy\n- pip:\n  - toolz\n- scipy\n"
    assert read(tmp_path, environment_yaml=loose).requirements == ("toolz",)
    assert read(tmp_path, environment_yml="dependencies: [numpy, 'scipy=1']\n").conda == ("numpy", "scipy")


POETRY = """[tool.poetry]
name = "x"
[tool.poetry.dependencies]
python = "^3.10"
numpy = "^2.1"
toolz = "~0.12"
einops = "*"
mine = {git = "https://host.invalid/mine.git", tag = "v1"}
local = {path = "./local"}
rich = {version = ">=13", extras = ["jupyter"], markers = "sys_platform == 'linux'"}
never = {version = "1", optional = true}
zero = "^0.3.1"
"""


def test_poetry_states_packages_in_words_of_its_own(tmp_path: Path):
    project(tmp_path / "local")
    wanted = read(tmp_path, pyproject_toml=POETRY)
    assert wanted.requires_python == ">=3.10,<4"
    assert wanted.requirements == (
        "numpy>=2.1,<3", "toolz>=0.12,<0.13", "einops", "rich[jupyter]>=13 ; sys_platform == 'linux'", "zero>=0.3.1,<0.4"
    )  # fmt: skip
    assert [each.line for each in wanted.directs] == [
        "mine @ git+https://host.invalid/mine.git@v1", f"-e {tmp_path / 'local'}"
    ]  # fmt: skip


def test_a_pipfile_a_setup_cfg_and_a_setup_py_are_read(tmp_path: Path):
    pipfile = tmp_path / "one"
    pipfile.mkdir()
    (pipfile / "Pipfile").write_text('[packages]\nnumpy = "*"\ntoolz = {version = "==1", editable = false}\n')
    assert read(pipfile).requirements == ("numpy", "toolz==1")
    (tmp_path / "two").mkdir()
    assert read(
        tmp_path / "two", setup_cfg="[options]\ninstall_requires =\n    numpy\n    toolz>=1\n"
    ).requirements == (
        "numpy",
        "toolz>=1",
    )
    (tmp_path / "three").mkdir()
    setup = "from setuptools import setup\nNEEDS = ['numpy', 'toolz']\nsetup(name='x', install_requires=NEEDS)\n"
    assert read(tmp_path / "three", setup_py=setup).requirements == ("numpy", "toolz")


def test_a_setup_py_that_computes_its_packages_is_not_run_and_that_is_said(tmp_path: Path):
    wanted = read(tmp_path, setup_py="raise SystemExit(7)\nsetup(install_requires=open('x').read())\n")
    assert wanted.requirements == ()
    assert "is not run here" in wanted.notes[0]
    assert "requirements.txt" in wanted.notes[0]


def test_a_pyproject_for_tools_alone_leaves_the_packages_to_the_next_file(tmp_path: Path):
    only_tools = "[tool.ruff]\nline-length = 100\n[tool.supervisor]\nkeep-last = 5\n"
    (tmp_path / "job.py").touch()
    (tmp_path / "pyproject.toml").write_text(only_tools)
    (tmp_path / "environment.yml").write_text(ENVIRONMENT.replace("    - -r more.txt\n", ""))
    found = wish.read(tmp_path / "job.py")
    assert found.wanted.requirements == ("toolz==0.12.0",)
    assert found.options == {"keep-last": 5}


def test_dependencies_that_setuptools_reads_from_a_file_are_read_from_it(tmp_path: Path):
    text = '[project]\nname = "x"\ndynamic = ["dependencies"]\n[tool.setuptools.dynamic]\ndependencies = {file = ["needs.txt"]}\n'
    assert read(tmp_path, pyproject_toml=text, needs_txt="toolz\n").requirements == ("toolz",)


@pytest.mark.parametrize(
    "files",
    [
        {"requirements_txt": "numpy >>= 2\n./absent\n--what\ntoolz=1=py\n"},
        {"requirements_txt": b"numpy \xff\xfe\xfd"},
        {"pyproject_toml": "[project\n"},
        {"script": "# /// script\n# dependencies = [\n# ///\n"},
        {"requirements_txt": "-r absent.txt\n"},
        {"Pipfile": "[packages\n"},
    ],
)
def test_with_no_install_nothing_stops_a_start_and_each_problem_is_said(tmp_path: Path, files: dict[str, str]):
    if "Pipfile" in files:
        (tmp_path / "Pipfile").write_text(files.pop("Pipfile"))
    wanted = read(tmp_path, install=False, **files)
    assert unmet(wanted, HERE, HERE.distributions)
