"""Tables of ``README.md`` and the picture, from ``results/*.json``.

python benchmarks/report.py: writes both anew. Nothing is measured.
"""

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from molpool_calc.commands.tables import significant

HERE = Path(__file__).parent
RESULTS, README, PICTURE = HERE / "results", HERE / "README.md", HERE / "speed.png"
BEGIN, END = "<!-- begin results -->\n", "<!-- end results -->\n"
COLUMNS = {
    "title": "row",
    "system": "system",
    "n_atoms": "atoms",
    "n_pairs": "pairs",
    "network": "network",
    "what": "what",
    "dtype": "dtype",
    "threads": "threads",
    "ms_per_step": "ms",
    "peer_ms_per_step": "peer ms",
    "ratio": "ratio",
    "ratio_of_fastest": "ratio of fastest blocks",
    "floor_ms": "floor ms",
    "fraction_of_floor": "fraction of floor",
    "peak_memory_mib": "peak MiB",
    "peer_peak_memory_mib": "peer's peak MiB",
    "memory_growth_mib": "grown by MiB",
    "peer_memory_growth_mib": "peer's growth MiB",
    "us_per_atom": "µs per atom",
    "engine": "engine",
    "peer_name": "peer",
    "peer_processes": "peer's processes",
    "first_call": "code",
    "first_call_s": "first call s",
    "cache": "cache",
    "seconds": "s",
    "peer_failure": "the peer failed",
    "failure": "failed",
}
"""Keys of rows that are shown, with their headings; others are in the JSON only."""
HIDDEN_WITH_TIMES = ("first_call", "first_call_s")
ORDER = (
    *("ethanol-painn", "ethanol-schnet", "aspirin-painn", "water-painn"),
    *("ethanol-batch", "so3lr", "dimenet", "training", "scaling", "infrared"),
    *("batches", "xtb", "first-call"),
)
GPU = "gpu"


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return all results, in the order of the table."""
    found = [
        {"name": path.stem, **json.loads(path.read_text(encoding="utf-8"))}
        for path in (folder / f"{name}.json" for name in (*ORDER, GPU))
        if path.is_file()
    ]
    for content in found:
        if content["name"] == GPU:
            content["title"] = "On a GPU."
            content["goals"] = gpu_goals(content["rows"])
    return found


def gpu_goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the targets of a GPU from the rows that ``gpu.py`` wrote, if it did."""
    command = "python benchmarks/gpu.py --out results/gpu.json"
    absent = "this row was not run" if rows else "no GPU was at hand"

    def reason(start: str) -> str:
        failed = (r.get("failure") for r in rows if r["title"].startswith(start))
        return next((text for text in failed if text), f"{absent}; {command}")

    def best(start: str, key: str, choose: Callable[[list[float]], float]) -> Any:
        found = [r[key] for r in rows if r["title"].startswith(start) and r.get(key)]
        return choose(found) if found else None

    step, large = "ethanol, ", "so3lr water-4096"
    floor, name = best(large, "floor_ms", min), "GPU: SO3LR, 12 288 atoms of water"
    if floor is not None:
        name += f", ms per step (floor {significant(floor)} ms)"
    many = "1024 replicas"
    lines = (
        ("GPU: ethanol PaiNN step through ASE", step, "ms_per_step", 0.35, "ms", False),
        ("GPU: the same, vs SchNetPack", step, "ratio", 10.0, "×", True),
        ("GPU: 1 024 ethanols, vs SchNetPack's batch", many, "ratio", 10.0, "×", True),
        (name, large, "ms_per_step", None, "ms", False),
    )
    return [
        {
            "work": work,
            "value": best(start, key, max if at_least else min),
            "limit": limit,
            "unit": unit,
            "at_least": at_least,
            "reason": reason(start),
        }
        for work, start, key, limit, unit, at_least in lines
    ]


