"""A checkpoint is read straight into the tensors that are there, wherever that is all there is to do, and nowhere else."""

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from supervisor.trainer.folder import open_folder  # noqa: E402
from supervisor.trainer.refused import RefusedError  # noqa: E402
from supervisor.trainer.state import State  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[3]


def trained(model, steps=2):
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    step(model, optimizer, steps)
    return model, optimizer


def step(model, optimizer, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))


def tensors(*owners):
    found = []
    for owner in owners:
        if isinstance(owner, nn.Module):
            found += owner.state_dict().values()
        else:
            found += [value for state in owner.state.values() for value in state.values()]
    return found


def bits(*owners):
    return [each.resolve_conj().contiguous().view(-1).view(torch.uint8).tolist() for each in tensors(*owners)]


def restore(path, **attached):
    state = State(attached)
    words = state.restore(open_folder(path))
    assert words == []
    return state


def test_a_plain_module_and_a_used_adam_get_their_bytes_in_place(stage):
    model, optimizer = trained(mlp())
    path = stage(model=model, optimizer=optimizer)
    wanted = bits(model, optimizer)
    other, used = trained(mlp(), steps=4)
    for group, kept in zip(used.param_groups, optimizer.param_groups, strict=True):
        assert group.keys() == kept.keys()
    before = [each.data_ptr() for each in tensors(other, used)]
    restore(path, model=other, optimizer=used)
    assert bits(other, used) == wanted
    assert [each.data_ptr() for each in tensors(other, used)] == before


def test_a_fresh_adam_gets_its_state_and_both_train_on_alike(stage):
    model, optimizer = trained(mlp())
    path = stage(model=model, optimizer=optimizer)
    other = mlp()
    fresh = torch.optim.Adam(other.parameters(), 1e-2)
    restore(path, model=other, optimizer=fresh)
    assert bits(other, fresh) == bits(model, optimizer)
    for each in (model, optimizer), (other, fresh):
        torch.manual_seed(3)
        step(*each, steps=3)
    assert bits(other, fresh) == bits(model, optimizer)


def test_the_tensors_that_a_fresh_adam_gets_are_not_shared_with_anything(stage):
    model, optimizer = trained(mlp())
    path = stage(model=model, optimizer=optimizer)
    other = mlp()
    fresh = torch.optim.Adam(other.parameters(), 1e-2)
    restore(path, model=other, optimizer=fresh)
    places = [each.data_ptr() for each in tensors(other, fresh)]
    assert len(set(places)) == len(places)


class Strided(nn.Module):
    def __init__(self):
        super().__init__()
        self.turned = nn.Parameter(torch.randn(4, 3).t())
        self.image = nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
        self.tied = self.turned
        self.register_buffer("expanded", torch.randn(3, 1).expand(3, 7))
        self.register_buffer("gaps", torch.randn(10, 10)[::2, ::3])
        self.register_buffer("conjugate", torch.randn(4, dtype=torch.complex64).conj())
        self.register_buffer("nothing", torch.zeros(0, 3))
        self.register_buffer("one", torch.tensor(3))


@pytest.mark.parametrize("limit", [40, 256_000_000])
def test_tensors_of_any_strides_are_filled_where_they_are(stage, limit):
    model, other = Strided(), Strided()
    path = stage(piece_bytes_max=limit, model=model)
    before = [(each.data_ptr(), each.stride()) for each in tensors(other)]
    surroundings = other.gaps._base.clone()
    assert State({"model": other})._aliased(open_folder(path).state["objects"])[0]["model"][0] == "whole"
    restore(path, model=other)
    assert bits(other) == bits(model)
    assert [(each.data_ptr(), each.stride()) for each in tensors(other)] == before
    assert other.tied is other.turned
    surroundings[::2, ::3] = model.gaps
    assert torch.equal(other.gaps._base, surroundings), "nothing beside the tensor is touched"


