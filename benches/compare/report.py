"""Tables and plots of a comparison."""

import html
import json
import statistics

OURS = "lockring"
# What is measured beside the proxies and is no peer: the floor, and variants of our own.
BESIDE = ("relay", "lockring-")
# Figures of the second table, where a row has them.
DETAILS = [("user", "user", 2), ("system", "kernel", 2), ("rps", "requests/s", 0), ("MB_per_s", "MB/s", 0),
           ("p50", "p50 µs", 0), ("p99", "p99 µs", 0), ("p999", "p99.9 µs", 0), ("reconnects", "reconnects", 0),
           ("retries", "retries", 0), ("refused", "not 200", 0), ("swaps", "swaps", 0), ("start_cpu", "CPU ms", 0),
           ("late", "ms till served", 0),
           ("calm_p50", "calm p50 µs", 0), ("calm_p99", "calm p99 µs", 0), ("calm_cpu", "beside 64", 2), ("more", "times", 2),
           ("handshakes", "handshakes/s", 0), ("start_memory", "MiB", 1), ("base_KiB", "KiB before", 0), ("others", "core 0 on others %", 0), ("load", "load", 1)]
COLOURS = {"lockring": ("#0b6e4f", "#5fb49c"), "nginx": ("#3d5a80", "#98c1d9"), "haproxy": ("#7f4f24", "#c9a27a"),
           "caddy": ("#6a4c93", "#b79ced"), "relay": ("#555", "#bbb")}


def middle(runs, figure):
    values = [run[figure] for run in runs if figure in run]
    return statistics.median(values) if values else None


def spread(runs, figure):
    """Greatest less least, as a share of the median."""
    values = [run[figure] for run in runs if figure in run]
    centre = statistics.median(values) if values else 0
    return 100 * (max(values) - min(values)) / centre if centre else 0.0


def number(value, digits=2):
    return "–" if value is None else f"{value:,.{digits}f}"


def is_peer(name):
    return name != OURS and not name.startswith(BESIDE)


def best(row, found):
    """The peer with the lowest main figure, and it."""
    peers = [(middle(runs, row.main), name) for name, runs in found.items() if is_peer(name)]
    return min(peers) if peers else (None, None)


def ratio(row, found, figure=None):
    """Ours to the best peer's; the peer is the best by `figure` itself."""
    figure = figure or row.main
    ours = middle(found.get(OURS, []), figure)
    theirs = [value for name, runs in found.items() if is_peer(name) and (value := middle(runs, figure))]
    return ours / min(theirs) if ours is not None and theirs else None


def least_ratio(found, figure):
    """Ours to the best peer's, each in its least disturbed round."""
    least = {name: min(values) for name, runs in found.items() if (is_peer(name) or name == OURS) and (values := [run[figure] for run in runs if figure in run])}
    ours, theirs = least.pop(OURS, None), min(least.values(), default=None)
    return ours / theirs if ours is not None and theirs else None


