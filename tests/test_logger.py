"""Every output is read back by other code than wrote it; the progress line runs on a fake clock."""

import csv
import importlib.util
import io
import json
import math
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trpo_np import logger
from trpo_np.logger import (
    FORMATS,
    CSVOutput,
    EpisodeLog,
    HumanOutput,
    JSONOutput,
    Logger,
    Progress,
    TensorBoardOutput,
    configure,
    duration,
    shown,
)


class Recorder:
    """An output that keeps what it is given."""

    def __init__(self):
        self.dumps, self.is_closed = [], False

    def write(self, values, step):
        self.dumps.append((step, values))

    def close(self):
        self.is_closed = True


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def no_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# --- Logger -------------------------------------------------------------------------------------------------

def test_dump_goes_to_every_output_once_and_clears():
    one, two = Recorder(), Recorder()
    with Logger([one, two]) as log:
        log.record("a", 1)
        log.record("a", 2)
        log.record("b/c", np.float32(0.5))
        log.dump(np.int64(10))
        log.dump(11)  # nothing recorded: no empty row
        log.record("a", 3)
        log.dump(12)
    assert one.dumps == two.dumps == [(10, {"a": 2, "b/c": 0.5}), (12, {"a": 3})]
    assert type(one.dumps[0][0]) is int and type(one.dumps[0][1]["b/c"]) is float
    assert one.is_closed and two.is_closed


def test_record_copies_so_that_later_changes_do_not_show():
    out, array = Recorder(), np.arange(3.0)
    log = Logger([out])
    log.record("a", array)
    array[:] = 9
    log.dump(0)
    assert out.dumps == [(0, {"a": [0.0, 1.0, 2.0]})]


@pytest.mark.parametrize("value", [None, object(), 1j, {"x": 1}])
def test_a_value_that_is_no_metric_is_refused_by_name_and_harms_nothing(value):
    out = Recorder()
    log = Logger([out])
    log.record("good", 1)
    with pytest.raises(TypeError, match="metric 'rollout/odd' must be a number.*not " + type(value).__name__):
        log.record("rollout/odd", value)
    log.dump(1)
    assert out.dumps == [(1, {"good": 1})]


@pytest.mark.parametrize("key", ["", "two\nlines", 3])
def test_a_bad_name_is_refused(key):
    with pytest.raises(ValueError, match="name of a metric.*" + re.escape(repr(key))):
        Logger([]).record(key, 1)


# --- configure ----------------------------------------------------------------------------------------------

def test_configure_makes_the_folder_and_the_named_files(tmp_path, capsys):
    folder = tmp_path / "a" / "b"
    with configure(folder, ("stdout", "log", "csv", "json", "csv")) as log:
        log.record("time/fps", 123)
        log.dump(7)
    assert sorted(os.listdir(folder)) == ["log.txt", "progress.csv", "progress.json"]
    assert capsys.readouterr().out == (folder / "log.txt").read_text()
    assert rows_of(folder / "progress.csv") == [{"step": "7", "time/fps": "123"}]  # once, though named twice
    assert json.loads((folder / "progress.json").read_text()) == {"step": 7, "time/fps": 123}


def test_configure_alone_prints_a_table_and_leaves_stdout_open(capsys):
    with configure() as log:
        log.record("x", 1)
        log.dump(0)
    print("still open")
    assert capsys.readouterr().out.splitlines() == ["---------", "| x | 1 |", "---------", "still open"]


def test_configure_refuses_what_it_does_not_know(tmp_path):
    sentence = "'tensorbord' .did you mean 'tensorboard'.*stdout, log, csv, json, tensorboard"
    with pytest.raises(ValueError, match=sentence):
        configure(tmp_path / "new", ("csv", "tensorbord"))
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="'zzz'.*tensorboard$"):  # nothing is near: no guess
        configure(tmp_path, "zzz")
    with pytest.raises(ValueError, match="'csv' writes a file and needs a folder"):
        configure(None, ("stdout", "csv"))


