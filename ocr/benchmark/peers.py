"""The same work by other implementations, where they are installed or checked out; nothing of them is part of this.

A peer's time counts only when its result means what ours means: that is looked at first.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from omegaconf import DictConfig

from ocr.benchmark.clock import in_turns
from ocr.benchmark.rows import Row
from ocr.errors import first_line
from ocr.utils.machine import cores

log = logging.getLogger(__name__)


class Different(Exception):
    """A peer's result is not ours."""


def peers(config: DictConfig) -> list[Row]:
    """Ours and every peer's time in turns, and ours over that of the fastest peer."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    root = Path(config.peers_root).expanduser() if config.peers_root else None
    rows = []
    for name, compare in (("targets", _targets), ("postprocess", _postprocess), ("cleval", _cleval)):
        ours, others = compare(root)
        works = {"ours": ours}
        for peer, prepare in others.items():
            try:
                works[peer] = prepare()
            except (ImportError, FileNotFoundError) as error:
                log.warning("peers: %s by %s is not there: %s", name, peer, first_line(error))
            except Different as error:
                log.warning("peers: %s by %s does not count: %s", name, peer, error)
            except Exception as error:  # another version of theirs: ours is measured all the same
                log.warning("peers: %s by %s does not run: %s", name, peer, first_line(error))
        timings = in_turns(works, config.repeats, budget=config.budget)
        rows += [Row.time(f"peers.{name}.{who}", timing) for who, timing in timings.items()]
        if len(works) > 1:
            fastest = min((t for who, t in timings.items() if who != "ours"), key=lambda t: t.median)
            ratio = timings["ours"].median / fastest.median
            rows.append(Row.once(f"peers.{name}.ours_over_fastest", ratio, "x"))
    return [*rows, *_inference(config)]


def _checkout(root: Path | None, folder: str, module: str) -> ModuleType:
    """A module of a checkout below ``root``."""
    place = root / folder if root else None
    if place is None or not place.is_dir():
        raise FileNotFoundError(f"no checkout {folder} in peers_root={root}")
    sys.path.insert(0, str(place))
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(str(place))


def _targets(root: Path | None) -> tuple[Callable[[], Any], dict[str, Callable[[], Callable[[], Any]]]]:
    """All four maps of 50 lines in 640 x 640."""
    from ocr.benchmark.workload import lines
    from ocr.data.targets import TargetMaker

    polygons, ignore = lines(50, 640, 640, seed=0), np.zeros(50, bool)
    maker = TargetMaker("area", 0.4, 4)
    ours = maker(polygons, ignore, 640, 640)

    def check(shrink: np.ndarray, threshold: np.ndarray) -> None:
        """The peer's shrink map 0/1 and threshold map 0..1."""
        both = (shrink > 0.5) & (ours[0] > 0)
        overlap = both.sum() / ((shrink > 0.5) | (ours[0] > 0)).sum()
        away = np.abs(threshold - ours[2] / 255)[ours[3] > 0].mean()
        if overlap < 0.7 or away > 0.12:
            raise Different(f"shrink maps overlap by {overlap:.2f}, threshold maps differ by {away:.3f}")

    def official() -> Callable[[], Any]:
        border = _checkout(root, "DB", "data.processes.make_border_map").MakeBorderMap()
        kernel = _checkout(root, "DB", "data.processes.make_seg_detection_data").MakeSegDetectionData()
        border.thresh_min, border.thresh_max, kernel.min_text_size = 0.0, 1.0, 4

        def work() -> dict[str, Any]:
            data = {"image": np.zeros((640, 640, 3)), "polygons": np.array(polygons), "ignore_tags": [False] * 50,
                    "is_training": True, "filename": ""}  # fmt: skip
            return border.process(kernel.process(data) or data)

        data: dict[str, Any] = work()
        check(data["gt"][0], data["thresh_map"])
        return work

    def doctr() -> Callable[[], Any]:
        base = importlib.import_module("doctr.models.detection.differentiable_binarization.base")
        model = base._DBNet()
        model.assume_straight_pages, model.shrink_ratio, model.min_size_box = False, 0.4, 3
        model.thresh_min, model.thresh_max = 0.0, 1.0
        target = [{"words": np.stack(polygons) / 640}]

        def work() -> Any:
            return model.build_target(target, (1, 640, 640))

        shrink, _, threshold, _ = work()
        check(np.asarray(shrink, np.float32).squeeze(), np.asarray(threshold).squeeze())
        return work

    return (lambda: maker(polygons, ignore, 640, 640)), {"official_db": official, "doctr": doctr}


