"""A plain DataLoader that is attached goes on in the middle of its epoch, in whatever form the script's loop has."""

import itertools
import random

import pytest

torch = pytest.importorskip("torch")
from torch.utils import data  # noqa: E402

from supervisor import ResumableShuffleSampler  # noqa: E402
from supervisor.core.errors import UsageError  # noqa: E402
from supervisor.trainer import clock, life  # noqa: E402
from supervisor.trainer.folder import open_folder  # noqa: E402
from supervisor.trainer.life import Life  # noqa: E402
from supervisor.trainer.refused import RefusedError  # noqa: E402
from supervisor.trainer.run import Run  # noqa: E402
from supervisor.trainer.saver import Saver  # noqa: E402
from supervisor.trainer.sections import Sections  # noqa: E402
from supervisor.trainer.settings import read_settings  # noqa: E402
from supervisor.trainer.state import State  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SAMPLES, BATCH, EPOCHS = 10, 3, 3
PER_EPOCH = 4


class Numbers(data.Dataset):
    """Samples that are read with chance, and note that they were read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        self.read.append(index)
        return torch.tensor([index, random.random(), float(torch.rand(()))], dtype=torch.float64)


class Backwards(data.Sampler):
    """A sampler of the script's own, without chance."""

    def __iter__(self):
        return iter(range(SAMPLES - 1, -1, -1))

    def __len__(self):
        return SAMPLES


class Lazily(data.Sampler):
    """Draws from the global generator whenever an index is asked for."""

    def __iter__(self):
        for _ in range(SAMPLES):
            yield int(torch.randint(SAMPLES, ()))

    def __len__(self):
        return SAMPLES


LOADERS = {
    "shuffled": lambda ds: data.DataLoader(ds, BATCH, shuffle=True),
    "in order": lambda ds: data.DataLoader(ds, BATCH),
    "without the last": lambda ds: data.DataLoader(ds, BATCH, shuffle=True, drop_last=True),
    "own generator": lambda ds: data.DataLoader(ds, BATCH, shuffle=True, generator=torch.Generator().manual_seed(5)),
    "weighted": lambda ds: data.DataLoader(
        ds, BATCH, sampler=data.WeightedRandomSampler(torch.arange(1.0, 11), SAMPLES)
    ),
    "with replacement": lambda ds: data.DataLoader(ds, BATCH, sampler=data.RandomSampler(ds, replacement=True)),
    "subset": lambda ds: data.DataLoader(ds, 2, sampler=data.SubsetRandomSampler(range(0, SAMPLES, 2))),
    "batch sampler": lambda ds: data.DataLoader(
        ds, batch_sampler=data.BatchSampler(data.RandomSampler(ds), BATCH, drop_last=False)
    ),
    "own sampler": lambda ds: data.DataLoader(ds, BATCH, sampler=Backwards()),
    "one by one": lambda ds: data.DataLoader(ds, batch_size=None, shuffle=True),
    "two workers": lambda ds: data.DataLoader(ds, BATCH, shuffle=True, num_workers=2),
    "workers that stay": lambda ds: data.DataLoader(ds, BATCH, shuffle=True, num_workers=1, persistent_workers=True),
}


def by_epochs(run, loader, epochs=EPOCHS):
    for epoch in run.epochs(epochs):
        for batch in loader:
            yield epoch, batch


def by_steps(run, loader, epochs=EPOCHS):
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for _ in run.steps(epochs * len(loader)):
        yield None, next(batches)


def zipped(run, loader, epochs=EPOCHS):
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for _, batch in zip(run.steps(epochs * len(loader)), batches, strict=False):
        yield None, batch


def zipped_the_other_way(run, loader, epochs=EPOCHS):
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for batch, _ in zip(batches, run.steps(epochs * len(loader)), strict=False):
        yield None, batch


def nested(run, loader, epochs=EPOCHS):
    steps = run.steps(epochs * len(loader))
    while True:
        for batch in loader:
            if next(steps, None) is None:
                return
            yield None, batch


def looked_at_before(run, loader, epochs=EPOCHS):
    next(iter(loader))  # as for a picture of the first batch
    yield from by_steps(run, loader, epochs)


FORMS = [by_epochs, by_steps, zipped, zipped_the_other_way, nested, looked_at_before]


