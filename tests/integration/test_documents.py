"""Every command of README and the documents runs as it stands there: in a bare clone, by a user without privileges.

The user's python3 has no package at all. A command that cannot be run here stands in ``LEFT`` with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.documented import ROOT, commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = [pytest.mark.slow, pytest.mark.network]
UNPRIVILEGED = 65534
PASSED_ON = re.compile(r"(PIP|UV)_(?!CACHE)|https?_proxy$|no_proxy$|SSL_CERT|REQUESTS_CA|OMP_NUM", re.IGNORECASE)
FAULTS = re.compile(r"Traceback|No module named|cannot be compared")
SMALL = "--rendered 40 --width 0.125 --steps 4 --eval-every 4"
TEXTS = (
    "皖A12345",
    "京B23456",
    "沪C34567",
    "粤D45678",
    "苏E56789",
    "浙F67890",
    "鲁G78901",
    "川H89012",
    "湘J90123",
    "鄂K01234",
)
OWN_SCRIPT = """
import argparse, pathlib, pickle, time

parser = argparse.ArgumentParser()
parser.add_argument("--resume", default="")
options = parser.parse_args()
first = pickle.loads(pathlib.Path(options.resume).read_bytes()) + 1 if options.resume else 0
pathlib.Path("DIR").mkdir(exist_ok=True)
for epoch in range(first, 4):
    time.sleep(0.05)
    pathlib.Path(f"DIR/epoch{epoch}.pkl").write_bytes(pickle.dumps(epoch))
"""
ATTACHED_SCRIPT = """
import supervisor

class Model:
    done = 0
    def state_dict(self): return {"done": self.done}
    def load_state_dict(self, state): self.done = state["done"]

model = Model()
run = supervisor.attach(model=model)
for step in run.steps(20):
    model.done += 1
