"""Bugs of the design's list, each put into the program by one function, so that the checks can be shown to notice them."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint import manifest as cp
from supervisor.core.checkpoint import session_id
from supervisor.core.checkpoint.checkpoint_json import CONTENT_FILE
from supervisor.core.digest import algorithm_of
from supervisor.core.policy import dedup, retention
from supervisor.core.ports import FileDigest, StoreError
from supervisor.engine import atomic
from supervisor.engine.resume import fetch as checkpoint_fetch
from supervisor.engine.resume import staging as staged_checkpoints
from supervisor.engine.run_catalog import runs
from supervisor.engine.upload import durability, fenced_store, session_store, uploader
from supervisor.stores.local import files as local_files
from supervisor.stores.local import folder as local_folder
from supervisor.stores.mounted import backend as mount_backend
from supervisor.stores.mounted import guard as mount_guard

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def no_flush_of_files(patch: pytest.MonkeyPatch) -> None:
    _without_flushes(patch, flushes=stat.S_ISDIR)


def no_flush_of_folders(patch: pytest.MonkeyPatch) -> None:
    _without_flushes(patch, flushes=stat.S_ISREG)


def _without_flushes(patch: pytest.MonkeyPatch, flushes: Callable[[int], bool]) -> None:
    for module in (local_files, local_folder, atomic):
        patch.setattr(module, "os", _Os(flushes))


def linked_before_flushed(patch: pytest.MonkeyPatch) -> None:
    """What was written elsewhere is given its name without a flush, as if who wrote it had surely done that."""

    def proved(full: str, algorithm: str) -> FileDigest:
        fd = os.open(full, os.O_RDONLY)
        try:
            if os.fstat(fd).st_nlink == 1:
                os.fsync(fd)
            return local_files.measure(local_files.chunks(fd), algorithm)
        finally:
            os.close(fd)

    patch.setattr(local_files, "flush_and_digest", proved)


def links_trusted(patch: pytest.MonkeyPatch) -> None:
    """A linked file is believed to be what its maker said it is."""
    real = local_folder.FolderStore.push

    def push(
        store: local_folder.FolderStore, local: str, path: str, algorithm: str, *, link: bool = False
    ) -> FileDigest:
        there = real(store, local, path, algorithm, link=link)
        length, promised = staged_checkpoints.content(Path(local).parent).files.get(
            Path(local).name, (there.bytes, there.digest)
        )
        return FileDigest(length, promised)

    patch.setattr(local_folder.FolderStore, "push", push)


def manifest_first(patch: pytest.MonkeyPatch) -> None:
    def write_files(store: Any, run: Any, order: Any) -> cp.Manifest:
        content, sealed = staged_checkpoints.sealed(order.folder)
        at, files = run.step(order.id.session_id, order.id.step), {**content.files, CONTENT_FILE: sealed}
        entries = tuple(cp.FileEntry(name, f"{at}/{name}".removeprefix(f"{run.name}/"), *files[name]) for name in files)
        log = uploader._write_log_piece(store, run, order)
        manifest = cp.Manifest(order.id, entries, log=log)
        uploader.write_manifest(store, run, manifest)
        for name in files:
            store.push(str(order.folder / name), f"{at}/{name}", algorithm_of(files[name][1]), link=True)
        return manifest

    patch.setattr(uploader, "write_files", write_files)


def manifest_before_the_evidence(patch: pytest.MonkeyPatch) -> None:
    real = uploader.CheckpointUploader._confirm_all

    def confirm_all(self: uploader.CheckpointUploader, sent: Any) -> str:
        self._write_manifest_once(sent)
        return real(self, sent)

    patch.setattr(uploader.CheckpointUploader, "_confirm_all", confirm_all)


def once_is_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(durability, "CONFIRMATIONS_ON_A_DRIVE", 1)


def trusting_reader(patch: pytest.MonkeyPatch) -> None:
    def fetch_file(store: Any, run: Any, _found: Any, entry: Any, into: Path, *, link: bool) -> str:
        store.pull(f"{run.name}/{entry.path}", str(into / entry.name), algorithm_of(entry.digest), link=link)
        return ""

    patch.setattr(checkpoint_fetch, "_fetch_file", fetch_file)


def eager_deletion(patch: pytest.MonkeyPatch) -> None:
    real = retention.plan

    def plan(stored: Any, policy: Any) -> retention.RetentionPlan:
        return real([replace(each, durable=True) for each in stored], policy)

    patch.setattr(retention, "plan", plan)


def order_by_step(patch: pytest.MonkeyPatch) -> None:
    _ordered(patch, lambda each: each.id.step)


def order_by_mtime(patch: pytest.MonkeyPatch) -> None:
    real = checkpoint_fetch.list_run
    times: dict[str, float] = {}

    def list_run(store: Any, run: Any) -> checkpoint_fetch.RunListing:
        listed = real(store, run)
        times.update({each.path: Path(store.traits.where, each.path).stat().st_mtime for each in listed.found})
        return listed

    patch.setattr(checkpoint_fetch, "list_run", list_run)
    _ordered(patch, lambda each: times.get(each.path, 0.0))


def _ordered(patch: pytest.MonkeyPatch, key: Callable[[cp.Candidate], float]) -> None:
    def resume_point(found: Any, *, signs_of_work: bool) -> Any:
        newest = max(found, key=key, default=None)
        if newest is None:
            return cp.StartFresh()
        return cp.ResumeFrom(newest, ()) if newest.verdict is cp.Validity.WHOLE else cp.Verify(newest)

    patch.setattr(cp, "resume_point", resume_point)


def skip_on_eio(patch: pytest.MonkeyPatch) -> None:
    real = checkpoint_fetch.fetch

    def fetch(*args: Any, **options: Any) -> Any:
        found, where = real(*args, **options)
        broken = found.verdict is cp.Validity.UNREADABLE
        return (replace(found, verdict=cp.Validity.BROKEN) if broken else found), where

    patch.setattr(checkpoint_fetch, "fetch", fetch)


def exists_on_a_dead_mount(patch: pytest.MonkeyPatch) -> None:
    for kind in (local_folder.FolderStore, mount_backend.DriveStore):
        patch.setattr(kind, "list", _listing_if_there(kind.list))


def _listing_if_there(real: Any) -> Any:
    def list_if_there(store: Any, path: str) -> Any:
        try:
            return real(store, path)
        except StoreError:
            return ()  # what exists(), isdir() and glob() answer there

    return list_if_there


def no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fenced_store, "superseded_by", lambda _names, _mine: None)


def short_writes_ignored(patch: pytest.MonkeyPatch) -> None:
    def write_once(fd: int, view: memoryview) -> None:
        os.write(fd, view)

    patch.setattr(local_files, "_write_all", write_once)


def no_reading_back(patch: pytest.MonkeyPatch) -> None:
    real = local_files.write
    said: list[FileDigest] = []

    def write(target: str, chunks: Any, algorithm: str) -> FileDigest:
        said[:] = [real(target, chunks, algorithm)]
        return said[0]

    patch.setattr(local_files, "write", write)
    patch.setattr(local_files, "flush_and_digest", lambda *_: said[0])


def no_reading_back_from_the_drive(patch: pytest.MonkeyPatch) -> None:
    real = local_files.measure
    said: list[FileDigest] = []

    def measure(chunks: Any, algorithm: str) -> FileDigest:
        said[:] = [real(chunks, algorithm)]
        return said[0]

    patch.setattr(local_files, "measure", measure)
    patch.setattr(mount_backend.DriveStore, "_read_back", lambda *_: said[0])


def age_as_evidence(patch: pytest.MonkeyPatch) -> None:
    def confirm_all(self: uploader.CheckpointUploader, sent: Any) -> str:
        try:
            return real(self, sent)
        except StoreError:
            self._write_manifest_once(sent)
            return "it was written a while ago"

    real = uploader.CheckpointUploader._confirm_all
    patch.setattr(uploader.CheckpointUploader, "_confirm_all", confirm_all)


def epoch_reused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session_id, "next_generation", lambda names: getattr(session_id.latest(names), "generation", 1))


def shared_files_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Retention removes a checkpoint with all its files, as if no other could name one of them."""
    patch.setattr(dedup, "unreferenced", lambda paths, _remaining: list(paths))