@pytest.fixture
def live(tmp_path, monkeypatch):
    """Return a function that trains as a process of its own would, from the checkpoint of step ``begin``."""

    lives = itertools.count()

    def lived(make, form, begin=None):
        staging = tmp_path / ("whole" if begin is None else f"rest-{next(lives)}")
        torch.manual_seed(begin or 0)
        random.seed(begin or 0)
        environ = {"SUPERVISOR_RUN_STAGING": str(staging), "SUPERVISOR_RUN_SAVE_EVERY": "1steps"}
        here = Life(read_settings(environ, "train.py"))
        heard = []
        here.say = heard.append
        monkeypatch.setattr(life, "_here", [here])
        dataset = Numbers()
        loader = make(dataset)
        state = State({"data": loader})
        run = Run(here, state, Saver(staging, 1, clock.now_s, here.say), Sections(clock.now_s), clock.now_s)
        here.run = run
        if begin is not None:
            (folder,) = [path for path in (tmp_path / "whole").iterdir() if path.name.startswith(f"step-{begin:09d}-")]
            assert state.restore(open_folder(folder)) == []
            run.resume_at(begin)
        seen = []
        for epoch, batch in form(run, loader):
            seen.append((epoch, batch.tolist(), float(torch.rand(()))))
            run.flush()
        run.flush()
        if loader._iterator is not None:  # its workers live as long as it, and hold what the process had open
            loader._iterator._shutdown_workers()
        return seen, dataset.read, [said.text for said in heard if hasattr(said, "text")]

    return lived


@pytest.mark.parametrize("kind", LOADERS)
def test_the_rest_of_an_epoch_is_as_it_would_have_been(live, kind):
    make = LOADERS[kind]
    whole, _, _ = live(make, by_epochs)
    per_epoch = len(whole) // EPOCHS
    assert [epoch for epoch, _, _ in whole] == sorted(list(range(EPOCHS)) * per_epoch)
    for begin in {1, per_epoch - 1, per_epoch, per_epoch + 2}:
        rest, _, said = live(make, by_epochs, begin=begin)
        assert rest == whole[begin:], begin
        assert said == []


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_loop_goes_on(live, form):
    make = LOADERS["shuffled"]
    whole, _, _ = live(make, form)
    assert len(whole) == EPOCHS * PER_EPOCH
    for begin in (1, 3, 4, 5, 11):
        assert live(make, form, begin=begin)[0] == whole[begin:], begin


def test_what_was_used_is_not_read_again(live):
    make = LOADERS["shuffled"]
    live(make, by_epochs)
    _, read, _ = live(make, by_epochs, begin=3)
    assert len(read) == SAMPLES - 3 * BATCH + 2 * SAMPLES


def test_what_comes_behind_the_inner_loop_is_done_again_with_its_epoch(live):
    done = []

    def with_validation(run, loader):
        for epoch in run.epochs(EPOCHS):
            for batch in loader:
                yield epoch, batch
            done.append((epoch, run.step))

    live(LOADERS["shuffled"], with_validation)
    assert done == [(0, 4), (1, 8), (2, 12)]
    done.clear()
    live(LOADERS["shuffled"], with_validation, begin=8)
    assert done == [(1, 8), (2, 12)]


def test_an_evaluation_of_the_same_loader_is_no_training(live):
    def evaluating(run, loader):
        for epoch in run.epochs(EPOCHS):
            for batch in loader:
                yield epoch, batch
            with torch.no_grad():
                assert len(list(loader)) == PER_EPOCH
            with run.section("eval"):
                assert len(list(loader)) == PER_EPOCH

    whole, _, _ = live(LOADERS["shuffled"], evaluating)
    assert len(whole) == EPOCHS * PER_EPOCH
    assert live(LOADERS["shuffled"], evaluating, begin=6)[0] == whole[6:]


def test_an_epoch_that_the_script_leaves_early_is_over(live):
    def early(run, loader):
        for epoch in run.epochs(EPOCHS):
            for number, batch in enumerate(loader):
                yield epoch, batch
                if number == 1:
                    break

    whole, _, _ = live(LOADERS["shuffled"], early)
    assert [epoch for epoch, _, _ in whole] == [0, 0, 1, 1, 2, 2]
    assert live(LOADERS["shuffled"], early, begin=4)[0] == whole[4:]


