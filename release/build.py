"""Reproducible build of a commit's wheel, with its provenance.

``build.py COMMIT FOLDER`` writes the wheel, its SBOM, an in-toto statement (SLSA provenance, unsigned) and SHA256SUMS.
Builds with the setuptools of the environment it runs in, which ``requirements/build.txt`` pins, and asks no index.
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def git(*arguments: str) -> bytes:
    """Run git on this repository, whichever user cloned it."""
    command = ("git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def wheel_of(commit: str, folder: Path, *, epoch: int) -> Path:
    """Build the wheel of a commit, from its files alone."""
    # Permissions and times of the files would be in the wheel.
    os.umask(0o022)
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "UTC"}
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel")
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir")
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as built:
        with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as archive:
            archive.extractall(source, filter="tar")
        subprocess.run([*pip, *offline, "--wheel-dir", built, source], check=True, env=environment)
        [wheel] = Path(built).iterdir()
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return folder / wheel.name


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def statement(commit: str, subjects: Mapping[str, str], *, epoch: int) -> dict[str, Any]:
    """Return the provenance in the format of in-toto and SLSA.  It is not signed."""
    setuptools = importlib.metadata.version("setuptools")
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:bringup:release/build.py",
                "externalParameters": {"commit": commit, "SOURCE_DATE_EPOCH": epoch},
                "resolvedDependencies": [
                    {"uri": "git+urn:bringup", "digest": {"gitCommit": commit}},
                    {"uri": f"pkg:pypi/setuptools@{setuptools}"},
                    {
                        "uri": "urn:bringup:requirements/build.txt",
                        "digest": {"sha256": sha256(ROOT / "requirements/build.txt")},
                    },
                ],
            },
            "runDetails": {
                "builder": {"id": "urn:bringup:make-release", "version": {"python": sys.version.split()[0]}}
            },
        },
    }


def main() -> None:
    """Build a commit; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sbom-python", default=sys.executable, help="a Python that has cyclonedx-python-lib")
    arguments = parser.parse_args()
    commit = git("rev-parse", "--verify", f"{arguments.commit}^{{commit}}").decode().strip()
    epoch = int(git("show", "--no-patch", "--format=%ct", commit))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    wheel = wheel_of(commit, arguments.folder, epoch=epoch)
    sbom = wheel.with_suffix(".cdx.json")
    asked = [arguments.sbom_python, ROOT / "release/sbom.py", wheel, "--epoch", str(epoch)]
    sbom.write_bytes(subprocess.run(asked, check=True, stdout=subprocess.PIPE).stdout)
    digests = {path.name: sha256(path) for path in (wheel, sbom)}
    provenance = wheel.with_suffix(".intoto.json")
    provenance.write_text(json.dumps(statement(commit, digests, epoch=epoch), indent=1) + "\n")
    digests[provenance.name] = sha256(provenance)
    sums = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    (arguments.folder / "SHA256SUMS").write_text(sums)
    print(sums, end="")


if __name__ == "__main__":
    main()
