"""A fit by Lightning that is interrupted anywhere ends as if it had not been, and no read sample is read again."""

import signal
from pathlib import Path

import pytest

import supervisor
from supervisor.core.errors import UserError
from supervisor.core.messages import Finished, ScriptFailed
from supervisor.trainer import ends, life
from tests.frameworks.lightning_fits import (
    Cycle,
    Gan,
    Net,
    Plateau,
    Rows,
    data,
    fitted,
    in_module,
    left,
    pl,
    shuffled,
    single,
    stateful,
    stateful_stream,
    stream,
    two_loaders,
    weighted,
    with_generator,
)  # fmt: skip

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Return a function that fits as a process of its own would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(life, "_here", list(life._here))
    return lambda *given, **options: fitted(tmp_path, *given, **options)


KINDS = {
    "shuffled": (shuffled(), {}),
    "accumulated": (shuffled(), {"accumulate_grad_batches": 2}),
    "with a generator": (with_generator, {}),
    "weighted": (weighted, {}),
    "one by one": (single, {"module": Plateau}),
    "the longest of two": (two_loaders("max_size_cycle"), {}),
    "the shortest of two": (two_loaders("min_size"), {}),
    "none where one is over": (two_loaders("max_size"), {}),
    "stateful": (stateful(), {}),
    "a stateful stream": (stateful_stream, {}),
    "a plateau": (shuffled(), {"module": Plateau}),
    "a cycle": (shuffled(), {"module": Cycle}),
    "by hand": (shuffled(), {"module": Gan}),
    "steps": (shuffled(), {"max_steps": 13, "max_epochs": -1}),
    "few batches": (shuffled(), {"limit_train_batches": 3, "max_epochs": 4}),
    "validation within": (shuffled(), {"val_check_interval": 2}),
    "a data module": (in_module, {"loaders": False}),
    "loaders made anew": (shuffled(), {"reload_dataloaders_every_n_epochs": 2}),
    "stopped early": (
        shuffled(),
        {"callbacks": lambda: [pl.callbacks.EarlyStopping("val", min_delta=10.0, patience=1)], "max_epochs": 9},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_any_step_it_ends_as_if_it_had_not_been(process, kind):
    make, options = KINDS[kind]
    process("whole", make, **options)
    total, *_ = wanted = left("whole")
    for stop_at in range(1, total + 1) if kind == "shuffled" else sorted({2, 5, min(8, total), total}):
        process(f"stopped-{stop_at}", make, stop_at, **options)
        assert left(f"stopped-{stop_at}")[0] == stop_at
        process(f"stopped-{stop_at}", make, **options)
        assert left(f"stopped-{stop_at}") == wanted, stop_at


@pytest.mark.parametrize("done", [1, 99])
def test_a_resume_reads_what_is_left_of_the_epoch_and_nothing_else(process, done):
    make = shuffled(100, batch_size=1)
    rows, _ = process("whole", make, done, max_epochs=1)
    assert len(rows.reads) == done
    rest, _ = process("whole", make, max_epochs=1)
    assert len(rest.reads) == 100 - done
    assert sorted(rows.reads + rest.reads) == list(range(100))


def test_what_can_only_be_read_in_order_is_read_again_and_it_is_said(process, capsys):
    process("whole", stream)
    process("stopped", stream, 8)
    rows, _ = process("stopped", stream)
    assert rows.reads == [*range(10), *range(10)]
    assert "3 batches of this epoch are read again" in capsys.readouterr().err
    assert left("stopped")[0] == left("whole")[0]


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_with_workers_the_order_of_the_samples_is_the_same(process, persistent):
    seen = []

    class Seeing(Net):
        def on_train_batch_start(self, batch, index):
            seen.append(batch[:, 0].tolist())

    make = shuffled(num_workers=2, persistent_workers=persistent)
    process("whole", make, module=Seeing)
    whole, seen[:] = list(seen), []
    for stop_at in (2, 5, 8):
        process(f"stopped-{stop_at}", make, stop_at, module=Seeing)
        process(f"stopped-{stop_at}", make, module=Seeing)
        resumed, seen[:] = list(seen), []
        assert resumed == whole


def test_one_step_is_one_update_and_an_epochs_end_belongs_to_its_last_step(process):
    _, trainer = process("whole", shuffled(), accumulate_grad_batches=2)
    assert (life.here().run.step, trainer.global_step) == (9, 9)
    step, _, rows = left("whole")
    assert (step, [row["step"] for row in rows]) == (9, list(range(9)))
    assert [row["step"] for row in rows if "train_epoch" in row] == [2, 5, 8]
    assert [row["step"] for row in rows if "val" in row] == [2, 5, 8]


def test_a_fit_that_was_done_when_it_ended_is_not_done_again_but_ended_again(process):
    class Ended(pl.Callback):
        calls = 0

        def on_train_end(self, trainer, module):
            Ended.calls += 1

    process("whole", shuffled(), callbacks=lambda: [Ended()])
    rows, _ = process("whole", shuffled(), callbacks=lambda: [Ended()])
    assert (rows.reads, Ended.calls) == ([], 2)


def test_told_to_end_it_is_saved_after_the_step_and_the_exit_code_is_kept(process):
    class Told(Net):
        def on_train_batch_start(self, batch, index):
            if self.global_step == 6:
                signal.raise_signal(signal.SIGTERM)

    process("whole", shuffled())
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            process("stopped", shuffled(), module=Told)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (ended.value.code, left("stopped")[0]) == (143, 7)
    process("stopped", shuffled())
    assert left("stopped") == left("whole")


def test_after_an_error_within_a_step_nothing_is_saved(process):
    class Failing(Net):
        def on_before_zero_grad(self, optimizer):
            if self.global_step == 6:
                raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        process("failed", shuffled(), module=Failing)
    life.here().run.flush()
    assert life.here().failed
    assert not [path for path in Path("failed").iterdir() if path.name.startswith("step-")]


def test_the_scores_of_a_model_checkpoint_come_back_though_its_folder_is_elsewhere(process, tmp_path, monkeypatch):
    def kept(folder):
        return lambda: [pl.callbacks.ModelCheckpoint(folder, monitor="val", save_top_k=-1)]

    process("stopped", shuffled(), 10, enable_checkpointing=True, callbacks=kept("models"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    _, moved = process("stopped", shuffled(), 11, enable_checkpointing=True, callbacks=kept("models"))
    best = moved.checkpoint_callback
    assert Path(best.best_model_path).parent == tmp_path / "elsewhere" / "models"
    assert len(best.best_k_models) == 2
    _, renamed = process("stopped", shuffled(), 12, enable_checkpointing=True, callbacks=kept("version_1"))
    assert renamed.checkpoint_callback.best_model_score == best.best_model_score
    assert renamed.checkpoint_callback.best_k_models.keys() == best.best_k_models.keys()


def test_a_loader_is_the_scripts_own_again_when_fit_has_ended(process):
    made = []

    def make():
        made.append(shuffled()())
        return made[-1]

    process("whole", make)
    assert type(made[0][1].batch_sampler) is data.BatchSampler


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (two_loaders("min_size"), {}, "loaders of the kinds"),
        (shuffled(), {"module": Gan}, "does not fit"),
    ],
)
def test_a_checkpoint_of_another_script_is_refused(process, make, options, words):
    process("stopped", shuffled(), 7)
    with pytest.raises(UserError, match=words):
        process("stopped", make, **options)


def test_what_cannot_be_kept_is_refused_in_two_lines(process):
    class Taking(Net):
        def training_step(self, dataloader_iter):
            raise NotImplementedError

    with pytest.raises(UserError, match="takes its batches itself"):
        process("taking", shuffled(), module=Taking)
    callback = supervisor.LightningCallback()
    many = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match="keeps one process, and this trainer has 2"):
        callback.setup(many, Net(), "fit")
    other = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    del other.fit_loop.epoch_loop.batch_progress
    with pytest.raises(UserError, match=r"no trainer.fit_loop.epoch_loop.batch_progress"):
        callback.setup(other, Net(), "fit")


def test_a_second_fit_is_refused_and_validation_is_not(process):
    _, trainer = process("whole", shuffled(), 15)
    trainer.validate(Net(), data.DataLoader(Rows(4), 2), verbose=False)
    with pytest.raises(UserError, match="its second"):
        trainer.fit(Net(), shuffled()()[1])


class Leaves(Net):
    """Leaves its epochs in the way that it is told to, from the fourth batch of all on."""

    def __init__(self, how):
        super().__init__()
        self.how, self.batches = how, 0

    def on_train_batch_start(self, batch, index):
        self.batches += 1
        return -1 if self.how == "the hook returns -1" and self.batches > 3 else None

    def training_step(self, batch, index):
        if self.batches > 3 and self.how == "StopIteration":
            raise StopIteration
        if self.batches > 3 and self.how == "next() of an iterator that is over":
            next(iter(()))
        if self.batches > 3 and self.how == "should_stop":
            self.trainer.should_stop = True
        return super().training_step(batch, index)


class Overstated(data.DataLoader):
    def __len__(self):
        return super().__len__() + 2


def overstated():
    rows = Rows(6)
    return rows, Overstated(rows, 2)


@pytest.mark.parametrize("how", ["StopIteration", "next() of an iterator that is over"])
def test_a_fit_that_a_stop_iteration_cuts_short_is_no_success(process, capsys, how):
    process("run", shuffled(), module=lambda: Leaves(how))
    assert life.here().run.step == 3
    told = ends.word(life.here(), None)
    assert isinstance(told, ScriptFailed)
    assert (told.kind, "at step 3 of 15" in told.message) == ("short", True)
    assert "fit() ended at step 3 of 15, and nothing asked for that" in capsys.readouterr().err


def test_a_fit_whose_data_run_out_before_their_length_is_no_success(process):
    process("run", overstated)
    assert ends.word(life.here(), None).kind == "short"


@pytest.mark.parametrize("how", ["the hook returns -1", "should_stop"])
def test_a_fit_that_lightning_is_told_to_stop_is_a_success(process, capsys, how):
    process("run", shuffled(), module=lambda: Leaves(how))
    told = ends.word(life.here(), None)
    assert isinstance(told, Finished)
    assert told.step < 15
    assert "nothing asked for that" not in capsys.readouterr().err


def test_a_fit_whose_time_is_over_is_a_success(process):
    process("run", shuffled(count=400), max_time={"milliseconds": 1}, max_epochs=50)
    assert isinstance(ends.word(life.here(), None), Finished)
