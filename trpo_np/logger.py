"""Outputs for the numbers of training: tables, CSV, JSON, TensorBoard, Monitor files, a progress line.

Files are flushed at each dump, so that a killed run loses nothing; files of an earlier run are continued.
"""

import csv
import json
import math
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .settings import install, nearest


class Logger:
    """Collect metrics by name and `dump` them to every output at once. Usable in a `with` statement.

    outputs: objects with `write(values, step)`, where values is a dict, and `close()`.
    """

    def __init__(self, outputs: Iterable[Any]) -> None:
        self.outputs = list(outputs)
        self.values: dict[str, Any] = {}
        self.counts: dict[str, int] = {}  # of the numbers in a mean

    def record(self, key: str, value: Any) -> None:
        """Keep a number, a string or an array of them for the next dump, in place of an earlier value."""
        self.values.update(plain({key: value}))
        self.counts.pop(key, None)

    def record_mean(self, key: str, value: float) -> None:
        """Keep the mean of the numbers given under this key since the last dump."""
        count = self.counts.get(key, 0)
        before = self.values[key] if count else 0.0
        self.record(key, before + (float(value) - before) / (count + 1))
        self.counts[key] = count + 1

    def dump(self, step: int) -> None:
        """Write everything recorded since the last dump under this number of environment steps; forget it."""
        values, self.values, self.counts = self.values, {}, {}
        for output in self.outputs if values else ():
            output.write(values, int(step))

    def close(self) -> None:
        """Close the outputs; numbers that were not dumped are not written."""
        for output in self.outputs:
            output.close()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return copies as Python numbers, strings or nested lists; an error names the key of anything else."""
    result = {}
    for key, value in values.items():
        if not (isinstance(key, str) and key and key.isprintable()):
            raise ValueError(f"the name of a metric is a printable, non-empty string, not {key!r}")
        try:
            array = np.asarray(value)
        except ValueError:  # lists of different lengths
            array = np.array(None)
        if array.dtype.kind not in "biufU":
            raise TypeError(f"metric {key!r} must be a number, a string or an array of them, not "
                            f"{type(value).__name__} {value!r:.60}")
        result[key] = (array.astype(float) if array.dtype.kind == "f" else array).tolist()  # long doubles too
    return result


def shown(value: Any) -> str:
    """Return a value as a person reads it: four significant digits, without exponent up to a billion."""
    if isinstance(value, float):
        return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
    text = f"[{', '.join(map(shown, value))}]" if isinstance(value, list) else " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def continue_file(path: str | os.PathLike[str]) -> TextIO:
    """Open a text file, new or old, to add lines; remove a last line that a crash cut off."""
    with open(path, "ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    return open(path, "a", newline="", encoding="utf-8")


def usable(stream: Any) -> Any:
    """Return a stream, or None if it is closed: a notebook's, or that of a daemon, may be."""
    return None if getattr(stream, "closed", False) else stream


def put(stream: Any, text: str) -> None:
    """Write a text, which is to be seen now."""
    stream.write(text)
    if hasattr(stream, "flush"):  # which an object that `print` takes may lack
        stream.flush()


class HumanOutput:
    """Print stable-baselines' table to a file given by its path, or to a stream, which `close` leaves open.

    With None in place of a stream, as pythonw has for standard output, or a closed one, nothing is printed.
    The step is not among the rows: record `time/total_timesteps`.
    """

    def __init__(self, stream: Any) -> None:
        self.owns_stream = isinstance(stream, (str, os.PathLike))
        self.stream = continue_file(stream) if self.owns_stream else usable(stream)
        self.key_width = self.value_width = 0  # they only grow, so that tables below each other align

    def write(self, values: dict[str, Any], step: int) -> None:
        if self.stream is None:
            return
        rows = {}
        for key, value in sorted(plain(values).items()):  # the keys of a section come together
            section, _, name = key.partition("/")
            if section and name:
                rows[section, ""] = f"{section}/", ""
                rows[section, name] = f"   {name}", shown(value)
            else:
                rows["", key] = key, shown(value)
        self.key_width = max([self.key_width, *(len(key) for key, _ in rows.values())])
        self.value_width = max([self.value_width, *(len(value) for _, value in rows.values())])
        rule = "-" * (self.key_width + self.value_width + 7) + "\n"
        lines = [f"| {key.ljust(self.key_width)} | {value.ljust(self.value_width)} |\n"
                 for key, value in rows.values()]
        put(self.stream, "".join([rule, *lines, rule]))

    def close(self) -> None:
        if self.owns_stream:
            self.stream.close()