def markdown(about, rows, results):
    """The page: what was measured where, ratios, then every figure of every proxy."""
    lines = ["# Lockring beside nginx, HAProxy and Caddy", ""]
    lines += [f"`{about['command']}`, {about['date']}: {about['rounds']} interleaved rounds, windows of {about['seconds']:g} s. "
              f"Load average {about['load average at start']:.1f} at the start, {about.get('load average at end', 0):.1f} at the end.", ""]
    lines += [f"* {name}: {value}" for name, value in (about["machine"] | about["versions"]).items()]
    lines += ["", "Median over the rounds ± half of what lies between least and greatest. Ratio: ours to the best peer, by median; below 1 we are "
              "first. p99 is compared by each proxy's best round, since what "
              "else runs on the machine only adds to it. CPU is utime + stime of the proxy and its children. TLS 1.3, X25519, ECDSA P-256, AES-128-GCM for all; "
              "proxy on core 0, load and origin on core 1.", ""]
    lines += ["| row | unit | lockring | best peer | | ratio | user part only | p99, best round |", "|---|---|---:|---:|---|---:|---:|---:|"]
    for row in rows:
        found = results.get(row.key, {})
        if not found:
            continue
        value, name = best(row, found)
        ours = found.get(OURS, [])
        mine = f"{number(middle(ours, row.main))} ±{spread(ours, row.main) / 2:.0f} %" if ours else "–"
        theirs = f"{number(value)} ±{spread(found[name], row.main) / 2:.0f} %" if name else "–"
        lines.append(f"| {row.title} | {row.unit} | {mine} | {theirs} | {name or ''} | **{number(ratio(row, found))}** | "
                     f"{number(ratio(row, found, 'user'))} | {number(least_ratio(found, 'p99'))} |")
    lines += ["", "## Every proxy", ""]
    for row in rows:
        found = results.get(row.key, {})
        if not found:
            continue
        columns = [column for column in DETAILS if any(column[0] in run for runs in found.values() for run in runs)]
        lines += [f"### {row.title}", "", "| proxy | " + f"{row.unit} | spread % | " + " | ".join(c[1] for c in columns) + " |",
                  "|---|" + "---:|" * (len(columns) + 2)]
        for name, runs in sorted(found.items(), key=lambda item: middle(item[1], row.main)):
            cells = [number(middle(runs, figure), digits) for figure, _, digits in columns]
            lines.append(f"| {name} | {number(middle(runs, row.main))} | {spread(runs, row.main):.0f} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def family(name):
    return name.split("-")[0]


def bars(title, groups, note):
    """An SVG of horizontal bars. `groups`: (heading, unit, [(name, [parts])]); a group has its own scale."""
    width, label, bar = 860, 150, 16
    out, y = [], 56
    for heading, unit, items in groups:
        most = max((sum(parts) for _, parts in items), default=0) or 1
        out.append(f'<text x="12" y="{y}" class="h">{html.escape(heading)}, {html.escape(unit)}</text>')
        y += 8
        for name, parts in items:
            out.append(f'<text x="{label - 8}" y="{y + 12}" text-anchor="end">{html.escape(name)}</text>')
            x = float(label)
            for part, colour in zip(parts, COLOURS.get(family(name), ("#444", "#aaa"))):
                length = part / most * (width - label - 90)
                out.append(f'<rect x="{x:.1f}" y="{y + 1}" width="{max(length, 0.5):.1f}" height="{bar - 3}" fill="{colour}"/>')
                x += length
            out.append(f'<text x="{x + 6:.1f}" y="{y + 12}">{number(sum(parts))}</text>')
            y += bar
        y += 28
    style = "text{font:12px sans-serif;fill:#222}.h{font-weight:bold}.t{font-size:16px;font-weight:bold}.n{fill:#666}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}"><style>{style}</style>'
            f'<rect width="100%" height="100%" fill="#fff"/><text x="12" y="24" class="t">{html.escape(title)}</text>'
            f'<text x="12" y="{y - 10}" class="n">{html.escape(note)}</text>' + "".join(out) + "</svg>\n")


def plots(about, rows, results):
    """File names and SVG texts."""
    ordered = lambda found, figure: sorted(found.items(), key=lambda item: middle(item[1], figure) or 0)
    cost, latency, other = [], [], []
    for row in rows:
        found = results.get(row.key, {})
        if not found:
            continue
        if row.main == "cpu":
            cost.append((row.title, row.unit, [(name, [middle(runs, "user"), middle(runs, "system")]) for name, runs in ordered(found, "cpu")]))
        else:
            other.append((row.title, row.unit, [(name, [middle(runs, row.main)]) for name, runs in ordered(found, row.main)]))
        if row.key == "start-10000":
            other.append((row.title + ": memory", "MiB", [(name, [middle(runs, "start_memory")]) for name, runs in ordered(found, "start_memory")]))
        if "2000" in row.key or "4000" in row.key or row.key == "keepalive-8":
            for figure, words in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")):
                latency.append((f"{row.title}: {words}", "µs", [(name, [middle(runs, figure)]) for name, runs in ordered(found, figure)]))
    note = f"{about['date']}, {about['machine']['cpu']}, Linux {about['machine']['kernel']}; medians of {about['rounds']} rounds"
    made = {
        "compare-cpu.svg": ("CPU of the proxy, user (dark) and kernel (light)", cost),
        "compare-latency.svg": ("Latency", latency),
        "compare-memory.svg": ("Memory and start", other),
    }
    return {name: bars(title, groups, note) for name, (title, groups) in made.items() if groups}


def write(directory, about, rows, results):
    """Writes compare.json, compare.md and the plots."""
    directory.mkdir(parents=True, exist_ok=True)
    whole = about | {"rows": {row.key: {"title": row.title, "main": row.main, "unit": row.unit} for row in rows}, "results": results}
    (directory / "compare.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    (directory / "compare.md").write_text(markdown(about, rows, results) + "\n")
    for name, text in plots(about, rows, results).items():
        (directory / name).write_text(text)
