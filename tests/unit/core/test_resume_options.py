"""Conventions of the field by which scripts resume are found in their source, and proposed in one line."""

from __future__ import annotations

import shlex

import pytest

from supervisor.core import resume_arguments
from supervisor.core.resume_options import Convention, advice, convention, proposal

ARGPARSE = "import argparse\nparser = argparse.ArgumentParser()\n"


def argparse(*declared: str) -> str:
    return ARGPARSE + "".join(f"parser.add_argument({each})\n" for each in declared)


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        # argparse, as in public scripts: imagenet, timm, yolov5, ignite, rl-zoo, mmengine, kuangliu's cifar
        (argparse("'--resume', default='', type=str, metavar='PATH', help='path to latest checkpoint'",
                  "'--start-epoch', default=0, type=int", "'--pretrained', action='store_true'"), "--resume {checkpoint}"),
        (argparse("'--initial-checkpoint', default='', type=str", "'--resume', default='', type=str"), "--resume {checkpoint}"),
        (argparse("'--weights', type=str, default='yolov5s.pt'", "'--resume', nargs='?', const=True, default=False"),
         "--resume {checkpoint}"),
        (argparse("'--resume_from', type=str, default=None"), "--resume_from {checkpoint}"),
        (argparse("'-i', '--trained-agent', help='Path to a pretrained agent to continue training', default='', type=str"),
         "--trained-agent {checkpoint}"),
        (argparse("'--resume', '-r', action='store_true', help='resume from checkpoint'"), "--resume"),
        (argparse("'--resume-from', help='the checkpoint file to resume from'", "'--auto-resume', action='store_true'"),
         "--resume-from {checkpoint}"),
        (argparse("'--auto-resume', action='store_true'"), "--auto-resume"),
        (argparse("'--resume', type=str2bool, default=False"), "--resume True"),
        (argparse("'--resume', type=int, default=0, help='epoch to resume from'"), "--resume {epoch}"),
        (argparse("'--resume', choices=['never', 'allow', 'must'], default='never'"), "--resume must"),
        (argparse("'--continue_train', action='store_true'"), "--continue_train"),
        (argparse("'--restore', help='a checkpoint'"), "--restore {checkpoint}"),
        (argparse("'--checkpoint', type=str, help='checkpoint to load'"), "--checkpoint {checkpoint}"),
        (argparse("'--ckpt_path', default=None"), "--ckpt_path {checkpoint}"),
        ("def f(sub):\n    arg = sub.add_argument\n    arg('--resume', help='x')\n", "--resume {checkpoint}"),
        # several nets: dcgan
        (argparse("'--netG', default='', help='path to netG (to continue training)'",
                  "'--netD', default='', help='path to netD (to continue training)'"),
         "--netG {checkpoint:*netG*} --netD {checkpoint:*netD*}"),
        (argparse("'--load-actor', default=None", "'--load-critic', default=None"),
         "--load-actor {checkpoint:*actor*} --load-critic {checkpoint:*critic*}"),
        # LPRNet: weights and the number of an epoch
        (argparse("'--resume_epoch', default=0, type=int, help='resume iter for retraining'",
                  "'--pretrained_model', default='./weights/Final.pth', help='pretrained base model'"),
         "--pretrained_model {checkpoint} --resume_epoch {epoch}"),
        # nanoGPT's configurator
        (("out_dir = 'out'\ninit_from = 'scratch' # 'scratch' or 'resume'\nexec(open('configurator.py').read())\n"
         "if init_from == 'resume':\n    pass\n"), "--init_from=resume"),
        ("resume = False\nexec(open('configurator.py').read())\n", "--resume=True"),
        # other parsers
        ("import click\n@click.command()\n@click.option('--resume', '-r', is_flag=True)\ndef main(resume): ...\n", "--resume"),
        ("import click\n@click.command()\n@click.option('--resume/--no-resume', default=False)\ndef main(resume): ...\n", "--resume"),
        ("import click\n@click.option('--resume-from', type=click.Path())\ndef main(resume_from): ...\n",
         "--resume-from {checkpoint}"),
        ("import typer\ndef main(epochs: int = 3, resume_from: str = ''): ...\ntyper.run(main)\n", "--resume-from {checkpoint}"),
        ("import typer\napp = typer.Typer()\n@app.command()\ndef main(resume: bool = False): ...\n", "--resume"),
        ("import typer\ndef main(x: str = typer.Option('', '--resume', '-r')): ...\ntyper.run(main)\n", "--resume {checkpoint}"),
        ("from absl import flags\nflags.DEFINE_string('resume', None, 'checkpoint')\n", "--resume={checkpoint}"),
        ("from absl import flags\nflags.DEFINE_boolean('restore', False, 'restore the latest')\n", "--restore"),
        ("import fire\ndef train(lr=0.1, resume_from=None): ...\nfire.Fire(train)\n", "--resume_from={checkpoint}"),
        ("import fire\ndef train(lr=0.1, resume=False): ...\nif __name__ == '__main__':\n    fire.Fire(train)\n", "--resume=True"),
        ("import fire\nclass Trainer:\n    def __init__(self, lr=0.1, resume_from=''): ...\n    def train(self): ...\nfire.Fire(Trainer)\n", "--resume_from={checkpoint}"),
        ("import fire\nclass Trainer:\n    def train(self, epochs=3, *, resume=None): ...\n    def _own(self, restore=1): ...\nfire.Fire(Trainer())\n", "--resume={checkpoint}"),
        ("from fire import Fire\nclass Base:\n    def __init__(self, ckpt_path=None): ...\nclass Trainer(Base):\n    def fit(self): ...\nFire({'fit': Trainer, 'test': len})\n", "--ckpt_path={checkpoint}"),
        ("import fire\nclass Trainer:\n    def fit(self, resume=False): ...\nmade = Trainer()\nfire.Fire(made.fit)\n", "--resume=True"),
        ("import fire\nclass Trainer:\n    def fit(self, load_checkpoint=''): ...\nmade = Trainer()\nfire.Fire(component=made, name='x')\n", "--load_checkpoint={checkpoint}"),
        ("import fire\ndef train(resume_from_checkpoint: str | None = None): ...\ndef test(): ...\nfire.Fire()\n", "--resume_from_checkpoint={checkpoint}"),
        (("from dataclasses import dataclass\nimport tyro\n@dataclass\nclass Args:\n    resume: bool = False\n    lr: float = 0.1\n"
         "args = tyro.cli(Args)\n"), "--resume"),
        (("from transformers import HfArgumentParser, TrainingArguments\nparser = HfArgumentParser((Model, TrainingArguments))\n"
         "checkpoint = args.resume_from_checkpoint\n"), "--resume_from_checkpoint {checkpoint}"),
        (("from transformers import HfArgumentParser, TrainingArguments\nclass Own(TrainingArguments):\n    lr: float = 0.1\n"
         "HfArgumentParser(Own)\ntrainer.train(resume_from_checkpoint=own.resume_from_checkpoint)\n"),
         "--resume_from_checkpoint {checkpoint}"),
        ("from lightning.pytorch.cli import LightningCLI\nLightningCLI(Model)\n", "--ckpt_path {checkpoint}"),
        ("from lightning.pytorch.cli import LightningCLI\nclass Own(LightningCLI): ...\nOwn()\n", "--ckpt_path {checkpoint}"),
        ("import sys\nif '--resume' in sys.argv:\n    load()\n", "--resume"),
        ('"""Train.\n\nOptions:\n  --resume=<path>  Where to go on.\n"""\nfrom docopt import docopt\n', "--resume={checkpoint}"),
        ("import hydra\n@hydra.main(config_name='train')\ndef main(cfg):\n    fit(ckpt_path=cfg.get('ckpt_path'))\n",
         r"++ckpt_path=\'{checkpoint}\'"),
    ],
)  # fmt: skip
def test_a_convention_is_found_and_can_be_pasted(source: str, arguments: str) -> None:
    found = convention([source])
    assert found.arguments == arguments
    assert resume_arguments.checked(arguments) == arguments
    assert shlex.split(f"start {advice(found)}")[-1] == arguments
    assert found.arguments in proposal(found)


