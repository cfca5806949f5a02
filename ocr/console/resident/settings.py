"""Settings of a training, checked as its runner checks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ocr.errors import UserError
from ocr.jobs.command_line.arguments import check_command_line
from ocr.jobs.command_line.compose import any_target, compose_job, config_message
from ocr.jobs.command_line.kinds import kind_of
from ocr.jobs.command_line.overrides import text_of
from ocr.jobs.settings import TrainSettings, read
from ocr.utils.config import plain_config


def check(arguments: Sequence[str], names: Sequence[str] = ()) -> dict[str, Any]:
    """A training's settings as its runner checks them before it starts.

    Args:
        arguments: of ``runners/train.py``. Of a sweep, what varies is left to its jobs.
        names: settings whose values are asked for.

    Returns:
        ``problems``, in words; without any, also ``name``, ``gpus``, how many cards it asks for, ``values``, and what
        ``kinds`` of values they may be.
    """
    try:
        overrides = [word for word in check_command_line(arguments) if word != "-m"]
        config = compose_job("train", [*overrides, "paths.run_dir=${paths.output}"])
        if missing := sorted(OmegaConf.missing_keys(config)):
            return {"problems": [f"{key} is not set" for key in missing]}
        config.name = str(config.name)
        OmegaConf.set_struct(config, False)
        config.pop("sweep", None)  # of a study: its jobs have no such group
        with any_target():
            settings = read(config, TrainSettings)
    except UserError as error:
        return {"problems": str(error).split("; ")}
    except (HydraException, OmegaConfBaseException) as error:
        return {"problems": [config_message(error, "train", arguments)]}
    devices = settings.trainer["devices"]
    if not isinstance(devices, int) and devices != "auto":
        return {"problems": ["trainer.devices: say how many, or auto for all: which ones is the queue's to choose"]}
    gpus = -1 if devices == "auto" else devices
    if settings.trainer["accelerator"] not in ("auto", "gpu", "cuda"):
        gpus = 0
    values = {name: OmegaConf.select(config, name, default=None) for name in names}
    plain = {k: text_of(OmegaConf.to_container(v) if OmegaConf.is_config(v) else v) for k, v in values.items()}
    content = plain_config(config)
    kinds = {name: kind_of(name, content, TrainSettings) for name in names}
    return {"problems": [], "name": settings.name, "gpus": gpus, "values": plain, "kinds": kinds}


FUNCTIONS = {"check": check}