# --- HumanOutput --------------------------------------------------------------------------------------------

def table(values):
    stream = io.StringIO()
    HumanOutput(stream).write(values, 0)
    return stream.getvalue()


def test_table_looks_like_stable_baselines():
    reward = np.float32(22.123456)
    assert table({"time/fps": 1230, "rollout/ep_rew_mean": reward, "rollout/ep_len_mean": 22.1}) == (
        "--------------------------\n"
        "| rollout/       |       |\n"
        "|    ep_len_mean | 22.1  |\n"
        "|    ep_rew_mean | 22.12 |\n"
        "| time/          |       |\n"
        "|    fps         | 1230  |\n"
        "--------------------------\n")


def test_table_lines_have_one_width_and_every_key_stays_apart():
    long = "x" * 50
    values = {f"train/{long}1": 1.0, f"train/{long}2": -123456.789, "train/a/b": True, "loose": math.nan,
              "ends/": 3, "other/loose": "some\ntext", "/lead": np.arange(100), "other/big": 10**12}
    lines = table(values).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split(" | ")[0][2:].rstrip() for line in lines[1:-1]] == [
        "/lead", "ends/", "loose", "other/", "   big", "   loose",
        "train/", "   a/b", f"   {long}1", f"   {long}2"]
    assert all(line[0] == line[-1] == "|" and line.count("|") == 3 for line in lines[1:-1])


def test_columns_do_not_jump_between_tables():
    stream = io.StringIO()
    out = HumanOutput(stream)
    out.write({"a_rather_long_name": 123456789}, 0)
    out.write({"b": 1}, 1)
    assert len({len(line) for line in stream.getvalue().splitlines()}) == 1


def test_table_goes_to_a_file_of_its_own_and_a_stream_stays_open(tmp_path):
    out = HumanOutput(tmp_path / "log.txt")
    out.write({"a": 1}, 0)
    assert "| a | 1 |" in (tmp_path / "log.txt").read_text()  # before close: flushed
    out.close()
    assert out.stream.closed
    stream = io.StringIO()
    HumanOutput(stream).close()
    assert not stream.closed


@pytest.mark.parametrize("value, text", [
    (0.0123456, "0.01235"), (1.0, "1"), (2048, "2048"), (123456.7, "123457"), (-12345.6, "-12346"),
    (1e-5, "1e-05"), (3e12, "3e+12"), (math.nan, "nan"), (-math.inf, "-inf"), (True, "True"),
    ([1, 2.00001], "[1, 2]"), ("a\n b", "a b"), (12345678901, "12345678901")])
def test_shown(value, text):
    assert shown(value) == text


# --- CSV ----------------------------------------------------------------------------------------------------

def test_csv_new_metric_adds_a_column_and_loses_nothing(tmp_path):
    path = tmp_path / "progress.csv"
    out = CSVOutput(path)
    out.write({"a": np.float64(0.1), "text": 'with, comma and "quotes"'}, 1)
    out.write({"new": np.int32(5), "a": np.float32(0.5)}, 2)
    out.write({"text": "x", "list": np.array([1, 2])}, 3)
    assert rows_of(path) == [  # read while still open: each dump is flushed
        {"step": "1", "a": "0.1", "text": 'with, comma and "quotes"', "new": "", "list": ""},
        {"step": "2", "a": "0.5", "text": "", "new": "5", "list": ""},
        {"step": "3", "a": "", "text": "x", "new": "", "list": "[1, 2]"}]
    out.close()
    assert os.listdir(tmp_path) == ["progress.csv"]


def test_csv_continues_an_earlier_run_and_drops_a_line_cut_off_by_a_crash(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("step,a,b\n1,10,20\n2,11,2")  # was 2,11,21
    out = CSVOutput(path)
    out.write({"b": math.nan, "a": math.inf}, 3)
    out.close()
    assert path.read_text() == "step,a,b\n1,10,20\n3,inf,nan\n"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b/c", "d,e", 'q"']),
                                st.integers(-2**53, 2**53) | st.floats(allow_nan=False)), max_size=6))
