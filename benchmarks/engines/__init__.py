"""The checkpoint engines that are compared: one row each, its code in a small file of its own, imported when it runs."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """``made_by`` is "module:Class" in this package; ``group`` is ours, limit, fast (torch and safetensors alone) or all.

    ``packages`` are installed on demand into a private environment called ``environment``, which sees this interpreter's torch.
    """

    name: str
    made_by: str
    group: str = "all"
    environment: str = ""
    packages: tuple[str, ...] = ()
    state: str = "measuring.state:TorchState"


LIGHTNING = ("lightning", ("lightning==2.6.6",))
ORBAX = ("orbax", ("orbax-checkpoint==0.12.8", "jax==0.10.2"))
NVRX = ("nvrx", ("nvidia-resiliency-ext==0.4.1",))
TENSORFLOW = ("tensorflow", ("tensorflow-cpu==2.21.0", "keras==3.15.1"))
SNAPSHOT = ("torchsnapshot", ("torchsnapshot==0.1.0",))
CHECKPOINTING = ("torch_checkpointing", ("torch-checkpointing==0.1.1",))
IN_TENSORFLOW = "engines.tensorflow:TensorFlowState"
IN_KERAS = "engines.tensorflow:KerasState"

TABLE = (
    Row("supervisor", "ours:Ours", "ours"),
    Row("supervisor.overlapped", "ours:Overlapped", "ours"),
    Row("limit.copy", "limits:Copy", "limit"),
    Row("limit.copy.direct", "limits:CopyDirect", "limit"),
    Row("limit.copy.process", "limit_process:CopyProcess", "limit"),
    Row("limit.raw", "limits:Raw", "limit"),
    Row("torch.save", "torch_save:Save", "fast"),
    Row("torch.save+fsync+replace", "torch_save:SaveFlushed", "fast"),
    Row("safetensors.save_file", "safetensors:SaveFile", "fast"),
    Row("dcp.save", "dcp:Save", "fast"),
    Row("dcp.async(thread)", "dcp:Async", "fast"),
    Row("dcp.async(thread,cached)", "dcp:AsyncCached", "fast"),
    Row("dcp.async(process)", "dcp:AsyncProcess", "fast"),
    Row("dcp.async(process,cached shm)", "dcp:AsyncProcessCached", "fast"),
    Row("torchsnapshot.take", "torchsnapshot:Take", "all", *SNAPSHOT),
    Row("torchsnapshot.async_take", "torchsnapshot:AsyncTake", "all", *SNAPSHOT),
    Row("torch_checkpointing.async", "torch_checkpointing:Async", "all", *CHECKPOINTING),
    Row("lightning.AsyncCheckpointIO", "lightning:Async", "all", *LIGHTNING),
    Row("orbax.async(numpy)", "orbax:Async", "all", *ORBAX),
    Row("nvrx.async(persistent)", "nvrx:Persistent", "all", *NVRX),
    Row("nvrx.async(fork)", "nvrx:Forked", "all", *NVRX),
    Row("tf.train.Checkpoint", "tensorflow:Checkpoint", "all", *TENSORFLOW, IN_TENSORFLOW),
    Row("tf.train.Checkpoint(async)", "tensorflow:AsyncCheckpoint", "all", *TENSORFLOW, IN_TENSORFLOW),
    Row("keras.BackupAndRestore", "tensorflow:KerasBackup", "all", *TENSORFLOW, IN_KERAS),
)


def rows(peers: str) -> list[Row]:
    """Return the rows to run: ours and the limits, and "none", the "fast" or "all" of the peers."""
    wanted = {"ours", "limit"} | {"none": set(), "fast": {"fast"}, "all": {"fast", "all"}}[peers]
    return [row for row in TABLE if row.group in wanted]