def test_a_model_that_ties_its_weights_otherwise_is_loaded_by_its_own_method(stage):
    class Pair(nn.Module):
        def __init__(self, *, tied):
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
            if tied:
                self.two.weight = self.one.weight

    tied, untied = Pair(tied=True), Pair(tied=False)
    path = stage(model=tied)
    restore_with_words = State({"model": untied}).restore(open_folder(path))
    assert restore_with_words == []
    assert torch.equal(untied.two.weight, tied.one.weight)
    assert untied.two.weight.data_ptr() != untied.one.weight.data_ptr()

    path = stage(name="step-000000006-1", model=untied)
    again = Pair(tied=True)
    restore(path, model=again)
    assert torch.equal(again.two.weight, untied.two.weight)


class Counting(nn.Linear):
    """The ways in which a module may want to be asked; ``loads`` counts how often it was."""

    loads = 0


class WithMethod(Counting):
    def load_state_dict(self, state, **options):
        type(self).loads += 1
        return super().load_state_dict(state, **options)


class WithInnerMethod(Counting):
    def _load_from_state_dict(self, *arguments):
        type(self).loads += 1
        super()._load_from_state_dict(*arguments)


class WithExtra(Counting):
    extra = 3

    def get_extra_state(self):
        return {"extra": self.extra}

    def set_extra_state(self, state):
        type(self).loads += 1
        self.extra = state["extra"]


class WithPreHook(Counting):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_load_state_dict_pre_hook(lambda *_: self.noted())

    def noted(self):
        type(self).loads += 1


class WithPostHook(WithPreHook):
    def __init__(self, *sizes):
        nn.Linear.__init__(self, *sizes)
        self.register_load_state_dict_post_hook(lambda *_: self.noted())


class ReplacedInOneObject(Counting):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        real = self.load_state_dict

        def load(state, **options):
            type(self).loads += 1
            return real(state, **options)

        self.load_state_dict = load


class Copying(Counting):
    """Gives copies away, as a module that keeps its weights packed does."""

    def state_dict(self, *arguments, **options):
        return {name: each.clone() for name, each in super().state_dict(*arguments, **options).items()}

    def load_state_dict(self, state, **options):
        type(self).loads += 1
        return super().load_state_dict(state, **options)


KINDS = [WithMethod, WithInnerMethod, WithExtra, WithPreHook, WithPostHook, ReplacedInOneObject, Copying]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inner", [False, True], ids=["itself", "inside another"])
def test_a_module_that_does_something_of_its_own_when_it_is_loaded_does_it(stage, kind, inner):
    if inner and kind in {WithMethod, ReplacedInOneObject, Copying}:
        pytest.skip("torch itself asks only the outermost module for it")
    one, other = kind(3, 2), kind(3, 2)
    one.extra = 5
    path = stage(model=nn.Sequential(one) if inner else one)
    kind.loads = 0
    restore(path, model=nn.Sequential(other) if inner else other)
    assert kind.loads == 1
    assert torch.equal(other.weight, one.weight)
    assert torch.equal(other.bias, one.bias)
    if kind is WithExtra:
        assert other.extra == 5


def test_a_copying_module_whose_method_was_replaced_in_the_object_is_loaded_too(stage):
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    for each in (one, other):
        each.state_dict = lambda each=each, **_: {n: t.clone() for n, t in nn.Module.state_dict(each).items()}
    restore(stage(model=one), model=other)
    assert torch.equal(one.weight, other.weight)


def test_an_optimizer_with_hooks_is_asked(stage):
    _, optimizer = trained(mlp())
    path = stage(optimizer=optimizer)
    _, other = trained(mlp())
    seen = []
    other.register_load_state_dict_pre_hook(lambda *_: seen.append("pre"))
    other.register_load_state_dict_post_hook(lambda *_: seen.append("post"))
    restore(path, optimizer=other)
    assert seen == ["pre", "post"]
    assert bits(other) == bits(optimizer)


def test_a_batch_norm_goes_on_with_its_averages(stage):
    model, _ = trained(mlp(), steps=5)
    other = mlp()
    restore(stage(model=model), model=other)
    assert other[1].num_batches_tracked == 5
    model.eval()
    other.eval()
    batch = torch.randn(7, 4)
    assert torch.equal(model(batch), other(batch))


