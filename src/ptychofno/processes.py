"""The processes that train one network together: which of them this is, how they start and meet.

Process 0 leads: it alone opens the run's directory, writes, prints and evaluates. The others follow: they
wait for its word, train along and leave. They are started by process 0 on its own machine, or all of them
from outside: by torchrun, or as the tasks of a Slurm step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ptychofno.followers import Followers

if TYPE_CHECKING:
    from torch import Tensor

# What the others wait for takes minutes at most: a dataset that process 0 simulates.
_TIMEOUT = timedelta(hours=1)
# In the environment of a process that process 0 has started, whose standard input is held by process 0.
_LED = "PTYCHOFNO_LED"
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """Where a process stands: its number of ``size``, on its node of ``local_size``; where they meet."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int


def place_of(environment: Mapping[str, str]) -> Place | None:
    """The place that whoever started this process gave it; None when it was started alone.

    Understood are the variables of torchrun, of a Slurm step and of submitit's local executor.
    """
    if all(name in environment for name in _TORCHRUN):
        rank, size, local_rank, local_size = (int(environment[name]) for name in _TORCHRUN[:4])
        return Place(rank, size, local_rank, local_size, environment["MASTER_ADDR"], _port(environment, 0))
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        size, nodes = (int(environment[f"SLURM_STEP_NUM_{what}"]) for what in ("TASKS", "NODES"))
        # One step after another may be tried within a job, each at a port of its own.
        number = int(environment["SLURM_JOB_ID"]) + int(environment["SLURM_STEP_ID"])
        return Place(
            rank=int(environment["SLURM_PROCID"]),
            size=size,
            local_rank=int(environment["SLURM_LOCALID"]),
            local_size=size // nodes,
            address=environment.get("MASTER_ADDR") or _first_host(environment["SLURM_STEP_NODELIST"]),
            port=_port(environment, number),
        )
    if int(environment.get("SUBMITIT_LOCAL_NTASKS", 1)) > 1:
        rank, size = (int(environment[f"SUBMITIT_LOCAL_{what}"]) for what in ("GLOBALID", "NTASKS"))
        number = int(environment["SUBMITIT_LOCAL_JOB_ID"])
        return Place(rank, size, rank, size, "127.0.0.1", _port(environment, number))
    return None


def is_copy(environment: Mapping[str, str]) -> bool:
    """Whether another process on this node composes the same command, and tells of its mistakes."""
    return all(name in environment for name in _TORCHRUN) and environment["LOCAL_RANK"] != "0"


def end_with_leader() -> None:
    """Let a process that process 0 has started die when process 0 does, however that happens."""
    if os.environ.pop(_LED, None) is None:
        return

    def wait() -> None:
        os.read(0, 1)  # nothing is ever written: it returns when the other end is closed
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Group:
    """The processes of one run, seen from one of them.

    Args:
        place: of this process. None is process 0 of ``size``, which starts the others by ``command``.
        cuda: whether they compute on GPUs, one each.
    """

    def __init__(
        self,
        place: Place | None = None,
        size: int = 1,
        *,
        cuda: bool = False,
        command: Sequence[str] = (),
    ) -> None:
        self.place = place
        self.rank, self.local_rank = (place.rank, place.local_rank) if place else (0, 0)
        self.size, self.local_size = (place.size, place.local_size) if place else (size, size)
        self._cuda, self._command = cuda, command
        self._followers: Followers | None = None
        self._store: Any = None
        self._joined = self._led = False

    @contextmanager
    def meeting(self) -> Iterator[Group]:
        """For the length of a run. When process 0 leaves before it led, the others leave with its code."""
        code = 0
        try:
            if self.place is not None and self.size > 1:
                self._join(_meeting_point(self.place))
            yield self
        except BaseException as error:
            code = _exit_code(error)
            raise
        finally:
            try:
                if self._joined and self.rank == 0 and not self._led:
                    self.broadcast({"leave": code})
            finally:
                self._part()

    def start(self) -> None:
        """Start the others, unless somebody else has. They take some seconds to arrive."""
        if self.size == 1 or self.place is not None:
            return
        import torch.distributed as dist

        self._store = dist.TCPStore("127.0.0.1", 0, self.size, is_master=True, wait_for_workers=False)
        size, port = str(self.size), str(self._store.port)
        variables = [
            dict(zip((*_TORCHRUN, _LED), (rank, size, rank, size, "127.0.0.1", port, "1"), strict=True))
            for rank in map(str, range(1, self.size))
        ]
        self._followers = Followers(self._command, variables)

    def lead(self, **word: Any) -> None:
        """Process 0: let the others, which wait in ``follow``, begin with ``word``."""
        if self.size == 1:
            return
        if self._followers is not None:
            arrived = [f"arrived/{rank}" for rank in range(1, self.size)]
            self._followers.wait_for(lambda: self._store.check(arrived))
            self._join(self._store)
        self._led = True
        self.broadcast(word)

    def follow(self) -> dict[str, Any]:
        """Any other process: the word of process 0. Raises SystemExit when there is nothing to do."""
        word: dict[str, Any] = self.broadcast(None)
        if "leave" in word:
            raise SystemExit(word["leave"])
        return word

    def watching(self) -> Any:
        """A context for what all do together: when a process dies of an error, that is what is raised.

        Raises ValueError with its one line for a mistake of the user, else RuntimeError.
        """
        return nullcontext() if self._followers is None else self._followers.watched()

    # --- what all processes call together ----------------------------------------------------

    def broadcast(self, value: Any) -> Any:
        """The value that process 0 gives."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        held = [value]
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]

    def largest(self, value: int) -> int:
        """The largest of the values that the processes give."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        held = torch.tensor(value)
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return int(held)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of the tensors that the processes give, the same bits in each."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    # --- meeting and parting -----------------------------------------------------------------

    def _join(self, store: Any) -> None:
        import torch.distributed as dist

        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if self._cuda else "gloo",
            store=dist.PrefixStore(f"ptychofno/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store),
            rank=self.rank,
            world_size=self.size,
            timeout=_TIMEOUT,
        )
        self._joined = True

    def _part(self) -> None:
        if self._followers is not None:
            self._followers.dismiss()
        if self._joined:
            import torch.distributed as dist

            dist.destroy_process_group()


def _meeting_point(place: Place) -> Any:
    import torch.distributed as dist

    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself
    host = place.rank == 0 and not served
    store = dist.TCPStore(place.address, place.port, place.size, is_master=host, timeout=_TIMEOUT)
    store.set(f"arrived/{place.rank}", "")
    return store


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 2 if isinstance(error, ValueError) else getattr(error, "exit_code", 1)


def _port(environment: Mapping[str, str], number: int) -> int:
    """The one that is given, or one that all processes derive from the ``number`` of their job."""
    return int(environment.get("MASTER_PORT") or 15000 + number % 10000)


def _first_host(nodes: str) -> str:
    """The first of Slurm's list of nodes: ``gpu-3`` of ``gpu-[3-5,9],fat1``."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    return SLURMEnvironment.resolve_root_node_address(nodes)
