"""The real OpenStack Placement as a child process, for the demonstration and the tests.

It prints its URL as a line of JSON once it listens, and exits when stdin closes, the parent exits, or on SIGTERM.  Any
token of the form ``admin`` or ``admin:project`` is that of an administrator (``noauth2``).  One thread: with SQLite
more of them break Placement (``database is locked``), and none would make it faster.

A child process, not a thread: Placement has one database for each process, and would compete for the daemon's GIL.
"""

import argparse
import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import bringup

PARENT_CHECK_S: Final = 1.0
"""Interval of the checks that its parent still runs."""
ENDING: Final = (signal.SIGTERM, signal.SIGINT)
MISSING: Final = "cannot serve Placement: {} is not installed; in the checkout, .venv/bin/pip install '.[demo]'"


def remove_own_folder() -> None:
    """Remove our folder from ``sys.path``: ``import placement`` must find OpenStack's."""
    own = (Path(bringup.__file__).parent / "placement").resolve()
    sys.path[:] = [entry for entry in sys.path if Path(entry, "placement").resolve() != own]


def load_application(connection: str) -> Any:
    """Return the WSGI application over the database with this SQLAlchemy URL, which is created or migrated.

    :raises ModuleNotFoundError: the demo extra is not installed.
    """
    remove_own_folder()
    # jsonschema would make 38 parsers of IRIs of it, in two seconds; no schema of Placement has an IRI.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # as the import system has it: it is not there
    config = importlib.import_module("oslo_config.cfg").ConfigOpts()
    importlib.import_module("placement.conf").register_opts(config)
    # Defaults: an override would be lost in the call below.
    config.set_default("connection", connection, "placement_database")
    config.set_default("sync_on_startup", default=True, group="placement_database")
    config.set_default("auth_strategy", "noauth2", "api")
    # No file and no OS_* variable of this machine: they may name a real Placement's database.
    config([], project="placement", default_config_files=[], default_config_dirs=[], use_env=False)
    importlib.import_module("oslo_policy.opts").set_defaults(config, os.devnull, policy_dirs=[])
    importlib.import_module("placement.db_api").configure(config)
    return importlib.import_module("placement.deploy").loadapp(config)


def configure_logging(log_file: Path | None) -> None:
    """Log the libraries' messages to a file, or not at all: stderr may be the user's terminal."""
    warnings.simplefilter("ignore")
    handler = logging.NullHandler() if log_file is None else logging.FileHandler(log_file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)


def exit_event() -> threading.Event:
    """Return an event that is set when stdin closes, or on SIGTERM or SIGINT."""
    ended = threading.Event()

    def watch_stdin() -> None:
        # Not sys.stdin: a thread that holds its lock makes the interpreter abort at exit.
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        ended.set()

    def watch_signals() -> None:
        signal.sigwait(ENDING)
        ended.set()

    # Not a handler: it would run in the thread that waits for the event, and could wait for its lock for ever.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for watch in (watch_stdin, watch_signals):
        threading.Thread(target=watch, name=watch.__name__, daemon=True).start()
    return ended


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="placement_server", description="Serve the real Placement on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes any (default)")
    parser.add_argument("--database", default="memory", help="file of the SQLite database, or: memory (default)")
    parser.add_argument("--log", type=Path, help="file for what Placement logs (default: nowhere)")
    options = parser.parse_args(arguments)
    folder = Path(options.database).absolute().parent
    if options.database != "memory" and not os.access(folder, os.W_OK | os.X_OK):
        parser.error(f"--database: cannot write to {folder}: must be a directory that this user may write to")
    return options


def _start(options: argparse.Namespace) -> Callable[[], None]:
    """Listen and serve in a thread; give what stops it."""
    database = options.database
    connection = "sqlite://" if database == "memory" else f"sqlite:///{Path(database).absolute()}"
    try:
        application = load_application(connection)
        create_server = importlib.import_module("waitress.server").create_server
    except ModuleNotFoundError as error:
        sys.stderr.write(MISSING.format(error.name) + "\n")
        raise SystemExit(os.EX_UNAVAILABLE) from None
    try:
        server = create_server(application, host="127.0.0.1", port=options.port, threads=1, ident=None)
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"cannot serve Placement: cannot listen on port {options.port} of 127.0.0.1: {error}\n")
        raise SystemExit(os.EX_UNAVAILABLE) from None
    threading.Thread(target=server.run, name="placement", daemon=True).start()
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{server.effective_port}"}) + "\n")
    sys.stdout.flush()
    stop: Callable[[], None] = server.close
    return stop


def main(arguments: list[str] | None = None) -> None:
    """Serve until the parent exits."""
    parent = os.getppid()
    options = _arguments(arguments)
    os.umask(0o077)
    configure_logging(options.log)
    ended = exit_event()
    stop = _start(options)
    while os.getppid() == parent and not ended.wait(PARENT_CHECK_S):
        pass
    stop()


if __name__ == "__main__":
    main()