def test_a_model_without_memory_is_filled_and_its_optimizer_holds_the_very_same_parameters(stage):
    model, optimizer = trained(mlp())
    path = stage(model=model, optimizer=optimizer)
    with torch.device("meta"):
        empty = mlp()
    fresh = torch.optim.Adam(empty.parameters(), 1e-2)
    objects = list(empty.parameters())
    state = State({"model": empty, "optimizer": fresh})
    state.materialise()
    assert state.restore(open_folder(path)) == []
    assert all(one is other for one, other in zip(empty.parameters(), objects, strict=True))
    assert [id(each) for group in fresh.param_groups for each in group["params"]] == list(map(id, objects))
    assert not any(each.is_meta for each in tensors(empty, fresh))
    for each in (model, optimizer), (empty, fresh):
        torch.manual_seed(4)
        step(*each, steps=3)
    assert bits(empty, fresh) == bits(model, optimizer)


def test_tied_parameters_without_memory_stay_tied(stage):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight
            self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    model = Tied()
    path = stage(model=model)
    with torch.device("meta"):
        empty = Tied()
    state = State({"model": empty})
    state.materialise()
    assert state.restore(open_folder(path)) == []
    assert empty.head.weight is empty.embed.weight
    assert not empty.frozen.requires_grad
    assert bits(empty) == bits(model)


def test_a_buffer_that_no_checkpoint_holds_is_not_given_memory_that_holds_anything(stage):
    class Rotary(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.register_buffer("angles", torch.arange(3.0), persistent=False)

    path = stage(model=Rotary())
    with torch.device("meta"):
        empty = Rotary()
    state = State({"model": empty})
    state.materialise()
    assert state.restore(open_folder(path)) == []
    assert not empty.weight.is_meta
    assert empty.angles.is_meta, "used as it is, it raises instead of giving wrong numbers"


def test_without_a_checkpoint_a_model_without_memory_is_refused_with_what_to_do():
    with torch.device("meta"):
        empty = mlp()
    with pytest.raises(RefusedError, match=r"^model\.0\.weight: .*meta") as caught:
        State({"model": empty}).captured()
    assert "real device" in caught.value.hint


MEASURED = """
import resource, sys, torch
from pathlib import Path
torch.set_num_threads(1)
import supervisor.trainer.frameworks.torch
from supervisor.trainer.folder import open_folder
from supervisor.trainer.state import State
from torch import nn
kind = sys.argv[2]
torch.manual_seed(0)
def peak():
    return next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
def now():
    return next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
layers = [nn.Linear(1024, 1024) if kind == "linear" else nn.Conv2d(341, 341, 3) for _ in range(12)]
model = nn.Sequential(*layers)
if kind == "channels_last":
    model = model.to(memory_format=torch.channels_last)
optimizer = torch.optim.Adam(model.parameters())
state = State({"model": model, "optimizer": optimizer})
optimizer.zero_grad()
before = now()
Path("/proc/self/clear_refs").write_text("5")
state.restore(open_folder(sys.argv[1]))
adam = sum(each.nbytes for s in optimizer.state.values() for each in s.values())
print(adam, peak() - before - adam)
"""


@pytest.mark.parametrize("kind", ["linear", "channels_last"])
def test_a_restore_takes_no_more_memory_than_the_state_and_one_piece(stage, tmp_path, kind):
    layers = [nn.Linear(1024, 1024) if kind == "linear" else nn.Conv2d(341, 341, 3) for _ in range(12)]
    model = nn.Sequential(*layers)
    if kind == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    piece = 16_000_000
    path = stage(piece_bytes_max=piece, model=model, optimizer=optimizer)
    script = tmp_path / "measure.py"
    script.write_text(MEASURED)
    ran = subprocess.run(
        [sys.executable, str(script), str(path), kind],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    adam, extra = map(int, ran.stdout.split())
    assert adam > 90_000_000
    assert extra < piece + 16_000_000, "memory beside the state itself"