def shared_with_another_session(patch: pytest.MonkeyPatch) -> None:
    real = session_store.SessionStore._mark_if_confirmed

    def prove(self: session_store.SessionStore, found: cp.Candidate) -> None:
        real(self, found)
        self.uploader.newest = found.manifest

    patch.setattr(session_store.SessionStore, "_mark_if_confirmed", prove)


def shared_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    real = uploader.write_files
    last: dict[Any, cp.Manifest] = {}

    def write_files(store: Any, run: Any, order: Any) -> cp.Manifest:
        last[order.id.session_id] = real(store, run, replace(order, newest=last.get(order.id.session_id, order.newest)))
        return last[order.id.session_id]

    patch.setattr(uploader, "write_files", write_files)


def removed_without_being_emptied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mount_backend.DriveStore, "_empty", lambda *_: None)


def mount_not_proved(patch: pytest.MonkeyPatch) -> None:
    def proved(self: mount_guard.MountGuard) -> tuple[int, str]:
        if self._fd is None:
            self._fd = os.open(self.mount.point, os.O_RDONLY | os.O_DIRECTORY)
        return self._fd, os.path.relpath(self.root, self.mount.point)

    patch.setattr(mount_guard.MountGuard, "verified_root", proved)


def part_of_a_record_stops_the_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runs, "_known", lambda store, run, _made: runs.read_whole(store, run))


def part_of_a_manifest_stops_the_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoint_fetch, "_all_truncated", lambda *_: False)


def part_of_a_journal_piece_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(uploader, "create_idempotent", lambda store, path, body: store.create(path, body))


class _Os:
    """The os module without some of its flushes."""

    def __init__(self, flushes: Callable[[int], bool]) -> None:
        self._flushes = flushes

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, fd: int) -> None:
        if self._flushes(os.fstat(fd).st_mode):
            os.fsync(fd)