def _postprocess(root: Path | None) -> tuple[Callable[[], Any], dict[str, Callable[[], Callable[[], Any]]]]:
    """A map of 704 x 1280 with 60 lines to quadrangles, unclip ratio 1.5."""
    from ocr.benchmark.workload import ideal_map, lines
    from ocr.data.targets import TargetMaker
    from ocr.metrics.matching import match
    from ocr.models.postprocess import find_polygons
    from ocr.pipeline import PostProcess

    kernels = ideal_map(lines(60, 704, 1280, seed=1), 704, 1280, TargetMaker("area", 0.4, 4))
    params = PostProcess(thresh=0.3, box_thresh=0.6, unclip="ratio", unclip_ratio=1.5, min_size=3,
                         max_candidates=1000, shape="quad")  # fmt: skip
    ours = find_polygons(kernels, params)[0]

    def check(boxes: Any) -> None:
        boxes = [np.asarray(b, np.float32).reshape(-1, 2) for b in boxes]
        found = match(boxes, [p.astype(np.float32) for p in ours], np.zeros(len(ours), bool), 0.7)
        if len(boxes) != len(ours) or (found.truth < 0).any():
            raise Different(f"{len(boxes)} boxes instead of {len(ours)}, {(found.truth < 0).sum()} unlike ours")

    def rapidocr() -> Callable[[], Any]:
        kind = importlib.import_module("rapidocr.ch_ppocr_det.utils").DBPostProcess
        post = kind(thresh=0.3, box_thresh=0.6, unclip_ratio=1.5, score_mode="slow")
        batch = kernels[None, None]
        check(post(batch, kernels.shape)[0])
        return lambda: post(batch, kernels.shape)

    def official() -> Callable[[], Any]:
        post = _checkout(root, "DB", "structure.representers.seg_detector_representer").SegDetectorRepresenter()
        post.thresh, post.box_thresh, post.max_candidates = 0.3, 0.6, 1000
        import torch

        batch, images = torch.from_numpy(kernels)[None, None], {"image": torch.zeros(1, 3, *kernels.shape),
                                                               "shape": [kernels.shape]}  # fmt: skip

        def work() -> Any:
            return post.represent(images, batch)[0][0]

        check([box for box in work() if np.asarray(box).any()])
        return work

    return (lambda: find_polygons(kernels, params)), {"rapidocr": rapidocr, "official_db": official}


def _cleval(root: Path | None) -> tuple[Callable[[], Any], dict[str, Callable[[], Callable[[], Any]]]]:
    """CLEval of 40 images of 50 boxes."""
    from ocr.benchmark.workload import boxes
    from ocr.metrics.cleval import CLEval

    detections, truths = boxes(40, 50, seed=0)

    def run() -> dict[str, Any]:
        metric = CLEval()
        metric.update(detections, truths)
        return metric.compute()

    ours = float(run()["hmean"])

    def package() -> Callable[[], Any]:
        try:
            kind = importlib.import_module("cleval").CLEvalMetric
        except ImportError:
            kind = _checkout(root, "CLEval", "cleval").CLEvalMetric

        def work() -> Any:
            metric = kind()
            for found, wanted in zip(detections, truths):
                metric(
                    np.stack([p.reshape(-1) for p in found.polygons]),
                    np.stack([p.reshape(-1) for p in wanted.polygons]),
                    None,
                    wanted.texts,
                )
            return metric.compute()

        theirs = float(work()["det_h"])
        if abs(theirs - ours) > 0.005:
            raise Different(f"hmean {theirs:.4f}, ours {ours:.4f}")
        return work

    return run, {"cleval": package}


