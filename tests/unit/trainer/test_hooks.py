"""A script that nobody changed is watched: steps, losses and saves are seen, and nothing else about it is different."""

from __future__ import annotations

import copy
import gc
import math
import os
import shutil
import subprocess
import sys
import time
import weakref
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from supervisor.core.liveness import AFTER
from supervisor.core.messages import Note, Save, Saved, Stop, Trouble
from supervisor.trainer import hooks
from supervisor.trainer.hooks import importing
from supervisor.trainer.hooks import keras as keras_hook
from supervisor.trainer.hooks.asked import Asked
from supervisor.trainer.hooks.guard import guard_methods, guarded
from supervisor.trainer.hooks.saves import MOVES, count_before, tell_after
from supervisor.trainer.hooks.unattached import LOSS, Unattached
from supervisor.trainer.hooks.writers import by_argument
from supervisor.trainer.life import Life
from supervisor.trainer.settings import read_settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def script(monkeypatch):
    """Return a watched script whose words are kept; what it follows is put back."""
    for module, name in MOVES:
        monkeypatch.setattr(module, name, getattr(module, name))
    watched, said = made()
    watched.said = said
    return watched


def made(**environ):
    life = Life(read_settings(environ, "train.py"))
    said = []
    life.say = said.append
    script = Unattached(life)
    life.watch(script)
    return script, said


def saves(script):
    return [each for each in script.said if isinstance(each, Saved)]


# --- what is imported is hooked, and nothing else is imported ---------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that puts a module where it can be imported, and have the finders put back."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(name, text):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(text)

    return put


def test_a_module_is_told_when_all_of_it_was_loaded(package):
    package("framework_a", "value = 1\nlater = value + 1\n")
    told = []
    importing.call_after_import(["framework_a"], lambda module: told.append((module.__name__, module.later)))
    assert told == []
    import framework_a

    assert told == [("framework_a", 2)]
    assert type(framework_a.__spec__.loader) is SourceFileLoader


def test_a_module_that_is_there_already_is_told_at_once(package):
    package("framework_b", "")
    import framework_b

    told = []
    importing.call_after_import(["framework_b"], told.append)
    assert told == [framework_b]


def test_a_module_that_fails_to_load_is_told_when_it_loads_at_last(package, tmp_path):
    package("framework_c", "raise OSError('not now')")
    told = []
    importing.call_after_import(["framework_c", "framework_d"], told.append)
    with pytest.raises(OSError, match="not now"):
        import framework_c
    with pytest.raises(ImportError):
        import framework_d
    package("framework_c", "")
    package("framework_d", "")
    sys.path_importer_cache.clear()
    import framework_c
    import framework_d

    assert told == [framework_c, framework_d]


def test_a_hook_that_fails_is_told_once_and_the_import_succeeds(package, script, monkeypatch):
    package("framework_e", "")
    monkeypatch.setitem(hooks.ROWS, "framework_e", "torch")
    hooks.install(script)
    import framework_e

    assert framework_e.__name__ == "framework_e"
    (note,) = script.said
    assert note.level == "warning"
    assert "framework_e cannot be watched" in note.text


