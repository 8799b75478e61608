"""Generator of ``requirements/`` from the pins in constraints.txt: all packages, with the hashes of their files.

``build.txt`` has what builds this project, ``host.txt`` that and what every installation has; each extra has a file
with what it adds, and ``placement.txt`` what a Placement of one's own is made of.  Asks the index (``make hashes``).
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
HEAD = "# Made of constraints.txt and pyproject.toml by `make hashes`.\n"
# libvirt's binding is the distribution's (its own has no wheel); the demonstration runs in a checkout.
EXTRAS = ("clouds", "network", "nova-conf", "openstack", "postgresql")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(*arguments: str, more: str = "") -> dict[str, str]:
    """Return all required packages, each with its hashes, for every Python and machine that runs Linux."""
    uv = (str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", *arguments, "-", "--universal")
    options = ("--generate-hashes", "--no-header", "--no-annotate", "--python-version", "3.11", "--no-sources")
    constraints = ("--constraint", "constraints.txt", "--only-binary", ":all:")
    ended = subprocess.run(
        [*uv, *options, *constraints], cwd=ROOT, input=more, check=True, stdout=subprocess.PIPE, text=True
    )
    entries = re.split(r"\n(?=\S)", ended.stdout.strip())
    return {re.split(r"[=<>;\[ ]", entry)[0]: entry for entry in entries}


def write(name: str, entries: dict[str, str], *, head: str = "") -> None:
    """Write one file."""
    (FOLDER / f"{name}.txt").write_text(HEAD + head + "".join(f"{entry}\n" for _, entry in sorted(entries.items())))


def main() -> None:
    """Write all of them."""
    build = pinned(more="\n".join(PROJECT["build-system"]["requires"]))
    write("build", build)
    host = pinned("pyproject.toml") | build
    write("host", dict(host.items() - build.items()), head="-r build.txt\n")
    for extra in EXTRAS:
        all_of_it = pinned("pyproject.toml", "--extra", extra)
        write(extra, dict(all_of_it.items() - host.items()), head="-r host.txt\n")
    write("placement", pinned(more="\n".join(PROJECT["project"]["optional-dependencies"]["demo"])))


if __name__ == "__main__":
    main()
