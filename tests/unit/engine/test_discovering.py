"""What a script saves by means that no hook knows is found by its name, once it is whole; data and caches are not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.core.instant import Instant
from supervisor.engine.files.discovering import FOLDER_MAX, STATES_MIN, Discovery

if TYPE_CHECKING:
    from pathlib import Path


class Script:
    """Hears what is found; ``trains`` is set by the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.saves: list[str] = []
        self.logs: set[str] = set()
        self.trains = False
        self.before: set[str] = set()  # saves of an earlier machine that were put back
        self.discovery = Discovery(root, self, [str(root / "runs")], self)
        self.discovery.leader = os.getsid(0)
        self.discovery.look()

    def now(self) -> Instant:
        return Instant(0.0, 0.0)

    def write(self, path: str, body: bytes = b"state") -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(body)

    def look(self) -> list[str]:
        """Look twice: a file counts when it has not changed between two looks."""
        self.discovery.look()
        self.discovery.look()
        return self.saves

    def found(self, path: str) -> None:
        self.saves.append(path)

    def beside(self, path: str) -> None:
        self.logs.add(path)

    def kept(self) -> set[str]:
        return {*self.saves, *self.logs}

    def was_kept(self, path: str) -> bool:
        return path in self.before

    def stepping(self) -> bool:
        return self.trains

    def looked(self) -> None:
        pass


@pytest.fixture
def script(tmp_path: Path) -> Script:
    (tmp_path / "pretrained.pth").write_bytes(b"was there before")
    return Script(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "logs/ppo/rl_model_8000_steps.zip",  # stable-baselines3
        "check_point/model_4.json",  # XGBoost's TrainingCheckPoint
        "model_10.txt",  # LightGBM
        "out/checkpoint.pkl",  # pickle.dump
        "ck/state_0005.npz",  # numpy
        "ckpts/checkpoint_100",  # flax, without a suffix
        "catboost_info/experiment_latest.cbsnapshot",
        "weights/epoch_3.h5",  # h5py
        "saved/last.joblib",
        "runs2/exp/weights/last.pt",
        "output/agent_iter_20.dill",
    ],
)
def test_a_name_that_promises_state_counts_at_once(script: Script, path: str) -> None:
    script.write(path)
    assert script.look() == [path]
    script.write(path, b"written again, longer")
    assert script.look() == [path], "what is kept already is watched elsewhere"


@pytest.mark.parametrize(
    "path", ["model.pkl", "booster.bin", "policy.zip", "resnet50.pth", "clf.pickle", "final_model.txt"]
)
def test_a_name_that_promises_less_counts_when_it_is_written_again(script: Script, path: str) -> None:
    script.write(path)
    assert script.look() == []
    script.write(path, b"again, with more in it")
    assert script.look() == [path]


def test_it_counts_at_once_while_the_script_trains(script: Script) -> None:
    script.trains = True
    script.write("model.pkl")
    assert script.look() == ["model.pkl"]


def test_what_was_downloaded_before_training_does_not_count_while_it_stays_as_it_is(script: Script) -> None:
    script.write("yolov5s.pt")
    assert script.look() == []
    script.trains = True
    assert script.look() == []
    script.write("runs2/last.pt")
    assert script.look() == ["runs2/last.pt"]


def test_a_single_save_counts_when_the_script_has_ended_by_itself(script: Script) -> None:
    script.write("model.json")
    script.look()
    script.discovery.end(trusted=False)
    assert script.saves == []
    script.discovery.end(trusted=True)
    assert script.saves == ["model.json"]


@pytest.mark.parametrize(
    "path",
    [
        "data/MNIST/raw/checkpoint_1.pt",
        "wandb/run-1/files/model_1.pt",
        ".cache/huggingface/model_1.bin",
        "__pycache__/model_1.pkl",
        "runs/train/e1/checkpoint_1.pt",  # the store
        "vocab.json",
        "train_data.npz",
        "tokenizer.json",
        "config.json",
        "sample_1.png",
        "log.txt",
        "events.out.tfevents.1",
        "results.csv",
        "checkpoint_5.pt.tmp",
        "requirements.txt",
        "notes.md",
        "cached_features.pkl",
    ],
)
def test_data_caches_pictures_and_logs_do_not_count(script: Script, path: str) -> None:
    script.trains = True
    script.write(path)
    script.look()
    script.write(path, b"again, with more in it")
    assert script.look() == []


def test_a_file_that_is_open_or_still_changing_waits(script: Script) -> None:
    with (script.root / "checkpoint_1.pkl").open("wb") as file:
        file.write(b"half")
        file.flush()
        assert script.look() == []
    script.discovery.look()
    assert script.saves == ["checkpoint_1.pkl"]
    script.write("checkpoint_2.pkl")
    script.discovery.look()
    script.write("checkpoint_2.pkl", b"changed between two looks")
    script.discovery.look()
    assert script.saves == ["checkpoint_1.pkl"]
    script.discovery.look()
    assert script.saves == ["checkpoint_1.pkl", "checkpoint_2.pkl"]


