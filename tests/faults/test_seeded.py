"""Every bug on the design's list, planted: at least one of the checks of this folder must notice it, in a folder and on a drive."""

from __future__ import annotations

import pytest

from supervisor.stores.folder import FolderStore
from tests.faults import checks, plants
from tests.faults.stores import OnADrive, OnAnotherDisk
from tests.faults.world import Violation

ANYWHERE = [
    (plants.manifest_first, checks.check_kills),
    (plants.trusting_reader, checks.check_damage),
    (plants.eager_deletion, checks.check_retention),
    (plants.order_by_step, checks.check_order),
    (plants.order_by_mtime, checks.check_order),
    (plants.skip_on_eio, checks.check_unreadable),
    (plants.exists_on_a_dead_mount, checks.check_dead_mount),
    (plants.no_fence, checks.check_fence),
    (plants.age_as_evidence, checks.check_evidence),
    (plants.epoch_reused, checks.check_epochs),
    (plants.shared_files_forgotten, checks.check_sharing),
    (plants.shared_with_another_session, checks.check_sharing),
    (plants.shared_before_it_is_durable, checks.check_sharing),
]
ON_A_DISK = [
    (plants.no_flush_of_files, checks.check_power, FolderStore),
    (plants.no_flush_of_folders, checks.check_power, FolderStore),
    (plants.linked_before_flushed, checks.check_names, FolderStore),
    (plants.links_trusted, checks.check_staged_damage, FolderStore),
    (plants.short_writes_ignored, checks.check_short_writes, OnAnotherDisk),
    (plants.no_reading_back, checks.check_lost_writes, OnAnotherDisk),
]
ON_A_DRIVE = [
    (plants.short_writes_ignored, checks.check_short_writes),
    (plants.no_reading_back_from_the_drive, checks.check_lost_writes),
    (plants.manifest_before_the_evidence, checks.check_clouds),
    (plants.once_is_enough, checks.check_clouds),
    (plants.removed_without_being_emptied, checks.check_trash),
    (plants.mount_not_proved, checks.check_mount),
    (plants.part_of_a_record_stops_the_start, checks.check_leftovers),
    (plants.part_of_a_manifest_stops_the_start, checks.check_leftovers),
    (plants.part_of_a_journal_piece_kept, checks.check_torn_writes),
]
PLANTED = [
    *((plant, check, FolderStore) for plant, check in ANYWHERE),
    *ON_A_DISK,
    *((plant, check, OnADrive) for plant, check in (*ANYWHERE, *ON_A_DRIVE)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "check", "made"), PLANTED, ids=lambda each: each.__name__)
def test_a_planted_bug_is_noticed(quick, plant, check, made):
    (quick / "sound").mkdir()
    (quick / "planted").mkdir()
    check(quick / "sound", made)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with pytest.raises(Violation) as noticed:
            check(quick / "planted", made)
    print(f"{plant.__name__} ({made.__name__}): {noticed.value}")  # shown by pytest -rP
