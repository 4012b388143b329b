"""The table of public training scripts: where each lies in its checkout, how it is called, and what it can do itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Row:
    """One script.

    ``checkout``: folder ``owner+repository``. ``keep``: the part that is copied to each machine. ``script``: path within it.
    ``resume``: what its author documents for going on, "" where the script has no way to. ``data``: stand-ins for downloads,
    each a maker's name and the folder it writes in the copy.
    """

    name: str
    checkout: str
    keep: str
    script: str
    arguments: str = ""
    resume: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    needs: str = "torch"


EXAMPLES = "pytorch+examples"
GAN = "eriklindernoren+PyTorch-GAN"
TUTORIAL = "yunjey+pytorch-tutorial"
KERAS = "keras-team+keras"


def _example(name: str, arguments: str, *, resume: str = "", **data: str) -> Row:
    return Row(name.replace("/", "-"), EXAMPLES, "", f"{name}/main.py", arguments, resume, data)


def _gan(name: str) -> Row:
    arguments = "--n_epochs 25 --batch_size 32 --n_cpu 0 --sample_interval 50"
    data = {"mnist": "data/mnist"}
    return Row(f"gan-{name}", GAN, "", f"implementations/{name}/{name}.py", arguments, data=data)


def _tutorial(part: str, name: str) -> Row:
    return Row(f"tutorial-{name}", TUTORIAL, "tutorials", f"{part}/{name}/main.py", data={"mnist": "data"})


def _keras(name: str) -> Row:
    return Row(f"keras-{name}", KERAS, "examples", f"{name}.py", needs="keras")


ROWS = (
    _example("mnist", "--epochs 14 --no-accel --save-model", mnist="data"),
    _example("mnist_rnn", "--epochs 40 --save-model", mnist="data"),
    _example("vae", "--epochs 30 --no-accel", mnist="data"),
    _example("siamese_network", "--epochs 3 --no-accel --save-model", mnist="data"),
    _example("mnist_hogwild", "--epochs 10", mnist="data"),
    _example(
        "dcgan",
        "--dataset fake --niter 5 --ngf 8 --ndf 8 --workers 0 --manualSeed 1",
        resume="--netG {checkpoint:netG_*} --netD {checkpoint:netD_*}",
    ),
    _example(
        "word_language_model", "--epochs 5 --emsize 32 --nhid 32 --bptt 10", words="word_language_model/data/wikitext-2"
    ),
    _example(
        "imagenet", "pictures -a resnet18 --epochs 3 -b 8 -j 0 --no-accel", resume="--resume {checkpoint}",
        image_folder="imagenet/pictures",
    ),
    Row("regression", EXAMPLES, "regression", "main.py"),
    Row("reinforce", EXAMPLES, "reinforcement_learning", "reinforce.py"),
    Row("actor_critic", EXAMPLES, "reinforcement_learning", "actor_critic.py"),
    Row(
        "time_sequence", EXAMPLES, "time_sequence_prediction", "train.py", "--steps 6", data={"sines": "."},
        environ={"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "MPLBACKEND": "agg"},
    ),
    Row(
        "nanoGPT", "karpathy+nanoGPT", "", "train.py",
        "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=2 --eval_interval=20 --log_interval=1"
        " --block_size=16 --batch_size=4 --n_layer=1 --n_head=1 --n_embd=16 --max_iters=900 --lr_decay_iters=900"
        " --always_save_checkpoint=True",
        "--init_from=resume", {"characters": "data/shakespeare_char"},
    ),
    Row(
        "minGPT-adder", "karpathy+minGPT", "", "projects/adder/adder.py", "--trainer.max_iters=1500",
        environ={"PYTHONPATH": "{work}"},
    ),
    Row(
        "minGPT-chargpt", "karpathy+minGPT", "", "projects/chargpt/chargpt.py",
        "--trainer.max_iters=120 --data.block_size=16 --model.model_type=gpt-nano", data={"input_text": "projects/chargpt"},
        environ={"PYTHONPATH": "{work}"},
    ),
    Row(
        "makemore", "karpathy+makemore", "", "makemore.py",
        "--max-steps 3001 --type bigram --num-workers 0 --device cpu", "--resume",
    ),
    _gan("gan"),
    _gan("lsgan"),
    _gan("wgan"),
    _gan("cgan"),
    _gan("softmax_gan"),
    _gan("wgan_gp"),
    _tutorial("01-basics", "feedforward_neural_network"),
    _tutorial("01-basics", "logistic_regression"),
    _tutorial("02-intermediate", "convolutional_neural_network"),
    _tutorial("02-intermediate", "recurrent_neural_network"),
    _tutorial("03-advanced", "variational_autoencoder"),
    Row(
        "ignite-save_resume", "pytorch+ignite", "examples/mnist", "mnist_save_resume_engine.py",
        "--epochs 8 --log_dir runs_here", "--resume_from {checkpoint}", {"mnist": "."},
    ),
    Row("ignite-mnist", "pytorch+ignite", "examples/mnist", "mnist.py", "--epochs 10", data={"mnist": "."}),
    Row(
        "lightning-autoencoder", "Lightning-AI+pytorch-lightning", "examples/pytorch/basics", "autoencoder.py",
        "--trainer.max_epochs=6 --trainer.accelerator=cpu --trainer.enable_progress_bar=false --data.batch_size=4",
        data={"mnist": "../../Datasets"},
    ),
    Row(
        "timm", "huggingface+pytorch-image-models", "", "train.py",
        "--data-dir pictures --model resnet10t --num-classes 2 -b 4 --epochs 4 --workers 1 --device cpu --img-size 64"
        " --output out --no-prefetcher",
        "--resume {checkpoint}", {"image_folder": "pictures"},
    ),
    Row(
        "unet", "milesial+Pytorch-UNet", "", "train.py", "--epochs 4 --batch-size 2 --scale 1", "--load {checkpoint}",
        {"unet": "data"}, {"WANDB_MODE": "offline"},
    ),
    Row(
        "lprnet", "sirius-ai+LPRNet_Pytorch", "", "train_LPRNet.py",
        "--train_img_dirs plates/train --test_img_dirs plates/test --max_epoch 10 --cuda= --num_workers 0"
        " --save_interval 5 --test_interval 1000",
        "--pretrained_model {checkpoint}", {"plates": "plates"}, {"PUBLIC_OLD_NUMPY": "1"},
    ),
    Row(
        "cleanrl-ppo", "vwxyzjn+cleanrl", "", "cleanrl/ppo.py", "--total-timesteps 20000 --no-cuda",
        environ={"PYTHONPATH": "{work}"},
    ),
    Row(
        "cleanrl-c51", "vwxyzjn+cleanrl", "", "cleanrl/c51.py",
        "--total-timesteps 6000 --learning-starts 500 --no-cuda --save-model", environ={"PYTHONPATH": "{work}"},
    ),
    Row("xgboost-continuation", "dmlc+xgboost", "demo/guide-python", "continuation.py"),
    Row("lightgbm-advanced", "microsoft+LightGBM", "examples", "python-guide/advanced_example.py"),
    _keras("demo_functional"),
    _keras("demo_subclass"),
    _keras("demo_custom_layer_backend_agnostic"),
    _keras("demo_custom_tf_workflow"),
)  # fmt: skip
