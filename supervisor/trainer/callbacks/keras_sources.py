"""The kinds of data that ``fit`` takes, each opened so that it begins at a batch in the middle, and nothing before is read."""

# ruff: noqa: SLF001  # because where a fit is, is in Keras's own fields and nowhere else

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter
from keras.src.trainers.data_adapters.torch_data_loader_adapter import TorchDataLoaderAdapter

from supervisor.core.messages import Note
from supervisor.trainer import frameworks, life
from supervisor.trainer.callbacks import keras_arrays
from supervisor.trainer.callbacks.keras_chance import Seeded
from supervisor.trainer.refused import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


def of(iterator: Any, seed: int) -> Source:
    """Return the source behind a fit's epoch iterator."""
    adapter = iterator.data_adapter
    if isinstance(adapter, ArrayDataAdapter):
        return Arrays(iterator, seed)
    if isinstance(adapter, PyDatasetAdapter):
        return PyDataset(iterator, seed)
    if isinstance(adapter, TFDatasetAdapter):
        return Pipeline(iterator, seed)
    if isinstance(adapter, TorchDataLoaderAdapter) and _draws_indices(adapter._dataloader):
        return Loader(iterator, seed)
    return Stream(iterator, seed)


class Source:
    """Data with an order of their own, of which nothing can be asked; the base of those of which more is known."""

    kind = "stream"

    def __init__(self, iterator: Any, seed: int) -> None:
        self._iterator, self._adapter = iterator, iterator.data_adapter
        self._seed = seed

    def order(self) -> dict[str, Any]:
        """Return what the order of the batches follows from."""
        return {"seed": self._seed}

    def set_order(self, kept: dict[str, Any]) -> None:
        """Have that order; ValueError if these data cannot."""
        self._seed = kept["seed"]

    def state(self, *, mid_pass: bool) -> Any:  # noqa: ARG002  # some need it
        """Return what is to be kept besides the number of batches of the pass that is under way."""
        return None

    def put_back(self, state: Any) -> None:
        """Give the data their own state again, before the pass is opened; most have none."""

    def epoch_begins(self) -> None:
        """Have the data do what they do at the beginning of an epoch, before the pass is opened; most do nothing."""

    def opened(self, passes: int, first: int, state: Any) -> Iterator[Any]:
        """Begin a pass at its batch ``first``; ``state``: what was kept there."""
        raise NotImplementedError

    def _as_keras_would(self) -> Iterator[Any]:
        return iter(self._iterator._get_iterator())

    def _as_dataset(self, dataset: Any) -> None:
        if hasattr(self._iterator, "_distributed_dataset"):
            self._iterator._distributed_dataset = self._iterator._distribute_strategy.experimental_distribute_dataset(
                dataset
            )


