"""A tiny BERT trained by transformers' Trainer on masked words, whose masks are drawn anew in every epoch."""

import argparse
import time

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, EarlyStoppingCallback, Trainer, TrainingArguments

import supervisor

WORDS, LENGTH, MASK = 50, 12, 1


class Sentences(torch.utils.data.Dataset):
    """Each sample is its own; ``reads`` counts how many were read."""

    def __init__(self, count: int, seed: int) -> None:
        drawn = np.random.default_rng(seed)
        self.words = torch.from_numpy(drawn.integers(2, WORDS, (count, LENGTH)))
        self.reads = 0

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self.reads += 1
        return {"input_ids": self.words[index], "labels": self.words[index].clone()}


class Masking:
    """Masks words by chance, as DataCollatorForLanguageModeling does."""

    def __init__(self, step_ms: float) -> None:
        self.step_s = step_ms / 1000

    def __call__(self, samples: list) -> dict[str, torch.Tensor]:
        time.sleep(self.step_s)
        words = torch.stack([each["input_ids"] for each in samples])
        labels = torch.stack([each["labels"] for each in samples])
        masked = torch.rand(words.shape) < 0.3
        return {"input_ids": words.masked_fill(masked, MASK), "labels": labels.masked_fill(~masked, -100)}


def trainer_of(options: argparse.Namespace, callbacks: list | None = None, **changed: object) -> Trainer:
    """Return a Trainer; ``changed`` are further TrainingArguments, or the Trainer's own."""
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=LENGTH,
    )  # fmt: skip
    accumulated = options.accumulate
    epoch_steps = max(1, options.steps // 3)
    own = {name: changed.pop(name) for name in ("train_dataset", "data_collator", "optimizers") if name in changed}
    given = {
        "output_dir": "output", "max_steps": options.steps, "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "warmup_steps": 5, "gradient_accumulation_steps": accumulated, "logging_steps": 2, "eval_strategy": "steps",
        "eval_steps": 7, "save_strategy": "no", "metric_for_best_model": "loss", "greater_is_better": False,
        "report_to": "none", "disable_tqdm": True, "seed": 11, "use_cpu": True, "bf16": options.bf16,
    }  # fmt: skip
    return Trainer(**{
        "model": BertForMaskedLM(config),
        "args": TrainingArguments(**{**given, **changed}),
        "train_dataset": Sentences(epoch_steps * accumulated * 4 - 5, 1),
        "eval_dataset": Sentences(8, 2),
        "data_collator": Masking(options.step_ms / accumulated),
        "callbacks": callbacks or [EarlyStoppingCallback(options.patience), supervisor.TransformersCallback()],
        **own,
    })  # fmt: skip


def options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-ms", type=float, default=0.0)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--patience", type=int, default=100)
    parser.add_argument("--bf16", action="store_true")
    return parser.parse_args(words)


if __name__ == "__main__":
    trainer_of(options()).train()
