"""What a module has beside its state_dict(): open gradients, flags, parts that a fresh process does not build."""

import pytest

torch = pytest.importorskip("torch")

from supervisor.trainer import clock  # noqa: E402
from supervisor.trainer.compare import differing  # noqa: E402
from supervisor.trainer.folder import open_folder  # noqa: E402
from supervisor.trainer.life import Life  # noqa: E402
from supervisor.trainer.refused import RefusedError  # noqa: E402
from supervisor.trainer.run import Run  # noqa: E402
from supervisor.trainer.saver import Saver  # noqa: E402
from supervisor.trainer.sections import Sections  # noqa: E402
from supervisor.trainer.settings import read_settings  # noqa: E402
from supervisor.trainer.state import State  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]  # the first optimizer of a process takes seconds to make


@pytest.fixture
def attach(tmp_path):
    """Return a function that makes a run over attached objects, as attach() does, from the newest checkpoint there is."""

    def make(every="1steps", **attached):
        environ = {"SUPERVISOR_RUN_STAGING": str(tmp_path / "staged"), "SUPERVISOR_RUN_SAVE_EVERY": every}
        life = Life(read_settings(environ, "train.py"))
        life.heard = []
        life.say = life.heard.append
        state = State(attached)
        saver = Saver(life.settings.staging, 1, clock.now_s, life.say)
        run = Run(life, state, saver, Sections(clock.now_s), clock.now_s)
        life.run = run
        run.state, run.heard = state, life.heard
        folders = checkpoints(tmp_path)
        if folders:
            run.words = state.restore(open_folder(folders[-1]))
            run.resume_at(open_folder(folders[-1]).step)
        else:
            state.captured()
        return run

    return make


def checkpoints(tmp_path):
    staged = tmp_path / "staged"
    found = [path for path in staged.iterdir() if path.name.startswith("step-")] if staged.exists() else []
    return sorted(found, key=lambda path: (open_folder(path).step, path.name))


def warnings(run):
    return [said.text for said in run.heard if getattr(said, "level", "") == "warning"]


def job(seed=1):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)


