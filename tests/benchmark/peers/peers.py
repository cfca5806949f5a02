"""The same work by other implementations, where they are installed or checked out; nothing of them is part of this.

A peer's time counts only when its result means what ours means: that is looked at first.
"""

from __future__ import annotations

import importlib
import logging
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from omegaconf import DictConfig

from ocr.benchmark.clock import in_turns
from ocr.benchmark.rows import Row
from ocr.errors import first_line
from tests.benchmark.peers.inference import inference

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
        rows += [Row.of(f"peers.{name}.{who}", timing, "ms") for who, timing in timings.items()]
        own = statistics.median(timings.pop("ours"))
        ratios = {who: own / statistics.median(timing) for who, timing in timings.items()}
        rows += [Row.of(f"peers.{name}.ours_over_{who}", [ratio], "x") for who, ratio in ratios.items()]
        if ratios:
            rows.append(Row.of(f"peers.{name}.ours_over_fastest", [max(ratios.values())], "x"))
    return [*rows, *inference(config)]


def checkout_module(root: Path | None, folder: str, module: str, **instead: Any) -> ModuleType:
    """A module of a checkout below ``root``, without what the packages around it import for other purposes.

    Args:
        instead: attributes of modules that stand for those it imports, by their dotted names with ``__`` for dots.
    """
    place = root / folder if root else None
    if place is None or not place.is_dir():
        raise FileNotFoundError(f"no checkout {folder} in peers_root={root}")
    names = module.split(".")
    for package in [".".join(names[:k]) for k in range(1, len(names))] + ["concern"]:
        if package not in sys.modules and place.joinpath(*package.split(".")).is_dir():
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = [str(place.joinpath(*package.split(".")))]
    for name, attributes in instead.items():
        stand_in = sys.modules.setdefault(name.replace("__", "."), ModuleType(name))
        vars(stand_in).update(attributes)
    if not hasattr(np, "int"):
        np.int = int  # type: ignore[attr-defined]  # what is older than numpy 1.24 says so
    sys.path.insert(0, str(place))
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(str(place))


class _Instances:
    """What MMOCR's target maker reads of its own type of that name."""

    def __init__(self, polygons: Sequence[np.ndarray], ignored: np.ndarray) -> None:
        self.polygons, self.ignored = list(polygons), ignored

    def __getitem__(self, keep: np.ndarray) -> _Instances:
        kept = np.flatnonzero(keep)
        return _Instances([self.polygons[k] for k in kept], self.ignored[kept])


def _targets(root: Path | None) -> tuple[Callable[[], Any], dict[str, Callable[[], Callable[[], Any]]]]:
    """All four maps of 50 lines in 640 x 640; looked at with 12 lines, whose kernels are many pixels high."""
    from ocr.benchmark.workload import lines
    from ocr.data.targets.maps import TargetMaker

    polygons, large = lines(50, 640, 640, seed=0), lines(12, 640, 640, seed=0)
    ignore = np.zeros(50, bool)
    maker = TargetMaker(0.4, 4)
    ours = maker(large, ignore[:12], 640, 640)

    def check(shrink: np.ndarray, threshold: np.ndarray) -> None:
        """The peer's shrink map 0/1 and threshold map 0..1."""
        both = (shrink > 0.5) & (ours[0] > 0)
        overlap = both.sum() / ((shrink > 0.5) | (ours[0] > 0)).sum()
        away = np.abs(threshold - ours[2] / 255)[ours[3] > 0].mean()
        if overlap < 0.85 or away > 0.05:
            raise Different(f"shrink maps overlap by {overlap:.2f}, threshold maps differ by {away:.3f}")

    def official() -> Callable[[], Any]:
        border = checkout_module(root, "DB", "data.processes.make_border_map").MakeBorderMap()
        kernel = checkout_module(root, "DB", "data.processes.make_seg_detection_data").MakeSegDetectionData()
        border.thresh_min, border.thresh_max, kernel.min_text_size = 0.0, 1.0, 4

        def make(texts: list[np.ndarray]) -> dict[str, Any]:
            data = {"image": np.zeros((640, 640, 3)), "polygons": np.array(texts), "ignore_tags": [False] * len(texts),
                    "is_training": True, "filename": ""}  # fmt: skip
            return border.process(kernel.process(data) or data)

        data = make(large)
        check(data["gt"][0], data["thresh_map"])
        return lambda: make(polygons)

    def doctr() -> Callable[[], Any]:
        base = importlib.import_module("doctr.models.detection.differentiable_binarization.base")
        model = base._DBNet()
        model.assume_straight_pages, model.shrink_ratio, model.min_size_box = False, 0.4, 3
        model.thresh_min, model.thresh_max = 0.0, 1.0

        def make(texts: list[np.ndarray]) -> Any:
            return model.build_target([{"words": np.stack(texts) / np.float32(640)}], (1, 640, 640))

        shrink, _, threshold, _ = make(large)
        check(np.asarray(shrink, np.float32).squeeze(), np.asarray(threshold).squeeze())
        return lambda: make(polygons)

    def mmocr() -> Callable[[], Any]:
        tools = checkout_module(
            root, "mmocr", "mmocr.utils.polygon_utils", mmengine__utils={"is_list_of": None},
            mmocr__utils={"bbox2poly": None, "valid_boundary": None}, mmocr__utils__typing_utils={"ArrayLike": object},
            mmocr__utils__check_argument={"is_2dlist": None},
        )  # fmt: skip
        registry = SimpleNamespace(register_module=lambda: lambda kind: kind)
        logger = SimpleNamespace(get_current_instance=lambda: log)
        kind = checkout_module(
            root, "mmocr", "mmocr.models.textdet.module_losses.db_module_loss",
            mmdet__models__utils={"multi_apply": None}, mmengine__logging={"MMLogger": logger},
            mmocr__registry={"MODELS": registry}, mmocr__structures={"TextDetDataSample": object},
            mmocr__utils={"offset_polygon": tools.offset_polygon},
            mmocr__models__textdet__module_losses__base={"BaseTextDetModuleLoss": object},
        ).DBModuleLoss  # fmt: skip
        loss = kind.__new__(kind)
        loss.shrink_ratio, loss.thr_min, loss.thr_max, loss.min_sidelength = 0.4, 0.0, 1.0, 4

        def make(texts: list[np.ndarray]) -> Any:
            instances = _Instances([p.flatten() for p in texts], np.zeros(len(texts), bool))
            return loss._get_target_single(SimpleNamespace(gt_instances=instances, img_shape=(640, 640)))

        shrink, _, threshold, _ = make(large)
        check(shrink[0].numpy(), threshold[0].numpy())
        return lambda: make(polygons)

    others = {"official_db": official, "doctr": doctr, "mmocr": mmocr}
    return (lambda: maker(polygons, ignore, 640, 640)), others


