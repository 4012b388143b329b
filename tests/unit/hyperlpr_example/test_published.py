"""Getting the published weights: proved by digest, kept once, and a clear word when they cannot be had."""

from __future__ import annotations

import hashlib
import sys

import pytest

from hyperlpr_example import published
from supervisor.core.errors import SetupError

CONTENT = b"weights"


@pytest.fixture
def fetched(cache, monkeypatch):
    """Fetching runs only the commands put in here; the pinned content is CONTENT."""
    commands = []
    monkeypatch.setattr(published, "_fetchers", lambda folder: [[*command, folder] for command in commands])
    monkeypatch.setattr(published, "MODEL_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(published, "layers_from", lambda content: content)
    return commands


def python(code):
    return [sys.executable, "-c", f"import sys, zipfile, pathlib; folder = pathlib.Path(sys.argv[1]); {code}"]


def wheel(content):
    return python(f"zipfile.ZipFile(folder / 'hyperlpr-0.0.2.whl', 'w').writestr({published.MODEL!r}, {content!r})")


def test_the_model_is_taken_from_the_wheel_and_kept(fetched, cache):
    fetched.append(wheel(CONTENT))
    assert published.published_layers() == CONTENT
    fetched.clear()
    assert published.published_layers() == CONTENT
    assert [file.read_bytes() for file in cache.iterdir()] == [CONTENT]


def test_an_unpacked_package_will_do(fetched):
    path = f"folder / {published.MODEL!r}"
    fetched.append(python(f"({path}).parent.mkdir(parents=True); ({path}).write_bytes({CONTENT!r})"))
    assert published.published_layers() == CONTENT


def test_the_next_tool_is_tried_when_one_fails(fetched):
    fetched += [["no-such-tool-anywhere"], python("sys.exit('no network')"), wheel(CONTENT)]
    assert published.published_layers() == CONTENT


def test_a_damaged_cache_is_fetched_anew(fetched, cache):
    fetched.append(wheel(CONTENT))
    published.published_layers()
    (file,) = cache.iterdir()
    file.write_bytes(CONTENT[:3])
    assert published.published_layers() == CONTENT


def test_another_file_than_the_published_one_is_never_used(fetched, cache):
    fetched.append(wheel(b"other weights"))
    with pytest.raises(SetupError, match="another file than the published one"):
        published.published_layers()
    assert list(cache.iterdir()) == []


def test_without_a_network_the_error_says_what_and_what_to_do(fetched):
    fetched.append(python("sys.exit('no network')"))
    with pytest.raises(SetupError) as caught:
        published.published_layers()
    assert caught.value.what.endswith("no network")
    assert "--init published" in caught.value.hint


def test_tools_of_this_machine_are_found_without_touching_an_environment(tmp_path):
    commands = published._fetchers(str(tmp_path))
    assert commands[0][0] == sys.executable
    assert all(str(tmp_path) in command and published.WHEEL in command for command in commands)
