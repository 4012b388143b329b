"""The run as people read it: milliseconds and multiples of the limit, in Markdown, which reads well in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measuring.ratios import Ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Found = Mapping[str, Any]

AGAINST = {
    "stall_s": "memcpy_s", "lost_dispatch_s": "memcpy_s", "lost_matmul_s": "memcpy_s", "durable_s": "raw_write_fsync_s",
    "restore_cold_s": "raw_read_s", "restore_warm_s": "memcpy_s",
}  # fmt: skip
COLUMNS = {
    "engine": "engine", "stall_s": "stall", "lost_dispatch_s": "lost, small steps", "lost_matmul_s": "lost, large steps",
    "put_off_s": "put off", "durable_s": "durable", "restore_cold_s": "cold restore", "restore_warm_s": "warm restore",
    "extra_bytes": "extra MB", "bytes": "disk MB", "files": "files", "fsyncs": "fsyncs", "cpu_s": "CPU", "safe": "safe",
}  # fmt: skip
LIMITS = {
    "memcpy_s": "copy into a kept buffer, one thread", "memcpy_threads_s": "the same, two threads",
    "raw_write_fsync_s": "write + fsync, buffered", "raw_write_direct_s": "write + fsync, O_DIRECT",
    "raw_read_s": "cold read", "raw_read_warm_s": "warm read",
}  # fmt: skip


def report(result: Found, *, padded: bool) -> str:
    """Return the whole run: where, the limits, the engines, the ratios; ``padded`` with columns that stand straight."""
    machine, arguments = result["machine"], result["arguments"]
    cores = arguments["cores"] or machine["cores"]
    where = (
        f"{arguments['size']}, {result['state_bytes'] / 1e6:,.0f} MB; {machine['cpu']}, {cores} of {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB, {machine['disk']}, Linux {machine['kernel']}, "
        f"torch {machine['versions']['torch']}; {machine['date']}; load {result['load_before'][0]} before, "
        f"{result['load_after'][0]} after. Times in ms; in brackets multiples of the limit."
    )
    engines = [_row(row, result["limits"]) for row in result["rows"] if "error" not in row]
    lines = [
        where,
        "",
        *table(["limit", "ms", "GB/s"], _limits(result), padded=padded),
        "",
        *table(list(COLUMNS.values()), engines, padded=padded),
        *(f"\n{row['engine']} could not be measured: {row['error']}" for row in result["rows"] if "error" in row),
    ]
    shown = [Ratio(**{key: each[key] for key in Ratio._fields}) for each in result["ratios"]]
    if shown:
        head = ["must be shown", "is", "at most", "against", ""]
        lines += ["", *table(head, [_verdict(each) for each in shown], padded=padded)]
    return "\n".join(lines)


def _limits(result: Found) -> list[list[str]]:
    size, limits = result["state_bytes"], result["limits"]
    return [
        [words, ms(limits[key]), f"{size / limits[key] / 1e9:.1f}"] for key, words in LIMITS.items() if limits.get(key)
    ]


def _row(row: Found, limits: Found) -> list[str]:
    return [_cell(key, row.get(key), limits) for key in COLUMNS]


def _cell(key: str, value: Any, limits: Found) -> str:
    if value is None:
        return "?"
    if key == "safe":
        return "yes" if value else "NO"
    if key.endswith("_bytes") or key == "bytes":
        return f"{value / 1e6:,.0f}"
    if not key.endswith("_s"):
        return str(value)
    limit = limits.get(AGAINST.get(key, ""))
    return f"{ms(value)} ({value / limit:.1f})" if limit else ms(value)


def _verdict(ratio: Ratio) -> list[str]:
    value = "" if ratio.value is None else f"{ratio.value:.3g}"
    limit = f"below {ratio.limit:g}" if ratio.strict else f"{ratio.limit:g}"
    return [ratio.what, value, limit, ratio.against, ratio.verdict]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, padded: bool = True) -> list[str]:
    """Return the lines of a Markdown table: the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) if padded else 0 for column in range(len(head))]
    shown = [
        "| " + " | ".join(f"{cell:{'<' if not at else '>'}{widths[at]}}" for at, cell in enumerate(row)) + " |"
        for row in (head, *rows)
    ]
    rule = "|" + "|".join("-" * (width + 1) + ("-" if not at else ":") for at, width in enumerate(widths)) + "|"
    return [shown[0], rule, *shown[1:]]


def ms(seconds: float) -> str:
    """Return milliseconds with as many digits as say something."""
    return f"{1000 * seconds:,.0f}" if abs(seconds) >= 0.01 else f"{1000 * seconds:.2f}"
