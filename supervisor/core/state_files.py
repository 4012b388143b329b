"""Whether a file is likely to be state that a script saved, by its name alone: for libraries that no hook knows."""

from __future__ import annotations

import re

from supervisor.core import choosing, naming

NO, MAYBE, YES = 0, 1, 2

# Folders that hold what no script resumes from, or far too much: they are not looked into.
PASSED_OVER = frozenset(
    {
        "data", "dataset", "datasets", "cache", "caches", "wandb", "mlruns", "node_modules", "venv", "env", "site-packages",
        "__pycache__", "images", "imgs", "raw", "downloads", "download", "tensorboard", "tb", "tb_logs", "plots", "figures",
        "samples", "pretrained", "corpus", "corpora", "sample_data", "drive", "profile", "code", "src",
    }
)  # fmt: skip
_STATE = re.compile(
    r"(?i).*\.(pt|pth|ckpt|chkpt|keras|h5|hdf5|safetensors|ubj|cbm|cbsnapshot|pdparams|pdopt|params|msgpack|joblib|pth\.tar"
    r"|pt\.tar|ptl|distcp|orbax|eqx|pytree|tar)"
)
_ANY = re.compile(
    r"(?i).*\.(zip|npz|npy|pkl|pickle|bin|model|json|txt|xgb|lgb|lgbm|bst|dill|dat|db|gz|cloudpickle|p|mdl|sav|state)|[^.]*"
)
_TEXT = re.compile(r"(?i).*\.(json|txt|gz|dat|db)")
_MARKERS = frozenset(
    {
        "_CHECKPOINT_METADATA",
        "_METADATA",
        "manifest.ocdbt",
        "saved_model.pb",
        "adapter_config.json",
        "trainer_state.json",
    }
)
_STATE_WORDS = frozenset(
    {
        "model", "state", "weights", "agent", "policy", "booster", "net", "actor", "critic", "save", "saved", "params", "clf",
        "population", "trainer", "learner", "estimator", "generator", "encoder", "decoder", "network", "gbm", "xgb", "lgb",
        "q", "dqn", "ppo", "sac", "regressor", "classifier", "forest", "optimizer", "optim", "progress", "training",
    }
)  # fmt: skip
_DATA_WORDS = frozenset(
    {
        "vocab", "vocabulary", "tokenizer", "dataset", "data", "features", "cache", "cached", "labels", "split", "splits", "index",
        "mean", "std", "requirements", "config", "args", "readme", "license", "package", "merges", "corpus", "embeddings",
        "predictions", "preds", "submission", "images", "samples", "test", "valid", "val",
    }
)  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def likely(path: str) -> int:
    """Return YES, MAYBE (it counts when it is written again, or another one like it) or NO."""
    name = path.rpartition("/")[2]
    if naming.is_temporary(name) or naming.is_stream(path) or name.startswith("."):
        return NO
    words = {word.lower() for word in _WORDS.findall(name)}
    numbered = (told := naming.step_in(name)) is not None and told[0] == naming.NUMBERED
    whole = bool(words & choosing.WHOLE_WORDS)
    if words & _DATA_WORDS and not (whole or numbered):
        return NO
    if _STATE.fullmatch(name):
        return YES if whole or numbered else MAYBE
    if not _ANY.fullmatch(name) or (_TEXT.fullmatch(name) and not words & (_STATE_WORDS | choosing.WHOLE_WORDS)):
        return NO
    if whole or numbered:
        return YES
    return MAYBE if words & (_STATE_WORDS | choosing.PART_WORDS) else NO


def marked_folder(path: str) -> str:
    """Return the folder that this file shows to be one checkpoint, as orbax and torch's distributed ones are; "" for none."""
    folder, _, name = path.rpartition("/")
    if not folder or not (name in _MARKERS or name.endswith(".distcp")):
        return ""
    parts = folder.split("/")
    numbered = (depth for depth in range(len(parts), 0, -1) if _is_numbered(parts[depth - 1]))
    return "/".join(parts[: next(numbered, len(parts))])


def _is_numbered(name: str) -> bool:
    """Say whether a folder is named after a step: by a number alone, or plainly."""
    return name.isdigit() or ((told := naming.step_in(name)) is not None and told[0] == naming.NUMBERED)


def has_lines_of_a_run(path: str) -> bool:
    """Say whether a file that lies beside saves is a log of the run, to which lines are added."""
    return re.fullmatch(r"(?i).*\.(csv|tsv|jsonl|ndjson|log)|(train|training|log|results|history|loss|metrics)[\w-]*\.txt",
                        path.rpartition("/")[2]) is not None  # fmt: skip