def test_a_file_that_is_replaced_more_often_than_it_is_looked_at_is_whole_each_time(script: Script) -> None:
    for number in range(3):
        script.write("new.tmp", b"state %d" % number)
        (script.root / "new.tmp").rename(script.root / "model_latest.pkl")
        script.discovery.look()
    assert script.saves == ["model_latest.pkl"]


def test_a_file_that_is_written_in_place_more_often_than_it_is_looked_at_counts_between_two_writes(
    script: Script,
) -> None:
    for number in range(STATES_MIN):
        script.write("model_latest.pkl", b"state" * (number + 1))
        script.discovery.look()
        assert script.saves == ([] if number + 1 < STATES_MIN else ["model_latest.pkl"])


def test_a_file_that_is_always_open_for_writing_does_not_count(script: Script) -> None:
    with (script.root / "model_latest.pkl").open("wb") as file:
        for _ in range(2 * STATES_MIN):
            file.write(b"more")
            file.flush()
            script.discovery.look()
    assert script.saves == []


def test_a_file_that_is_replaced_and_open_for_writing_waits(script: Script) -> None:
    script.write("model_latest.pkl")
    script.discovery.look()
    with (script.root / "new.pkl").open("wb") as file:
        (script.root / "new.pkl").rename(script.root / "model_latest.pkl")
        file.write(b"half")
        file.flush()
        script.discovery.look()
        assert script.saves == []
    script.discovery.look()
    assert script.saves == ["model_latest.pkl"]


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        (
            ["ckpts/100/_CHECKPOINT_METADATA", "ckpts/100/default/_METADATA", "ckpts/100/default/d/abc"],
            "ckpts/100",
        ),  # orbax
        (["ckpts/7/default/ocdbt.process_0/manifest.ocdbt", "ckpts/7/default/manifest.ocdbt"], "ckpts/7"),
        (["dcp/step-5/__0_0.distcp"], "dcp/step-5"),  # torch.distributed.checkpoint
        (["adapter/adapter_config.json", "adapter/adapter_model.safetensors"], "adapter"),  # peft
    ],
)
def test_a_folder_that_is_one_checkpoint_is_kept_as_a_whole(script: Script, files: list[str], folder: str) -> None:
    for each in files:
        script.write(each)
    assert set(script.look()) == {folder}


@pytest.mark.parametrize("path", ["save/latest.bin", "weights.npz", "anything_at_all"])
def test_a_save_that_was_put_back_counts_when_it_is_written_again_whatever_its_name(script: Script, path: str) -> None:
    script.before = {path}
    script.write(path)
    script.discovery._put_back = frozenset(script.before)
    assert script.look() == [], "as it was put back it is nothing new"
    script.write(path, b"of a later step")
    assert script.look() == [path]


def test_a_log_beside_the_saves_comes_along(script: Script) -> None:
    script.write("ck/log.csv", b"epoch,loss\n")
    script.write("other/log.csv", b"epoch,loss\n")
    script.write("exp/results.csv", b"epoch,loss\n")
    script.write("ck/m-001.keras")
    script.write("ck/m-002.keras")
    script.write("exp/weights/last.pt")
    script.look()
    script.look()
    assert script.logs == {"ck/log.csv", "exp/results.csv"}


def test_what_is_new_and_not_kept_is_named_the_most_likely_first(script: Script) -> None:
    script.write("plot.png", bytes(5000))
    script.write("big.xyz", bytes(9000))
    script.write("model.pkl")
    script.look()
    assert script.discovery.left() == ["model.pkl", "big.xyz", "plot.png"]


def test_what_a_script_writes_beside_the_runs_of_a_store_in_the_working_folder_is_found(tmp_path: Path) -> None:
    """TensorBoard, YOLO and others write into ./runs, which is the default store too."""
    script = Script(tmp_path)
    script.discovery = Discovery(tmp_path, script, [], script, [str(tmp_path / "runs")])
    script.discovery.look()
    script.write("runs/train/run.json")
    script.write("runs/train/e00000001-200a36a5/model_1.pkl")
    script.write("runs/lost/e00000002-200a36a5/model_1.pkl")
    script.write("runs/2026-12-01_00-29-12/model_1.pkl")
    assert script.look() == ["runs/2026-12-01_00-29-12/model_1.pkl"]


def test_folders_with_thousands_of_files_links_and_mounts_are_passed_over(script: Script, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(FOLDER_MAX + 1):
        os.mknod(tmp_path / "many" / f"model_{number}.pt")
    (tmp_path / "link").symlink_to(tmp_path / "many")
    script.trains = True
    assert script.look() == []
