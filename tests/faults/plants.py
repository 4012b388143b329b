"""Bugs of the design's list, each put into the program by one function, so that the checks can be shown to notice them."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import checkpoint as cp
from supervisor.core import claim, retention, sharing
from supervisor.core.content import CONTENT_FILE
from supervisor.core.digest import algorithm_of
from supervisor.core.ports import Measured, StoreError
from supervisor.engine import checkpoints, fenced, proof, publication, runs, staged, storing
from supervisor.stores import disk, drive, folder, held

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def no_flush_of_files(patch: pytest.MonkeyPatch) -> None:
    _without_flushes(patch, flushes=stat.S_ISDIR)


def no_flush_of_folders(patch: pytest.MonkeyPatch) -> None:
    _without_flushes(patch, flushes=stat.S_ISREG)


def _without_flushes(patch: pytest.MonkeyPatch, flushes: Callable[[int], bool]) -> None:
    for module in (disk, folder):
        patch.setattr(module, "os", _Os(flushes))


def linked_before_flushed(patch: pytest.MonkeyPatch) -> None:
    """What was written elsewhere is given its name without a flush, as if who wrote it had surely done that."""

    def proved(full: str, algorithm: str) -> Measured:
        fd = os.open(full, os.O_RDONLY)
        try:
            if os.fstat(fd).st_nlink == 1:
                os.fsync(fd)
            return disk.measure(disk.chunks(fd), algorithm)
        finally:
            os.close(fd)

    patch.setattr(disk, "proved", proved)


def links_trusted(patch: pytest.MonkeyPatch) -> None:
    """A linked file is believed to be what its maker said it is."""
    real = folder.FolderStore.push

    def push(store: folder.FolderStore, local: str, path: str, algorithm: str, *, link: bool = False) -> Measured:
        there = real(store, local, path, algorithm, link=link)
        length, promised = staged.content(Path(local).parent).files.get(Path(local).name, (there.bytes, there.digest))
        return Measured(length, promised)

    patch.setattr(folder.FolderStore, "push", push)


def manifest_first(patch: pytest.MonkeyPatch) -> None:
    def submit(store: Any, run: Any, rank: Any, order: Any, fence: Any) -> cp.Manifest:
        content, sealed = staged.sealed(order.folder)
        at, files = run.step(rank, order.id.step), {**content.files, CONTENT_FILE: sealed}
        entries = tuple(cp.FileEntry(name, f"{at}/{name}".removeprefix(f"{run.name}/"), *files[name]) for name in files)
        log = publication._create_log(store, run, rank, order)
        manifest = cp.Manifest(order.id, entries, log=log)
        publication.seal(store, run, manifest, fence)
        for name in files:
            store.push(str(order.folder / name), f"{at}/{name}", algorithm_of(files[name][1]), link=True)
        return manifest

    patch.setattr(publication, "submit", submit)


def manifest_before_the_evidence(patch: pytest.MonkeyPatch) -> None:
    real = proof.Proof.ask

    def ask(self: proof.Proof, store: Any, seal_it: Any) -> str:
        self.seal(seal_it)
        return real(self, store, seal_it)

    patch.setattr(proof.Proof, "ask", ask)


def once_is_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proof, "TIMES_LATER", 1)


def trusting_reader(patch: pytest.MonkeyPatch) -> None:
    def bring_file(store: Any, run: Any, _found: Any, entry: Any, into: Path, *, link: bool) -> str:
        store.pull(f"{run.name}/{entry.path}", str(into / entry.name), algorithm_of(entry.digest), link=link)
        return ""

    patch.setattr(checkpoints, "_bring_file", bring_file)


def eager_deletion(patch: pytest.MonkeyPatch) -> None:
    real = retention.plan

    def plan(stored: Any, policy: Any) -> retention.Plan:
        return real([replace(each, durable=True) for each in stored], policy)

    patch.setattr(retention, "plan", plan)


def order_by_step(patch: pytest.MonkeyPatch) -> None:
    _ordered(patch, lambda each: each.id.step)


def order_by_mtime(patch: pytest.MonkeyPatch) -> None:
    real = checkpoints.look_over
    times: dict[str, float] = {}

    def look_over(store: Any, run: Any) -> checkpoints.Listed:
        listed = real(store, run)
        times.update({each.path: Path(store.traits.where, each.path).stat().st_mtime for each in listed.found})
        return listed

    patch.setattr(checkpoints, "look_over", look_over)
    _ordered(patch, lambda each: times.get(each.path, 0.0))


def _ordered(patch: pytest.MonkeyPatch, key: Callable[[cp.Found], float]) -> None:
    def resume_point(found: Any, *, signs_of_work: bool) -> Any:
        newest = max(found, key=key, default=None)
        if newest is None:
            return cp.StartAfresh()
        return cp.ResumeFrom(newest, ()) if newest.verdict is cp.Verdict.WHOLE else cp.Examine(newest)

    patch.setattr(cp, "resume_point", resume_point)


def skip_on_eio(patch: pytest.MonkeyPatch) -> None:
    real = checkpoints.bring

    def bring(*args: Any, **options: Any) -> Any:
        found, where = real(*args, **options)
        broken = found.verdict is cp.Verdict.UNREADABLE
        return (replace(found, verdict=cp.Verdict.BROKEN) if broken else found), where

    patch.setattr(checkpoints, "bring", bring)


def exists_on_a_dead_mount(patch: pytest.MonkeyPatch) -> None:
    for kind in (folder.FolderStore, drive.DriveStore):
        patch.setattr(kind, "list", _listing_if_there(kind.list))


def _listing_if_there(real: Any) -> Any:
    def list_if_there(store: Any, path: str) -> Any:
        try:
            return real(store, path)
        except StoreError:
            return ()  # what exists(), isdir() and glob() answer there

    return list_if_there


def no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fenced, "judge", lambda _names, _mine: None)


def short_writes_ignored(patch: pytest.MonkeyPatch) -> None:
    def write_once(fd: int, view: memoryview) -> None:
        os.write(fd, view)

    patch.setattr(disk, "_write_all", write_once)


def no_reading_back(patch: pytest.MonkeyPatch) -> None:
    real = disk.write
    said: list[Measured] = []

    def write(target: str, chunks: Any, algorithm: str) -> Measured:
        said[:] = [real(target, chunks, algorithm)]
        return said[0]

    patch.setattr(disk, "write", write)
    patch.setattr(disk, "proved", lambda *_: said[0])


def no_reading_back_from_the_drive(patch: pytest.MonkeyPatch) -> None:
    real = disk.measure
    said: list[Measured] = []

    def measure(chunks: Any, algorithm: str) -> Measured:
        said[:] = [real(chunks, algorithm)]
        return said[0]

    patch.setattr(disk, "measure", measure)
    patch.setattr(drive.DriveStore, "_read_back", lambda *_: said[0])


def age_as_evidence(patch: pytest.MonkeyPatch) -> None:
    def ask(self: proof.Proof, store: Any, seal_it: Any) -> str:
        try:
            return real(self, store, seal_it)
        except StoreError:
            self.seal(seal_it)
            return "it was written a while ago"

    real = proof.Proof.ask
    patch.setattr(proof.Proof, "ask", ask)


def epoch_reused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claim, "next_epoch", lambda names: getattr(claim.highest(names), "epoch", 1))


def shared_files_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Retention removes a checkpoint with all its files, as if no other could name one of them."""
    patch.setattr(sharing, "unneeded", lambda paths, _remaining: list(paths))


