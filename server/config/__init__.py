"""What the server was told: flag over environment over TOML over default, checked once, in one typed object.

    hybr serve --port 9000        port of the flag
    HYBR_PORT=9000                of the environment; a secret's variable has a twin NAME_FILE, the path of a file that holds it
    port = 9000                   of `$HYBR_DATA/hybr.toml`, or of the file that --config or HYBR_CONFIG names

The same file may hold the tables of the parts that have some: `[upstreams.NAME]`, `[fallbacks]` and `default`
(server/upstreams.py), `[limits]`, `[prices]` and `unknown_price` (server/money/config.py). `hybr config show` prints every value
and where it came from.

To add a setting, add one line to `Settings` in server/config/settings.py:

    streams: int = setting(64, whole(1, 10_000), "answers that may run at once")

Its flag (--streams), its variable (HYBR_STREAMS), its key in the file (streams), its check, its help and its line in
`hybr config show` follow from that line. A bool's flag is --name and --no-name. A secret has no flag of its own but
--name-file, for every program on the machine reads command lines. What depends on two settings is checked in
`Settings.__post_init__`.
"""

from hybr.server.config.settings import Settings, doors_notice, is_loopback
from hybr.server.config.sources import Told, load

__all__ = ["Settings", "Told", "doors_notice", "is_loopback", "load"]
