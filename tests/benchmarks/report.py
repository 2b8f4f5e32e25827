"""What was measured, as JSON, as a page, and as a picture."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("aiohttp", "aiokafka", "asyncpg", "fastapi", "msgspec", "pynacl", "pyoxigraph", "uvloop")
_STAGES = ("assessment", "issuer", "verifier", "notifier", "postgres", "kafka", "sink")
_COLOURS = {"results": "#7a7a7a", "issued": "#1b6ca8", "indexed": "#2e8b57", "delivered": "#c0562f"}
_WIDTH, _HEIGHT, _MARGIN = 760, 300, 56


def machine() -> dict[str, Any]:
    """What it was measured on, and with what."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 2**20, 1),
        "load_before": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
        **{name: version(name) for name in _PACKAGES},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def write(figures: dict[str, Any], folder: Path) -> list[Path]:
    """report.json, report.md and a plot of each bus; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(figures, indent=1) + "\n")
    written = [folder / "report.json", folder / "report.md"]
    for bus in ("kafka", "postgres"):
        if timeline := figures.get(bus, {}).get("timeline"):
            written.append(folder / f"{bus}.svg")
            written[-1].write_text(plot(timeline, f"{figures[bus]['n']:,} passes over {bus}"))
    (folder / "report.md").write_text(page(figures))
    return written


def page(figures: dict[str, Any]) -> str:
    """The report as Markdown."""
    about = figures["machine"]
    lines = [
        "# What Laurel does in a second", "",
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, {about['system']}, "
        f"Python {about['python']}; commit {about['commit']}; load before the run {about['load_before']:.2f}.", "",
        "| figure | a second | baseline of the same run | times |", "|---|---:|---|---:|",
    ]  # fmt: skip
    for name, baseline in _BASELINES.items():
        if name in figures:
            value, other = figures[name], figures.get(baseline)
            beside = f"{baseline} {other:,.0f}" if other else ""
            times = f"{value / other:,.1f}" if other else ""
            lines.append(f"| {name} | {value:,.0f} | {beside} | {times} |")
    for bus in ("kafka", "postgres"):
        lines += _bus(bus, figures.get(bus))
    return "\n".join(lines) + "\n"


_BASELINES = {
    "sign_rdfc_per_s": "sign_rdfc_plain_per_s",
    "sign_rdfc_checked_per_s": "sign_rdfc_plain_per_s",
    "sign_rdfc_full_per_s": "sign_rdfc_plain_per_s",
    "sign_jcs_per_s": "sign_rdfc_plain_per_s",
    "verify_own_per_s": "verify_plain_per_s",
    "verify_foreign_per_s": "verify_plain_per_s",
    "verify_batch_own_per_s": "verify_plain_per_s",
    "verify_batch_foreign_per_s": "verify_plain_per_s",
    "lookup_per_s": "verify_plain_per_s",
}


def _bus(bus: str, found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    if "left_out" in found:
        return ["", f"## The whole path over {bus}", "", f"Left out: {found['left_out']}."]
    cpu = found["cpu_us_per_credential"]
    return [
        "", f"## The whole path over {bus}", "",
        f"{found['n']:,} passes in over HTTP, issued, indexed and delivered in {found['seconds']:,} s: "
        f"**{found['per_s']:,} credentials a second**, {found['unaccounted']} unaccounted, "
        f"{found['delivered_twice']} webhooks repeated.", "",
        f"At {found['load_per_s']:,} a second, from accepted to verifiable: p50 {found['p50_ms']} ms, "
        f"p99 {found['p99_ms']} ms. A single pass of somebody else during the burst: p50 {found['live_p50_ms']} ms, "
        f"p99 {found['live_p99_ms']} ms ({found['live_passes']} passes).", "",
        "| µs of processor time a credential | " + " | ".join(one for one in _STAGES if one in cpu) + " | all |",
        "|---|" + "---:|" * (1 + sum(one in cpu for one in _STAGES)),
        "| | " + " | ".join(f"{cpu[one]:,.0f}" for one in _STAGES if one in cpu)
        + f" | {found['cpu_us_per_credential_total']:,.0f} |", "",
        "Largest resident memory of a process, MiB: "
        + ", ".join(f"{name} {value:,.0f}" for name, value in found["rss_mb"].items()) + ".", "",
        f"![what was done by when]({bus}.svg)",
    ]  # fmt: skip


def plot(timeline: list[dict[str, float]], title: str) -> str:
    """Counts over seconds, as an SVG; the distance between two lines is what waits between the two stages."""
    most_s = max(point["s"] for point in timeline) or 1.0
    most = max(max(point[name] for name in _COLOURS) for point in timeline) or 1

    def place(point: dict[str, float], name: str) -> str:
        x = _MARGIN + point["s"] / most_s * (_WIDTH - 2 * _MARGIN)
        y = _HEIGHT - _MARGIN - point[name] / most * (_HEIGHT - 2 * _MARGIN)
        return f"{x:.1f},{y:.1f}"

    text = 'font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_MARGIN}" y="24" {text} font-weight="bold">{title}</text>',
        f'<path d="M{_MARGIN} {_MARGIN}V{_HEIGHT - _MARGIN}H{_WIDTH - _MARGIN}" fill="none" stroke="#333"/>',
        f'<text x="{_MARGIN - 6}" y="{_MARGIN + 4}" {text} text-anchor="end">{most:,.0f}</text>',
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - _MARGIN + 18}" {text} text-anchor="end">{most_s:,.0f} s</text>',
    ]
    for number, (name, colour) in enumerate(_COLOURS.items()):
        points = " ".join(place(point, name) for point in timeline)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{_MARGIN + 130 * number}" y="{_HEIGHT - 14}" {text} fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
