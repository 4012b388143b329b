"""What is a secret in a command line is masked, in each form that people write it; what is none stays."""

from __future__ import annotations

import pytest

from supervisor.core.masking import MASK, holes, masked, masked_text

HIDDEN = [
    ["--token", "X1y2"],
    ["--api-key=X1y2"],
    ["--password", "X1y2"],
    ["--wandb-key", "X1y2"],
    ["--wandb_api_key", "X1y2"],
    ["-token", "X1y2"],
    ["--hf_token=X1y2"],
    ["--authToken", "X1y2"],
    ["WANDB_API_KEY=X1y2"],
    ["+logger.wandb.api_key=X1y2"],
    ["auth.token=X1y2"],
    ["--aws-secret-access-key", "X1y2"],
    ["--aws-access-key-id", "X1y2"],
    ["--data", "https://user:X1y2@host/data"],
    ["--data=https://X1y2@host/data"],
    ["--data", "git+ssh://user:X1y2@host/x"],
    ["--data", "ftp://u:X1y2@host"],
    ["--data", "s3://bucket/x?X-Amz-Signature=X1y2&y=1"],
    ["--data", "https://host/data?token=X1y2"],
    ["--data", "https://host/data?a=1&access_token=X1y2"],
    ["user:X1y2@corp"],
    ["--url", "postgres://user:X1y2@db:5432/x"],
    ["--header", "Authorization: Bearer X1y2X1y2"],
    ["--config", '{"api_key": "X1y2", "lr": 0.1}'],
    ["--env", "HF_TOKEN=X1y2"],
    ["sk-X1y2X1y2X1y2X1y2"],
    ["--x", "sk-proj-X1y2X1y2X1y2X1y2_-X1y2"],
    ["hf_X1y2X1y2X1y2X1y2X1y2X1y2X1y2X1y2X1"],
    ["ghp_X1y2X1y2X1y2X1y2X1y2X1y2X1y2X1y2X1y2"],
    ["github_pat_X1y2X1y2X1y2X1y2"],
]
PLAIN = [
    ["--tokenizer", "gpt2", "--max-tokens", "512", "--pad-token", "<pad>", "--num_tokens=4"],
    ["--sort-key", "loss", "--key", "image", "--label-key=y"],
    ["--lr", "0.1", "--data", "https://host/data?page=2", "--out", "user@host", "git@github.com:a/b.git"],
    ["--use-auth-token", "--lr", "0.1"],
    ["--repo", "ssh://git@host/a/b.git", "--when", "10:30", "--shape", "a:b"],
    ["model=sk-learn", "hf_transfer", "--passes", "3", "--keyframes=2", "--author", "me", "--secretary=no"],
    ["{checkpoint}", "--resume", "{checkpoint}", "*.png", "**/*.py"],
]


@pytest.mark.parametrize("arguments", HIDDEN, ids=" ".join)
def test_a_secret_is_masked_in_a_list_and_in_a_line(arguments: list[str]):
    found = masked(["--lr", "0.1", *arguments, "--steps", "5"])
    assert len(found) == len(arguments) + 4
    assert (found[:2], found[-2:]) == (["--lr", "0.1"], ["--steps", "5"])
    assert "X1y2" not in " ".join(found)
    assert MASK in " ".join(found)
    assert "X1y2" not in masked_text(" ".join(arguments))
    assert masked(found) == found
    assert len(holes(found)) == 1


@pytest.mark.parametrize("arguments", PLAIN, ids=" ".join)
def test_what_is_no_secret_stays(arguments: list[str]):
    assert masked(arguments) == arguments
    assert masked_text(" ".join(arguments)) == " ".join(arguments)
    assert holes(arguments) == []
