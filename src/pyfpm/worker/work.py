"""A new worker, from its fork on: the rooms are put together here, and nowhere else."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio

from pyfpm.observe.log import Log
from pyfpm.worker._output import forks_are_the_users
from pyfpm.worker._reactor import Reactor
from pyfpm.worker.inline import Adapter, InlineExecutor
from pyfpm.worker.refusal import Refusal
from pyfpm.worker.serve import serve
from pyfpm.worker.settings import Orders

if TYPE_CHECKING:
    from pyfpm.worker.zygote import Descriptors


def work(own: Descriptors, shared: Descriptors, adapter: Adapter, orders: Orders, log: Log) -> None:
    """Serve until the master says to stop.

    Args:
      own: descriptors of this worker: "control", "slot"; they are ours from here on.
      shared: those that all workers of the pool have.
    """
    reactor = Reactor(InlineExecutor(adapter), Refusal(log), orders.settings, log)
    for fd in shared.all("listener"):
        reactor.listen(socket.socket(fileno=fd))
    forks_are_the_users()
    trio.run(serve, reactor, socket.socket(fileno=own.first("control")))
