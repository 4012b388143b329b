"""The table of stores: a class and a row are enough for a new store."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from supervisor import composition, stores
from supervisor.core.errors import UserError
from supervisor.core.ports import StoreTraits
from supervisor.stores import StoreRow
from supervisor.stores.local.folder import FolderStore
from supervisor.stores.mounted import mounts
from supervisor.stores.mounted.store import MountedStore
from supervisor.stores.relay import RelayStore

DRIVE = mounts.Mount(40, 1, "0:50", "/", "/content/drive", "fuse.drive", "drive")
DISK = mounts.Mount(30, 1, "8:1", "/", "/", "ext4", "/dev/sda1")


class FakeStore:
    """A store that knows only where it is."""

    def __init__(self, place):
        self.place = place
        self.traits = StoreTraits(where=place.where, settle_s=0.0)

    @classmethod
    def open_at(cls, place):
        return cls(place)


def open_store(*given: object) -> Any:
    return composition.open_store(*given)


@pytest.fixture
def fake(monkeypatch):
    module = ModuleType("fake_store_of_a_test")
    module.__dict__["FakeStore"] = FakeStore
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return f"{module.__name__}:FakeStore"


def test_a_row_alone_opens_a_new_store_by_its_prefix(monkeypatch, fake):
    monkeypatch.setitem(stores.TABLE, "fake", StoreRow(fake, prefix="fake:"))
    opened = open_store("fake:some/place", 20.0, 3.0)
    assert isinstance(opened.inner, FakeStore)
    assert opened.inner.place.where == opened.traits.where == "some/place"
    assert opened.timeout_s == 0.0


def test_a_row_alone_opens_another_store_for_paths(monkeypatch, fake, tmp_path):
    monkeypatch.setitem(stores.TABLE, "folder", StoreRow(fake))
    opened = open_store(str(tmp_path), 20.0, 3.0)
    assert isinstance(opened.inner, FakeStore)
    assert (opened.inner.place.where, opened.inner.place.settle_s) == (str(tmp_path), 3.0)


@pytest.mark.parametrize(
    ("where", "mount", "kind"),
    [
        ("/runs", None, FolderStore),
        ("/runs", DISK, FolderStore),
        ("relay:/runs", None, RelayStore),
        ("/content/drive/MyDrive/runs", DRIVE, MountedStore),
    ],
)
def test_each_place_has_the_store_of_its_row(monkeypatch, tmp_path, where, mount, kind):
    monkeypatch.setenv("SUPERVISOR_RUN_LOCAL", str(tmp_path))
    monkeypatch.setattr(mounts, "mounts", list)
    monkeypatch.setattr(mounts, "mount_of", lambda *_: mount)
    opened = open_store(where, 20.0)
    assert type(opened.inner) is kind
    assert opened.timeout_s == (20.0 if kind is MountedStore else 0.0)
    assert opened.traits.where == where.removeprefix("relay:")


def test_a_place_with_a_prefix_is_not_a_path_that_a_platform_judges(monkeypatch, fake, tmp_path):
    def refuse(*_):
        raise UserError("no", "no")

    monkeypatch.setattr(composition, "_platform_module", lambda _: SimpleNamespace(check_store=refuse))
    monkeypatch.setitem(stores.TABLE, "fake", StoreRow(fake, prefix="fake:"))
    assert open_store("fake:here").traits.where == "here"
    with pytest.raises(UserError):
        open_store(str(tmp_path))


@pytest.mark.parametrize("name", stores.TABLE)
def test_each_row_names_a_class_that_opens_a_place(name):
    row = stores.TABLE[name]
    assert row in {stores.for_path(drive=row.drive), stores.with_prefix(f"{row.prefix}x")}
    module, _, kind = row.kind.partition(":")
    __import__(module)
    assert callable(getattr(sys.modules[module], kind).open_at)
