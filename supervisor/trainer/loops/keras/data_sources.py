"""The kinds of data that ``fit`` takes. Each opens at a batch in the middle, without reading the batches before it."""

# ruff: noqa: SLF001  # because where a fit is, is in Keras's own fields and nowhere else

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter
from keras.src.trainers.data_adapters.torch_data_loader_adapter import TorchDataLoaderAdapter

from supervisor.core.wire.messages import TrainerNote
from supervisor.trainer import adapters
from supervisor.trainer import context as trainer_context
from supervisor.trainer.errors import UnsupportedStateError
from supervisor.trainer.loops.keras import arrays as keras_arrays
from supervisor.trainer.loops.keras.batch_seeds import SeededBatches

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


def of(iterator: Any, seed: int) -> DataSource:
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


class DataSource:
    """Data with an order of their own that cannot be queried; the base class of the sources that can tell more."""

    kind = "stream"

    def __init__(self, iterator: Any, seed: int) -> None:
        self._iterator, self._adapter = iterator, iterator.data_adapter
        self._seed = seed

    def order(self) -> dict[str, Any]:
        """Return the parameters that determine the order of the batches."""
        return {"seed": self._seed}

    def set_order(self, stored: dict[str, Any]) -> None:
        """Use that order; ValueError if these data cannot."""
        self._seed = stored["seed"]

    def state(self, *, mid_pass: bool) -> Any:  # noqa: ARG002  # some need it
        """Return the state to store beside the number of batches of the current pass."""
        return None

    def restore(self, state: Any) -> None:
        """Restore the data's own state before the pass is opened; most have none."""

    def on_epoch_begin(self) -> None:
        """Have the data begin an epoch, before the pass is opened; most do nothing."""

    def open_pass(self, passes: int, first: int, state: Any) -> Iterator[Any]:
        """Open a pass at its batch ``first``; ``state``: the state stored there."""
        raise NotImplementedError

    def _default_iterator(self) -> Iterator[Any]:
        return iter(self._iterator._get_iterator())

    def _set_dataset(self, dataset: Any) -> None:
        if hasattr(self._iterator, "_distributed_dataset"):
            self._iterator._distributed_dataset = self._iterator._distribute_strategy.experimental_distribute_dataset(
                dataset
            )


