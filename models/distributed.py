"""One training in many processes: who is who, and sums over all. With one process everything is the identity.

Losses are sums and counts, so that processes agree with one process that sees all their samples: counts are added first, gradients of
the local sums divided by the global counts are added afterwards. torchrun sets the environment; gloo on CPU, nccl on CUDA.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from omnifuse.preprocess.schema import ConfigError, ResourceError


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises ResourceError where CUDA is asked for and absent."""
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"unknown device {name!r}", hint="auto, cpu or cuda")
    if name == "cpu" or not torch.cuda.is_available():
        if name == "cuda":
            raise ResourceError("there is no CUDA device here", hint="--device auto or cpu")
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


@dataclass(frozen=True)
class Processes:
    """The processes of a training. `main` writes, the others compute."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes; itself with one."""
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Adds up gradients in place. A parameter that got none in any process keeps none, so that the optimiser skips it."""
        if self.world == 1:
            return
        parameters = [p for p in parameters if p.requires_grad]
        got = self.sum(torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device))
        parameters = [p for p, count in zip(parameters, got.tolist()) if count]
        flat = self.sum(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]))
        for p, gradient in zip(parameters, flat.split([p.numel() for p in parameters])):
            p.grad = gradient.view_as(p)

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Joins the processes that torchrun started, or those already joined; one process where there is neither."""
    if dist.is_available() and dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
    elif int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield Processes(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()
    else:
        yield Processes()
