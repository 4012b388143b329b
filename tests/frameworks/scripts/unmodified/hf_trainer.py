"""A transformers script as its documentation shows: a Trainer with an output folder, going on from a checkpoint if told to."""

import argparse
import time

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments


class Sentences(Dataset):
    def __init__(self, seed, count, step_ms=0.0):
        generator = torch.Generator().manual_seed(seed)
        self.words = torch.randint(5, 60, (count, 8), generator=generator)
        self.seconds = step_ms / 1000 / 8

    def __len__(self):
        return len(self.words)

    def __getitem__(self, index):
        time.sleep(self.seconds)
        words = self.words[index]
        return {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": words[0] % 2}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output_dir", default="trained")
    parser.add_argument("--resume_from_checkpoint", default=None)
    parser.add_argument("--max_steps", type=int, default=60)
    parser.add_argument("--save_steps", type=int, default=20)
    parser.add_argument("--step-ms", type=float, default=10.0)
    args = parser.parse_args()
    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(
            output_dir=args.output_dir,
            max_steps=args.max_steps,
            save_steps=args.save_steps,
            eval_strategy="steps",
            eval_steps=args.save_steps,
            per_device_train_batch_size=8,
            logging_steps=5,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            seed=3,
        ),
        train_dataset=Sentences(0, 160, args.step_ms),
        eval_dataset=Sentences(1, 16),
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model("final")


if __name__ == "__main__":
    main()
