#!/usr/bin/env python3
"""Disaggregated against aggregated serving at equal resources, over load, by simulation of a trace.

    tools/disaggregation_curves.py PIXII TRACE

runs `PIXII simulate --scenario trace` for each split of the same workers and each load, writes every figure to
bench/results/disaggregation-curves.json and draws docs/pictures/disaggregation.svg. docs/performance.md reads the result."""
import concurrent.futures
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
JSON = ROOT / "bench/results/disaggregation-curves.json"
SVG = ROOT / "docs/pictures/disaggregation.svg"
WORKERS = 8
SPLITS = (("aggregated", 0), ("4 prefill, 4 decode", 4), ("5 prefill, 3 decode", 5), ("6 prefill, 2 decode", 6))
SPEEDS = (0.5, 1, 1.5, 2, 3, 4, 5, 6)  # times the trace's own rate
REQUESTS = 4000  # the first of the trace
TTFT_GOAL, ITL_GOAL = "2s", "25ms"
FLAGS = ("--trace-requests", str(REQUESTS), "--workers", str(WORKERS), "--router-mode", "kv", "--ttft-goal", TTFT_GOAL, "--itl-goal", ITL_GOAL)
PANELS = (("goodput", f"goodput, requests/s (first token within {TTFT_GOAL}, {ITL_GOAL} a token)", 1),
          ("ttft_p50", "time to first token, p50, s", 1e-3), ("ttft_p99", "time to first token, p99, s", 1e-3),
          ("itl_p50", "time per token, p50, ms", 1), ("itl_p99", "time per token, p99, ms", 1))
COLOURS = ("#444444", "#1f77b4", "#d95f02", "#2ca02c")


def simulate(pixii, trace, prefill, speed):
    command = [pixii, "simulate", "--scenario", "trace", "--trace", trace, *FLAGS, "--prefill-workers", str(prefill), "--speed", str(speed), "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report, {figure["name"]: figure["value"] for figure in report["results"]}


def nice(top):
    """Ticks from 0 to at least `top`."""
    step = 10 ** len(str(int(top))) / 10 if top >= 1 else 0.1
    for factor in (0.1, 0.2, 0.5, 1, 2):
        if top / (step * factor) <= 6:
            step *= factor
            break
    return [step * i for i in range(int(top / step) + 2)]


def panel(curves, name, title, scale, left, top, width, height):
    points = {split: [(rate, figures[name] * scale) for rate, figures in curve] for split, curve in curves.items()}
    highest = max(y for curve in points.values() for _, y in curve)
    # A p99 past saturation would flatten all else.
    highest = min(highest, {"ttft_p50": 1, "ttft_p99": 4, "itl_p50": 50, "itl_p99": 250}.get(name, highest))
    ticks_x, ticks_y = nice(max(x for curve in points.values() for x, _ in curve)), nice(highest or 1)
    at = lambda x, y: (left + width * x / ticks_x[-1], top + height - height * min(y, ticks_y[-1]) / ticks_y[-1])
    out = [f'<text x="{left}" y="{top - 10}" class="title">{title}</text>']
    for y in ticks_y:
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{at(0, y)[1]:.1f}" y2="{at(0, y)[1]:.1f}" class="grid"/>'
                   f'<text x="{left - 6}" y="{at(0, y)[1] + 4:.1f}" class="y">{y:g}</text>')
    for x in ticks_x:
        out.append(f'<text x="{at(x, 0)[0]:.1f}" y="{top + height + 16}" class="x">{x:g}</text>')
    for colour, curve in zip(COLOURS, points.values()):
        path = " ".join(f"{'L' if i else 'M'}{at(x, y)[0]:.1f} {at(x, y)[1]:.1f}" for i, (x, y) in enumerate(curve))
        out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{at(x, y)[0]:.1f}" cy="{at(x, y)[1]:.1f}" r="2.5" fill="{colour}"/>' for x, y in curve]
    return out


def draw(curves):
    width, height, gap_x, gap_y = 380, 200, 80, 70
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 890" font-family="sans-serif" font-size="12">',
             "<style>.title{font-weight:bold}.grid{stroke:#ddd}.y{text-anchor:end}.x{text-anchor:middle}</style>",
             '<rect width="980" height="890" fill="white"/>']
    for i, (name, title, scale) in enumerate(PANELS):
        lines += panel(curves, name, title, scale, 60 + i % 2 * (width + gap_x), 40 + i // 2 * (height + gap_y), width, height)
    for i, (split, colour) in enumerate(zip(curves, COLOURS)):
        y = 620 + 24 * i
        lines.append(f'<line x1="520" x2="560" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/><text x="570" y="{y + 4}">{split}</text>')
    lines.append(f'<text x="520" y="{620 + 24 * len(curves) + 10}">x: requests per second; {WORKERS} workers in all</text></svg>')
    SVG.write_text("\n".join(lines) + "\n")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    curves, runs = {split: [] for split, _ in SPLITS}, []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = [(split, prefill, speed, pool.submit(simulate, sys.argv[1], sys.argv[2], prefill, speed))
                for speed in SPEEDS for split, prefill in SPLITS]
        for split, prefill, speed, job in jobs:
            report, figures = job.result()
            curves[split].append((figures["request_rate"], figures))
            runs.append({"split": split, "prefill_workers": prefill, "speed": speed, "figures": figures})
            print(f"{split}, {figures['request_rate']:.1f} requests/s: goodput {figures['goodput']:.2f}, first token p50 {figures['ttft_p50']:.0f} ms "
                  f"p99 {figures['ttft_p99']:.0f} ms, token p50 {figures['itl_p50']:.1f} ms p99 {figures['itl_p99']:.1f} ms", flush=True)
    JSON.write_text(json.dumps({"commit": report["commit"], "machine": report["machine"], "flags": list(FLAGS), "runs": runs}, indent=1) + "\n")
    draw(curves)


if __name__ == "__main__":
    main()
