"""Several processes train one model: the number of this one, its part of a batch, and how they average.

`torchrun` starts them and gives each its number in environment variables. Each holds the whole model; the gradients are
averaged by DistributedDataParallel (Li et al. 2020, arXiv:2006.15704), over nccl on GPUs and over gloo on CPUs. Only
the first worker prints, evaluates and touches the folder of the run; the others do not need to see it.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rope_lab.training.record import Stopped, choose_device

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

# While the first worker measures the whole validation split, the others wait in their next average.
PATIENCE = timedelta(minutes=30)


def rank() -> int:
    """The number of this worker among those that `torchrun` started; 0 without it."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


@dataclass(frozen=True)
class Team:
    """The processes that train one model, seen from one of them.

    Args:
        device: where this worker computes.
        rank: its number, counted from 0.
        size: how many there are.
        launch: identifies the call of `torchrun` that started them, and is the same after a restart; None without it.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    launch: str | None = None

    @classmethod
    def here(cls, device: str | None = None) -> Team:
        """The team that `torchrun` put this process in, or this process alone.

        Args:
            device: as for `choose_device`; by default a team uses cuda, one GPU per worker, or else cpu.

        Raises:
            ValueError: if this machine lacks the device, or there are more workers than GPUs.
        """
        run = os.environ.get("TORCHELASTIC_RUN_ID")
        if run is None:
            return cls(choose_device(device))
        size, local = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_RANK"))
        if run == "none":  # not named by the user: the process that watches over the workers identifies it
            run = f"{platform.node()} {os.getppid()}"
        where = choose_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if where.type == "cuda":
            if local >= torch.cuda.device_count():
                gpus = torch.cuda.device_count()
                raise ValueError(
                    f"--nproc-per-node must be at most {gpus}, one per GPU, got {local + 1} or more"
                )
            where = torch.device("cuda", local)
            torch.cuda.set_device(where)
        return cls(where, rank(), size, hashlib.sha256(run.encode()).hexdigest()[:12])

    def record(self) -> dict[str, Any]:
        """What a run's provenance says about the team."""
        return {"workers": self.size, "launch": self.launch}

    @property
    def first(self) -> bool:
        """Whether this worker prints, evaluates and writes."""
        return self.rank == 0

    def divide(self, batch: int, accumulate: int) -> None:
        """Raise an error unless the team can share a batch evenly.

        Raises:
            ValueError: naming the numbers of workers that can.
        """
        pieces = batch // accumulate
        if pieces % self.size:
            *most, last = (str(size) for size in range(1, pieces + 1) if pieces % size == 0)
            allowed = f"{', '.join(most)} or {last}" if most else last
            raise ValueError(
                f"the number of workers must divide batch/accumulate = {pieces}: {allowed}, got {self.size}"
            )

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Inside the block the workers can average; it ends when it has ended for all of them."""
        if self.size == 1:
            yield
            return
        if not dist.is_initialized():
            from torch.distributed.rendezvous import rendezvous  # not in every build of torch

            store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
            dist.init_process_group(
                "nccl" if self.device.type == "cuda" else "gloo",
                store=_meet(store, rank, size), rank=rank, world_size=size, timeout=PATIENCE,
            )  # fmt: skip
            atexit.register(dist.destroy_process_group)
        try:
            yield
        except BaseException as error:
            atexit.unregister(dist.destroy_process_group)  # it could wait for the others, whom torchrun ends
            if isinstance(error, RuntimeError) and "Connection " in str(error):
                cure = "with torchrun --max-restarts 3, all workers restart from the last checkpoint"
                raise Stopped(f"another worker has died; {cure}") from error
            raise
        dist.barrier()

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model, whose gradients come out of `backward` averaged over the team."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model, device_ids=[self.device] if self.device.type == "cuda" else None
        )

    def apart(self, model: nn.Module, piece: int, pieces: int) -> AbstractContextManager[None]:
        """For a forward pass: gradients of all `pieces` but the last are added up here before they are averaged."""
        if isinstance(model, DistributedDataParallel) and piece < pieces:
            return model.no_sync()
        return nullcontext()

    def share(self, inputs: Tensor, targets: Tensor, pieces: int) -> list[tuple[Tensor, Tensor]]:
        """This worker's part of a batch, cut into `pieces`: (B, N) becomes (B / size / pieces, N)."""
        whole = list(zip(*(t.chunk(self.size * pieces) for t in (inputs, targets)), strict=True))
        return whole[self.rank * pieces : (self.rank + 1) * pieces]

    def mean(self, number: Tensor) -> Tensor:
        """The mean over the team, bit-identical on every worker."""
        if self.size > 1:
            dist.all_reduce(number)
            number = number / self.size
        return number

    def seed(self, seed: int, step: int) -> None:
        """In a team, dropout depends only on seed, step and worker, so that it is the same after a restart."""
        if self.size > 1:
            torch.manual_seed(((seed * 1_000_003 + step) * self.size + self.rank) % 2**63)

    @contextmanager
    def copy(self, path: Path | None) -> Iterator[Path | None]:
        """The first worker's file at `path`, or None, on every worker: they need not share a disk."""
        if self.size == 1:
            yield path
            return
        data = path.read_bytes() if self.first and path else b""
        length = torch.tensor(len(data), device=self.device)
        dist.broadcast(length, 0)
        if not length:
            yield None
            return
        content = torch.frombuffer(bytearray(data or int(length)), dtype=torch.uint8).to(self.device)
        dist.broadcast(content, 0)
        if self.first:
            yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder, "copy")
            copied.write_bytes(content.cpu().numpy().tobytes())
            yield copied


def _meet(store: Store, rank: int, size: int) -> Store:
    """A part of the store that no worker has used before.

    After a restart, torchrun's store still contains the addresses of workers that have died, and the nodes do not
    agree on the number of restarts (pytorch/pytorch, issue 135712). So the first worker names a new part and answers
    every greeting it finds with that name, until all workers have said that they have read it. Workers that have died
    do not.
    """
    from torch._C._distributed_c10d import PrefixStore

    mine = uuid.uuid4().hex
    if rank:
        store.set(f"greeting {rank}", mine)
        name = store.get(f"answer {mine}").decode()
        store.add(f"{name} read", 1)
        return PrefixStore(name, store)
    while store.add(f"{mine} read", 0) < size - 1:
        for other in range(1, size):
            if store.check([f"greeting {other}"]):
                store.set(f"answer {store.get(f'greeting {other}').decode()}", mine)
        time.sleep(0.01)
    return PrefixStore(mine, store)
