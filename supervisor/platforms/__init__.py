"""Where we run. One file and one row here makes a new platform; the first that recognises the machine is it."""

from __future__ import annotations

TABLE = {
    "kaggle": "supervisor.platforms.kaggle",
    "colab": "supervisor.platforms.colab",
    "slurm": "supervisor.platforms.slurm",
    "spot": "supervisor.platforms.spot",
    "local": "supervisor.platforms.local",
}
