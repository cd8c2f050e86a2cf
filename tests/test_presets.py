"""Presets: the values that bench/learn.py measured, and none that a caller changes by accident."""

import copy
import json
import os

import pytest

from trpo_np import presets
from trpo_np.settings import Settings

_PATH = os.path.join(os.path.dirname(__file__), "golden", "presets.json")
with open(_PATH) as _file:
    GOLDEN = json.load(_file)


def found(kind, name):
    """A preset as JSON holds it, with its schedules."""
    preset, changes = presets.atari(name) if kind == "atari" else (presets.PRESETS[kind](name), {})
    settings = {key: value for key, value in preset.items() if key != "policy_kwargs"}
    written = {key: Settings(**settings).to_json()[key] for key in settings}
    policy = {"policy_kwargs": preset["policy_kwargs"]} if "policy_kwargs" in preset else {}
    return json.loads(json.dumps([written | policy, changes]))


@pytest.mark.parametrize("name", GOLDEN)
def test_presets_have_the_values_that_were_measured(name):
    """Those of golden/presets.json, which `PYTHONPATH=. python tests/test_presets.py` writes anew."""
    assert found(*name.split()) == GOLDEN[name]


def test_each_preset_has_golden_values():
    assert {f"atari {name}" for name in presets._ATARI} <= GOLDEN.keys()
    names = {name.split()[1].split("-v")[0] for name in GOLDEN if name.startswith("tuned")}
    assert presets._TUNED.keys() < names  # and one of the others


def test_versions_and_namespaces_do_not_matter():
    for env_id in ("Swimmer-v4", "Swimmer-v5", "mine/Swimmer-v0", "mine/Swimmer"):
        assert presets.tuned(env_id) == presets.tuned("Swimmer")
    assert presets.tuned("Swimmer") != presets.tuned("Hopper-v5")


@pytest.mark.parametrize("make", [lambda: presets.tuned("Hopper-v5"), lambda: presets.baselines("Hopper-v5"),
                                  lambda: presets.atari("paper")[0], lambda: presets.atari("paper")[1]])
def test_what_a_caller_changes_changes_no_preset(make):
    before, changed = copy.deepcopy(make()), make()
    changed.get("policy_kwargs", {}).clear()
    changed.clear()
    assert make() == before != {}


if __name__ == "__main__":
    names = [*GOLDEN, *(f"tuned {name}-v5" for name in presets._TUNED
                        if not any(old.startswith(f"tuned {name}-v") for old in GOLDEN))]
    lines = [f" {json.dumps(name)}: {json.dumps(found(*name.split()))}" for name in names]
    with open(_PATH, "w") as _file:
        _file.write("{\n" + ",\n".join(lines) + "\n}\n")
