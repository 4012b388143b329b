"""Names of records and of their fields in stores, journals, on the channel and in ``--json``, apart from Python's names.

A class or a field may be renamed at any time: its row here keeps the name that is part of the format. A new class gets a row
with its own name; a field without a row is written under its own name. The tests in ``tests/golden`` compare the bytes.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Any

CLASSES = {
    # Events of a session
    "SessionStarted": "Started",
    "TimerFired": "Woke",
    "RunInspected": "Looked",
    "OwnerProbed": "Knocked",
    "ClaimWritten": "ClaimWritten",
    "EnvironmentReady": "EnvironmentReady",
    "HistoryRead": "HistoryRead",
    "CheckpointReady": "CheckpointReady",
    "SetupFailed": "SetupFailed",
    "TrainerStarted": "Launched",
    "PeerLifetimesRead": "LivesRead",
    "MachineDetected": "MachineSeen",
    "TrainerMessage": "TrainerSaid",
    "TrainerCpuSampled": "TrainerSeen",
    "TrainerExited": "TrainerExited",
    "CheckpointWritten": "Submitted",
    "DurabilityPending": "Unconfirmed",
    "CheckpointDurable": "Durable",
    "UploadFailed": "PublishFailed",
    "Pruned": "Retained",
    "PruneFailed": "RetainFailed",
    "FenceChecked": "FenceSeen",
    "StoreUnreachable": "FenceUnreadable",
    "JournalWritten": "JournalWritten",
    "JournalFailed": "JournalFailed",
    "RollbackWritten": "RollbackWritten",
    "SessionEndRecorded": "EndWritten",
    "DriveFlushed": "Flushed",
    "SignalReceived": "Signalled",
    "PreemptionNotice": "Notice",
    "MemorySampled": "MemorySeen",
    "InternalError": "ControllerFailed",
    # Commands of a session
    "InspectRun": "Look",
    "ProbeOwner": "Knock",
    "AnswerProbe": "Answer",
    "WriteClaim": "WriteClaim",
    "PrepareEnvironment": "PrepareEnvironment",
    "ReadHistory": "ReadHistory",
    "FetchCheckpoint": "Restore",
    "StartTrainer": "Launch",
    "SendToTrainer": "Tell",
    "SignalTrainer": "EndTrainer",
    "SampleTrainerCpu": "LookAtTrainer",
    "UploadCheckpoint": "Publish",
    "ConfirmDurability": "Confirm",
    "DeleteStaged": "Discard",
    "Prune": "Retain",
    "CheckFence": "LookAtFence",
    "WriteJournal": "WriteJournal",
    "WriteRollback": "WriteRollback",
    "RecordNonfinite": "NoteNonfinite",
    "RecordSessionEnd": "WriteEnd",
    "FlushDrive": "Flush",
    "Notify": "Say",
    "PublishState": "Announce",
    # Messages between trainer and supervisor, where a journal holds them
    "Hello": "Hello",
    "Heartbeat": "Beat",
    "Restored": "Restored",
    "CheckpointStaged": "Staged",
    "SaveFailed": "SaveFailed",
    "ScriptSavedFile": "Saved",
    "ReadBack": "ReadBack",
    "TrainerNote": "Note",
    "Anomaly": "Trouble",
    "ScriptFailed": "ScriptFailed",
    "Stopped": "Stopped",
    "Finished": "Finished",
    "SaveRequest": "Save",
    "StopRequest": "Stop",
    "Malformed": "Malformed",
    # Values in these
    "CheckpointId": "CheckpointId",
    "SessionId": "Rank",
    "SessionObservation": "Sighting",
    "Rollback": "Rollback",
    # Events of the controller of `launch`
    "ControllerStarted": "Began",
    "PollTimerFired": "Woke",
    "WaitEnded": "Waited",
    "UserRequest": "Told",
    "BalanceRead": "Balanced",
    "MachinesListed": "Listed",
    "MachineCreated": "BroughtUp",
    "MachineAdopted": "Adopted",
    "MachinePrepared": "Prepared",
    "AgentStarted": "AgentStarted",
    "MachinePolled": "Polled",
    "AgentRestarted": "Restarted",
    "StopForwarded": "StopPassedOn",
    "MachineReleased": "Released",
    "CallFailed": "Failed",
    # Calls and other commands of the controller
    "CheckBalance": "CheckBalance",
    "ListMachines": "ListMachines",
    "CreateMachine": "BringUp",
    "AdoptMachine": "Adopt",
    "PrepareMachine": "Prepare",
    "StartAgent": "StartAgent",
    "PollMachine": "Poll",
    "RestartAgent": "Restart",
    "ForwardStop": "PassOnStop",
    "ReleaseMachine": "Release",
    "Report": "Say",
    "EndController": "End",
    # Values in these
    "Machine": "Machine",
    "MachineRequest": "Wanted",
    "FleetPolicy": "Policy",
}

# class -> field -> key of the record, where the two differ
FIELDS: dict[str, dict[str, str]] = {
    "FleetPolicy": {"request": "wanted", "machines_per_day_max": "a_day", "machines_without_progress_max": "fruitless_max", "provision_failures_max": "refusals_max"},
    "HistoryRead": {"summary": "words"},
    "MachineDetected": {"description": "words"},
    "CheckpointReady": {"rollbacks": "rolled", "step_known": "counted"},
    "DurabilityPending": {"reason": "words", "confirmable": "possible", "progressing": "moving"},
    "UploadFailed": {"permanent": "hopeless"},
    "FenceChecked": {"probes": "knocks", "listed_s": "looked_s"},
    "PreemptionNotice": {"message": "words"},
    "InternalError": {"message": "words"},
    "ClaimWritten": {"session_id": "rank"},
    "ProbeOwner": {"generation": "epoch"},
    "WriteClaim": {"generation": "epoch"},
    "AnswerProbe": {"probe": "knock"},
    "FetchCheckpoint": {"fresh": "afresh"},
    "StartTrainer": {"rollbacks": "rolled"},
    "WriteRollback": {"message": "words"},
    "RecordNonfinite": {"last_good_step": "fine", "message": "words"},
    "RecordSessionEnd": {"message": "words"},
    "Notify": {"message": "words"},
    "Heartbeat": {"epoch": "epoch_of_data", "saves_on_request": "asked"},
    "ScriptSavedFile": {"closed": "whole"},
    "Anomaly": {"last_good_step": "fine"},
    "CheckpointStaged": {"step_known": "counted"},
    "Rollback": {"session_id": "rank", "last_good_step": "limit", "anomaly_step": "trouble", "attempt": "tries"},
    "SessionId": {"generation": "epoch"},
    "SessionObservation": {"session_id": "rank", "file_count": "signs"},
    "UserRequest": {"action": "wish", "message": "words"},
    "ControllerStarted": {"provider": "on"},
    "Report": {"message": "words"},
    "EndController": {"message": "words"},
    "CallFailed": {"message": "words", "durable_step": "safe"},
    "AgentRestarted": {"message": "words"},
    "StopForwarded": {"generation": "epoch"},
    "CreateMachine": {"request": "wanted"},
    "MachinePolled": {"heartbeat": "beat", "durable_step": "safe", "generation": "epoch", "stop_requested": "asked", "status_line": "line", "error": "trouble", "files_waiting": "waiting", "cell_attends": "watched"},
    "CheckpointId": {"generation": "epoch"},
}  # fmt: skip


def of(kind: type) -> str:
    """Return the name of a class's records; a class without a row is only a part of others, and keeps its own."""
    return CLASSES.get(kind.__name__, kind.__name__)


@lru_cache(maxsize=256)
def keys(kind: Any) -> tuple[tuple[str, str], ...]:
    """Return (field, key of the record) for each field of a dataclass, in order."""
    renamed = FIELDS.get(kind.__name__, {})
    return tuple((field.name, renamed.get(field.name, field.name)) for field in fields(kind))
