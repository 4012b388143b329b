"""A copy is made only where there is room for it."""

import pytest

from supervisor.trainer.memory import has_room_for


@pytest.mark.parametrize(
    ("files", "fits"),
    [
        ({}, True),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 2000 kB\n"}, True),
        ({"proc/meminfo": "MemAvailable: 1000 kB\n"}, False),
        ({"sys/fs/cgroup/memory.max": "2000000\n", "sys/fs/cgroup/memory.current": "1500000\n"}, False),
        ({"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "1500000\n"}, True),
        (
            {
                "sys/fs/cgroup/memory.max": "2000000\n",
                "sys/fs/cgroup/memory.current": "1500000\n",
                "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 1200000\n",
            },
            True,
        ),
    ],
)
def test_the_least_of_what_is_known_to_be_free_decides(tmp_path, files, fits):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert has_room_for(1_000_000, tmp_path) is fits
