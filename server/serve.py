"""`hybr serve`: bind, build what is missing, answer, and leave nothing running behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hybr.server import logs
from hybr.server.config import Settings, doors_notice, load
from hybr.server.config.sources import add_flags
from hybr.server.errors import PortTakenError

if TYPE_CHECKING:
    import argparse

    import uvicorn

    from hybr.server.blobs import Blobs
    from hybr.server.boot import Boot
    from hybr.server.doors.doors import Doors
    from hybr.server.keys.keyring import Keyring
    from hybr.server.models import Models
    from hybr.server.money.office import Office
    from hybr.server.preferences import Preferences
    from hybr.server.probes import Probes
    from hybr.server.providers.house import House
    from hybr.server.providers.remote import Remote
    from hybr.server.relay import Relay
    from hybr.server.site import Site
    from hybr.server.status import Status
    from hybr.server.store.database import Database

UNREAD = 90_000  # milliseconds
HOUSE = "smollm2-135m"  # the catalogue's model that answers for the cloud side


def add_parser(subparsers: Any) -> None:
    """Add `serve` to the frame."""
    serve = subparsers.add_parser("serve", help="serve the page, the models and the gateway")
    add_flags(serve)
    serve.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    settings = load(args).settings
    os.environ.update(HYBR_HOME=str(settings.home), HYBR_DATA=str(settings.data))  # for the builders we start
    return listen(settings)


def listen(settings: Settings) -> int:
    """Run the server on the settings' address."""
    no_cores()
    listener = bind(settings.host, settings.port)  # before the slow imports: a taken port is said at once
    import uvicorn

    from hybr.server import app
    from hybr.server.wire import Wire

    plain = settings.host.strip("[]")
    host = f"[{plain}]" if ":" in plain else plain
    address = f"http://{host}:{listener.getsockname()[1]}"
    logs.configure(settings)
    if notice := doors_notice(settings):
        say(f"Note: {notice}")
    parts = assemble(settings)
    config = uvicorn.Config(
        app.create(parts, address),
        loop="auto",
        http=Wire,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # uvicorn's 5 s closes on a browser just as it sends the next question
        proxy_headers=False,  # nobody stands before us; who claims to is not believed
        timeout_graceful_shutdown=settings.drain + 2,
    )
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup's wish is respected
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))  # a closed terminal drains like a stop
    # What is there now stays: the collector need not look through it again, which took 20 ms and fell on whoever asked.
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)
    with contextlib.suppress(KeyboardInterrupt):
        draining(uvicorn.Server(config), parts.relay, settings.drain, parts.probes).run(sockets=[listener])
    return 0


def no_cores() -> None:
    """Let no crash write this process's memory to a disk, keys included; the house's child inherits it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def draining(server: uvicorn.Server, relay: Relay, seconds: float, probes: Probes | None = None) -> uvicorn.Server:
    """Return `server`, which at its end gives running answers `seconds` and then has the relay tell their clients."""
    shutdown = server.shutdown

    async def drain(sockets: list[socket.socket] | None = None) -> None:
        if probes:
            probes.draining = True
        timer = asyncio.get_running_loop().call_later(seconds, relay.interrupt)
        await shutdown(sockets)
        timer.cancel()

    server.shutdown = drain  # type: ignore[method-assign]
    return server


@dataclass
class Parts:
    """What the routes answer from, and its life: started with the event loop, stopped with it."""

    site: Site
    models: Models
    house: House
    relay: Relay
    database: Database
    probes: Probes
    preferences: Preferences
    blobs: Blobs
    boot: Boot
    doors: Doors
    keyring: Keyring
    hosts: tuple[str, ...]
    remotes: list[Remote]
    status: Status
    office: Office
    log_requests: str = "errors"

    def start(self, address: str) -> None:
        """Begin to prepare what is missing; `address` is the server's, without a way in."""
        self.boot.start(partial(self.doors.address, address))
        self.doors.start(address)
        self.office.start()
        self.keyring.start()
        for remote in self.remotes:
            remote.start()

    async def stop(self) -> None:
        """Leave nothing running behind."""
        await self.doors.stop()
        await self.keyring.stop()
        await self.boot.stop()
        await self.house.stop()
        for remote in self.remotes:
            await remote.stop()
        await self.office.stop()
        await self.database.close()


HOUSE_TOKENS = 512
"""Tokens of an answer where the request names no bound: a model this small repeats itself to the end of its window otherwise."""


def assemble(settings: Settings) -> Parts:
    """Make the parts and wire them; nothing runs yet."""
    from hybr.mlc_build import catalogue
    from hybr.server.blobs import Blobs
    from hybr.server.boot import Boot
    from hybr.server.doors.doors import Doors
    from hybr.server.keys.keyring import Keyring
    from hybr.server.keys.master import Custody
    from hybr.server.models import Models
    from hybr.server.money.office import Office
    from hybr.server.preferences import Preferences
    from hybr.server.probes import Probes
    from hybr.server.providers import registry
    from hybr.server.providers.house import House
    from hybr.server.relay import Relay
    from hybr.server.site import Site
    from hybr.server.status import Status
    from hybr.server.store.blobs import Quota
    from hybr.server.store.database import Database

    chosen = catalogue.find(HOUSE)
    house = House(
        id=chosen.id, title=chosen.name, context=chosen.context, sampling={**chosen.sampling, "max_tokens": HOUSE_TOKENS}
    )
    site, models, database = (
        Site(),
        Models(settings.home / "models", catalogue.entries),
        Database(settings.data, settings.database),
    )
    boot = Boot(site, house, models, build=settings.build, warm=settings.warm, say=say)
    told = settings.upstreams
    remotes = [registry.remote(upstream) for upstream in (*told.configured, *told.own)]
    # The house stands in for the cloud, so it comes after it.
    relay = Relay([*remotes, house], told.default, told.missing, told.fallbacks)
    status = Status(relay)
    doors, keyring = Doors(database, settings.data, settings.auth), Keyring(database, Custody.of(settings))
    relay.sessions, relay.keyring = doors, keyring
    preferences = Preferences(database)
    blobs = Blobs(database, Quota(settings.blob_bytes, settings.blob_quota, settings.blob_count))
    office = Office(database, settings, relay, doors, [preferences, blobs, keyring])
    return Parts(
        site,
        models,
        house,
        relay,
        database,
        Probes(boot, database),
        preferences,
        blobs,
        boot,
        doors,
        keyring,
        settings.hosts,
        remotes,
        status,
        office,
        settings.log_requests,
    )


def say(text: str) -> None:
    """Print one line at once, even through a pipe."""
    print(text, flush=True)


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises PortTakenError when another program listens there. SO_REUSEADDR lets a restart follow at once on a stop; on
    Linux it does not let two programs share the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # inherited by each connection: the kernel cuts off who takes no byte for so long
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)  # a second bind is only refused once the first listens
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(host, port) from error
        raise
    return listener
