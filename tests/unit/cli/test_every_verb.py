"""What holds for every verb of the command line."""

import subprocess
import sys

import pytest

from supervisor.cli import TABLE, main


@pytest.mark.parametrize("verb", TABLE)
def test_help_shows_the_options_and_where_the_store_is_named(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert "--store DIR" in capsys.readouterr().out


@pytest.mark.parametrize("verb", TABLE)
def test_an_unknown_option_ends_in_two_lines_and_exit_code_2(verb, said, root):
    code, words = said(verb, "--frobnicate")
    assert code == 2
    assert words.splitlines()[0].startswith("error: ")
    assert words.splitlines()[1].startswith("  try: ")
    assert len(words.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("verb", TABLE)
def test_no_verb_imports_a_framework_or_a_drawing_library_before_it_needs_one(verb):
    script = (
        "import importlib, sys\n"
        f"importlib.import_module({TABLE[verb][0]!r})\n"
        "print(sorted({'torch', 'numpy', 'tensorflow', 'rich', 'watchdog', 'tenacity'} & sys.modules.keys()))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_no_module_of_a_verb_takes_the_place_of_a_name_in_the_command_line():
    import builtins

    assert not {row[0].rpartition(".")[2] for row in TABLE.values()} & set(dir(builtins))
