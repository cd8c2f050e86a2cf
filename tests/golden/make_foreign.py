"""Make the golden models of other libraries: PYTHONPATH=tests python tests/golden/make_foreign.py.

Run it under each version of stable-baselines3 (with sb3-contrib of the same) whose files are wanted. The
models are compressed, since they are to be small; what each computes is in the .json beside it.
"""

import base64
import json
import lzma
import os
import tempfile
import zipfile

import foreign_models
import numpy as np
import stable_baselines3
import torch

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "foreign")
TINY = dict(net_arch=foreign_models.arch([4], [3]))
VERSION = stable_baselines3.__version__
CHOSEN = {"trpo_normalized": "normalized_float64"}
if foreign_models.OLD:  # gym's random generators cannot be compressed
    CHOSEN["ppo_shared"] = "shared"
else:
    CHOSEN |= {"ppo_dict": "of_dict", "ppo_multidiscrete": "multidiscrete"}
if VERSION.startswith("2.9"):
    CHOSEN["ppo_images"] = "images"


def pattern(p: torch.Tensor) -> torch.Tensor:
    """Return numbers for a tensor that repeat, so that they can be compressed."""
    scale = 1 / (4 * p[0].numel() ** 0.5) if p.dim() > 1 else 0.1
    return scale * ((torch.arange(p.numel()) * 5 % 61 - 30) / 31).reshape(p.shape)


def plain(obs):
    if isinstance(obs, dict):
        return {key: plain(part) for key, part in obs.items()}
    return np.asarray(obs).tolist()


def without_paths(path: str) -> None:
    """Write a model's zip again, without what it tells of the machine: pickled functions hold paths."""
    own = os.path.dirname(os.path.dirname(stable_baselines3.__file__)).encode()
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist() if name != "system_info.txt"}
    data = json.loads(members["data"])
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            pickled = base64.b64decode(value[":serialized:"]).replace(own, b"x" * len(own))
            value[":serialized:"] = base64.b64encode(pickled).decode()
    members["data"] = json.dumps(data, indent=4).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():  # as the library writes them
            with file.open(name, "w", force_zip64=name.endswith(".pth")) as member:
                member.write(content)


def main() -> None:
    os.makedirs(FOLDER, exist_ok=True)
    for name, chosen in CHOSEN.items():
        kind, trained = foreign_models.KINDS[chosen], name != "ppo_images"  # Adam's moments would be large
        if trained and name != "ppo_shared":
            kind = kind._replace(kwargs=TINY)
        with tempfile.TemporaryDirectory() as folder:
            want = foreign_models.make(kind, folder, name, steps=64 if trained else 0,
                                       n_obs=8 if trained else 1, fill=None if trained else pattern)
            without_paths(os.path.join(folder, f"{name}.zip"))
            for file in os.listdir(folder):
                called = f"sb3_{VERSION}_{file}.xz"
                with open(os.path.join(folder, file), "rb") as saved, \
                        lzma.open(os.path.join(FOLDER, called), "wb", preset=9) as packed:
                    packed.write(saved.read())
        sums = {theirs: float(np.abs(array).sum(dtype=np.float64)) for theirs, array in want.state.items()}
        text = json.dumps({"obs": plain(want.obs), "actions": want.actions.tolist(),
                           "outputs": want.outputs.tolist(), "values": want.values.tolist(), "sums": sums})
        if not trained:  # the images themselves
            obs = want.obs.astype(np.uint8).tobytes().hex()
            text = json.dumps(json.loads(text) | {"obs": obs, "shape": want.obs.shape})
        with open(os.path.join(FOLDER, f"sb3_{VERSION}_{name}.json"), "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
