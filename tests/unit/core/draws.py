"""Any event, any configuration, any session: what the laws of the core are tried on."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import strategies as st

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import liveness, messages, recovery
from supervisor.core.checkpoint import CheckpointId
from supervisor.core.claim import Rank, Sighting
from supervisor.core.deadline import Lifetime
from supervisor.core.rollback import Rollback
from supervisor.core.session import Config, Ending, Phase, SaveEvery, Saves, Session, Timers, Trainer

WRITERS = st.sampled_from(["aaaa", "bbbb", "cccc"])
RANKS = st.builds(Rank, st.integers(1, 5), WRITERS)
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
    messages.Beat, STEPS, SECTIONS, MAYBE_STEP, st.one_of(st.none(), SECONDS), st.one_of(st.none(), SECONDS), NUMBERS,
    NUMBERS, METRICS,
)  # fmt: skip
STAGED = st.builds(messages.Staged, STEPS, FOLDERS, st.integers(0, 9), WORDS, SECONDS, SECONDS)
SAVES = st.builds(messages.Save, WORDS)
TROUBLES = st.builds(
    messages.Trouble, STEPS, st.sampled_from(["loss", "val_loss"]), WORDS, st.sampled_from(["nan", "spike"]), MAYBE_STEP
)


@st.composite
def _rollbacks(draw):
    """Draw what a session can have left: it passes over nothing, or what led to the trouble and the trouble itself."""
    trouble, tries = draw(STEPS), draw(st.integers(0, 2))
    limit = draw(st.integers(0, trouble))
    passed_over = (draw(st.integers(0, trouble)), trouble + 1) if tries else (0, 0)
    return Rollback(draw(RANKS), limit, trouble, *passed_over, tries, draw(st.sampled_from([1.0, 0.5])))


ROLLBACKS = _rollbacks()
STOPS = st.builds(messages.Stop, WORDS, st.booleans(), SECONDS)
MESSAGES = st.one_of(
    st.builds(messages.Hello, st.integers(1, 9), st.integers(1, 9), st.booleans(), WORDS, WORDS),
    BEATS,
    st.builds(messages.Restored, STEPS, SECONDS),
    STAGED,
    st.builds(messages.SaveFailed, STEPS, WORDS),
    st.builds(messages.Saved, WORDS, MAYBE_STEP, st.booleans()),
    st.builds(messages.Note, st.sampled_from(["info", "warning"]), WORDS),
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
        Sighting,
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
FENCES = st.builds(ev.FenceSeen, NAMES, st.sampled_from(["", "", "", "save", "now"]))
OUTCOMES = {
    "store": st.one_of(
        st.builds(ev.Submitted, FOLDERS, IDS, STEPS),
        st.builds(ev.Unconfirmed, FOLDERS, WORDS, st.booleans()),
        st.builds(ev.Durable, FOLDERS, IDS, STEPS, SECONDS, st.just("fsync")),
        st.builds(ev.PublishFailed, FOLDERS, WORDS, st.booleans()),
        st.builds(ev.Retained, st.lists(IDS, max_size=2).map(tuple), STEPS),
        st.builds(ev.RetainFailed, WORDS),
        FENCES,
        st.builds(ev.FenceUnreadable, WORDS, st.sampled_from(["unreadable", "gone", "hung"])),
        st.builds(ev.Flushed, st.one_of(st.none(), IDS), st.sampled_from(["", "it hangs"])),
        st.just(ev.JournalWritten()),
        st.builds(ev.JournalFailed, WORDS),
        st.builds(ev.RollbackWritten, WORDS),
        st.builds(ev.EndWritten, WORDS),
    ),
    "start": st.one_of(
        st.just(ev.Started()),
        st.builds(ev.Looked, NAMES, SIGHTINGS, st.booleans()),
        st.builds(ev.Knocked, st.sampled_from(["", "Input/output error"])),
        st.builds(ev.ClaimWritten, RANKS),
        st.builds(ev.EnvironmentReady, SECONDS, st.just(("numpy",)), st.just(("another GPU",))),
        HISTORIES,
        st.builds(
            ev.CheckpointReady,
            FOLDERS,
            st.one_of(st.none(), IDS),
            st.booleans(),
            st.booleans(),
            rolled=st.lists(ROLLBACKS, max_size=2).map(tuple),
        ),
        st.builds(ev.SetupFailed, WORDS, WORDS, st.sampled_from([3, 4])),
        st.builds(ev.Launched, st.integers(1, 9)),
    ),
    "world": st.one_of(
        st.builds(ev.Signalled, st.sampled_from(["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])),
        st.builds(ev.Notice, SECONDS, WORDS, st.booleans()),
        st.builds(ev.MachineSeen, st.sampled_from(["", "1 x Tesla T4, 15 GB"]), WORDS, WORDS),
        st.builds(ev.LivesRead, st.lists(SECONDS, max_size=3).map(tuple)),
        st.builds(ev.MemorySeen, STEPS, STEPS),
        st.builds(ev.TrainerSeen, st.one_of(st.none(), SECONDS)),
        st.builds(ev.ControllerFailed, WORDS),
    ),
    "trainer": st.one_of(
        MESSAGES.map(ev.TrainerSaid), st.builds(messages.Malformed, WORDS, WORDS).map(ev.TrainerSaid), EXITS
    ),
}
EVENTS = st.one_of(st.just(ev.Woke()), *OUTCOMES.values())
COMMANDS = st.one_of(
    *(
        st.just(kind())
        for kind in (do.Look, do.PrepareEnvironment, do.ReadHistory, do.Retain, do.LookAtFence, do.WriteJournal)
    ),
    st.builds(do.WriteClaim, st.integers(1, 9)),
    st.builds(do.Knock, st.integers(1, 9), WRITERS),
    st.builds(do.Answer, st.integers(1, 9)),
    st.builds(do.Restore, st.booleans()),
    st.builds(do.Launch, st.integers(1, 9), FOLDERS, st.lists(ROLLBACKS, max_size=2).map(tuple)),
    st.builds(do.WriteRollback, ROLLBACKS, WORDS),
    st.builds(do.Tell, st.one_of(SAVES, STOPS)),
    st.builds(do.EndTrainer, st.sampled_from(["stacks", "term", "kill"])),
    st.builds(do.Publish, FOLDERS, STEPS),
    st.builds(do.Confirm, FOLDERS),
    st.builds(do.Discard, FOLDERS),
    st.builds(do.Flush, SECONDS),
    st.builds(do.WriteEnd, WORDS, st.integers(0, 99), WORDS, MAYBE_STEP),
    st.builds(do.Say, st.sampled_from(["info", "warning", "error"]), WORDS, WORDS),
    st.builds(do.Announce, st.just("RUNNING"), st.just("RUNNING"), WORDS, st.integers(0, 9), st.integers(0, 9)),
)

CONFIGS = st.builds(
    Config,
    save_every=st.sampled_from([SaveEvery(), SaveEvery("s", 30.0), SaveEvery("steps", 100.0), SaveEvery("ep", 1.0)]),
    restarts=st.builds(recovery.Policy, st.integers(0, 3), st.one_of(st.none(), st.integers(0, 3))),
    liveness=st.sampled_from([liveness.Policy(), liveness.Policy(enabled=False), liveness.Policy(fixed_s=5.0)]),
    lifetime=st.one_of(st.none(), st.builds(Lifetime, st.sampled_from([60.0, 3600.0, 43200.0]), st.booleans())),
    age_s=st.sampled_from([0.0, 0.0, 100.0, 90000.0]),
    resume=st.sampled_from(["auto", "must", "never"]),
    takeover=st.booleans(),
    settle_s=st.sampled_from([0.0, 60.0]),
    confirm_every_s=st.sampled_from([0.0, 5.0]),
    can_flush=st.booleans(),
    on_nan=st.sampled_from(["ignore", "stop", "rollback"]),
    on_spike=st.sampled_from(["ignore", "stop", "rollback"]),
    nan_rate=st.sampled_from([1.0, 0.5]),
)
MAYBE_FOLDER = st.one_of(st.just(""), FOLDERS)
TIMES = st.one_of(st.none(), st.floats(900, 1100))
VITALS = st.builds(liveness.Vitals, SECTIONS, st.floats(900, 1100), st.integers(0, 20), NUMBERS)
FINALS = st.sampled_from(["SUCCEEDED", "HANDED_OVER", "FENCED", "FAILED", "CANCELLED"]).map(Phase)
ENDINGS = st.builds(Ending, FINALS, st.integers(0, 99), WORDS, WORDS, *([st.booleans()] * 4))
TIMERS = st.builds(Timers, *([TIMES] * len(fields(Timers))))
FIELDS = {
    "config": CONFIGS,
    "phase": st.sampled_from(list(Phase)),
    "rank": st.one_of(st.none(), RANKS),
    "started_s": st.floats(0, 1000),
    "seen_s": st.floats(900, 1000),
    "trainer": st.builds(
        Trainer, st.integers(0, 5), st.booleans(), MAYBE_STEP, SECONDS, VITALS,
        st.one_of(st.none(), st.tuples(st.sampled_from(["setup", "script"]), WORDS)), st.booleans(),
    ),
    "saves": st.builds(
        Saves, newest=FOLDERS, newest_step=MAYBE_STEP, publishing=MAYBE_FOLDER, waiting=MAYBE_FOLDER, waiting_step=STEPS,
        durable=st.one_of(st.none(), IDS), asked=st.booleans(), lost=WORDS, last_at_s=st.floats(900, 1000),
        failures=st.integers(0, 9), stall_s=SECONDS, write_s=SECONDS, slow_s=SECONDS, upload_s=SECONDS,
        submitted_at_s=TIMES, warn_at_s=st.floats(900, 1100), unproved=MAYBE_FOLDER,
    ),
    "timers": TIMERS,
    "history": HISTORIES,
    "ending": st.one_of(st.none(), ENDINGS),
    "settled": st.booleans(),
    "environment_ready": st.booleans(),
    "checkpoint": st.one_of(st.none(), FOLDERS),
    "failures": st.integers(0, 5),
    "drained": st.booleans(),
    "frozen": st.booleans(),
    "frozen_at_s": st.floats(900, 1000),
    "dark": st.sampled_from(["", "", "gone", "hung", "unreadable"]),
    "dark_since_s": st.floats(900, 1000),
    "preparing": st.booleans(),
    "knocking": st.booleans(),
    "knocked_s": TIMES,
    "answered": st.integers(0, 3),
    "rolled": st.lists(ROLLBACKS, max_size=2).map(tuple),
    "passed": MAYBE_STEP,
    "rollback": st.one_of(st.none(), ROLLBACKS),
    "recorded": st.booleans(),
}  # fmt: skip
SESSIONS = st.builds(Session, **FIELDS)
