"""``bringup from-nova-conf``: settings for a host with a nova-compute, from its nova.conf."""

import argparse
import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

from bringup.daemon.cli.options import note
from bringup.daemon.errors import UsageError
from bringup.daemon.storage.files import write_durably
from bringup.drivers.identifiers import uuid_in_any_spelling

HEADER = """\
# From {files}.  Other keys have their defaults: docs/settings.md, example.toml.
# Secrets are read from there, not copied."""
BEFORE = ".before"
MODE = 0o640


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "from-nova-conf",
        help="write settings for a host that has a nova.conf",
        description="Write settings for a host with a nova-compute, from its nova.conf. No secret is copied: the "
        "settings name the files that contain them. What must be checked is written to standard error.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="nova.conf, and files or folders after it")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"file to write, atomically; its former content is kept as FILE{BEFORE} (default: standard output)",
    )
    parser.add_argument(
        "--node-uuid",
        type=_uuid,
        metavar="UUID",
        help="of nova-compute's node, if compute_id is not on this machine",
    )
    parser.set_defaults(execute=execute)


def _uuid(text: str) -> str:
    try:
        return uuid_in_any_spelling(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no UUID") from None


def execute(arguments: argparse.Namespace) -> int:
    """Write settings to standard output, and notes to standard error; return the exit code."""
    from bringup.daemon.settings.credentials.from_nova_conf import settings_from

    paths = [path.absolute() for path in arguments.paths]
    found = settings_from(paths, node_uuid=arguments.node_uuid)
    lines = [HEADER.format(files=", ".join(map(str, paths)))]
    for section, values in found.sections.items():
        lines.append(f"\n[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    _write("".join(f"{line}\n" for line in lines), arguments.output)
    for each in found.notes:
        note(each)
    return os.EX_OK


def _toml(value: object) -> str:
    """Return a value as TOML: it is as in JSON, except for pairs of surrogates."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08X}" for each in text)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    kept = replace_file(output, text, option="--output")
    if kept is not None:
        note(f"{output} existed: its former content is in {kept}")


def replace_file(path: Path, text: str, *, option: str) -> Path | None:
    """Write a file atomically; return the copy of its former content, None if there was none or it is the same.

    A new file belongs to the group of its folder, whose members may read it.

    :raises UsageError: it cannot be written; it is unchanged.
    """
    target, data = path.resolve(), text.encode()
    try:
        if target.exists() and not target.is_file():
            raise UsageError(f"{option} {path}: not a regular file; name a file")
        kept: Path | None = target.with_name(target.name + BEFORE)
        if kept is not None and target.exists():
            if target.read_bytes() == data:
                return None
            shutil.copy2(target, kept)
            _copy_ownership(kept, like=target)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        write_durably(draft, data, draft=draft.with_name(draft.name + ".draft"))
        if target.exists():
            _copy_ownership(draft, like=target)
        else:
            draft.chmod(MODE)
            with contextlib.suppress(OSError):
                os.chown(draft, -1, target.parent.stat().st_gid)
            kept = None
        draft.rename(target)
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written ({error.strerror}); it is unchanged") from error
    return kept


def _copy_ownership(path: Path, *, like: Path) -> None:
    """Set mode and, if permitted, owner of a file to those of another."""
    found = like.stat()
    with contextlib.suppress(OSError):
        os.chown(path, found.st_uid, found.st_gid)
    path.chmod(found.st_mode & 0o7777)