def accumulate(run, model, optimizer, stop=None):
    for step in run.steps(10):
        model(torch.randn(2, 3)).square().mean().backward()
        if (step + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
        run.log(step_done=True)
        if step + 1 == stop:
            break


def test_gradients_that_no_optimizer_has_used_yet_are_kept(attach, tmp_path):
    model, optimizer = job()
    run = attach(every="100steps", model=model, optimizer=optimizer)
    accumulate(run, model, optimizer)
    run.close()
    wanted = [each.clone() for each in model.state_dict().values()]
    for path in checkpoints(tmp_path):
        path.rename(tmp_path / path.name)
    model, optimizer = job()
    first = attach(model=model, optimizer=optimizer)
    accumulate(first, model, optimizer, stop=6)
    first.close()
    assert "gradients" in open_folder(checkpoints(tmp_path)[-1]).state["beside"]["model"]
    model, optimizer = job(seed=2)
    second = attach(model=model, optimizer=optimizer)
    optimizer.zero_grad()  # as scripts do before their loop
    accumulate(second, model, optimizer)
    assert [torch.equal(*pair) for pair in zip(wanted, model.state_dict().values(), strict=True)] == [True] * 4


def test_gradients_that_were_used_are_not_kept(attach, tmp_path):
    model, optimizer = job()
    run = attach(model=model, optimizer=optimizer)
    for _ in run.steps(3):
        optimizer.zero_grad()
        model(torch.randn(2, 3)).sum().backward()
        optimizer.step()
    run.close()
    assert model[0].weight.grad is not None
    assert all("gradients" not in open_folder(path).state["beside"]["model"] for path in checkpoints(tmp_path))


def test_of_two_optimizers_the_one_with_the_longer_window_is_kept(attach, tmp_path):
    one, fast = job()
    other, slow = job()
    run = attach(one=one, other=other, fast=fast, slow=slow)
    for step in run.steps(2):
        other(torch.randn(2, 3)).sum().backward()
        fast.zero_grad()
        one(torch.randn(2, 3)).sum().backward()
        fast.step()
        if step == 3:
            slow.step()
    run.close()
    beside = open_folder(checkpoints(tmp_path)[-1]).state["beside"]
    assert ("gradients" in beside["one"], "gradients" in beside["other"]) == (False, True)


def test_frozen_parameters_and_modes_of_parts_are_as_they_were(attach):
    model, optimizer = job()
    for each in model[0].parameters():
        each.requires_grad_(False)
    run = attach(every="100steps", model=model, optimizer=optimizer)
    for step in run.steps(5):
        if step == 2:
            for each in model[0].parameters():
                each.requires_grad_(True)
            model[2].bias.requires_grad_(False)
            model[1].eval()
        model(torch.randn(2, 3)).sum().backward()
        optimizer.step()
        if step == 3:
            break
    run.close()
    model, optimizer = job()
    for each in model[0].parameters():
        each.requires_grad_(False)
    again = attach(every="100steps", model=model, optimizer=optimizer)
    assert not model[0].weight.requires_grad  # until the loop begins, the script sets up as at the start
    again.begin(5)
    assert [each.requires_grad for each in model.parameters()] == [True, True, True, False]
    assert [each.training for each in model] == [True, False, True]


def test_flags_that_the_script_sets_again_in_its_loop_are_told(attach):
    model, optimizer = job()
    model[0].weight.requires_grad_(False)
    run = attach(model=model, optimizer=optimizer)
    run.begin(9)
    run.advance()
    run.close()
    model, optimizer = job()
    again = attach(model=model, optimizer=optimizer)
    again.begin(9)
    model[0].weight.requires_grad_(True)
    again.advance()
    again.advance()
    again.flush()
    (words,) = warnings(again)
    assert "model: requires_grad of 0.weight is not as in the checkpoint" in words


class Lazy(torch.nn.Module):
    """A module that makes a buffer when it is used first."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
        self.register_buffer("later", None)

    def forward(self, given):
        if not hasattr(self, "mask"):
            self.register_buffer("mask", torch.tensor([0.5, 2.0]))
            self.inner.register_buffer("seen", torch.zeros((), dtype=torch.int64))
            self.later = torch.ones(3)
        self.inner.seen += 1
        return self.inner(given) * self.mask


def test_buffers_that_are_registered_at_the_first_use_come_back(attach):
    torch.manual_seed(3)
    model = Lazy()
    run = attach(model=model)
    for _ in run.steps(2):
        model(torch.ones(1, 2))
    run.close()
    assert warnings(run) == []
    fresh = Lazy()
    again = attach(model=fresh)
    assert again.words == []
    assert (fresh.mask.tolist(), int(fresh.inner.seen), fresh.later.tolist()) == ([0.5, 2.0], 2, [1, 1, 1])
    assert torch.equal(fresh(torch.ones(1, 2)), model(torch.ones(1, 2)))


def test_parameters_and_parts_that_a_fresh_process_lacks_are_told_at_the_first_save(attach):
    model, _ = job()
    run = attach(model=model)
    for step in run.steps(4):
        if step == 1:
            model.add_module("head", torch.nn.Linear(1, 1))
    run.close()
    (words,) = warnings(run)
    assert words.startswith("model: it has head.bias, head.weight, which it did not have at attach()")
    assert "supervisor.resume_step()" in words
    with pytest.raises(RefusedError) as refused:
        attach(model=job()[0])
    assert "head.weight" in refused.value.what  # torch's second line


def test_a_parameter_group_that_is_added_in_mid_run_is_told_at_the_first_save(attach):
    model, _ = job()
    optimizer = torch.optim.SGD(model[0].parameters(), 0.1)
    run = attach(model=model, optimizer=optimizer)
    for step in run.steps(4):
        if step == 1:
            optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.01})
    run.close()
    (words,) = warnings(run)
    assert words.startswith("optimizer: it has 2 parameter groups of 2, 2, at attach() it had 1 parameter group of 2")
    model, _ = job()
    optimizer = torch.optim.SGD(model[0].parameters(), 0.1)
    optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.01})  # as resume_step() lets a script do
    again = attach(model=model, optimizer=optimizer)
    assert again.words == []
    again.begin(6)
    again.advance()
    again.flush()
    assert warnings(again) == []


def test_strides_that_training_changed_come_back(attach):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4))
    run = attach(model=model)
    for _ in run.steps(1):
        model[0].weight.data = model[0].weight.data.t().contiguous().t()
    run.close()
    fresh = torch.nn.Sequential(torch.nn.Linear(3, 4))
    again = attach(model=fresh)
    assert again.words == []
    assert fresh[0].weight.stride() == (1, 4)
    assert torch.equal(fresh[0].weight, model[0].weight)


def test_strides_of_a_view_stay_and_that_is_said_rightly(attach):
    model = torch.nn.Linear(3, 4, bias=False)
    run = attach(model=model)
    for _ in run.steps(1):
        model.weight.data = model.weight.data.t().contiguous().t()
    run.close()
    flat = torch.zeros(24)
    fresh = torch.nn.Linear(3, 4, bias=False)
    fresh.weight = torch.nn.Parameter(flat[:12].view(4, 3))
    again = attach(model=fresh)
    (words,) = again.words
    assert words.startswith("model.weight: the values are back, but not the strides")
    assert fresh.weight.data_ptr() == flat.data_ptr()


def test_one_list_under_two_names_is_told_once(attach, holder):
    shared = [0]
    run = attach(thing=holder({"a": shared, "b": shared, "c": {"d": [1]}}))
    for step in run.steps(5):
        shared[0] = step
    run.close()
    said = [words for _, words in run.state.notices] + warnings(run)
    assert [words for words in said if "come back as two" in words] == said
    assert len(said) == 1
    assert "thing.a" in said[0]
    assert "thing.b" in said[0]


def test_a_state_that_is_taken_when_it_is_iterated_is_no_false_alarm(stage, holder):
    class Stream(holder):
        def __iter__(self):
            self.state = self.given
            return iter(())

        def load_state_dict(self, state):
            self.given = state

    path = stage(data=Stream({"at": 5}))
    state = State({"data": Stream({"at": 0})})
    assert state.restore(open_folder(path)) == []
    assert state.notices == [
        ("info", "data goes to its place when it is iterated next; before that it cannot be compared")
    ]


def test_when_all_saves_fail_it_is_said_that_nothing_is_safe(attach, holder):
    thing = holder(1)
    run = attach(thing=thing)
    for _ in run.steps(6):
        thing.state = lambda: 0
    run.close()
    (words,) = [words for words in warnings(run) if "safe" in words]
    assert words.startswith("nothing of this run is safe: all of the last 3 saves failed")
    assert "thing: a function cannot be kept" in words


def test_a_state_dict_that_fails_in_mid_run_ends_no_training(attach, holder):
    thing = holder(1)
    run = attach(thing=thing)
    done = []
    for step in run.steps(2):
        thing.state_dict = None if step == 0 else (lambda: thing.state)
        run.state._access["thing"] = ((lambda: 1 / 0) if step == 0 else thing.state_dict, thing.load_state_dict)
        done.append(step)
    assert done == [0, 1]
    assert any("state_dict() failed: ZeroDivisionError" in getattr(said, "error", "") for said in run.heard)


def test_checkpoints_that_differ_beside_their_state_differ(stage):
    model, _ = job()
    one = stage(name="step-000000005-1", model=model)
    model.eval()
    other = stage(name="step-000000005-2", model=model)
    assert differing(open_folder(one), open_folder(other)) != []
    assert all(path.startswith("model/beside.eval") for path in differing(open_folder(one), open_folder(other)))
