"""Platforms that run the supervisor: detection, time limit, preemption notice.

- ``cloud_metadata``: metadata servers of clouds
- ``colab``: Google Colab
- ``colab_drive``: Drive mount in a notebook
- ``kaggle``: Kaggle
- ``local``: any other machine
- ``slurm``: Slurm
- ``spot``: virtual machines of clouds
"""

from __future__ import annotations

TABLE = {
    "kaggle": "supervisor.platforms.kaggle",
    "colab": "supervisor.platforms.colab",
    "slurm": "supervisor.platforms.slurm",
    "spot": "supervisor.platforms.spot",
    "local": "supervisor.platforms.local",
}