print("steps of the model:", model.done)
"""


@dataclass(frozen=True)
class Run:
    """How a command is run: ``fill`` puts words in the place of others, ``more`` is added at its end to make it short."""

    fill: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    after: str = ""  # the command that must have been run before
    train: str = (
        ""  # what train.py is then: "own", a script that nobody changed, "attached", "toy"; else README's block
    )
    where: str = ""  # the folder beside the clone in which train.py lies and the command is typed; else the clone
    codes: tuple[int, ...] = (0,)
    says: str = ""


SUPERVISOR = "python3 -m supervisor"
TRAINS = f"{SUPERVISOR} start trainers/hyperlpr.py"
README_TRAINS = f"{SUPERVISOR} start train.py"
OWN_FOLDER = "python3 /path/to/training-supervisor/supervisor start train.py"
READS = {"CHECKPOINT": "runs/hyperlpr", "FOLDER": "pictures", "IMAGE…": "pictures/*.png"}
RUN = {
    TRAINS: Run(more=f" -- {SMALL}", says="held-out rendered plates"),
    f"{SUPERVISOR} start trainers/toy.py -- --steps 3000": Run({"3000": "30"}, says="SUCCEEDED"),
    f"{SUPERVISOR} start trainers/toy.py": Run(more=" --name again -- --steps 30", says="SUCCEEDED"),
    f"{SUPERVISOR} doctor --store /mnt/gdrive/supervisor": Run({"/mnt/gdrive": "drive"}, says="ok      store"),
    README_TRAINS: Run(says="finished at step 630"),
    f"{SUPERVISOR} checkpoints train export latest DIR": Run({"DIR": "exported"}, after=README_TRAINS, says="exported"),
    f"{SUPERVISOR} checkpoints train export latest DIR --as torch": Run(
        {"DIR": "as-torch"}, after=README_TRAINS, says="model.pt"
    ),
    f"{SUPERVISOR} checkpoints train export latest DIR --as safetensors": Run(
        {"DIR": "as-safetensors"}, after=README_TRAINS, says="model.safetensors"
    ),
    "python3 tools/api_page.py": Run(),
    f"{SUPERVISOR} checkpoints export latest DIR": Run(
        {"DIR": "of-hyperlpr", "checkpoints": "checkpoints hyperlpr"}, after=TRAINS, says="exported"
    ),
    f"{SUPERVISOR} rehearse train.py": Run(train="toy", says="resume is bit-exact"),
    f"{SUPERVISOR} start train.py --watch DIR": Run(more=" --name watched", train="own", says="SUCCEEDED"),
    f"{SUPERVISOR} start train.py --watch DIR …": Run({" …": ""}, " --name watched-2", train="own", says="SUCCEEDED"),
    f"{SUPERVISOR} start train.py --attach auto": Run(more=" --name attached", train="own", says="SUCCEEDED"),
    f"{SUPERVISOR} start train.py --resume-args auto": Run(more=" --name resuming", train="own", says="SUCCEEDED"),
    f'{SUPERVISOR} start train.py --resume-args "--resume {{checkpoint}}"': Run(
        more=" --name resuming-2", train="own", says="SUCCEEDED"
    ),
    OWN_FOLDER: Run({"/path/to": ".."}, train="attached", where="my work", says="steps of the model: 20"),
    f"{SUPERVISOR} start /path/to/train.py": Run(
        {"/path/to/": "'../my work/'"}, " --name elsewhere", after=OWN_FOLDER, says="steps of the model: 20"
    ),
    f"{SUPERVISOR} launch trainers/toy.py --on local": Run(more=" --name local -- --steps 20", says="SUCCEEDED"),
    f'exec {SUPERVISOR} start trainers/hyperlpr.py --store "$HOME/runs"': Run(
        {"hyperlpr.py": "toy.py"}, " -- --steps 20", says="SUCCEEDED"
    ),
    "python3 -m hyperlpr_example evaluate runs/hyperlpr FOLDER": Run(READS, after=TRAINS, says="held-out plates"),
    "python3 -m hyperlpr_example predict CHECKPOINT IMAGE…": Run(READS, after=TRAINS, says="pictures/"),
    "python3 trainers/hyperlpr.py --help": Run(says="--init"),
    "python3 -m benchmarks.kills --runs 50 --seed 7": Run({"50": "1"}, says='"equal": 1'),
    "python3 benchmarks/simulate.py --hours 1500 --seed 20000": Run({"1500": "1"}, says='"violations": 0'),
    "python3 -m benchmarks.overheads --seconds 120": Run({"120": "1 --tries 1"}, codes=(0, 1), says="--help, ms"),
    "python3 benchmarks/attach.py": Run(more=" --steps 500 --repeat 1", says="start_ms"),
    "python3 -m benchmarks.public_scripts --checkouts FOLDER --markdown FILE": Run(
        {"FILE": "table.md", **READS}, says="0 scripts"
    ),
    f"{SUPERVISOR} pack": Run(says=".zip"),
}
NOTEBOOK = ("it belongs into a notebook's cell", "tests/notebook/test_magics.py")
COLAB = ("it needs Google Colab", "tests/fleet/test_colab_launch.py")
SSH = ("it needs a host that is reached by ssh", "tests/fleet/test_ssh.py")
KERAS = ("it needs TensorFlow or Keras", "tests/unit/hyperlpr_example/test_keras.py")
FRAMEWORK = ("it needs a framework of its own", "tests/frameworks/test_unmodified.py")
LONG = "it measures for minutes"
NAME = ("it is named, and not a command to type", "")
LEFT = {
    f"git worktree add ../early-supervisor 8184219 && cd ../early-supervisor && {SUPERVISOR} checkpoints RUN export STEP DIR --store STORE": (
        "the bare clone has no history", "tests/golden/test_packed.py"),
    "git clone <this repository> training-supervisor && cd training-supervisor": ("the fixture does it", ""),
    "make test": ("it is what runs this test", ""),
    "python3 -m benchmarks.versions": (
        "it makes an environment of its own for each version, of gigabytes together", "tests/unit/trainer/test_versions.py"),
    f"{SUPERVISOR} start train.py --store /content/drive/MyDrive/supervisor": (
        "it needs Colab's Drive", "tests/notebook/test_places.py"),
    "%env SUPERVISOR_KEY=…": ("the key is another one everywhere", "tests/unit/cli/test_doctor.py"),
    "%load_ext supervisor": NOTEBOOK,
    "%supervisor mount": NOTEBOOK,
    "%supervise train.py --save-every 10m": NOTEBOOK,
    "%supervisor status": NOTEBOOK,
    f"{SUPERVISOR} launch train.py --on colab --gpu T4 --until 07:30": COLAB,
    f"{SUPERVISOR} launch train.py --on colab --gpu T4": COLAB,
    f"{SUPERVISOR} launch train.py --on ssh:HOST": SSH,
    f"{SUPERVISOR} launch trainers/toy.py --on local --name night -- --steps 5000": (
        "the shorter one beside it is run", "tests/fleet/test_launch.py"),
    f"{SUPERVISOR} start cli.py -- fit --trainer.callbacks+=supervisor.LightningCallback": (
        "it needs Lightning", "tests/frameworks/test_lightning.py"),
    f'{SUPERVISOR} start cli.py --resume-args "--ckpt_path {{checkpoint}}" -- fit …': FRAMEWORK,
    '… --resume-args "--resume_from_checkpoint {checkpoint}"': FRAMEWORK,
    f"{TRAINS} --name published -- --init published": (
        "it fetches 35 MB of weights and trains at full width", "tests/unit/hyperlpr_example/test_model.py"),
    f"{SUPERVISOR} start trainers/hyperlpr_keras.py": KERAS,
    f"KERAS_BACKEND=jax {SUPERVISOR} start trainers/hyperlpr_keras.py": KERAS,
    "python3 -m hyperlpr_example evaluate CHECKPOINT FOLDER": ("README has it with the folder's name", ""),
    "… predict runs/hyperlpr IMAGE…": ("the example's page has it in full", ""),
    "pip install hyperlpr": ("it says what HyperLPR installs", ""),
    f"srun {SUPERVISOR} …": ("it needs Slurm", "tests/integration/test_platforms.py"),
    SUPERVISOR + " start": NAME,
    "pip install uv": NAME,
    "python3 train.py": ("the recipes are run by a test of their own", "tests/integration/test_recipes.py"),
    "pip install /path/to/training-supervisor": ("it needs an environment with pip", "tests/notebook/test_wheel.py"),
    "training-supervisor start train.py": ("it needs an environment with pip", "tests/notebook/test_wheel.py"),
    "training-supervisor examples": ("it needs an environment with pip", "tests/notebook/test_wheel.py"),
    "python3 -m supervisor.trainer": NAME,
    "python3 -m benchmarks.kills --runs 10 --seed 3 --script trainers/hyperlpr.py --save-every 1s -- --steps 150 --rendered 200 --eval-every 75": (
        LONG, "tests/unit/hyperlpr_example/test_trainer.py"),
    "python3 -m benchmarks.kills --kills 10 …": (LONG, "tests/frameworks/test_killed.py"),
    "python3 -m benchmarks.kills --kills 10 --seed 21 --script tests/frameworks/scripts/X.py -- --steps 200 --step-ms 40": (
        LONG, "tests/frameworks/test_killed.py"),
    'python3 -m benchmarks.kills --script train.py --final FILE --resume-args "…"': (
        LONG, "tests/frameworks/test_unmodified.py"),
    "python3 -m benchmarks.midway --epoch-steps 100 --script tests/frameworks/scripts/accelerate_loop.py -- --steps 300 --accumulate 1": (
        LONG, "tests/unit/test_benchmark_packages.py"),
    "python3 -m benchmarks.growth --only kept": (LONG, "tests/integration/test_bare_clone.py"),
    "python3 -m benchmarks.nights --runs 40 --on local": (LONG, "tests/fleet/test_launch.py"),
    "python3 -m benchmarks.growth": (LONG, "tests/integration/test_bare_clone.py"),
    "python3 -m benchmarks.checkpoint --size medium --peers all": (LONG, "tests/unit/test_checkpoint_benchmark.py"),
    "python3 -m benchmarks.first_hour": (
        "it installs torch and trains for minutes", "tests/integration/test_first_hour.py"),
    "python3 -m benchmarks.digests": ("it takes 10 s", "tests/integration/test_bare_clone.py"),
    "python3 -m benchmarks.goodput --together 2": ("it needs root and FUSE", "tests/unit/test_goodput.py"),
    "python3 -m benchmarks.fleet --on local --deaths 3": (LONG, "tests/fleet/test_launch.py"),
    "python3 -m benchmarks.hooks --keras": KERAS,
    "python3 -m benchmarks.xla": ("it installs 7 GB", ""),
}  # fmt: skip


class Clone:
    """A bare clone in a folder of its own, with a user whose python3 has nothing. Each command is run once."""

    def __init__(self, folder: Path, python: str, user: int | None) -> None:
        self.folder, self.checkout, self._user = folder, folder / "training-supervisor", user
        self._ran: dict[str, subprocess.CompletedProcess[str]] = {}
        folder.chmod(0o755)
        subprocess.run([python, "-m", "venv", "--without-pip", folder / "python"], check=True)
        shell(f"git clone -q {ROOT} training-supervisor && cd training-supervisor", folder)
        _add_what_is_not_committed(self.checkout)
        home = folder / "home"
        (home / ".config" / "pip").mkdir(parents=True)
        if (config := Path.home() / ".config" / "pip" / "pip.conf").is_file():
            shutil.copy(config, home / ".config" / "pip")
        passed_on = {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}
        path = f"{folder / 'python' / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        self._environ = {**passed_on, "PATH": path, "HOME": str(home), "SUPERVISOR_RUN_FIRMWARE": ""}
        self.give(folder)

    def give(self, path: Path) -> None:
        """Make the user the owner of all below ``path``."""
        for each in (path, *path.rglob("*")):
            self.own(each)

    def own(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user, self._user, follow_symlinks=False)

    def run(self, words: str, run: Run) -> subprocess.CompletedProcess[str]:
        if words not in self._ran:
            if run.after:
                self.run(run.after, RUN[run.after])
            folder = self.folder / run.where if run.where else self.checkout
            self.write_train(folder, run.train)
            typed = words
            for name, value in run.fill.items():
                typed = typed.replace(name, value)
            self._ran[words] = self.type(typed + run.more, folder)
        return self._ran[words]

    def type(self, words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        return shell(words, folder or self.checkout, env=self._environ, user=self._user, group=self._user)

    def write_train(self, folder: Path, kind: str) -> None:
        """Write the user's own script, ``train.py``."""
        texts = {
            "attached": ATTACHED_SCRIPT,
            "own": OWN_SCRIPT,
            "toy": (ROOT / "trainers" / "toy.py").read_text(),
            "": readme_script(),
        }
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text(texts[kind])
        for each in (folder, folder / "train.py"):
            self.own(each)


