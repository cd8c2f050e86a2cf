"""The report: what it says of runs, that it loads nothing, and that a browser shows it."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from outputs import write_monitor

from trpo_np import cli
from trpo_np.app import report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="neither chromium nor google-chrome is installed")
HEAD = ("step,rollout/ep_rew_mean,train/kl,train/step_fraction,train/explained_variance,"
        "time/share_environment,time/share_policy,time/share_update\n")


def write_run(folder, level=0.0, kl=0.01, returns=(1.0, 3.0), command=None, env="CartPole-v1"):
    """Write the logs of a run of 1,000 steps."""
    write_monitor(f"{folder}/monitor.csv", [(level + t, 10, t) for t in range(100)])
    rows = [f"{step},{level},{kl * step / 1000},0.8,{step / 1000 - 0.2},0.5,0.2,0.25\n"
            for step in range(100, 1001, 100)]
    Path(folder, "progress.csv").write_text(HEAD + "".join(rows))
    seed = int(folder[-1])
    config = {"command": command or f"trpo-np train --seed {seed}", "env": env, "seed": seed, "max_kl": kl,
              "policy_kwargs": {"net_arch": [64]}}
    Path(folder, "config.json").write_text(json.dumps(config))
    score = {"num_timesteps": 1000, "returns": [level + x for x in returns], "lengths": [10, 20]}
    Path(folder, "evaluation.json").write_text(json.dumps(score))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Checker(HTMLParser):
    """Collect tags and what they load; check that each tag is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.loads = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "html"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == [] and not {"script", "link", "img", "iframe"} & {*checker.tags}
    assert all(value.startswith("data:") for value in checker.loads)
    return checker


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("</style>")[1]))


def test_runs_that_differ_in_the_seed_are_one_curve_and_one_row(place):
    for name, level, kl in [("a", 0.0, 0.01), ("b", 100.0, 0.02)]:
        for seed in range(3):
            write_run(f"runs/{name}_seed{seed}", level + 10 * seed, kl)
    page = report.write(["runs"])
    checked(page)
    text = text_of(page)
    assert "CartPole-v1" in text and "6 runs, 2 settings" in text and "a (3 runs)" in text
    assert page.count('class="band c0"') == page.count('class="band c1"') == 4
    for heading in ("Return", "KL divergence of the step", "Step fraction", "Explained variance"):
        assert heading in text
    assert "Evaluations" not in text and "level line" not in text and "Video" not in text
    assert "a 12.00 5.77 2.00 3" in text and "b 112.00 5.77 102.00 3" in text  # mean, error, worst, runs
    assert "runs/b_seed2 1,000 2 122.00 1.00 121.00 123.00 15.0" in text
    assert "environment 50% policy 20% update 25% rest 5%" in text
    differ = text[text.index("Settings"):text.index("the same in all runs")]
    assert "max_kl 0.01 0.02" in differ and "net_arch" not in differ and "CartPole-v1" not in differ
    assert "seed 0, 1, 2" in text and 'net_arch&quot;: [64]' in text
    assert text.count("trpo-np train --seed") == 3  # the same command once


def test_one_run_shows_the_limit_on_the_kl(place):
    write_run("run0")
    page = report.write(["run0"])
    assert 'class="limit"' in page and "the level line is max_kl, 0.01" in page and 'class="band' not in page


def test_text_of_files_is_escaped(place):
    evil = "</pre><script>alert(1)</script>"
    os.makedirs("<b>x")
    write_run("<b>x/s0", command=evil, env=evil)
    write_run("<b>y/s0")
    page = report.write(["<b>x", "<b>y"])
    checked(page)
    assert "<b>" not in page and "&lt;b&gt;x" in page


def test_what_a_run_lacks_is_left_out(place):
    write_monitor("run/monitor.csv", [(t, 10, t) for t in range(30)])
    page = report.write(["run"])
    assert checked(page).tags.count("figure") == 1
    assert not re.search("<h2>|not drawn", page)


def test_a_curve_that_cannot_be_drawn_is_said(place):
    write_run("a_seed0")
    write_run("a_seed1")
    Path("a_seed1/progress.csv").write_text(HEAD + "5000,1,0.01,1,1,1,0,0\n")
    text = text_of(report.write(["a_seed0", "a_seed1"]))
    assert "KL divergence of the step not drawn: a: the runs to average have no stretch in common" in text