def _inference(config: DictConfig) -> list[Row]:
    """Stock PP-OCRv4 on pictures of the validation split by onnxruntime, from pixels to boxes, long side 1280."""
    from ocr.benchmark.workload import load_data
    from ocr.data.images import resize_and_pad

    try:
        module, detector = _ours_with_stock_weights(), _rapidocr_with_stock_weights()
    except (ImportError, FileNotFoundError) as error:
        log.warning("peers: inference by rapidocr is not there: %s", first_line(error))
        return []
    import torch

    [source, *_] = load_data(config, "val").sources["val"]
    images = [source.load(k)[0] for k in range(min(int(config.images), len(source)))]
    swapped = [np.ascontiguousarray(image[..., ::-1]) for image in images]
    resize, fill = module.pipeline.resize, module.pipeline.fill_colour

    def ours() -> list[int]:
        found = []
        for image in images:
            padded = torch.from_numpy(resize_and_pad(image, resize, fill))
            found += module.detect([padded], [image.shape[1::-1]])
        return [len(one) for one in found]

    def theirs() -> list[int]:
        return [len(detector(image)) for image in swapped]

    mine, other = sum(ours()), sum(theirs())
    if abs(mine - other) > 0.1 * max(mine, other):
        log.warning("peers: inference by rapidocr does not count: %d boxes, ours %d", other, mine)
        return []
    timings = {k: t.each(len(images)) for k, t in in_turns({"ours": ours, "rapidocr": theirs}, 5).items()}
    ratio = timings["ours"].median / timings["rapidocr"].median
    on = f"{len(images)} images of {config.data.name}, {cores()} threads"
    return [
        *(Row.time(f"peers.inference.{who}", timing, note=on) for who, timing in timings.items()),
        Row.once("peers.inference.ours_over_fastest", ratio, "x", f"{mine} boxes, theirs {other}"),
    ]


def _ours_with_stock_weights() -> Any:
    from ocr.models.ppocr import weights_file
    from ocr.pipeline import Pipeline, PostProcess, ResizePolicy
    from ocr.training.module import DetectionModule

    network = {"_target_": "ocr.models.onnx_run.OnnxDetector", "path": str(weights_file("ppocr_v4")),
               "threads": cores()}  # fmt: skip
    post = PostProcess(0.3, 0.6, "ratio", 1.6, 3, 1000, "quad")
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # RapidOCR's
    return DetectionModule(network, Pipeline(ResizePolicy(1280, 32, 1.0), post, mean, std, "bgr").to_dict()).eval()


def _rapidocr_with_stock_weights() -> Any:
    from omegaconf import OmegaConf

    rapidocr = importlib.import_module("rapidocr")
    from ocr.models.ppocr import weights_file

    base = OmegaConf.load(Path(str(rapidocr.__file__)).with_name("config.yaml"))
    settings = {"model_path": str(weights_file("ppocr_v4")), "limit_side_len": 1280, "limit_type": "max",
                "thresh": 0.3, "box_thresh": 0.6, "unclip_ratio": 1.6, "use_dilation": False,
                "score_mode": "slow"}  # fmt: skip
    det = OmegaConf.merge(base.Det, settings)
    det.engine_cfg = base.EngineConfig.onnxruntime
    det.engine_cfg.intra_op_num_threads = cores()
    det.engine_type = rapidocr.EngineType.ONNXRUNTIME
    return importlib.import_module("rapidocr.ch_ppocr_det").TextDetector(det)