def shell(words: str, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", words], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False, timeout=600, **options,
    )  # fmt: skip  # type: ignore[call-overload]


def readme_script() -> str:
    """README's own script, with the block of the example's trainer, which asks for torch."""
    section = (ROOT / "README.md").read_text().partition("## Your own script")[2].partition("\n## ")[0]
    block = (ROOT / "trainers" / "hyperlpr.py").read_text().partition("# ///\n")
    return "".join(block[:2]) + section.partition("```python\n")[2].partition("```")[0]


def _add_what_is_not_committed(checkout: Path) -> None:
    """What is being worked on is tested, too."""
    listed = shell("git diff -z --name-only HEAD; git ls-files -z --others --exclude-standard", ROOT).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)


def _python_of(user: int | None) -> tuple[str, int | None]:
    """A Python of 3.11 or newer that the user may run; else the one that runs this, with the rights that this has."""
    for python in (sys._base_executable, "/usr/bin/python3"):
        asks = "import sys, venv; raise SystemExit(sys.version_info < (3, 11))"
        try:
            told = subprocess.run([python, "-c", asks], check=False, capture_output=True, user=user, group=user)
        except OSError:
            continue
        if told.returncode == 0:
            return python, user
    return sys._base_executable, None


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="bare-") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def clone(folder: Path) -> Clone:
    if shell("git rev-parse HEAD", ROOT).returncode != 0:
        pytest.skip("this is no git checkout, so there is nothing to clone")
    python, user = _python_of(UNPRIVILEGED if os.geteuid() == 0 else None)
    made = Clone(folder, python, user)
    absent = made.type(
        'python3 -c \'import importlib.util as u; print([u.find_spec(n) for n in ("xxhash", "torch")])\''
    )
    assert absent.stdout.strip() == "[None, None]"
    (made.checkout / "pictures").mkdir()
    (made.checkout / "DIR").mkdir()
    from PIL import Image

    for number, text in enumerate(TEXTS):
        Image.new("RGB", (160, 40), (20 * number, 60, 200)).save(made.checkout / "pictures" / f"{text}.png")
    made.give(made.checkout)
    return made