class Arrays(DataSource):
    """Arrays and tensors, shuffled as Keras does, but with an order that (seed, pass) determines."""

    kind = "arrays"

    def order(self) -> dict[str, Any]:
        adapter = self._adapter
        return {
            "seed": self._seed,
            "samples": adapter._num_samples,
            "batch_size": adapter._batch_size,
            "shuffle": adapter._shuffle,
        }

    def set_order(self, stored: dict[str, Any]) -> None:
        for name, here in self.order().items():
            if name != "seed" and stored[name] != here:
                raise ValueError(f"{name} was {stored[name]} and is {here}")
        self._seed = stored["seed"]

    def open_pass(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # the port has it
        order = keras_arrays.BatchOrder(self._adapter, self._seed, passes)
        if keras.backend.backend() == "tensorflow":
            self._set_dataset(keras_arrays.dataset(self._adapter, order, first))
        else:
            made = keras_arrays.batches(self._adapter, order, first, keras.backend.backend())
            for name in ("get_jax_iterator", "get_torch_dataloader", "get_numpy_iterator"):
                setattr(self._adapter, name, lambda: made)
        return self._default_iterator()


class Reordered(keras.utils.PyDataset):
    """The batches of another PyDataset from ``first`` on, in an order that (seed, pass) determines."""

    def __init__(self, inner: Any, order: np.ndarray[Any, Any] | None, first: int, *seeds: int) -> None:
        super().__init__(inner.workers, inner.use_multiprocessing, inner.max_queue_size)
        self._inner, self._order, self._first = inner, order, first
        self._read = SeededBatches(inner, *seeds)
        self.on_epoch_end = inner.on_epoch_end  # its on_epoch_begin() was called before this pass was opened

    @property
    def num_batches(self) -> int | None:
        """The number of remaining batches."""
        total: int | None = self._inner.num_batches
        return None if total is None else total - self._first

    def __getitem__(self, index: int) -> Any:
        index += self._first
        return self._read[index if self._order is None else int(self._order[index])]


class PyDataset(DataSource):
    """A PyDataset, read by index. Its own changes from epoch to epoch are saved if it has ``state_dict()``."""

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
            message = (
                f"{name}.{'() and '.join(changes)}() may change what {name} gives, and that is not kept: after a resume an "
                "epoch may have other batches; give it state_dict() and load_state_dict(), or use fit(shuffle=True)"
            )
            trainer_context.current().send(TrainerNote("warning", message))

    def state(self, *, mid_pass: bool) -> Any:  # noqa: ARG002  # it is the same
        return self._inner.state_dict() if self._stateful else None

    def restore(self, state: Any) -> None:
        if state is not None and self._stateful:
            self._inner.load_state_dict(state)

    def on_epoch_begin(self) -> None:
        self._inner.on_epoch_begin()

    def open_pass(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # put_back() has it
        total = self._inner.num_batches
        order = keras_arrays.shuffled(total, self._seed, passes) if self._adapter.shuffle and total else None
        reordered = Reordered(self._inner, order, first, self._seed, passes)
        adapter = PyDatasetAdapter(reordered, class_weight=self._adapter.class_weight)
        adapter._output_signature = self._adapter._output_signature  # or it would read two batches to find it
        self._iterator.data_adapter = adapter
        if keras.backend.backend() == "tensorflow":
            self._set_dataset(adapter.get_tf_dataset())
        return self._default_iterator()


class _OpenedDataset:
    """A tf.data.Dataset with an iterator in use."""

    def __init__(self, dataset: Any, iterator: Any) -> None:
        self._dataset, self._pass_iterator = dataset, iterator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pass_iterator)


class Pipeline(DataSource):
    """A tf.data pipeline with TensorFlow's saved iterator, which includes its shuffle and prefetch buffers.

    The begin of the current pass determines how later passes are shuffled. The state of an exhausted iterator lacks it.
    """

    kind = "tf.data"

    def __init__(self, iterator: Any, seed: int) -> None:
        super().__init__(iterator, seed)
        self._dataset = self._adapter._dataset
        self._pass_iterator: Any = None
        self._state_at_start: Any = None
        self._resumed = self._rereads = self._redraws_rng = False

    def state(self, *, mid_pass: bool) -> Any:  # noqa: ARG002  # the pass's begin determines the next shuffle
        stored = (
            None if self._state_at_start is None else {"begun": self._state_at_start, "now": self._position_or_none()}
        )
        return stored | {"chance": "new"} if stored is not None and self._redraws_rng else stored

    def open_pass(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # TensorFlow knows it
        on_tensorflow = keras.backend.backend() == "tensorflow"
        whole = self._iterator._get_iterator() if on_tensorflow else self._dataset
        if isinstance(state, dict) and state.get("chance") == "new":
            whole = self._ignoring_rng(whole)
        before, self._resumed = (self._state_at_start if self._resumed else None), False
        if state is not None and first:
            self._pass_iterator, self._state_at_start, self._resumed = iter(whole), state["begun"], True
            _state_access(self._pass_iterator)[1](state["now"])
        else:
            self._pass_iterator = self._from_start(whole, first, before if state is None else state["begun"])
        if on_tensorflow:
            return self._pass_iterator  # type: ignore[no-any-return]
        self._adapter._dataset = _OpenedDataset(self._dataset, self._pass_iterator)
        if keras.backend.backend() == "jax":
            return iter(self._adapter.get_jax_iterator())  # without Keras's batch ahead, which the state would lack
        return self._default_iterator()

    def _from_start(self, whole: Any, first: int, before: Any) -> Any:
        """Return an iterator over a pass. Without a saved position, it reads again up to there."""
        whole = self._ignoring_rng(whole) if self._redraws_rng else whole
        if before is not None:
            _state_access(iter(whole))[1](before)
        self._pass_iterator = iter(whole)
        self._state_at_start = self._position_or_none()
        if self._state_at_start is None and self._redraws_rng:
            self._pass_iterator = iter(self._ignoring_rng(whole))
            self._state_at_start = self._position_or_none()
        if first and hasattr(whole, "skip"):
            self._pass_iterator, self._state_at_start, self._rereads = iter(whole.skip(first)), None, True
            message = (
                f"this tf.data pipeline is read again up to its place in the pass, batch {first}, without training"
            )
            trainer_context.current().send(TrainerNote("warning", message))
        elif first:
            _warn_restarted(first)
        return self._pass_iterator

    def _ignoring_rng(self, whole: Any) -> Any:
        """Return the pipeline as one that tells its position although its functions draw random numbers."""
        import tensorflow as tf

        self._redraws_rng = True
        options = tf.data.Options()
        options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
        return whole.with_options(options)

    def _position_or_none(self) -> Any:
        """Return the current iterator's state; None, and a warning, if it cannot tell."""
        if self._rereads:
            return None
        try:
            return _state_access(self._pass_iterator)[0]()
        except UnsupportedStateError:
            if not self._redraws_rng and hasattr(self._dataset, "with_options") and not _calls_python():
                self._redraws_rng = True
                message = (
                    "this tf.data pipeline draws by chance in its functions (augmentation): after a resume the order of "
                    "the batches goes on exactly, and the augmentation is drawn anew"
                )
            else:
                self._rereads, self._redraws_rng = True, False
                message = (
                    "this tf.data pipeline cannot tell its place (it calls Python functions): after a resume it is read "
                    "again up to there; the batches are the same where Python makes the same ones"
                )
            trainer_context.current().send(TrainerNote("warning", message))
            return None


def _calls_python() -> bool:
    """Return whether a traced function calls back into Python, whose position cannot be saved."""
    from tensorflow.python.eager import context

    names = context.context().list_function_names()
    kinds = {node.op for name in names for node in context.context().get_function_def(name).node_def}
    return any("PyFunc" in kind for kind in kinds)


def _state_access(iterator: Any) -> Any:
    found = adapters.named("tensorflow").state_access(iterator)
    if found is None:
        raise UnsupportedStateError("data", f"a {type(iterator).__name__} cannot tell its position", "use one device")
    return found


class Loader(DataSource):
    """A torch DataLoader with indices: the same indices are drawn again, and completed ones are skipped."""

    kind = "DataLoader"

    def __init__(self, iterator: Any, seed: int) -> None:
        super().__init__(iterator, seed)
        from supervisor.trainer.loops.dataloader.replay_sampler import ReplaySampler

        self._drawn = ReplaySampler(self._adapter._dataloader, lambda: 0)

    def state(self, *, mid_pass: bool) -> Any:
        return self._drawn.state(mid_epoch=mid_pass)

    def open_pass(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # the port has it
        if state is not None:
            self._drawn.resume(state, first)
        if keras.backend.backend() == "tensorflow":
            self._set_dataset(self._adapter.get_tf_dataset())
        return self._default_iterator()


class Stream(DataSource):
    """Generators and similar data, which cannot begin later."""

    def __init__(self, iterator: Any, seed: int) -> None:
        super().__init__(iterator, seed)
        _warn_will_restart(f"a {type(iterator.data_adapter).__name__.removesuffix('Adapter')}")

    def open_pass(self, passes: int, first: int, state: Any) -> Iterator[Any]:  # noqa: ARG002  # nothing is known of it
        if first:
            _warn_restarted(first)
        return self._default_iterator()


def _draws_indices(loader: Any) -> bool:
    from torch.utils.data import IterableDataset

    return not isinstance(loader.dataset, IterableDataset)


def _warn_will_restart(what: str) -> None:
    message = f"{what} begins anew after a resume: batches come again, and as many are left out; by index it is exact"
    trainer_context.current().send(TrainerNote("warning", message))


def _warn_restarted(first: int) -> None:
    message = (
        f"the data began anew at batch {first} of this pass: the first batches come again, the last {first} do not come"
    )
    trainer_context.current().send(TrainerNote("warning", message))
