"""Any event, any configuration, any session: what the laws of the core are tried on."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import strategies as st

from supervisor.core.checkpoint.manifest import CheckpointId
from supervisor.core.checkpoint.session_id import SessionId, SessionObservation
from supervisor.core.policy import liveness, recovery
from supervisor.core.policy.deadline import TimeLimit
from supervisor.core.policy.rollback import Rollback
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.session.state import (
    Config,
    Ending,
    Phase,
    SaveProgress,
    SaveSchedule,
    Session,
    Timers,
    TrainerState,
)
from supervisor.core.wire import messages

WRITERS = st.sampled_from(["aaaa", "bbbb", "cccc"])
RANKS = st.builds(SessionId, st.integers(1, 5), WRITERS)
IDS = st.builds(CheckpointId, st.integers(1, 5), st.integers(0, 2000), WRITERS, st.integers(0, 9))
FOLDERS = st.sampled_from(["/s/step-1", "/s/step-2", "/s/step-3", "/s/step-4"])
WORDS = st.sampled_from(["", "words", "a µ and a \n line", "disk full"])
SECONDS = st.one_of(st.floats(0, 5000), st.sampled_from([0.0, 0.1, 1.0, 60.0, 43200.0]))
STEPS = st.integers(0, 5000)
NAMES = st.lists(st.one_of(RANKS.map(str), st.sampled_from(["run.json", "environment", "e1-x (1)"])), max_size=4).map(
    tuple
)
NUMBERS = st.dictionaries(st.sampled_from(["start", "step", "save", "eval"]), SECONDS, max_size=3)
SCALARS = st.one_of(st.integers(-9, 9), st.floats(), st.text(max_size=5), st.booleans(), st.none())
METRICS = st.dictionaries(st.sampled_from(["loss", "lr", "acc"]), SCALARS, max_size=2)
MAYBE_STEP = st.one_of(st.none(), STEPS)

SECTIONS = st.sampled_from(["start", "restore", "step", "save", "eval", "my own"])
BEATS = st.builds(
    messages.Heartbeat, STEPS, SECTIONS, MAYBE_STEP, st.one_of(st.none(), SECONDS), st.one_of(st.none(), SECONDS), NUMBERS,
    NUMBERS, METRICS,
)  # fmt: skip
STAGED = st.builds(messages.CheckpointStaged, STEPS, FOLDERS, st.integers(0, 9), WORDS, SECONDS, SECONDS)
SAVES = st.builds(messages.SaveRequest, WORDS)
TROUBLES = st.builds(
    messages.Anomaly, STEPS, st.sampled_from(["loss", "val_loss"]), WORDS, st.sampled_from(["nan", "spike"]), MAYBE_STEP
)


@st.composite
def _rollbacks(draw):
    """Draw what a session can have left: it passes over nothing, or what led to the trouble and the trouble itself."""
    trouble, tries = draw(STEPS), draw(st.integers(0, 2))
    limit = draw(st.integers(0, trouble))
    passed_over = (draw(st.integers(0, trouble)), trouble + 1) if tries else (0, 0)
    return Rollback(draw(RANKS), limit, trouble, *passed_over, tries, draw(st.sampled_from([1.0, 0.5])))


ROLLBACKS = _rollbacks()
STOPS = st.builds(messages.StopRequest, WORDS, st.booleans(), SECONDS)
MESSAGES = st.one_of(
    st.builds(messages.Hello, st.integers(1, 9), st.integers(1, 9), st.booleans(), WORDS, WORDS),
    BEATS,
    st.builds(messages.Restored, STEPS, SECONDS),
    STAGED,
    st.builds(messages.SaveFailed, STEPS, WORDS),
    st.builds(messages.ScriptSavedFile, WORDS, MAYBE_STEP, st.booleans()),
    st.builds(messages.TrainerNote, st.sampled_from(["info", "warning"]), WORDS),
    TROUBLES,
    st.builds(
        messages.ScriptFailed,
        st.sampled_from(["setup", "refused", "device-oom", "code", "outage", "exit", "left", "short", "script"]),
        WORDS,
        WORDS,
        WORDS,
    ),
    st.builds(messages.Stopped, STEPS),
    st.builds(messages.Finished, STEPS, st.none() | STEPS, WORDS),
    SAVES,
    STOPS,
)
HISTORIES = st.builds(
    ev.HistoryRead, st.lists(SECONDS, max_size=3).map(tuple), st.lists(SECONDS, max_size=3).map(tuple),
    st.integers(0, 9), st.integers(0, 9), NUMBERS, MAYBE_STEP, st.one_of(st.none(), SECONDS), WORDS,
)  # fmt: skip
SIGHTINGS = st.one_of(
    st.none(),
    st.builds(
        SessionObservation,
        RANKS,
        st.integers(0, 9),
        st.sampled_from(["", "succeeded", "stopped"]),
        st.sampled_from([True, False, None]),
    ),
)
EXITS = st.builds(
    ev.TrainerExited,
    st.sampled_from([0, 1, 2, 3, -6, -9, -11, -15, -77]),
    st.booleans(),
    st.lists(WORDS, max_size=2).map(tuple),
)
FENCES = st.builds(ev.FenceChecked, NAMES, st.sampled_from(["", "", "", "save", "now"]))
OUTCOMES = {
    "store": st.one_of(
        st.builds(ev.CheckpointWritten, FOLDERS, IDS, STEPS),
        st.builds(ev.DurabilityPending, FOLDERS, WORDS, st.booleans()),
        st.builds(ev.CheckpointDurable, FOLDERS, IDS, STEPS, SECONDS, st.just("fsync")),
        st.builds(ev.UploadFailed, FOLDERS, WORDS, st.booleans()),
        st.builds(ev.Pruned, st.lists(IDS, max_size=2).map(tuple), STEPS),
        st.builds(ev.PruneFailed, WORDS),
        FENCES,
        st.builds(ev.StoreUnreachable, WORDS, st.sampled_from(["unreadable", "gone", "hung"])),
        st.builds(ev.DriveFlushed, st.one_of(st.none(), IDS), st.sampled_from(["", "it hangs"])),
        st.just(ev.JournalWritten()),
        st.builds(ev.JournalFailed, WORDS),
        st.builds(ev.RollbackWritten, WORDS),
        st.builds(ev.SessionEndRecorded, WORDS),
    ),
    "start": st.one_of(
        st.just(ev.SessionStarted()),
        st.builds(ev.RunInspected, NAMES, SIGHTINGS, st.booleans()),
        st.builds(ev.OwnerProbed, st.sampled_from(["", "Input/output error"])),
        st.builds(ev.ClaimWritten, RANKS),
        st.builds(ev.EnvironmentReady, SECONDS, st.just(("numpy",)), st.just(("another GPU",))),
        HISTORIES,
        st.builds(
            ev.CheckpointReady,
            FOLDERS,
            st.one_of(st.none(), IDS),
            st.booleans(),
            st.booleans(),
            rollbacks=st.lists(ROLLBACKS, max_size=2).map(tuple),
        ),
        st.builds(ev.SetupFailed, WORDS, WORDS, st.sampled_from([3, 4])),
        st.builds(ev.TrainerStarted, st.integers(1, 9)),
    ),
    "world": st.one_of(
        st.builds(ev.SignalReceived, st.sampled_from(["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])),
        st.builds(ev.PreemptionNotice, SECONDS, WORDS, st.booleans()),
        st.builds(ev.MachineDetected, st.sampled_from(["", "1 x Tesla T4, 15 GB"]), WORDS, WORDS),
        st.builds(ev.PeerLifetimesRead, st.lists(SECONDS, max_size=3).map(tuple)),
        st.builds(ev.MemorySampled, STEPS, STEPS),
        st.builds(ev.TrainerCpuSampled, st.one_of(st.none(), SECONDS)),
        st.builds(ev.InternalError, WORDS),
    ),
    "trainer": st.one_of(
        MESSAGES.map(ev.TrainerMessage), st.builds(messages.Malformed, WORDS, WORDS).map(ev.TrainerMessage), EXITS
    ),
}
EVENTS = st.one_of(st.just(ev.TimerFired()), *OUTCOMES.values())
COMMANDS = st.one_of(
    *(
        st.just(kind())
        for kind in (do.InspectRun, do.PrepareEnvironment, do.ReadHistory, do.Prune, do.CheckFence, do.WriteJournal)
    ),
    st.builds(do.WriteClaim, st.integers(1, 9)),
    st.builds(do.ProbeOwner, st.integers(1, 9), WRITERS),
    st.builds(do.AnswerProbe, st.integers(1, 9)),
    st.builds(do.FetchCheckpoint, st.booleans()),
    st.builds(do.StartTrainer, st.integers(1, 9), FOLDERS, st.lists(ROLLBACKS, max_size=2).map(tuple)),
    st.builds(do.WriteRollback, ROLLBACKS, WORDS),
    st.builds(do.SendToTrainer, st.one_of(SAVES, STOPS)),
    st.builds(do.SignalTrainer, st.sampled_from(["stacks", "term", "kill"])),
    st.builds(do.UploadCheckpoint, FOLDERS, STEPS),
    st.builds(do.ConfirmDurability, FOLDERS),
    st.builds(do.DeleteStaged, FOLDERS),
    st.builds(do.FlushDrive, SECONDS),
    st.builds(do.RecordSessionEnd, WORDS, st.integers(0, 99), WORDS, MAYBE_STEP),
    st.builds(do.Notify, st.sampled_from(["info", "warning", "error"]), WORDS, WORDS),
    st.builds(do.PublishState, st.just("RUNNING"), st.just("RUNNING"), WORDS, st.integers(0, 9), st.integers(0, 9)),
)

CONFIGS = st.builds(
    Config,
    save_every=st.sampled_from(
        [SaveSchedule(), SaveSchedule("s", 30.0), SaveSchedule("steps", 100.0), SaveSchedule("ep", 1.0)]
    ),
    restarts=st.builds(recovery.RetryPolicy, st.integers(0, 3), st.one_of(st.none(), st.integers(0, 3))),
    liveness=st.sampled_from(
        [liveness.LivenessPolicy(), liveness.LivenessPolicy(enabled=False), liveness.LivenessPolicy(fixed_s=5.0)]
    ),
    time_limit=st.one_of(st.none(), st.builds(TimeLimit, st.sampled_from([60.0, 3600.0, 43200.0]), st.booleans())),
    age_s=st.sampled_from([0.0, 0.0, 100.0, 90000.0]),
    resume=st.sampled_from(["auto", "must", "never"]),
    takeover=st.booleans(),
    visibility_delay_s=st.sampled_from([0.0, 60.0]),
    confirm_every_s=st.sampled_from([0.0, 5.0]),
    can_flush=st.booleans(),
    on_nan=st.sampled_from(["ignore", "stop", "rollback"]),
    on_spike=st.sampled_from(["ignore", "stop", "rollback"]),
    rollback_lr_factor=st.sampled_from([1.0, 0.5]),
)
MAYBE_FOLDER = st.one_of(st.just(""), FOLDERS)
TIMES = st.one_of(st.none(), st.floats(900, 1100))
VITALS = st.builds(liveness.Heartbeats, SECTIONS, st.floats(900, 1100), st.integers(0, 20), NUMBERS)
FINALS = st.sampled_from(["SUCCEEDED", "HANDED_OVER", "FENCED", "FAILED", "CANCELLED"]).map(Phase)
ENDINGS = st.builds(Ending, FINALS, st.integers(0, 99), WORDS, WORDS, *([st.booleans()] * 4))
TIMERS = st.builds(Timers, *([TIMES] * len(fields(Timers))))
FIELDS = {
    "config": CONFIGS,
    "phase": st.sampled_from(list(Phase)),
    "session_id": st.one_of(st.none(), RANKS),
    "started_s": st.floats(0, 1000),
    "seen_s": st.floats(900, 1000),
    "trainer": st.builds(
        TrainerState, st.integers(0, 5), st.booleans(), MAYBE_STEP, SECONDS, VITALS,
        st.one_of(st.none(), st.tuples(st.sampled_from(["setup", "script"]), WORDS)), st.booleans(),
    ),
    "saves": st.builds(
        SaveProgress, newest=FOLDERS, newest_step=MAYBE_STEP, uploading=MAYBE_FOLDER, next_upload=MAYBE_FOLDER, next_upload_step=STEPS,
        durable=st.one_of(st.none(), IDS), save_requested=st.booleans(), save_error=WORDS, last_at_s=st.floats(900, 1000),
        failures=st.integers(0, 9), stall_s=SECONDS, write_s=SECONDS, slow_s=SECONDS, upload_s=SECONDS,
        written_s=TIMES, pending_warning_s=st.floats(900, 1100), unconfirmed=MAYBE_FOLDER,
    ),
    "timers": TIMERS,
    "history": HISTORIES,
    "ending": st.one_of(st.none(), ENDINGS),
    "claim_settled": st.booleans(),
    "environment_ready": st.booleans(),
    "checkpoint": st.one_of(st.none(), FOLDERS),
    "failures": st.integers(0, 5),
    "drain_requested": st.booleans(),
    "writes_suspended": st.booleans(),
    "writes_suspended_s": st.floats(900, 1000),
    "store_error_kind": st.sampled_from(["", "", "gone", "hung", "unreadable"]),
    "store_error_s": st.floats(900, 1000),
    "environment_requested": st.booleans(),
    "probe_sent": st.booleans(),
    "probed_s": TIMES,
    "probes_answered": st.integers(0, 3),
    "active_rollbacks": st.lists(ROLLBACKS, max_size=2).map(tuple),
    "first_durable_past_anomaly": MAYBE_STEP,
    "rollback": st.one_of(st.none(), ROLLBACKS),
    "rollback_recorded": st.booleans(),
}  # fmt: skip
SESSIONS = st.builds(Session, **FIELDS)