def _newer_python() -> str:
    homes = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.13*/bin/python3")
    found = [shutil.which("python3.13"), *map(str, sorted(homes))]
    works = (each for each in found if each and shell(f"{each} -c 'import venv'", ROOT).returncode == 0)
    return next(works, "")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone under Python 3.13, with the rights that this has."""
    python = _newer_python()
    if not python:
        pytest.skip("this computer has no Python 3.13")
    return Clone(tmp_path_factory.mktemp("newer"), python, None)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (f"{SUPERVISOR} --help", "rehearse"),
        ("python3 trainers/hyperlpr.py --help", "--init"),
        (f"{SUPERVISOR} rehearse trainers/toy.py", "resume is bit-exact"),
    ],
)
def test_a_documented_command_runs_on_a_newer_python(newer: Clone, words: str, says: str) -> None:
    told = newer.type(words)
    assert told.returncode == 0, told.stdout
    assert says in told.stdout


def words_of() -> dict[str, str]:
    """Every documented command as it is looked up here, and the document that names it first."""
    found: dict[str, str] = {}
    for each in commands():
        found.setdefault(f"{SUPERVISOR} {each.words}" if each.verb else each.words, each.document)
    return found


@pytest.mark.parametrize("words", RUN)
def test_a_documented_command_runs(clone: Clone, words: str) -> None:
    run = RUN[words]
    told = clone.run(words, run)
    assert told.returncode in run.codes, told.stdout
    assert run.says in told.stdout, told.stdout
    assert not FAULTS.search(told.stdout), told.stdout