@pytest.mark.slow
def test_the_runner_imports_no_framework_that_the_script_does_not_import(tmp_path):
    watched = tmp_path / "train.py"
    watched.write_text(f"import sys\nprint(sorted(set({sorted(hooks.ROWS)}) & set(sys.modules)))\n")
    for on in ("", "off"):
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "SUPERVISOR_RUN_HOOKS": on}
        ran = subprocess.run(
            [sys.executable, "-m", "supervisor.trainer", str(watched)], env=environ, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert ran.stdout == "[]\n"


def test_hooks_can_be_switched_off():
    assert read_settings({}, "train.py").hooks
    assert not read_settings({"SUPERVISOR_RUN_HOOKS": "off"}, "train.py").hooks


# --- what is counted, and what it becomes -----------------------------------------------------------------------------


def test_the_first_beat_says_that_it_lives_and_the_next_come_when_something_moved(script):
    assert (script.beat().step, script.sections.name) == (0, "start")
    assert script.beat() is None
    script.stepped()
    beat = script.beat()
    assert (beat.step, beat.section) == (1, "step")


def test_a_resumed_script_counts_on_from_its_files(script):
    resumed, _ = made(SUPERVISOR_RUN_BASE_STEP="40")
    assert resumed.beat().step == 40
    resumed.stepped()
    assert resumed.beat().step == 41
    assert script.beat().step == 0


def test_a_plain_loop_teaches_no_time_out_but_a_framework_s_loop_does(script):
    for _ in range(3):
        script.stepped()
    assert "step" not in script.beat().longest_s
    script.loop_began(Loop(), 3, 10)
    script.stepped(4)
    beat = script.beat()
    assert "step" in beat.longest_s
    assert beat.total_steps == 10
    script.loop_ended()
    assert script.beat().section == AFTER


def test_a_loss_that_is_no_number_is_told_once_a_streak(script):
    for value in (0.5, math.nan, math.nan, 0.4, math.inf, "word", None):
        script.stepped()
        script.values[LOSS] = value
        script.beat()
    assert [each.text for each in script.said] == ["loss is nan at step 2", "loss is inf at step 5"]
    assert all(each.level == "warning" for each in script.said)


def test_a_trouble_that_the_supervisor_acts_on_is_told_with_the_last_step_that_was_fine(monkeypatch):
    script, said = made(SUPERVISOR_RUN_CHANNEL="channel", SUPERVISOR_RUN_ON_NAN="stop", SUPERVISOR_RUN_BASE_STEP="10")
    for value in (0.5, 0.5 + 1e-9, None, math.nan):
        script.stepped()
        script.values = {LOSS: value, "accuracy": math.nan}
        script.beat()
    assert said[0] == Note("warning", "accuracy is nan at step 11")
    assert said[1:] == [Trouble(13, LOSS, "nan", "nan", fine=11)]


def test_a_value_that_was_judged_says_nothing_of_later_steps():
    script, said = made(SUPERVISOR_RUN_CHANNEL="channel", SUPERVISOR_RUN_ON_NAN="rollback")
    once = 0.5
    for value in (once, once, once, math.nan):
        script.stepped()
        script.values = {LOSS: value}
        script.beat()
    assert said == [Trouble(3, LOSS, "nan", "nan", fine=0)]


def test_a_script_that_cannot_leave_out_steps_says_so_once():
    script, said = made(SUPERVISOR_RUN_CHANNEL="channel", SUPERVISOR_RUN_ROLLBACKS="e00000001-a:3:6:1")
    for _ in range(3):
        script.beat()
        script.stepped()
    assert [each.level for each in said] == ["warning"]
    assert "nothing is left out" in said[0].text


def test_what_is_no_finite_number_is_a_word_in_a_beat(script):
    script.values[LOSS] = math.nan
    assert script.beat().metrics == {"loss": "nan"}


def test_an_attached_script_speaks_for_itself(script):
    script._life.run = object()
    script.stepped()
    script.saves.found("a.pt")
    script.say(Note("info", "words"))
    assert script.said == []


# --- what is saved ----------------------------------------------------------------------------------------------------


def test_a_save_is_told_with_its_whole_path_and_step(script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", sys)
    script.saves.found("before.pt")
    script.stepped()
    script.saves.found("a.pt")
    assert saves(script) == [Saved(str(tmp_path / "before.pt"), 0), Saved(str(tmp_path / "a.pt"), 1)]


def test_a_save_of_a_script_whose_steps_nobody_counts_has_no_step(script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    script.saves.found("a.joblib")
    assert saves(script) == [Saved(str(tmp_path / "a.joblib"), None)]


def test_a_torch_loop_without_an_optimizer_claims_no_step(script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", sys)
    script.begins()  # as its first backward does
    script.saves.found("a.pt")
    assert saves(script) == [Saved(str(tmp_path / "a.pt"), None)]


def test_the_files_of_a_folder_that_is_saved_are_told_as_the_folder(script, tmp_path):
    with script.saves.within():
        script.saves.found(tmp_path / "checkpoint" / "weights")
        with script.saves.within():
            script.saves.found(tmp_path / "checkpoint" / "optimizer.pt")
        script.saves.found(tmp_path / "checkpoint")
        assert saves(script) == []
    assert [each.path for each in saves(script)] == [str(tmp_path / "checkpoint")]


def test_of_a_save_that_fails_nothing_is_told(script, tmp_path):
    def fails():
        with script.saves.within():
            script.saves.found(tmp_path / "a.pt")
            raise OSError(28, "no room")

    with pytest.raises(OSError, match="no room"):
        fails()
    assert saves(script) == []
    script.saves.found(tmp_path / "b.pt")
    assert [each.path for each in saves(script)] == [str(tmp_path / "b.pt")]


def test_what_was_saved_is_followed_to_its_new_name(script, tmp_path):
    for name in ("a.tmp", "other.tmp"):
        (tmp_path / name).touch()
    script.saves.found(tmp_path / "a.tmp")
    (tmp_path / "a.tmp").replace(tmp_path / "a.pt")
    shutil.copy(tmp_path / "a.pt", tmp_path / "best.pt")
    (tmp_path / "other.tmp").rename(tmp_path / "other")
    assert [Path(each.path).name for each in saves(script)] == ["a.tmp", "a.pt", "best.pt"]


def test_a_renamed_folder_is_followed_too(script, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.pt").touch()
    script.saves.found(tmp_path / "new" / "a.pt")
    (tmp_path / "new").rename(tmp_path / "checkpoint")
    assert [Path(each.path).name for each in saves(script)] == ["a.pt", "checkpoint"]


def test_an_open_file_is_told_when_it_was_closed(script, tmp_path):
    script.stepped()
    with (tmp_path / "a.pt").open("wb") as file:
        script.saves.found(file)
        script.beat()
        assert saves(script) == []
    script.stepped()
    script.beat()
    assert saves(script) == [Saved(str(tmp_path / "a.pt"), 1)]


def test_a_file_that_is_nowhere_is_not_told(script):
    import io

    member = io.BytesIO()
    member.name = "policy.pth"  # as zipfile names what it writes into an archive, from Python 3.13 on
    for written in (io.BytesIO(), member, "s3://bucket/a.pt", None, 7):
        script.saves.found(written)
    assert script.said == []


def test_a_function_that_saves_tells_what_it_was_given_or_returned(script, tmp_path):
    class Library:
        @staticmethod
        def dump(value, target=None):
            return target or str(tmp_path / f"{value}.bin")

    tell_after(script, Library, "dump", by_argument("target"))
    assert Library.dump("one") == str(tmp_path / "one.bin")
    Library.dump("two", target=tmp_path / "two")
    assert [Path(each.path).name for each in saves(script)] == ["one.bin", "two"]


def test_of_the_saves_that_were_asked_for_the_newest_is_kept_and_none_of_the_script_s_own(tmp_path):
    asked, own = Asked(), tmp_path / "own"
    own.touch()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        asked.done(str(tmp_path / name), asked=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "own"]
    asked.done(str(own), asked=False)
    asked.done(str(tmp_path / "c"), asked=False)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


# --- what is asked of it ----------------------------------------------------------------------------------------------


class Loop:
    """A framework's loop that ends within 10 s."""

    saves_when_asked = True

    def __init__(self):
        self.asked = []

    def save_soon(self):
        self.asked.append("save")

    def end_soon(self, grace_s):
        self.asked.append("end")
        return grace_s >= 10


def test_a_framework_is_asked_to_save_and_to_end_and_the_system_where_it_cannot(script, monkeypatch):
    signals = []
    monkeypatch.setattr(os, "kill", lambda _, number: signals.append(number))
    script.asked_to_save(Save("due"))
    loop = Loop()
    script.loop_began(loop, 0, None)
    script.asked_to_save(Save("due"))
    script.asked_to_stop(Stop("stop", save=True, grace_s=30.0))
    assert (loop.asked, signals) == (["save", "end"], [])
    script.asked_to_stop(Stop("stop", save=True, grace_s=3.0))
    script.asked_to_stop(Stop("stop", save=False, grace_s=30.0))
    script.loop_ended()
    script.asked_to_stop(Stop("stop", save=True, grace_s=30.0))
    assert len(signals) == 3


# --- torch ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch(monkeypatch, script):
    """Return torch with its hook, which is taken out again."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install torch")
    from torch.optim import optimizer

    from supervisor.trainer.hooks import torch as hook

    for owner, name in (
        (torch.autograd, "backward"), (torch, "save"), (torch.serialization, "save"), (torch.nn.Module, "eval"),
        (torch.amp.GradScaler, "scale"), (optimizer, "_global_optimizer_post_hooks"),
        (torch.nn.Module, "load_state_dict"), (torch.optim.Optimizer, "load_state_dict"), (torch, "load"), (torch.jit, "load"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, getattr(owner, name))
    before = dict(optimizer._global_optimizer_post_hooks)
    hook.install(torch, script)
    yield torch
    optimizer._global_optimizer_post_hooks.clear()
    optimizer._global_optimizer_post_hooks.update(before)


def one_step(torch, model, *optimizers, scale=lambda loss: loss):
    loss = model(torch.ones(2, 3)).sum()
    scale(loss).backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def wait_until_gone(reference, *, rounds=300):
    """Return when the object is deleted: another thread's frame may hold it for a moment longer."""
    for _ in range(rounds):
        gc.collect()
        if reference() is None:
            return
        time.sleep(0.1)  # between looks: at most 30 s in all
    pytest.fail(f"still held by {[type(holder) for holder in gc.get_referrers(reference())]}")


@pytest.mark.torch
def test_steps_are_counted_by_the_first_of_several_optimizers(torch, script):
    model = torch.nn.Linear(3, 1)
    first, second = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    for _ in range(3):
        loss = one_step(torch, model, first, second)
    assert script.step == 3
    assert script.beat().metrics == {"loss": pytest.approx(loss)}
    gone = weakref.ref(first)
    del first
    wait_until_gone(gone)
    one_step(torch, model, second)
    assert script.step == 4


@pytest.mark.torch
def test_another_optimizer_counts_when_the_first_one_is_not_used_any_more(torch, script):
    from supervisor.trainer.hooks.torch import IDLE_STEPS

    model = torch.nn.Linear(3, 1)
    first, second = (torch.optim.SGD(model.parameters(), lr=0.0) for _ in range(2))
    one_step(torch, model, first)
    for _ in range(IDLE_STEPS + 5):
        second.step()
    assert script.step == 1 + 6


@pytest.mark.torch
def test_a_scaled_loss_is_told_as_it_was_before(torch, script):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    loss = one_step(torch, model, scale=scaler.scale)
    assert script.beat().metrics == {"loss": pytest.approx(loss)}
    scaler.step(optimizer)
    assert script.step == 1


@pytest.mark.torch
def test_a_step_that_the_scaler_leaves_out_is_no_step(torch, script):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(model(torch.ones(2, 3)).sum() * math.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    assert script.step == 0


@pytest.mark.torch
def test_evaluation_is_a_section_of_its_own_until_the_next_step(torch, script):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.eval()
    assert script.sections.name == "start"
    one_step(torch, model, optimizer)
    model.eval()
    assert script.sections.name == "eval"
    one_step(torch, model, optimizer)
    assert script.sections.name == "step"


@pytest.mark.torch
def test_what_torch_saves_is_told_and_loads_as_ever(torch, script, tmp_path):
    import io

    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    torch.save({"a": 1}, io.BytesIO())
    assert [each.path for each in saves(script)] == [str(tmp_path / "a.pt")]
    assert torch.load(tmp_path / "a.pt", weights_only=True)["a"].tolist() == [1.0, 1.0]


def _network(torch, model, optimizer, path):
    model.load_state_dict(model.state_dict())


def _both(torch, model, optimizer, path):
    model.load_state_dict(model.state_dict())
    optimizer.load_state_dict(optimizer.state_dict())


def _whole(torch, model, optimizer, path):
    torch.save({"model": model, "epoch": 3}, path)
    torch.load(path, weights_only=False)


def _epoch_alone(torch, model, optimizer, path):
    torch.save({"model": model.state_dict(), "epoch": 3}, path)
    torch.load(path)


def _copied(torch, model, optimizer, path):
    copy.deepcopy(model)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("loads", "seen"),
    [
        (_network, {"network"}),
        (_both, {"network", "optimizer"}),
        (_whole, {"network"}),
        (_epoch_alone, set()),
        (_copied, set()),
    ],
)
def test_what_has_loaded_a_state_before_training_is_noted(torch, script, tmp_path, loads, seen):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loads(torch, model, optimizer, tmp_path / "kept.pt")
    one_step(torch, model, optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    assert script.loads == seen, "what is loaded after the first step says nothing of a resume"


@pytest.mark.torch
def test_while_a_framework_has_the_loop_optimizers_do_not_count(torch, script):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    script.loop_began(Loop(), 7, None)
    one_step(torch, model, optimizer)
    assert (script.step, script.values) == (7, {})


@pytest.mark.torch
def test_training_is_the_same_with_the_hook(torch):
    from torch.optim import optimizer as hooked

    def trained():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(5):
            optimizer.zero_grad()
            one_step(torch, model, optimizer)
        return [each.tolist() for each in model.parameters()]

    with_hook = trained()
    hooked._global_optimizer_post_hooks.clear()
    torch.autograd.backward = torch.autograd.backward.__wrapped__
    assert trained() == with_hook


# --- an error of a hook is no error of the script ---------------------------------------------------------------------


def test_an_error_in_a_hook_is_told_once_and_the_function_goes_on(script, tmp_path):
    class Model:
        def save(self, filepath):
            Path(filepath).write_text("weights")
            return "saved"

    def fails(*_):
        raise TypeError("int() argument must be a number\nmore of it")

    count_before(script, Model, "save", fails)
    tell_after(script, Model, "save", fails)
    assert [Model().save(str(tmp_path / name)) for name in ("one", "two")] == ["saved", "saved"]
    said = [each.text for each in script.said if isinstance(each, Note)]
    assert len(said) == 2, said
    assert said[0].startswith("the step in save() cannot be followed here (TypeError: int() argument must be a number)")
    assert said[1].startswith("what save() writes cannot be followed here (TypeError: ")


def test_an_error_of_the_function_itself_and_an_end_asked_for_by_a_hook_pass(script):
    def ends():
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        guarded(script, "a save", ends)()
    module = ModuleType("module")
    module.save = lambda: 1 / 0
    tell_after(script, module, "save", lambda result, given: [])
    with pytest.raises(ZeroDivisionError):
        module.save()
    assert script.said == []


def test_a_callback_class_is_guarded_method_by_method(script):
    class Watching:
        heard = 0

        def on_start(self):
            raise AttributeError("global_step")

        def on_end(self):
            Watching.heard += 1

    callback = guard_methods(script, Watching)()
    callback.on_start()
    callback.on_start()
    callback.on_end()
    assert Watching.heard == 1
    assert len(script.said) == 1


class Copies:
    """A variable with a copy on each of several devices: int() does not take it, and numpy() does."""

    def numpy(self):
        return np.int64(7)


def keras_like(steps):
    """Return a module with the functions that the hook follows, and a model that is trained by it."""
    names = ("train_begin", "epoch_begin", "train_batch_end", "test_begin", "test_end", "epoch_end", "train_end")
    told = type("CallbackList", (), {f"on_{name}": lambda self, *given: None for name in names})
    module = SimpleNamespace(callbacks=SimpleNamespace(CallbackList=told), Model=type("Model", (), {}))
    optimizer = SimpleNamespace(built=True, iterations=steps)
    callbacks = told()
    callbacks.callbacks, callbacks.params = [], {"steps": 2, "epochs": 2}
    callbacks.model = SimpleNamespace(optimizer=optimizer, stop_training=False)
    return module, callbacks


@pytest.mark.parametrize(("steps", "counted"), [(3, 3), (Copies(), 7), (object(), 0)])
def test_a_fit_whose_optimizer_counts_in_a_way_of_its_own_is_followed_all_the_same(script, steps, counted):
    module, told = keras_like(steps)
    keras_hook.install(module, script)
    told.on_train_begin()
    assert script.step == counted
    for epoch in range(2):
        told.on_epoch_begin(epoch)
        for batch in range(2):
            told.on_train_batch_end(batch, {"loss": 1.0})
        told.on_epoch_end(epoch, {})
    told.on_train_end()
    assert script.step == counted + 4
    words = [each.text for each in script.said if isinstance(each, Note)]
    assert len(words) == (1 if counted == 0 else 0), words


def test_a_fit_that_ends_before_its_last_step_is_said_unless_a_callback_stopped_it(script):
    for stopped in (True, False):
        module, told = keras_like(0)
        keras_hook.install(module, script)
        told.model.stop_training = stopped
        told.on_train_begin()
        told.on_epoch_begin(0)
        told.on_train_batch_end(0, {})
        assert script.said == []
        told.on_train_end()
    assert "fit() ended at step 2 of 5" in script.said[0].text