def shared_with_another_session(patch: pytest.MonkeyPatch) -> None:
    real = storing.Storing._prove

    def prove(self: storing.Storing, found: cp.Found) -> None:
        real(self, found)
        self.uploads.newest = found.manifest

    patch.setattr(storing.Storing, "_prove", prove)


def shared_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    real = publication.submit
    last: dict[Any, cp.Manifest] = {}

    def submit(store: Any, run: Any, rank: Any, order: Any, fence: Any) -> cp.Manifest:
        last[rank] = real(store, run, rank, replace(order, newest=last.get(rank, order.newest)), fence)
        return last[rank]

    patch.setattr(publication, "submit", submit)


def removed_without_being_emptied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(drive.DriveStore, "_empty", lambda *_: None)


def mount_not_proved(patch: pytest.MonkeyPatch) -> None:
    def proved(self: held.HeldMount) -> tuple[int, str]:
        if self._fd is None:
            self._fd = os.open(self.mount.point, os.O_RDONLY | os.O_DIRECTORY)
        return self._fd, os.path.relpath(self.root, self.mount.point)

    patch.setattr(held.HeldMount, "proved", proved)


def part_of_a_record_stops_the_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runs, "_known", lambda store, run, _made: runs.read_whole(store, run))


def part_of_a_manifest_stops_the_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoints, "_all_cut_short", lambda *_: False)


def part_of_a_journal_piece_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(publication, "create_once", lambda store, path, body: store.create(path, body))


class _Os:
    """The os module without some of its flushes."""

    def __init__(self, flushes: Callable[[int], bool]) -> None:
        self._flushes = flushes

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, fd: int) -> None:
        if self._flushes(os.fstat(fd).st_mode):
            os.fsync(fd)
