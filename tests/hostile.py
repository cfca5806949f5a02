"""Checkpoints that try to run code, read the environment or touch files."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import torch

HUBCONF = "from pathlib import Path\nPath({touched!r}).touch()\ndef net(*args, **kwargs): raise SystemExit\n"


class _Touches:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def hostile_checkpoints(sound: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Write checkpoints like ``sound``, each with a network that does something else when it is built.

    ``folder`` gets ``canary``, a file that several would delete or overwrite. Whatever else turns up there but
    ``*.ckpt`` and ``given`` was made by one of them.
    """
    given = folder / "given"
    given.mkdir(parents=True)
    touched = str(folder / "touched")
    (given / "hubconf.py").write_text(HUBCONF.format(touched=touched))
    (given / "pickle.pt").write_bytes(pickle.dumps(_Touches(folder / "unpickled")))
    (given / "array.npy").write_bytes(pickle.dumps(_Touches(folder / "unpickled")))
    canary = folder / "canary"
    canary.write_text("alive")
    hub = {"_target_": "ocr.training.trainer.torch.hub.load", "repo_or_dir": str(given), "model": "net",
           "source": "local", "trust_repo": True}  # fmt: skip
    system = {"_target_": "os.system", "command": f"touch {touched}"}
    whole: dict[str, Any] = {
        "hub": hub,
        "torch_load": {"_target_": "ocr.training.loading.torch.load", "f": str(given / "pickle.pt"),
                       "weights_only": False},
        "numpy_load": {"_target_": "ocr.training.module.np.load", "file": str(given / "array.npy"),
                       "allow_pickle": True},
        "unlink": {"_target_": "ocr.training.loading.Path.unlink", "_args_": [{"_target_": "pathlib.Path",
                                                                              "_args_": [str(canary)]}]},
        "copyfile": {"_target_": "ocr.training.checkpoints.shutil.copyfile", "src": "/dev/null", "dst": str(canary)},
        "write_icdar": {"_target_": "ocr.jobs.make_data.write_icdar", "output": str(folder / "set"), "count": 1,
                        "seed": 0, "difficulty": 0},
        "onnx": {"_target_": "ocr.models.onnx.runtime.OnnxDetector", "path": str(given / "pickle.pt")},
        "method": {"_target_": "ocr.models.onnx.graph.GraphDetector.load_state_dict", "_partial_": True},
        "resolver": {"_target_": "${oc.env:HOME}"},
        "made_by_resolver": "${oc.create:{_target_: os.system, command: 'touch " + touched + "'}}",
        "list": [hub],
        "no_text": {"_target_": ["os.system"], "command": f"touch {touched}"},
        "python": {"_target_": sys.__name__ + ".exit"},
    }  # fmt: skip
    nested: dict[str, Any] = {
        "nested": {"kwargs": {"norm_layer": system}},
        "partial": {"kwargs": {"norm_layer": {**system, "_partial_": True}}},
        "args": {"_args_": [{"deep": [system]}]},
        "not_recursive": {"kwargs": {"_recursive_": False, "x": system}},
        "environment": {"kwargs": {"drop_rate": "${oc.env:HOME}"}},
        "made_by_a_nested_resolver": {"kwargs": "${oc.decode:'{_target_: os.system}'}"},
    }
    paths = {}
    for name, network in whole.items():
        paths[name] = _saved(sound, folder / f"{name}.ckpt", network)
    for name, change in nested.items():
        network = copy.deepcopy(sound["hyper_parameters"]["network"])
        network["backbone"] |= change
        paths[name] = _saved(sound, folder / f"{name}.ckpt", network)
    paths["trusting_itself"] = _saved(sound, folder / "trusting_itself.ckpt", hub, trusted_targets=[hub["_target_"]])
    paths["pickle"] = folder / "pickle.ckpt"
    torch.save({**sound, "state_dict": _Touches(folder / "unpickled")}, paths["pickle"])
    return paths


def _saved(sound: dict[str, Any], path: Path, network: Any, **more: Any) -> Path:
    parameters = {**sound["hyper_parameters"], "network": network, **more}
    torch.save({**sound, "hyper_parameters": parameters, **more}, path)
    return path


def untouched(folder: Path) -> bool:
    """Whether nothing of :func:`hostile_checkpoints` has done anything."""
    strange = [p for p in folder.iterdir() if p.suffix != ".ckpt" and p.name not in ("given", "canary")]
    return not strange and (folder / "canary").read_text() == "alive"
