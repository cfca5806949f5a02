"""The Lightning module: a detector, its loss, its pipeline and its metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import lightning as L
import numpy as np
import torch

from ocr.metrics.collection import MetricCollection
from ocr.metrics.hmean import Hmean
from ocr.models.cpu_layers import replace_slow_cpu_layers
from ocr.models.onnx.runtime import OnnxDetector
from ocr.models.postprocess.db import detect
from ocr.models.tta import TestTimeAugmentation
from ocr.pipeline import Pipeline
from ocr.training.optim.parameters import OptimizerSettings, freeze_parts, make_optimizer
from ocr.training.optim.schedule import make_scheduler
from ocr.training.page_reader import PageReader
from ocr.training.trainer import samples_per_step
from ocr.types import Detections
from ocr.utils.config import instantiate


class DetectionModule(L.LightningModule):
    """Trains and evaluates a text detector.

    Args:
        network: config of the network (``_target_``), plain types; kept in the checkpoint, so that the network can
            be built again from it alone.
        pipeline: :meth:`Pipeline.to_dict` of the pipeline; kept in the checkpoint, too.
        loss: maps and targets to terms, see :class:`ocr.models.losses.db.DBLoss`; not needed outside training.
        optimizer: not needed outside training.
        metrics: the protocols of validation and test; None for the plain hmean alone.
        compile_network: train through ``torch.compile``; images outside training differ in size and run as they are.
        replace_slow_layers: see :func:`ocr.models.cpu_layers.replace_slow_cpu_layers`.

    Attributes:
        tta: test-time augmentation and tiling, used outside training.
        page_reader: reads again what a single pass cannot read well; None for a single pass. Not used in validation.
        test_prefix: of the keys of a test's figures, see :class:`ocr.training.data_record.TrainingOverlap`.
        compiled: ``compile_network``.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        pipeline: Mapping[str, Any],
        loss: Callable[..., dict[str, torch.Tensor]] | None = None,
        optimizer: OptimizerSettings | None = None,
        metrics: MetricCollection | None = None,
        compile_network: bool = False,
        replace_slow_layers: bool = False,
    ) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.scale: torch.Tensor
        self.pipeline = Pipeline.from_dict(pipeline)
        self.loss, self.optimizer_settings = loss, optimizer
        self.compiled, self.replace_slow_layers = compile_network, replace_slow_layers
        self.save_hyperparameters({"network": dict(network), "pipeline": self.pipeline.to_dict()}, logger=False)
        self.set_network(instantiate(network))
        self.tta = TestTimeAugmentation()
        self.page_reader: PageReader | None = None
        self.test_prefix = "test"
        self._profiler: Any = None
        self.metrics = metrics or MetricCollection({"hmean": Hmean()})
        self.tables: dict[str, dict[str, Any]] = {}  # of the newest pass of each stage, see Breakdown.compute
        self.register_buffer("mean", torch.tensor(self.pipeline.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("scale", 1 / (torch.tensor(self.pipeline.std).view(1, 3, 1, 1) * 255), persistent=False)

    def set_network(self, network: torch.nn.Module) -> None:
        """Train and evaluate this network from now on; checkpoints describe it where it knows its own blueprint."""
        if self.replace_slow_layers:
            network = replace_slow_cpu_layers(network)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if (blueprint := getattr(network, "blueprint", None)) is not None:
            self.hparams["network"] = blueprint
        if self.optimizer_settings is not None:
            freeze_parts(self.network, self.optimizer_settings.lr_multipliers)
        if self.compiled:
            self.network.compile()

    def train(self, mode: bool = True) -> DetectionModule:
        """Training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        if self.optimizer_settings is not None:
            freeze_parts(self.network, self.optimizer_settings.lr_multipliers)
        return self

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 3) RGB to float (B, 3, H, W) in the network's channel order.

        In channels-last memory, as torch's convolutions want it, but for an ONNX file's network.
        """
        if self.pipeline.channels == "bgr":
            images = images.flip(3)
        planes = images.permute(0, 3, 1, 2)
        if isinstance(self.network, OnnxDetector):  # it reads plane by plane, and bytes are moved sooner than floats
            planes = planes.contiguous()
        return (planes - self.mean).mul_(self.scale)

    def _clock(self, part: str) -> Any:
        """A line of its own for a part of a step in the report of ``debug=profiler``."""
        return self._profiler.profile(part) if self._profiler is not None else nullcontext()

    def setup(self, stage: str) -> None:
        self._profiler = getattr(self.trainer, "profiler", None)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> dict[str, torch.Tensor]:
        """``loss`` of this rank, and ``logits`` (B, 1, H, W) for callbacks; what is logged is the mean of all ranks."""
        with self._clock("network_forward"):
            maps = self.network(self.normalise(batch["image"]))
        with self._clock("loss"):
            assert self.loss is not None, "a module without a loss cannot be trained"
            terms = self.loss(maps, batch["targets"])
        values = torch.stack([*terms.values()]).detach()
        values = self.trainer.strategy.reduce(values, reduce_op="mean")
        self.log_dict({f"train/{name}": v for name, v in zip(terms, values)}, batch_size=len(batch["image"]))
        return {"loss": terms["loss"], "logits": maps.probability.detach()}

    @torch.inference_mode()
    def probability_maps(self, images: torch.Tensor) -> np.ndarray:
        """uint8 (B, H, W, 3) at network size to float32 (B, H, W) in 0..1, on the host."""
        maps = self.tta.run(self._probability, self.normalise(images), self.pipeline.resize.multiple)
        return maps.squeeze(1).cpu().numpy()

    def _probability(self, images: torch.Tensor) -> torch.Tensor:
        """Probability in float32 whatever the trainer's precision: tests, predictions and exported files agree."""
        if isinstance(self.network, OnnxDetector):
            return self.network.probabilities(images)
        with torch.autocast(images.device.type, enabled=False):
            # forward, not a call: a compiled network would be compiled again for the sizes of these images
            return self.network.forward(images).probability.float().sigmoid()

    @torch.inference_mode()
    def detect(self, images: list[torch.Tensor], sizes: list[tuple[int, int]]) -> list[Detections]:
        """Text in images at network size by a single pass, those of equal size together.

        Args:
            images: uint8 (H, W, 3) each, see :func:`ocr.data.transforms.decode.resize_and_pad`.
            sizes: (width, height) of the originals.
        """
        detections: list[Detections | None] = [None] * len(images)
        groups: dict[tuple[int, ...], list[int]] = {}
        for k, image in enumerate(images):
            groups.setdefault(tuple(image.shape), []).append(k)
        for members in groups.values():
            with self._clock("network_forward"):
                maps = self.probability_maps(torch.stack([images[k] for k in members]))
            with self._clock("postprocess"):
                for k, probability in zip(members, maps):
                    detections[k] = detect(np.ascontiguousarray(probability), *sizes[k], self.pipeline)
        return detections  # type: ignore[return-value]

    def read(
        self, images: list[torch.Tensor], sizes: list[tuple[int, int]], originals: Sequence[Callable[[], np.ndarray]]
    ) -> list[Detections]:
        """Text in images by :attr:`page_reader`.

        Args:
            images, sizes: see :meth:`detect`.
            originals: each loads an original image, uint8 (H, W, 3).
        """
        single_pass = self.detect(images, sizes)
        if self.page_reader is None:
            return single_pass
        return [
            self.page_reader(detections, image.cpu().numpy(), original, size, self.pipeline, self._probability_map)
            for detections, image, original, size in zip(single_pass, images, originals, sizes)
        ]

    def _probability_map(self, page: np.ndarray) -> np.ndarray:
        with self._clock("network_forward"):
            return self.probability_maps(torch.from_numpy(page)[None].to(self.device))[0]

    def _read_batch(self, batch: dict[str, list[Any]], loader: Any) -> list[Detections]:
        load = loader.dataset.samples.load
        originals = [lambda index=index: load(index)[0] for index in batch["indices"]]
        return self.read(batch["images"], batch["sizes"], originals)

    def _evaluate(self, batch: dict[str, list[Any]], detections: list[Detections]) -> dict[str, Any] | None:
        if not detections:
            return None
        with self._clock("metric"):
            result = self.metrics.update(detections, batch["truths"])
        return {"detections": detections, **vars(result)}

    def _log_scores(self, stage: str) -> None:
        values, self.tables[stage] = self.metrics.compute()
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, rank_zero_only=False)

    def on_validation_epoch_start(self) -> None:
        self.metrics.reset()

    def validation_step(self, batch: dict[str, list[Any]], batch_idx: int) -> dict[str, Any] | None:
        return self._evaluate(batch, self.detect(batch["images"], batch["sizes"]))

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    on_test_epoch_start = on_validation_epoch_start

    def test_step(self, batch: dict[str, list[Any]], batch_idx: int) -> dict[str, Any] | None:
        return self._evaluate(batch, self._read_batch(batch, self.trainer.test_dataloaders))

    def on_test_epoch_end(self) -> None:
        self._log_scores(self.test_prefix)

    def predict_step(self, batch: dict[str, list[Any]], batch_idx: int) -> dict[str, Any]:
        return {"detections": self._read_batch(batch, self.trainer.predict_dataloaders)}

    def configure_optimizers(self) -> Any:
        assert self.optimizer_settings is not None, "a module without optimizer settings cannot be trained"
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        samples = None if data is None else samples_per_step(self.trainer, data.batch_size)
        optimizer = make_optimizer(self.network, self.optimizer_settings, samples)
        steps = getattr(data, "training_steps", None) or int(self.trainer.estimated_stepping_batches)
        return {
            "optimizer": optimizer,
            "lr_scheduler": make_scheduler(optimizer, self.optimizer_settings.schedule, steps),
        }