def goal_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the targets of a result, as rows of a Markdown table."""
    for goal in content.get("goals", []):
        unit, value, limit = goal["unit"], goal["value"], goal["limit"]
        sign = "≥" if goal["at_least"] else "≤"
        target = (
            "–" if limit is None else f"{sign} {significant(float(limit), 2)} {unit}"
        )
        if value is None:
            measured, verdict = "–", f"not measured: {goal['reason']}"
        else:
            measured = f"{significant(float(value))} {unit}"
            verdict = _verdict(value, limit, at_least=goal["at_least"])
        yield f"| {goal['work']} | {target} | {measured} | {verdict} |"


def _verdict(value: float, limit: float | None, *, at_least: bool) -> str:
    if limit is None:
        return "reported"
    if (value >= limit) if at_least else (value <= limit):
        return "reached"
    short = limit / value if at_least else value / limit
    return f"missed by a factor of {significant(float(short))}"


def write_tables(folder: Path, readme: Path) -> None:
    """Put the tables between the marks of the page."""
    readme.write_text(
        with_tables(readme.read_text(encoding="utf-8"), folder), encoding="utf-8"
    )


def with_tables(text: str, folder: Path) -> str:
    """Return the page with the tables of all results between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{_tables(read_results(folder))}\n{END}{after}"


def _tables(results: list[dict[str, Any]]) -> str:
    lines = ["| work | target | measured | |", "|---|---:|---:|---|"]
    lines += [line for content in results for line in goal_lines(content)]
    if all(content["name"] != GPU for content in results):
        lines += goal_lines({"goals": gpu_goals([])})
    if any(goal["value"] for content in results for goal in content.get("goals", [])):
        lines += ["", f"![measured over target]({PICTURE.name})"]
    for content in results:
        title = content.get("title", content["name"]).rstrip(".")
        lines += ["", f"### {title}", ""]
        lines += row_lines(content["rows"])
        lines += ["", _origin(content)]
    return "\n".join(lines) + "\n"


def row_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows of a result as a Markdown table."""
    has_times = any(row.get("ms_per_step") for row in rows)
    keys = [
        key
        for key in COLUMNS
        if any(row.get(key) is not None for row in rows)
        and not (has_times and key in HIDDEN_WITH_TIMES)
    ]
    yield "| " + " | ".join(COLUMNS[key] for key in keys) + " |"
    numbers = [isinstance(rows[0].get(key), int | float) for key in keys]
    yield "|" + "|".join("---:" if number else "---" for number in numbers) + "|"
    for row in rows:
        yield "| " + " | ".join(_cell(row.get(key)) for key in keys) + " |"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return significant(value) if isinstance(value, float) else str(value)


def _origin(content: Mapping[str, Any]) -> str:
    found, peers = content["machine"], {}
    for row in content["rows"]:
        peers |= row.get("peer", {}).get("versions", {})
    shown = ", ".join(f"{k} {v}" for k, v in {**peers, **content["versions"]}.items())
    where = found.get("gpu") or found["processor"]
    load = f"load {found['load']}"
    if "load_at_end" in found:
        load += f" to {found['load_at_end']}"
    date = f"{content['date']}, " if "date" in content else ""
    return f"{date}{where}, {found['cores']} cores, {load}; {shown}."


def write_picture(folder: Path, picture: Path) -> None:
    """Draw measured over target for every target that was measured."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    goals = [
        goal
        for content in read_results(folder)
        for goal in content.get("goals", [])
        if goal["value"] and goal["limit"]
    ]
    if not goals:
        return
    shares = [
        goal["value"] / goal["limit"]
        if goal["at_least"]
        else goal["limit"] / goal["value"]
        for goal in goals
    ]
    places = range(len(goals))
    figure, axes = plt.subplots(figsize=(10, 0.46 * len(goals) + 1.2))
    colors = ["#2a7f62" if share >= 1 else "#c0603a" for share in shares]
    axes.barh(places, shares, color=colors)
    axes.axvline(1.0, color="black", linewidth=1)
    labels = [
        textwrap.fill(
            f"{goal['work']}: {significant(goal['value'])} {goal['unit']}", 62
        )
        for goal in goals
    ]
    axes.set_yticks(places, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("measured over target (1 and more: reached)")
    figure.tight_layout()
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    write_tables(RESULTS, README)
    write_picture(RESULTS, PICTURE)