class CSVOutput:
    """Add a row to a CSV file at each dump, the step first.

    A new metric adds a column; the field of a missing one is empty.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.file = Path(path), continue_file(path)
        with open(path, newline="", encoding="utf-8") as old:
            self.columns = next(csv.reader(old), [])

    def write(self, values: dict[str, Any], step: int) -> None:
        row = {"step": step, **plain(values)}
        if not row.keys() <= set(self.columns):
            self._add_columns([key for key in row if key not in self.columns])
        csv.writer(self.file, lineterminator="\n").writerow([row.get(key, "") for key in self.columns])
        self.file.flush()

    def _add_columns(self, new: list[str]) -> None:
        # a wider copy replaces the old file in one step: a kill leaves one or the other, whole
        self.file.close()
        with open(self.path, newline="", encoding="utf-8") as old:
            rows = list(csv.reader(old))[1:]
        self.columns = self.columns + new
        draft = self.path.with_name(self.path.name + ".tmp")
        with open(draft, "w", newline="", encoding="utf-8") as wide:
            padded = [row + [""] * (len(self.columns) - len(row)) for row in rows]
            csv.writer(wide, lineterminator="\n").writerows([self.columns, *padded])
        os.replace(draft, self.path)
        self.file = continue_file(self.path)

    def close(self) -> None:
        self.file.close()


class JSONOutput:
    """Add a line with a JSON object at each dump; NaN and infinity, which JSON lacks, become null."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = continue_file(path)

    def write(self, values: dict[str, Any], step: int) -> None:
        def finite(value):
            if isinstance(value, list):
                return [finite(item) for item in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        row = {key: finite(value) for key, value in {"step": step, **plain(values)}.items()}
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class TensorBoardOutput:
    """Write numbers to a TensorBoard event file in a folder; leave strings and arrays to other outputs."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise ImportError("writing TensorBoard files needs the tensorboard package: "
                              f"{install('tensorboard')}") from error
        # not its EventFileWriter: that loads TensorFlow if installed, and its thread does not survive a fork
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.records = RecordWriter(open(Path(folder) / name, "xb"))
        self.event, self.summary = event_pb2.Event, summary_pb2.Summary
        self._add(file_version="brain.Event:2")

    def write(self, values: dict[str, Any], step: int) -> None:
        numbers = {key: value for key, value in plain(values).items() if isinstance(value, (int, float))}
        entries = [self.summary.Value(tag=key, simple_value=value) for key, value in numbers.items()]
        self._add(step=step, summary=self.summary(value=entries))

    def _add(self, **fields: Any) -> None:
        self.records.write(self.event(wall_time=time.time(), **fields).SerializeToString())
        self.records.flush()

    def close(self) -> None:
        self.records.close()


FORMATS: dict[str, Callable[[Path], Any]] = {
    "stdout":      lambda folder: HumanOutput(sys.stdout),
    "log":         lambda folder: HumanOutput(folder / "log.txt"),
    "csv":         lambda folder: CSVOutput(folder / "progress.csv"),
    "json":        lambda folder: JSONOutput(folder / "progress.json"),
    "tensorboard": TensorBoardOutput,
}


def configure(folder: str | os.PathLike[str] | None = None, formats: Iterable[str] = ("stdout",)) -> Logger:
    """Return a `Logger` that writes these formats, keys of `FORMATS`; only "stdout" needs no folder."""
    formats = [formats] if isinstance(formats, str) else list(dict.fromkeys(formats))
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"unknown log format {name!r}{nearest(name, FORMATS)}: the formats are "
                             f"{', '.join(FORMATS)}")
        if name != "stdout" and folder is None:
            raise ValueError(f"the log format {name!r} writes a file and needs a folder, but folder is None")
    place = Path(folder or ".")
    place.mkdir(parents=True, exist_ok=True)
    return Logger(FORMATS[name](place) for name in formats)


def run_folder(folder: str | os.PathLike, name: str, new: bool) -> str:
    """Return a run's folder, `folder`/`name`_1, _2, ..., as stable-baselines numbers them.

    new: take the next number; if False, the highest that is there. A name may have folders in it.
    """
    inner, name = os.path.split(name)
    folder = os.path.join(folder, inner) if inner else folder
    there = os.listdir(folder) if os.path.isdir(folder) else []
    numbers = [int(entry[len(name) + 1:]) for entry in there
               if re.fullmatch(rf"{re.escape(name)}_\d{{1,9}}", entry)]
    return os.path.join(folder, f"{name}_{max([*numbers, 1 - new]) + new}")


class EpisodeLog:
    """Write finished episodes to a Monitor file, as stable-baselines3's `load_results` reads it.

    path: a file, which gets the ending `monitor.csv` if it lacks it, or a folder. A Monitor file that is
    already there is continued: its times count from the start that it states. before: the number of earlier
    episodes of the model that are not in the file. override: replace such a file.
    """

    is_no_state = True  # of an environment that has it, see env_state.py

    def __init__(self, path: str | os.PathLike, env_id: str | None, before: int = 0,
                 override: bool = False) -> None:
        name = os.fspath(path)
        if not name.endswith("monitor.csv"):
            is_folder = name.endswith(("/", os.sep)) or os.path.isdir(name)
            name = os.path.join(name, "monitor.csv") if is_folder else f"{name}.monitor.csv"
        self.path, self.t_start = Path(name), time.time()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        known = re.match(r'#\{.*"t_start": ([\d.e+]+).*\}\nr,l,t\b', head)
        if known:
            self.t_start = float(known[1])
        elif head:
            raise ValueError(f"{name} exists and is no Monitor file, whose first lines are "
                             "#{\"t_start\": ...} and r,l,t: name another file or move this one away")
        if known and override:
            self.path.unlink()
            known, self.t_start = None, time.time()
        self.continues = bool(known) and len(head.splitlines()) > 2
        self.file = continue_file(self.path)
        if not known:
            header = json.dumps({"t_start": self.t_start, "env_id": str(env_id), "episodes_before": before})
            self._add(f"#{header}\nr,l,t\n")

    def write(self, reward: float, length: int) -> None:
        """Add an episode: the undiscounted sum of its raw rewards, and its number of steps."""
        self._add(f"{round(float(reward), 6)},{int(length)},{round(time.time() - self.t_start, 6)}\n")

    def _add(self, lines: str) -> None:
        self.file.write(lines)
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class Progress:
    """Show the progress of long work: on a terminal in place, elsewhere as a line every 10 seconds.

    total: the steps to do; None or 0 if unknown. stream: standard error if None. Call `clear` before printing
    anything else to the terminal; the next update brings the line back.
    """

    def __init__(self, total: float | None, enabled: bool = True, stream: Any = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.total = int(total) if total and 0 < total < math.inf else 0
        self.stream = usable(sys.stderr if stream is None else stream)
        self.enabled = enabled and self.stream is not None  # pythonw has no standard error
        is_terminal = getattr(self.stream, "isatty", None)  # which a notebook's or a test's stream may lack
        self.on_terminal = self.enabled and is_terminal is not None and is_terminal()
        self.bar = _tqdm_bar(self.total, self.stream) if self.on_terminal else None
        self.pause = 0.2 if self.on_terminal else 10.0
        self.clock, self.start = clock, clock()
        self.due = self.start if self.on_terminal else self.start + self.pause
        self.notes: dict[str, Any] = {}
        self.done, self.is_shown, self.width = 0, True, 0

    def update(self, done: int, **notes: Any) -> None:
        """Report the number of steps done so far; the notes are numbers or strings to show beside it."""
        self.done, self.notes, self.is_shown = done, notes, False
        if self.enabled and self.clock() >= self.due:
            self._show()

    def clear(self) -> None:
        """Erase the line from the terminal, if there still is one."""
        with suppress(OSError):
            if self.bar is not None:
                self.bar.clear()
            self._rewrite("")

    def close(self) -> None:
        """Show the last state and leave it on the terminal."""
        if self.enabled and not self.is_shown:
            self._show()
        if self.bar is not None:
            self.bar.close()
        elif self.width:
            self.stream.write("\n")
        self.enabled, self.width = False, 0

    def _show(self) -> None:
        self.due, self.is_shown = self.clock() + self.pause, True
        notes = [f"{key} {shown(value)}" for key, value in plain(self.notes).items()]
        columns = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be rewritten
        if self.bar is not None:
            self.bar.n, self.bar.ncols = self.done, columns
            self.bar.set_postfix_str("  ".join(notes))
        elif self.on_terminal:
            self._rewrite(self._line(notes)[:columns])
        else:
            put(self.stream, self._line(notes) + "\n")

    def _rewrite(self, line: str) -> None:
        if line or self.width:
            put(self.stream, "\r" + " " * self.width + "\r" + line)
            self.width = len(line)

    def _line(self, notes: list[str]) -> str:
        elapsed, parts = self.clock() - self.start, [f"{self.done} steps"]
        if self.total:
            parts = [f"{self.done}/{self.total}", f"{min(100 * self.done // self.total, 100)}%"]
        if self.done > 0 and elapsed > 0:
            parts.append(f"{shown(self.done / elapsed)} steps/s")
            if self.total:
                parts.append(f"{duration(max(self.total - self.done, 0) * elapsed / self.done)} left")
        return "  ".join([*parts, f"{duration(elapsed)} elapsed", *notes])


def duration(seconds: float) -> str:
    """Return a time as 1:23 (minutes, seconds) or 2:01:23 (hours, minutes, seconds)."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _tqdm_bar(total: int, stream: Any) -> Any:
    """Return a tqdm bar, or None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None

    class Bar(tqdm):
        monitor_interval = 0  # no watching thread: Progress keeps the time

    # give a size, which Progress then adapts: on a terminal that reports 0 x 0, tqdm would show nothing
    return Bar(total=total or None, file=stream, unit=" steps", unit_scale=True, ncols=79, nrows=24)