@pytest.mark.parametrize(
    ("declared", "uses", "arguments"),
    [
        ("'--resume_dir', default=None", "", "--resume_dir {folder}"),
        ("'--resume-from-dir', type=str", "", "--resume-from-dir {folder}"),
        ("'--load_checkpoint_folder', default=''", "", "--load_checkpoint_folder {folder}"),
        ("'--resume', default=''", "torch.load(os.path.join(args.resume, 'model.pt'))", "--resume {folder}"),
        ("'--resume_from', type=Path", "load(Path(args.resume_from) / 'last.ckpt')", "--resume_from {folder}"),
        ("'--resume', default=''", "load(f'{args.resume}/model_{epoch}.pt')", "--resume {folder}"),
        ("'--ckpt_path', default=''", "load(args.ckpt_path.rstrip('/') + '/state.pt')", "--ckpt_path {folder}"),
        ("'--restore', default=''", "load(os.path.join('checkpoints', args.restore))", "--restore {checkpoint}"),
        (
            "'--resume', default=''",
            "load(args.resume); save(os.path.join(args.out, 'model.pt'))",
            "--resume {checkpoint}",
        ),
        ("'--out_dir', default='out'", "save(os.path.join(args.out_dir, 'model.pt'))", ""),
    ],
)
def test_an_option_that_takes_a_folder_is_proposed_with_the_folder(declared: str, uses: str, arguments: str) -> None:
    found = convention([argparse(declared) + f"args = parser.parse_args()\n{uses}\n"])
    assert found.arguments == arguments


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        (argparse("'--load', '-f', default=False, help='Load model from a .pth file'"), "--load {checkpoint}"),
        (argparse("'--weights', type=str, default=''"), "--weights {checkpoint}"),
        (
            argparse("'--saved_model', default='', help='path to model to continue training'"),
            "--saved_model {checkpoint}",
        ),
    ],
)
def test_an_option_that_loads_weights_only_is_proposed_as_such(source: str, arguments: str) -> None:
    found = convention([source])
    assert (found.arguments, found.weights_only) == (arguments, True)
    assert "loads weights only" in proposal(found)