class Arrays(Source):
    """Arrays and tensors: shuffled as Keras does, but with an order that follows from (seed, pass)."""

    kind = "arrays"

    def order(self) -> dict[str, Any]:
        adapter = self._adapter
        return {
            "seed": self._seed,
            "samples": adapter._num_samples,
            "batch_size": adapter._batch_size,
            "shuffle": adapter._shuffle,
        }

    def set_order(self, kept: dict[str, Any]) -> None:
        for name, here in self.order().items():
            if name != "seed" and kept[name] != here:
                raise ValueError(f"{name} was {kept[name]} and is {here}")
        self._seed = kept["seed"]

    def opened(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # the port has it
        order = keras_arrays.Order(self._adapter, self._seed, passes)
        if keras.backend.backend() == "tensorflow":
            self._as_dataset(keras_arrays.dataset(self._adapter, order, first))
        else:
            made = keras_arrays.batches(self._adapter, order, first, keras.backend.backend())
            for name in ("get_jax_iterator", "get_torch_dataloader", "get_numpy_iterator"):
                setattr(self._adapter, name, lambda: made)
        return self._as_keras_would()


class Reordered(keras.utils.PyDataset):
    """The batches of another from ``first`` on, in an order that follows from (seed, pass)."""

    def __init__(self, inner: Any, order: np.ndarray[Any, Any] | None, first: int, *seeds: int) -> None:
        super().__init__(inner.workers, inner.use_multiprocessing, inner.max_queue_size)
        self._inner, self._order, self._first = inner, order, first
        self._read = Seeded(inner, *seeds)
        self.on_epoch_end = inner.on_epoch_end  # its on_epoch_begin() was called before this pass was opened

    @property
    def num_batches(self) -> int | None:
        """As many as are left."""
        total: int | None = self._inner.num_batches
        return None if total is None else total - self._first

    def __getitem__(self, index: int) -> Any:
        index += self._first
        return self._read[index if self._order is None else int(self._order[index])]


class PyDataset(Source):
    """By index, whatever it is made of. What it changes of itself from epoch to epoch is kept if it can tell it."""

    kind = "PyDataset"

    def __init__(self, iterator: Any, seed: int) -> None:
        super().__init__(iterator, seed)
        self._inner = self._adapter.py_dataset
        self._stateful = callable(getattr(self._inner, "state_dict", None)) and callable(
            getattr(self._inner, "load_state_dict", None)
        )
        name, own, base = type(self._inner).__name__, type(self._inner), keras.utils.PyDataset
        changes = [each for each in ("on_epoch_begin", "on_epoch_end") if getattr(own, each) is not getattr(base, each)]
        if changes and not self._stateful:
            words = (
                f"{name}.{'() and '.join(changes)}() may change what {name} gives, and that is not kept: after a resume an "
                "epoch may have other batches; give it state_dict() and load_state_dict(), or use fit(shuffle=True)"
            )
            life.here().say(Note("warning", words))

    def state(self, *, mid_pass: bool) -> Any:  # noqa: ARG002  # it is the same
        return self._inner.state_dict() if self._stateful else None

    def put_back(self, state: Any) -> None:
        if state is not None and self._stateful:
            self._inner.load_state_dict(state)

    def epoch_begins(self) -> None:
        self._inner.on_epoch_begin()

    def opened(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # put_back() has it
        total = self._inner.num_batches
        order = keras_arrays.shuffled(total, self._seed, passes) if self._adapter.shuffle and total else None
        reordered = Reordered(self._inner, order, first, self._seed, passes)
        adapter = PyDatasetAdapter(reordered, class_weight=self._adapter.class_weight)
        adapter._output_signature = self._adapter._output_signature  # or it would read two batches to find it
        self._iterator.data_adapter = adapter
        if keras.backend.backend() == "tensorflow":
            self._as_dataset(adapter.get_tf_dataset())
        return self._as_keras_would()


class _Begun:
    """A tf.data.Dataset over which somebody goes already."""

    def __init__(self, dataset: Any, iterator: Any) -> None:
        self._dataset, self._going = dataset, iterator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._going)


class Pipeline(Source):
    """A tf.data pipeline: TensorFlow's own saved iterator, with all that its shuffling and prefetching hold.

    How the passes after it are shuffled follows from how the present one began: in the state of an iterator whose input is
    used up that is missing.
    """

    kind = "tf.data"

    def __init__(self, iterator: Any, seed: int) -> None:
        super().__init__(iterator, seed)
        self._dataset = self._adapter._dataset
        self._going: Any = None
        self._begun: Any = None
        self._resumed = self._begins_anew = self._chance_is_new = False

    def state(self, *, mid_pass: bool) -> Any:  # noqa: ARG002  # its begin says how the next one shuffles
        told = None if self._begun is None else {"begun": self._begun, "now": self._told()}
        return told | {"chance": "new"} if told is not None and self._chance_is_new else told

    def opened(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # TensorFlow knows it
        on_tensorflow = keras.backend.backend() == "tensorflow"
        whole = self._iterator._get_iterator() if on_tensorflow else self._dataset
        if isinstance(state, dict) and state.get("chance") == "new":
            whole = self._without_chance(whole)
        before, self._resumed = (self._begun if self._resumed else None), False
        if state is not None and first:
            self._going, self._begun, self._resumed = iter(whole), state["begun"], True
            _access(self._going)[1](state["now"])
        else:
            self._going = self._from_its_begin(whole, first, before if state is None else state["begun"])
        if on_tensorflow:
            return self._going  # type: ignore[no-any-return]
        self._adapter._dataset = _Begun(self._dataset, self._going)
        if keras.backend.backend() == "jax":
            return iter(self._adapter.get_jax_iterator())  # without Keras's batch ahead, which the state would lack
        return self._as_keras_would()

    def _from_its_begin(self, whole: Any, first: int, before: Any) -> Any:
        """Return an iterator over a pass; what it does not tell of its place is read again up to there."""
        whole = self._without_chance(whole) if self._chance_is_new else whole
        if before is not None:
            _access(iter(whole))[1](before)
        self._going = iter(whole)
        self._begun = self._told()
        if self._begun is None and self._chance_is_new:
            self._going = iter(self._without_chance(whole))
            self._begun = self._told()
        if first and hasattr(whole, "skip"):
            self._going, self._begun, self._begins_anew = iter(whole.skip(first)), None, True
            words = f"this tf.data pipeline is read again up to its place in the pass, batch {first}, without training"
            life.here().say(Note("warning", words))
        elif first:
            _say_it_began_anew(first)
        return self._going

    def _without_chance(self, whole: Any) -> Any:
        """Return the pipeline as one that tells its place though its functions hold chance that it cannot tell."""
        import tensorflow as tf

        self._chance_is_new = True
        options = tf.data.Options()
        options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
        return whole.with_options(options)

    def _told(self) -> Any:
        """Return the present iterator's state, or None, and say it, if it cannot tell."""
        if self._begins_anew:
            return None
        try:
            return _access(self._going)[0]()
        except RefusedError:
            if not self._chance_is_new and hasattr(self._dataset, "with_options") and not _calls_python():
                self._chance_is_new = True
                words = (
                    "this tf.data pipeline draws by chance in its functions (augmentation): after a resume the order of "
                    "the batches goes on exactly, and the augmentation is drawn anew"
                )
            else:
                self._begins_anew, self._chance_is_new = True, False
                words = (
                    "this tf.data pipeline cannot tell its place (it calls Python functions): after a resume it is read "
                    "again up to there; the batches are the same where Python makes the same ones"
                )
            life.here().say(Note("warning", words))
            return None


def _calls_python() -> bool:
    """Say whether a traced function calls back into Python, whose place nothing can tell."""
    from tensorflow.python.eager import context

    names = context.context().list_function_names()
    kinds = {node.op for name in names for node in context.context().get_function_def(name).node_def}
    return any("PyFunc" in kind for kind in kinds)


def _access(going: Any) -> Any:
    found = frameworks.named("tensorflow").access(going)
    if found is None:
        raise RefusedError("data", f"a {type(going).__name__} cannot tell its position", "use one device")
    return found


class Loader(Source):
    """A torch DataLoader that draws indices: the same ones are drawn again, and those that are done are passed over."""

    kind = "DataLoader"

    def __init__(self, iterator: Any, seed: int) -> None:
        super().__init__(iterator, seed)
        from supervisor.trainer.callbacks.loader_order import Order

        self._drawn = Order(self._adapter._dataloader, lambda: 0)

    def state(self, *, mid_pass: bool) -> Any:
        return self._drawn.state(mid_epoch=mid_pass)

    def opened(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # the port has it
        if state is not None:
            self._drawn.go_on(state, first)
        if keras.backend.backend() == "tensorflow":
            self._as_dataset(self._adapter.get_tf_dataset())
        return self._as_keras_would()


class Stream(Source):
    """Generators and the like, which cannot begin later."""

    def __init__(self, iterator: Any, seed: int) -> None:
        super().__init__(iterator, seed)
        _say_it_begins_anew(f"a {type(iterator.data_adapter).__name__.removesuffix('Adapter')}")

    def opened(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # nothing is known of it
        if first:
            _say_it_began_anew(first)
        return self._as_keras_would()


def _draws_indices(loader: Any) -> bool:
    from torch.utils.data import IterableDataset

    return not isinstance(loader.dataset, IterableDataset)


def _say_it_begins_anew(what: str) -> None:
    words = f"{what} begins anew after a resume: batches come again, and as many are left out; by index it is exact"
    life.here().say(Note("warning", words))


def _say_it_began_anew(first: int) -> None:
    words = (
        f"the data began anew at batch {first} of this pass: the first batches come again, the last {first} do not come"
    )
    life.here().say(Note("warning", words))
