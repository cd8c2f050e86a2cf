"""Write bench/README.md: a table of every result in bench/results/, with its command, date, machine and versions.

Of each command the latest line counts. Three numbers or more are shown as their median and, in brackets, their range.
"""

import json
import statistics

import _timing

HEAD = """# Results

Written by `python bench/report.py` from the lines in `bench/results/`. Each script answers one question, which `--help`
states; `--quick` shows in seconds that it works. Ratios come from one run on one machine, one BLAS thread a process unless
the command says otherwise.
"""
LONG = ("curve",)  # what a table cannot show


def shown(value) -> str:
    """Show a number with four digits, a list of numbers as its median and range."""
    if isinstance(value, list) and value and all(isinstance(x, (int, float)) for x in value):
        if len(value) < 3:
            return ", ".join(map(shown, value))
        return f"{shown(statistics.median(value))} [{shown(min(value))}, {shown(max(value))}]"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return str(value)


def rows(value, name=()):
    """Yield (name, value) of each figure in a nested result."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in LONG:
                yield from rows(part, (*name, str(key)))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, part in enumerate(value):
            yield from rows(part, (*name, str(part.get("seed", i))))
    else:
        yield " / ".join(name), shown(value)


def section(line: dict) -> str:
    """Return the Markdown of one result."""
    machine, command = line.pop("machine"), line.pop("command")
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "date")
    table = "\n".join(f"| {name} | {value} |" for name, value in rows(line))
    return f"`{command}`, {machine['date']}; {versions}\n\n| | |\n| --- | --- |\n{table}\n"


def main():
    args = _timing.arguments(__doc__)
    latest: dict = {}
    for path in sorted(_timing.RESULTS.glob("*.jsonl")):
        for text in path.read_text().splitlines():
            line = json.loads(text)
            latest[path.stem, line["command"], line.get("env"), line.get("task"), line.get("policy")] = line
    parts, before = [HEAD], ""
    for (stem, *_), line in latest.items():
        parts.append(("\n" if stem == before else f"\n## {stem}\n\n") + section(line))
        before = stem
    if args.quick:
        _timing.save(args, {"results": len(latest)})
    else:
        (_timing.RESULTS.parent / "README.md").write_text("".join(parts))


if __name__ == "__main__":
    main()