def test_a_run_that_has_just_begun_takes_no_chart_from_the_others(place):
    for name in ("a_seed0", "b_seed0", "c_seed0"):
        write_run(name)
    write_monitor("b_seed0/monitor.csv", [])
    page = report.write(["a_seed0", "b_seed0", "c_seed0"])
    [chart] = re.findall(r"Return <span>.*?</figure>", page, re.DOTALL)
    assert [f'class="line c{i}"' in chart for i in range(3)] == [True, False, True]
    assert "Return: left out: b_seed0: no episode has finished yet" in text_of(page)
    for name in ("a_seed0", "c_seed0"):
        write_monitor(f"{name}/monitor.csv", [])
    text = text_of(report.write(["a_seed0", "b_seed0", "c_seed0"]))
    assert "Return not drawn: a_seed0: no episode has finished yet; b_seed0" in text


def test_evaluations_keep_the_colours_of_the_legend(place):
    write_run("a_seed0")
    write_run("b_seed0")
    np.savez("b_seed0/evaluations.npz", timesteps=[10, 20], results=[[1.0], [2.0]], ep_lengths=[[1], [1]])
    page = report.write(["a_seed0", "b_seed0"])
    [chart] = re.findall(r"Evaluations <span>.*?</figure>", page, re.DOTALL)
    assert 'class="line c1"' in chart and 'class="line c0"' not in chart
    [chart] = re.findall(r"Return <span>.*?</figure>", page, re.DOTALL)
    assert 'class="line c1"' in chart and 'class="line c0"' in chart


def test_the_newest_video_is_in_the_page(place, monkeypatch):
    write_run("a_seed0")
    os.mkdir("a_seed0/videos")
    for i, name in enumerate(["new.mp4", "old.mp4"]):
        Path("a_seed0/videos", name).write_bytes(name.encode())
        os.utime(f"a_seed0/videos/{name}", (100 - i, 100 - i))
    page = report.write(["a_seed0"])
    assert checked(page).loads == ["data:video/mp4;base64,bmV3Lm1wNA=="]
    monkeypatch.setattr(report, "LARGEST", 3)
    assert "videos/new.mp4 is too large for this page" in report.write(["a_seed0"])


@pytest.mark.parametrize("text", ['{"returns": "abc"}', '{"returns": [1, null]}', '{"num_timesteps": "x"}'])
def test_an_evaluation_of_no_numbers_is_named(place, text):
    write_run("a_seed0")
    Path("a_seed0/evaluation.json").write_text(text)
    with pytest.raises(ValueError, match="a_seed0/evaluation.json holds no evaluation"):
        report.write(["a_seed0"])


@pytest.mark.parametrize("text, said", [
    ("{", "config.json is not JSON"), ("[1]", "config.json holds [1], not")])
def test_a_file_that_is_not_of_a_run_is_named(text, said, place):
    write_run("a_seed0")
    Path("a_seed0/config.json").write_text(text)
    with pytest.raises(ValueError) as caught:
        report.write(["a_seed0"])
    assert said in str(caught.value)


@needs_browser
def test_a_browser_shows_the_report_of_a_job(place, capsys):
    """Wide and narrow: nothing needs to be scrolled sideways, and all of the text is there."""
    options = ["--num-timesteps=512", "--timesteps-per-batch=128", "--log-interval=1", "--save=m.npz"]
    for seed in "01":
        with pytest.raises(SystemExit):
            cli.main(["train", "--env", "CartPole-v1", "--seed", seed, "--log-dir", f"runs/a_seed{seed}",
                      "--eval-episodes", "2", *options])
    with pytest.raises(SystemExit) as caught:
        cli.main(["report", "runs", "-o", "report.html"])
    assert caught.value.code == 0 and "written to report.html, " in capsys.readouterr().out
    page = Path("report.html").read_text()
    checked(page)
    assert text_of(page).count("trpo-np train --env CartPole-v1 --seed") == 2
    frame = '<iframe id="f" src="report.html" style="width:{}px;height:900px"></iframe>'
    probe = ("<script>onload = () => { const d = document.getElementById('f').contentDocument, "
             "e = d.documentElement; document.title = [e.scrollWidth <= e.clientWidth, "
             "d.querySelectorAll('svg[role=img]').length, d.querySelector('svg[role=img]')"
             ".getBoundingClientRect().width > 250].join() }</script>")
    for width in (360, 1200):
        Path("frame.html").write_text(frame.format(width) + probe)
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
                   "--virtual-time-budget=3000", f"--user-data-dir={Path.cwd() / 'profile'}", "--dump-dom",
                   f"file://{Path.cwd() / 'frame.html'}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert "<title>true,4,true</title>" in done.stdout, done.stdout[:500]