def test_csv_any_sequence_of_dumps_reads_back(dumps):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.csv"
        for step, values in enumerate(dumps):  # a new process for every row
            out = CSVOutput(path)
            out.write(values, step)
            out.close()
        rows = rows_of(path) if dumps else []
    read = [{key: float(cell) for key, cell in row.items() if cell != ""} for row in rows]
    assert read == [{"step": step, **values} for step, values in enumerate(dumps)]


# --- JSON ---------------------------------------------------------------------------------------------------

def test_json_lines_hold_strict_json(tmp_path):
    path = tmp_path / "progress.json"
    path.write_text('{"step": 1}\n{"step": 2, "a": 1')
    out = JSONOutput(path)
    out.write({"f": np.float32(0.5), "i": np.int64(3), "flag": np.bool_(True), "long": np.longdouble(2),
               "s": "é\n", "nan": math.nan, "m": np.array([[1.0, -np.inf], [np.nan, 2.0]])}, 3)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    rows = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert rows == [{"step": 1}, {"step": 3, "f": 0.5, "i": 3, "flag": True, "long": 2.0, "s": "é\n",
                                 "nan": None, "m": [[1.0, None], [None, 2.0]]}]
    assert rows[1]["flag"] is True
    out.close()
    assert out.file.closed


# --- TensorBoard --------------------------------------------------------------------------------------------