def test_another_batch_size_is_refused_in_the_middle_of_an_epoch(live):
    live(LOADERS["shuffled"], by_epochs)
    with pytest.raises(
        RefusedError, match=r"^data: .*in the middle of an epoch of 4 batches, this loader has 5 batches"
    ):
        live(lambda ds: data.DataLoader(ds, 2, shuffle=True), by_epochs, begin=2)


def test_a_sampler_that_draws_batch_by_batch_from_the_global_generator_is_told(live):
    _, _, said = live(lambda ds: data.DataLoader(ds, BATCH, sampler=Lazily()), by_steps)
    (words,) = said
    assert "draws its order batch by batch" in words


def test_a_loader_that_nobody_attached_is_told_once_when_a_save_meets_it_in_mid_epoch(live, holder):
    def other(run, loader):
        unattached = data.DataLoader(Numbers(), BATCH, shuffle=True)
        done = data.DataLoader(Numbers(), BATCH)
        batches = itertools.chain.from_iterable(itertools.repeat(unattached))
        for _ in run.steps(6):
            list(done)
            yield None, next(batches)

    _, _, said = live(LOADERS["shuffled"], other)
    (words,) = said
    assert "no data order is attached" in words
    assert "supervisor.attach(data=loader)" in words


class Stream(data.IterableDataset):
    """A stream that keeps its place."""

    at = 0

    def __iter__(self):
        while self.at < SAMPLES:
            self.at += 1
            yield self.at

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Placeless(data.IterableDataset):
    """A stream that keeps none."""

    def __iter__(self):
        return iter(range(SAMPLES))


def test_a_stream_that_keeps_its_place_is_kept_through_its_loader(stage):
    stream = Stream()
    batches = iter(data.DataLoader(stream, 2))
    next(batches)
    path = stage(data=data.DataLoader(stream, 2))
    fresh = Stream()
    State({"data": data.DataLoader(fresh, 2)}).restore(open_folder(path))
    assert fresh.at == 2


@pytest.mark.parametrize(
    ("make", "words", "hint"),
    [
        (lambda: data.DataLoader(Placeless()), "no place that can be found again", "torchdata's StatefulDataLoader"),
        (lambda: data.DataLoader(Stream(), num_workers=2), "while 2 workers read ahead", "num_workers=0"),
        (lambda: data.RandomSampler(range(4)), "a RandomSampler does not know", "supervisor.attach(data=loader)"),
        (lambda: iter(data.DataLoader(Numbers())), "the iterator of a DataLoader", "supervisor.attach(data=loader)"),
    ],
)
def test_what_cannot_be_attached_is_answered_with_what_can(make, words, hint):
    with pytest.raises(RefusedError) as refused:
        State({"data": make()})
    assert words in refused.value.what
    assert hint in refused.value.hint


class Stateful(data.DataLoader):
    """As torchdata's, which keeps its own place."""

    def state_dict(self):
        return {"at": 1}

    def load_state_dict(self, state):
        assert state == {"at": 1}


def test_a_loader_that_keeps_its_own_place_is_told_what_its_workers_draw(stage):
    path = stage(data=Stateful(Numbers(), num_workers=2))
    for workers, told in ((2, 1), (0, 0)):
        state = State({"data": Stateful(Numbers(), num_workers=workers)})
        assert state.restore(open_folder(path)) == []
        assert [words.startswith("data: what its 2 workers draw") for _, words in state.notices] == [True] * told


def test_a_sampler_that_workers_ask_ahead_is_told(live):
    def with_sampler(run, loader):
        run._state.attached["order"] = sampler = ResumableShuffleSampler(SAMPLES)
        run._state._access["order"] = sampler.state_dict, sampler.load_state_dict
        batches = iter(data.DataLoader(Numbers(), BATCH, sampler=sampler, num_workers=1))
        for _ in run.steps(3):
            yield None, next(batches)

    (words,) = live(LOADERS["in order"], with_sampler)[2]
    assert words.startswith("the attached sampler is asked ahead")


def test_epochs_without_an_attached_loader_are_answered_with_the_two_ways(live, holder):
    def bare(run, _loader):
        run._state.attached.clear()
        run._state._access.clear()
        yield from ((epoch, torch.zeros(())) for epoch in run.epochs(2))

    with pytest.raises(UsageError, match=r"run.epochs\(\) goes by one attached DataLoader") as refused:
        live(LOADERS["shuffled"], bare)
    assert "supervisor.attach(data=loader)" in refused.value.hint