@pytest.mark.parametrize(
    "source",
    [
        argparse("'--epochs', type=int", "'--save', type=str, default='model.pt', help='path to save the final model'"),
        argparse("'--checkpoint', default='checkpoint', type=str, help='path to save checkpoint'"),
        argparse("'--checkpoint', action='store_true', help='gradient checkpointing'"),
        argparse("'--model_path', type=str, help='output of the model'"),
        argparse("'--model_name_or_path', default='gpt2'"),
        argparse("'--wandb-resume', default=None", "'--pretrained', action='store_true', help='use pre-trained model'"),
        "from lightning.pytorch.cli import LightningCLI\nLightningCLI(Model, run=False)\n",
        "from transformers import HfArgumentParser, TrainingArguments\nHfArgumentParser(TrainingArguments)\ntrainer.train()\n",
        "print('no options at all')\n",
        "this is no Python",
    ],
)
def test_a_script_without_a_known_option_is_told_so(source: str) -> None:
    found = convention([source])
    assert found == Convention()
    words = "this script has no known option to resume: after a death it begins at its first step"
    assert proposal(found).startswith(words)


@pytest.mark.parametrize(
    "source",
    [
        "import supervisor\nrun = supervisor.attach(model=model)\n" + argparse("'--resume'"),
        "from supervisor import KerasCallback\n",
        argparse("'--resume', default='auto'"),
        argparse("'--resume', type=bool, default=True"),
        "from transformers.trainer_utils import get_last_checkpoint\nlast = get_last_checkpoint(out)\n",
        "trainer.train(resume_from_checkpoint=True)\n",
        "import keras\nmodel.fit(x, callbacks=[keras.callbacks.BackupAndRestore('backup')])\n",
        "import tensorflow as tf\ncheckpoint.restore(manager.latest_checkpoint())\n",
    ],
)
def test_nothing_is_said_of_a_script_that_resumes_by_itself_or_is_attached(source: str) -> None:
    found = convention([source])
    assert not found.arguments
    assert proposal(found) == ""


def test_an_option_that_the_user_gave_is_not_proposed() -> None:
    found = convention([argparse("'--resume'")])
    assert proposal(found, ["--epochs", "5", "--resume=out/last.pt"]) == ""
    assert proposal(found, ["--epochs", "5"]) == (
        'this script has --resume: add --resume-args "--resume {checkpoint}", or it begins at its first step after a death'
    )


def test_auto_says_what_it_adds() -> None:
    found = convention([argparse("'--weights', default=''")])
    words = '--resume-args auto: "--weights {checkpoint}" is added when the script goes on (by its name it loads weights only)'
    assert proposal(found, auto=True) == words
    assert "no known option" in proposal(Convention(), auto=True)


def test_options_of_the_modules_that_the_script_imports_count_too() -> None:
    options = argparse("'--resume', type=str")
    assert convention(["from options import parser\n", options]).arguments == "--resume {checkpoint}"
    classes = "from dataclasses import dataclass\n@dataclass\nclass Args:\n    resume_from: str = ''\n"
    assert (
        convention(["import tyro\nfrom own import Args\ntyro.cli(Args)\n", classes]).arguments
        == "--resume-from {checkpoint}"
    )
