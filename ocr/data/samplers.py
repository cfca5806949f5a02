"""Which samples a loader reads, in which order: a function of seed, epoch and rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

from ocr.data.sources.build import Source

PADDING_INDEX = -1  # index of a sample that only keeps ranks in step
LANES = 64  # of a set in shards: the ranks, at most, that each read other shards


def draws_per_epoch(
    own: Sequence[Source], mix: Sequence[Source] = (), mix_ratio: float = 0.0, total: int | None = None
) -> list[int]:
    """Number of samples that an epoch draws from each source, ``own`` ones first.

    Args:
        own: a source of weight w gives w times its length.
        mix: sources that together give the share ``mix_ratio`` of the epoch, each its part of the sum of weights,
            however long it is.
        mix_ratio: 0 <= mix_ratio < 1.
        total: samples per epoch, all counts in proportion; None for what the lengths of ``own`` amount to.
    """
    sizes = [len(s) * s.weight for s in own]
    if mix:
        factor = mix_ratio / (1 - mix_ratio) * sum(sizes) / sum(s.weight for s in mix)
        sizes += [s.weight * factor for s in mix]
    factor = 1.0 if total is None else total / sum(sizes)
    return [max(1, round(size * factor)) for size in sizes]


@dataclass(frozen=True)
class EpochRest:
    """The rest of an epoch that a stopped training has left, in samples of all ranks along the epoch's order.

    Attributes:
        epoch: which.
        seen: how many were seen.
        end: how many the stopped training would have seen of it.
    """

    epoch: int
    seen: int
    end: int

    def share(self, world_size: int) -> int:
        """Samples that are left for each rank; what does not divide evenly is left out."""
        left = self.end - self.seen
        return max(1, left // world_size) if left > 0 else 0


class EpochSampler(Sampler[tuple[int, int]]):
    """Sampler of an epoch: which samples, in which order, each with a seed.

    A function of (seed, epoch, samples seen): ranks take turns along one order, so that a training can go on at any
    place of it with another number of ranks and of loader processes.

    A source gives a part of it without repeats when fewer samples are drawn than it has, whole rounds and a part when
    more. Ranks get equal shares; what does not divide evenly is left for another epoch.

    The samples of a source in shards, its shards shuffled, are cut into :data:`LANES` equal lanes that are read side by
    side, each sample moved by up to ``window / LANES`` places of its lane. So only some parts of shards are read at a
    time, and ranks whose number divides that of lanes, where there is one source, each read other shards.

    Args:
        lengths: of the sources; of one in shards those of its shards.
        draws: how many samples each gives an epoch, see :func:`draws_per_epoch`.
        rest: of the epoch that a resumed training begins in; later epochs are whole.
        window: for shards, in samples.
    """

    def __init__(
        self, lengths: Sequence[int | Sequence[int]], draws: Sequence[int], seed: int, rank: int = 0,
        world_size: int = 1, rest: EpochRest | None = None, window: int = 1,
    ) -> None:  # fmt: skip
        self.lengths, self.draws, self.window = list(lengths), list(draws), window
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.rest = rest
        self.epoch = rest.epoch if rest else 0

    @property
    def resumed(self) -> bool:
        """Whether this epoch is the one that was begun before."""
        return self.rest is not None and self.rest.epoch == self.epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples of a whole epoch."""
        return max(1, sum(self.draws) // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        parts, start = [], 0
        for shards, count in zip(self.lengths, self.draws):
            length = shards if isinstance(shards, int) else sum(shards)
            rounds = [self._round(shards, rng) for _ in range(-(-count // length))]
            chosen = np.concatenate(rounds)[:count]
            parts.append(start + chosen)
            start += length
        order = np.concatenate(parts)
        if all(isinstance(length, int) for length in self.lengths):
            order = rng.permutation(order)
        else:  # sources take turns at random, each in its own order
            turns = rng.permutation(np.repeat(np.arange(len(parts)), [len(part) for part in parts]))
            order, ordered = np.empty_like(order), order
            order[np.argsort(turns, kind="stable")] = ordered
        seeds = rng.integers(0, 2**62, len(order))
        rest = self.rest if self.rest and self.resumed else EpochRest(self.epoch, 0, len(order))
        for k in range(rest.share(self.world_size)):
            position = (rest.seen + k * self.world_size + self.rank) % len(order)
            yield int(order[position]), int(seeds[position])

    def _round(self, shards: int | Sequence[int], rng: np.random.Generator) -> np.ndarray:
        if isinstance(shards, int):
            return rng.permutation(shards)
        starts = np.cumsum([0, *shards])
        order = np.concatenate([np.arange(starts[k], starts[k + 1]) for k in rng.permutation(len(shards))])
        length = len(order) // LANES
        lanes, rest = order[: LANES * length].reshape(LANES, length), order[LANES * length :]
        moved = np.argsort(np.arange(length) + rng.uniform(0, self.window / LANES, lanes.shape), axis=1)
        return np.concatenate([np.take_along_axis(lanes, moved, axis=1).T.ravel(), rng.permutation(rest)])


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Full batches of an :class:`EpochSampler`.

    The last is short where the epoch has less than one, or was begun with batches of another size.

    Attributes:
        sampler: Lightning tells it the epoch.
        batch_size: samples per batch.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return max(1, len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        samples, first = iter(self.sampler), True
        while batch := list(islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or first or self.sampler.resumed:
                yield batch
            first = False


class ShardSampler(Sampler[int]):
    """Deals every sample once over all ranks; short ranks get :data:`PADDING_INDEX`, so that all do equal steps.

    Args:
        length: number of samples.
        order: of the samples; None for their own.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1, order: Sequence[int] | None = None) -> None:
        self.order, self.rank, self.world_size = range(length) if order is None else order, rank, world_size

    def __len__(self) -> int:
        return -(-len(self.order) // self.world_size)

    def __iter__(self) -> Iterator[int]:
        padding = [PADDING_INDEX] * (len(self) * self.world_size - len(self.order))
        return iter([*self.order, *padding][self.rank :: self.world_size])
