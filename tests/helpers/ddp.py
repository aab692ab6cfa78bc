"""Run a function on several gloo processes: one fork server, 0.5 s a call after the first."""

import multiprocessing as mp
import os
import pickle
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from torch.distributed import TCPStore

_PRELOAD = ["torch", "lightning.pytorch", "torchmetrics", "lightning_ssl_theory.callbacks"]


def run_ranks(
    function: Callable[..., Any], world_size: int, *args: Any, init: bool = True, timeout: float = 120.0
) -> list[Any]:
    """Results of `function(rank, world_size, *args)` on every rank, in rank order.

    Each rank is a fresh process with the environment that torchrun would give it. The function must be
    defined at the top level of its module. All arguments and results are pickled.

    Args:
        function: What each rank runs.
        world_size: Number of ranks.
        *args: Passed on; the same on every rank.
        init: Whether to initialise a gloo process group first. Without it a
            `Trainer(accelerator="cpu", strategy="ddp", devices=world_size)` does so itself.
        timeout: Seconds after which all ranks are ended.

    Returns:
        One result a rank.

    Raises:
        RuntimeError: If a rank raised or died; with its traceback.
        TimeoutError: If a rank has not answered in time.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    # the store lives here, as torchrun's does: no other run can take its port, and no rank has to stay for the others
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    payload = pickle.dumps((function, args))
    receivers, processes = {}, []
    try:
        for rank in range(world_size):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_child, args=(sender, rank, world_size, store.port, init, payload)
            )
            process.start()
            sender.close()  # so that the pipe ends when the child does
            receivers[receiver] = rank
            processes.append(process)
        return _collect(receivers, time.monotonic() + timeout)
    finally:
        for process in processes:
            process.join(0.0 if process.exitcode is None and receivers else 5.0)
            if process.is_alive():
                process.kill()
                process.join()


def _collect(receivers: dict[Connection, int], deadline: float) -> list[Any]:
    """Take one answer from every receiver, removing it from the dictionary."""
    results: dict[int, Any] = {}
    while receivers:
        ready = wait(list(receivers), timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"No answer in time from ranks {sorted(receivers.values())}.")
        for receiver in ready:
            rank = receivers[receiver]
            try:
                is_ok, answer = pickle.loads(receiver.recv_bytes())
            except EOFError:
                is_ok, answer = False, "The process ended without an answer."
            if not is_ok:
                raise RuntimeError(f"Rank {rank} failed.\n{answer}")
            del receivers[receiver]
            results[rank] = answer
    return [results[rank] for rank in sorted(results)]


def _child(sender: Connection, rank: int, world_size: int, port: int, init: bool, payload: bytes) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        GROUP_RANK="0",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="tests",
        TORCHELASTIC_RESTART_COUNT="0",
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
    import torch

    torch.set_num_threads(1)
    try:
        if init:
            torch.distributed.init_process_group("gloo")
        function, args = pickle.loads(payload)
        answer = pickle.dumps((True, function(rank, world_size, *args)))
    except BaseException:
        answer = pickle.dumps((False, traceback.format_exc()))
    # before the group ends: with torch 2.6 a rank may hang there after rank 0 has left
    sender.send_bytes(answer)
    sender.close()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