def _postprocess(root: Path | None) -> tuple[Callable[[], Any], dict[str, Callable[[], Callable[[], Any]]]]:
    """A map of 704 x 1280 with 60 lines to quadrangles, unclip ratio 1.5; looked at with 15 lines.

    The others measure kernels between pixel centres, which makes them a pixel smaller; on lines 16 pixels high that
    alone is a third of a kernel's height.
    """
    from ocr.benchmark.workload import ideal_map, lines
    from ocr.data.targets.maps import TargetMaker
    from ocr.metrics.matching import match_pairs, pair
    from ocr.models.postprocess.db import find_polygons
    from ocr.pipeline import PostProcess

    maker = TargetMaker(0.4, 4)
    kernels, large = (ideal_map(lines(count, 704, 1280, seed=1), 704, 1280, maker) for count in (60, 15))
    params = PostProcess(thresh=0.3, box_thresh=0.6, unclip="ratio", unclip_ratio=1.5, min_size=3,
                         max_candidates=1000, shape="quad")  # fmt: skip
    ours = find_polygons(large, params)[0]

    def check(boxes: Any) -> None:
        boxes = [np.asarray(b, np.float32).reshape(-1, 2) for b in boxes]
        found = match_pairs(pair(boxes, [p.astype(np.float32) for p in ours]), np.zeros(len(ours), bool), 0.85)
        if len(boxes) != len(ours) or (found.truth < 0).any():
            raise Different(f"{len(boxes)} boxes instead of {len(ours)}, {(found.truth < 0).sum()} unlike ours")

    def rapidocr() -> Callable[[], Any]:
        kind = importlib.import_module("rapidocr.ch_ppocr_det.utils").DBPostProcess
        post = kind(thresh=0.3, box_thresh=0.6, unclip_ratio=1.5, score_mode="slow")
        check(post(large[None, None], large.shape)[0])
        return lambda: post(kernels[None, None], kernels.shape)

    def official() -> Callable[[], Any]:
        post = checkout_module(root, "DB", "structure.representers.seg_detector_representer").SegDetectorRepresenter()
        post.thresh, post.box_thresh, post.max_candidates = 0.3, 0.6, 1000
        import torch

        images = {"image": torch.zeros(1, 3, *kernels.shape), "shape": [kernels.shape]}

        def make(batch: Any) -> Any:
            return post.represent(images, batch)[0][0]

        check([box for box in make(torch.from_numpy(large)[None, None]) if np.asarray(box).any()])
        batch = torch.from_numpy(kernels)[None, None]
        return lambda: make(batch)

    return (lambda: find_polygons(kernels, params)), {"rapidocr": rapidocr, "official_db": official}


def _cleval(root: Path | None) -> tuple[Callable[[], Any], dict[str, Callable[[], Callable[[], Any]]]]:
    """CLEval of 40 images of 50 boxes."""
    from ocr.benchmark.workload import boxes
    from ocr.metrics.cleval import CLEval
    from ocr.metrics.protocol import evaluate

    detections, truths = boxes(40, 50, seed=0)

    def run() -> dict[str, float]:
        return evaluate(CLEval(), detections, truths)

    ours = run()["cleval_hmean"]

    def package() -> Callable[[], Any]:
        try:
            kind = importlib.import_module("cleval").CLEvalMetric
        except ImportError:
            kind = checkout_module(root, "CLEval", "cleval").CLEvalMetric

        def work() -> Any:
            metric = kind()
            for found, wanted in zip(detections, truths):
                metric(
                    np.stack([p.reshape(-1) for p in found.polygons]),
                    np.stack([p.reshape(-1) for p in wanted.polygons]),
                    [""] * len(found),  # it has no way to leave the comparison of texts out
                    wanted.texts,
                )
            return metric.compute()

        theirs = float(work()["det_h"])
        if abs(theirs - ours) > 0.005:
            raise Different(f"hmean {theirs:.4f}, ours {ours:.4f}")
        return work

    return run, {"cleval": package}