def test_tensorboard_reads_back_the_scalars(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    folder, start = tmp_path / "TRPO_1", time.time()
    out = TensorBoardOutput(folder)
    out.write({"rollout/ep_rew_mean": np.float32(1.5), "n": 3, "flag": True, "s": "x", "m": np.ones(3)}, 1024)
    out.write({"rollout/ep_rew_mean": math.nan}, 2048)
    out.write({"rollout/ep_rew_mean": -2.0, "late": 7}, 3072)
    board = EventAccumulator(str(folder))  # before close: flushed
    board.Reload()
    assert sorted(board.Tags()["scalars"]) == ["flag", "late", "n", "rollout/ep_rew_mean"]
    rewards = board.Scalars("rollout/ep_rew_mean")
    assert [event.step for event in rewards] == [1024, 2048, 3072]
    assert rewards[0].value == 1.5 and math.isnan(rewards[1].value) and rewards[2].value == -2.0
    assert all(start - 1 <= event.wall_time <= time.time() + 1 for event in rewards)
    assert [(event.step, event.value) for event in board.Scalars("late")] == [(3072, 7.0)]
    out.close()
    (file,) = folder.iterdir()
    events = list(EventFileLoader(str(file)).Load())
    assert events[0].file_version == "brain.Event:2" and len(events) == 4


def test_two_tensorboard_runs_in_one_folder_both_count(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step in (1, 2):
        with configure(tmp_path, "tensorboard") as log:
            log.record("a", 10 * step)
            log.dump(step)
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("a")] == [(1, 10.0), (2, 20.0)]


def test_without_the_tensorboard_package_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'trpo_np[tensorboard]'")):
        TensorBoardOutput(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_import_loads_neither_tensorboard_nor_tqdm():
    code = "import sys, trpo_np.logger; print({'tensorboard', 'tqdm', 'gymnasium'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_killed_run_loses_nothing(tmp_path):
    code = ("import os, sys; from trpo_np.logger import configure, EpisodeLog\n"
            "log = configure(sys.argv[1], ('log', 'csv', 'json')); log.record('a', 1); log.dump(5)\n"
            "episodes = EpisodeLog(sys.argv[1], 'E-v0'); episodes.write(1.5, 9)\n"
            "os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert (tmp_path / "progress.csv").read_text() == "step,a\n5,1\n"
    assert (tmp_path / "progress.json").read_text() == '{"step": 5, "a": 1}\n'
    assert "| a | 1 |" in (tmp_path / "log.txt").read_text()
    assert (tmp_path / "monitor.csv").read_text().splitlines()[2].startswith("1.5,9,")


# --- EpisodeLog ---------------------------------------------------------------------------------------------

def read_monitor(path):
    head, columns, *rows = Path(path).read_text().splitlines()
    assert head[0] == "#" and columns == "r,l,t"
    cells = [row.split(",") for row in rows]
    return json.loads(head[1:]), [(float(r), int(n), float(t)) for r, n, t in cells]


def test_monitor_file_by_hand(tmp_path):
    start = time.time()
    log = EpisodeLog(tmp_path / "run" / "0", "CartPole-v1")
    log.write(np.float32(0.1), np.int64(20))
    log.write(-200, 200)
    assert log.path == tmp_path / "run" / "0.monitor.csv"
    header, rows = read_monitor(log.path)  # before close: flushed
    log.close()
    assert header["env_id"] == "CartPole-v1" and start <= header["t_start"] <= time.time()
    assert [row[:2] for row in rows] == [(0.1, 20), (-200.0, 200)]
    assert 0 <= rows[0][2] <= rows[1][2] <= time.time() - start and "\n0.1,20," in log.path.read_text()


def test_monitor_file_name(tmp_path):
    for given_name, name in [("", "monitor.csv"), ("new/", "new/monitor.csv"),
                             ("1.monitor.csv", "1.monitor.csv"), ("a.csv", "a.csv.monitor.csv")]:
        log = EpisodeLog(os.path.join(tmp_path, given_name), None)
        log.close()
        assert log.path == tmp_path / name and log.path.exists()


def test_monitor_file_of_an_earlier_run_is_continued_on_its_clock(tmp_path):
    path = tmp_path / "monitor.csv"
    old = time.time() - 1000
    path.write_text(f'#{{"t_start": {old}, "env_id": "A"}}\nr,l,t\n1.0,2,3.5\n2.0,')
    log = EpisodeLog(path, "A")
    log.write(5, 6)
    log.close()
    header, rows = read_monitor(path)
    assert header["t_start"] == old
    assert rows[0] == (1.0, 2, 3.5) and rows[1][:2] == (5.0, 6) and 999 < rows[1][2] < 1100


def test_another_file_of_that_name_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "monitor.csv"
    path.write_text("my notes")
    with pytest.raises(ValueError, match="monitor.csv exists and is no Monitor file"):
        EpisodeLog(tmp_path, "A")
    assert path.read_text() == "my notes"


def test_monitor_files_as_stable_baselines3_reads_them(tmp_path):
    for i in range(2):
        log = EpisodeLog(tmp_path / str(i), "CartPole-v1")
        for reward in (1.5, 2.5):
            log.write(reward + i, 10 + i)
        log.close()
    rows = []
    # what its load_results does, with csv in the place of pandas
    for path in sorted(tmp_path.glob("*monitor.csv")):
        with open(path, newline="") as file:
            first = file.readline()
            assert first[0] == "#" and json.loads(first[1:])["t_start"] > 0
            rows += [[float(row[key]) for key in "rlt"] for row in csv.DictReader(file)]
    returns, lengths, times = zip(*rows)
    assert sorted(returns) == [1.5, 2.5, 2.5, 3.5] and sorted(lengths) == [10, 10, 11, 11]
    assert all(0 <= t < 60 for t in times)
    if importlib.util.find_spec("stable_baselines3") and importlib.util.find_spec("pandas"):  # extras
        from stable_baselines3.common.monitor import load_results
        assert sorted(load_results(str(tmp_path))["r"]) == [1.5, 2.5, 2.5, 3.5]


# --- Progress -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seconds, text", [
    (0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (83, "1:23"), (3600, "1:00:00"), (7283, "2:01:23"),
    (100 * 3600, "100:00:00")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_progress_in_a_log_file_is_a_line_every_ten_seconds():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1000, stream=stream, clock=clock)
    for done in range(10, 360, 10):  # 10 steps a second, 35 seconds
        clock.now += 1
        progress.update(done, ep_rew_mean=np.float64(195.26789))
        progress.clear()  # nothing to erase here
    assert stream.getvalue().splitlines() == [
        "100/1000  10%  10 steps/s  1:30 left  0:10 elapsed  ep_rew_mean 195.3",
        "200/1000  20%  10 steps/s  1:20 left  0:20 elapsed  ep_rew_mean 195.3",
        "300/1000  30%  10 steps/s  1:10 left  0:30 elapsed  ep_rew_mean 195.3"]
    progress.close()
    progress.close()
    clock.now += 100
    progress.update(360)
    assert stream.getvalue().splitlines()[3:] == [
        "350/1000  35%  10 steps/s  1:05 left  0:35 elapsed  ep_rew_mean 195.3"]


def screen(text):
    """Return the lines that a terminal shows in the end: `\\r` goes back, what is written then overwrites."""
    lines = []
    for line in text.split("\n"):
        shown_line = ""
        for part in line.split("\r"):
            shown_line = part + shown_line[len(part):]
        lines.append(shown_line.rstrip())
    return lines


def test_progress_on_a_terminal_stays_on_one_line(no_tqdm):
    stream, clock = Terminal(), Clock()
    progress = Progress(1000, stream=stream, clock=clock)
    sizes = set()
    for i in range(1, 161):  # 10 seconds of updates, 16 a second
        clock.now += 1 / 16
        progress.update(1000 * i // 160, x="long" * (3 if i < 80 else 1))
        sizes.add(len(stream.getvalue()))
    assert 30 <= len(sizes) <= 51  # at most five times a second
    assert "\n" not in stream.getvalue() and len(screen(stream.getvalue())) == 1
    progress.close()
    assert screen(stream.getvalue()) == ["1000/1000  100%  100 steps/s  0:00 left  0:10 elapsed  x long", ""]


def test_progress_clear_leaves_the_terminal_clean_for_a_table(no_tqdm):
    stream, clock = Terminal(), Clock()
    progress = Progress(100, stream=stream, clock=clock)
    progress.update(50)
    progress.clear()
    assert screen(stream.getvalue()) == [""]
    stream.write("| table |\n")
    clock.now += 1
    progress.update(60)
    progress.close()
    assert screen(stream.getvalue()) == ["| table |", "60/100  60%  60 steps/s  0:01 left  0:01 elapsed", ""]


def test_progress_never_wraps(no_tqdm, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    Progress(100, stream=stream, clock=Clock()).update(50, note="x" * 50)
    assert len(screen(stream.getvalue())[0]) == 29


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("total", [None, 0, -5, math.inf, math.nan])
def test_progress_without_a_total(total, stream, no_tqdm):
    stream, clock = stream(), Clock()
    progress = Progress(total, stream=stream, clock=clock)
    progress.update(0)
    clock.now += 20
    progress.update(100)
    progress.close()
    assert screen(stream.getvalue()) == ["100 steps  5 steps/s  0:20 elapsed", ""]


def test_progress_beyond_the_total(no_tqdm):
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1e3, stream=stream, clock=clock)  # people write learn(1e3)
    clock.now += 20
    progress.update(2048)
    assert stream.getvalue() == "2048/1000  100%  102.4 steps/s  0:00 left  0:20 elapsed\n"


def test_progress_disabled_or_never_updated_writes_nothing():
    for enabled in (False, True):
        stream, clock = io.StringIO(), Clock()
        progress = Progress(10, enabled=enabled, stream=stream, clock=clock)
        clock.now += 100
        if not enabled:
            progress.update(5, note=1)
        progress.clear()
        progress.close()
        assert stream.getvalue() == ""


def test_progress_goes_to_standard_error(capsys):
    clock = Clock()
    progress = Progress(10, clock=clock)
    clock.now += 10
    progress.update(5)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("5/10  50%")


def test_progress_by_tqdm():
    tqdm = pytest.importorskip("tqdm").tqdm
    stream, clock = Terminal(), Clock()
    progress = Progress(1000, stream=stream, clock=clock)
    assert isinstance(progress.bar, tqdm) and type(progress.bar).monitor is None  # no watching thread
    progress.update(100, kl=0.01234567)
    assert "100/1.00k" in stream.getvalue() and "kl 0.01235" in stream.getvalue()
    clock.now += 0.1
    size = len(stream.getvalue())
    progress.update(200)
    assert len(stream.getvalue()) == size
    progress.clear()
    assert screen(stream.getvalue()) == [""]
    progress.update(300)
    progress.close()
    assert "300/1.00k" in screen(stream.getvalue())[0] and stream.getvalue().endswith("\n")


def test_progress_by_tqdm_never_wraps_and_needs_no_total(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setenv("COLUMNS", "50")
    stream = Terminal()
    progress = Progress(None, stream=stream, clock=Clock())
    progress.update(5, note="x" * 60)
    progress.close()
    assert len(screen(stream.getvalue())[0]) == 49 and screen(stream.getvalue())[0].startswith("5.00 steps")


def test_progress_by_tqdm_shows_on_a_terminal_that_reports_no_size(monkeypatch):
    pytest.importorskip("tqdm")
    pty = pytest.importorskip("pty")
    reader, writer = pty.openpty()  # a new pseudo-terminal is 0 x 0, as in some containers
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)  # tqdm asks the size of the standard streams only
        progress = Progress(100, clock=Clock())
        progress.update(50)
        text = b""  # the kernel hands it over in pieces
        while b"50.0/100" not in text and select.select([reader], [], [], 2)[0]:
            text += os.read(reader, 10_000)
        assert b"50.0/100" in text
        progress.close()
    os.close(reader)


def test_progress_update_is_cheap():
    progress, start = Progress(10**6, stream=io.StringIO()), time.perf_counter()
    for i in range(20_000):
        progress.update(i)
    assert time.perf_counter() - start < 1.0  # 0.4 us each; a bound that a busy machine keeps


def test_formats_are_those_that_the_documentation_names():
    assert list(FORMATS) == ["stdout", "log", "csv", "json", "tensorboard"]


def test_runs_are_numbered_as_stable_baselines_numbers_them(tmp_path):
    assert [logger.run_folder(tmp_path, "TRPO", new)
            for new in (True, False)] == [str(tmp_path / "TRPO_1")] * 2
    for name in ("TRPO_2", "TRPO_10", "TRPO_x", "TRPO_11b", "DQN_20"):
        (tmp_path / name).mkdir()
    assert logger.run_folder(tmp_path, "TRPO", True) == str(tmp_path / "TRPO_11")
    assert logger.run_folder(tmp_path, "TRPO", False) == str(tmp_path / "TRPO_10")
    assert logger.run_folder(tmp_path / "none", "TRPO", True) == str(tmp_path / "none" / "TRPO_1")


def test_runs_whose_name_has_a_folder_are_numbered_there(tmp_path):
    (tmp_path / "exp" / "a_3").mkdir(parents=True)
    assert [logger.run_folder(tmp_path, "exp/a", new) for new in (True, False)] == [
        str(tmp_path / "exp" / "a_4"), str(tmp_path / "exp" / "a_3")]


def test_a_progress_whose_terminal_is_gone_can_be_cleared():
    class Gone(io.StringIO):
        def isatty(self):
            return True

        def write(self, text):
            raise OSError(5, "Input/output error")
    progress = Progress(10, stream=io.StringIO())
    progress.stream, progress.width = Gone(), 3
    progress.clear()


# --- streams that lack something ----------------------------------------------------------------------------

class Bare:
    """A stream that only writes."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


def test_streams_that_are_none_or_closed_or_no_terminal(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, Bare(), closed):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        with configure() as logger:
            logger.record("a", 1)
            logger.dump(1)
        progress = Progress(10)
        progress.update(5)
        progress.clear()
        progress.close()
        assert stream in (None, closed) or "| a | 1 |" in stream.text and "5/10" in stream.text
