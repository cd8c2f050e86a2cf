"""Modules that a file names are imported only if the user has trained with them before."""

import importlib
import json
import os
import sys

import pytest

from trpo_np.app import jobs, modules
from trpo_np.files import archive


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in a folder with a module, with a cache of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_of_tests.py").write_text("imported = True\n")
    importlib.invalidate_caches()
    yield
    sys.modules.pop("mine_of_tests", None)


def trained():
    importlib.import_module("mine_of_tests")
    modules.remember("mine_of_tests:My-v0")
    del sys.modules["mine_of_tests"]


def test_what_was_trained_with_is_remembered_and_asking_imports_nothing():
    assert not modules.is_remembered("mine_of_tests:My-v0")
    trained()
    assert modules.is_remembered("mine_of_tests:Other-v0") and "mine_of_tests" not in sys.modules
    assert not modules.is_remembered("json:My-v0")


def test_another_file_of_the_same_name_is_another_module(tmp_path, monkeypatch):
    trained()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine_of_tests.py").write_text("raise SystemExit('run')\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    importlib.invalidate_caches()
    assert not modules.is_remembered("mine_of_tests:My-v0")


def test_a_file_is_believed_only_then(tmp_path):
    archive.write_archive("m.npz", {}, {"env_id": "mine_of_tests:My-v0"})
    with pytest.raises(ValueError, match="if you trust it: run --load m.npz --env mine_of_tests:My-v0"):
        jobs.find_env(None, "m.npz", command="run --load m.npz")
    trained()
    assert jobs.find_env(None, "m.npz") == "mine_of_tests:My-v0"


@pytest.mark.parametrize("env_id", ["CartPole-v1", "json", "os.path:My-v0", "no_such_module_of_tests:My-v0"])
def test_what_is_no_module_of_the_users_is_not_remembered(env_id):
    modules.remember(env_id)
    assert not modules.is_remembered(env_id) and not os.path.exists("cache")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"mine_of_tests": 3}'])
def test_a_damaged_list_is_an_empty_one(text):
    os.makedirs("cache/trpo_np")
    with open("cache/trpo_np/modules.json", "w") as file:
        file.write(text)
    assert not modules.is_remembered("mine_of_tests:My-v0")
    trained()
    assert modules.is_remembered("mine_of_tests:My-v0")


def test_where_nothing_can_be_written_nothing_is_remembered(monkeypatch):
    def refused(*_, **__):
        raise OSError("read-only")
    monkeypatch.setattr(os, "makedirs", refused)
    trained()
    assert not modules.is_remembered("mine_of_tests:My-v0")


def test_the_list_keeps_what_was_there():
    os.makedirs("cache/trpo_np")
    with open("cache/trpo_np/modules.json", "w") as file:
        json.dump({"other": "/there.py"}, file)
    trained()
    with open("cache/trpo_np/modules.json") as file:
        assert set(json.load(file)) == {"other", "mine_of_tests"}
