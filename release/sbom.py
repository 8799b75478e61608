"""SBOM of a wheel or an image, as validated CycloneDX 1.6 in JSON.

::

    sbom.py dist/bringup-0.1.0-py3-none-any.whl > dist/bringup-0.1.0.cdx.json
    sbom.py --python LISTING --debian LISTING > image.cdx.json    (in the image: see `make image`)

Names, versions and hashes are those of ``requirements/``, from which an installation takes them; each has the hashes of
all files of its version, as an index has one for each machine.  A listing of an image is compared with them: what is
there without a hash is refused.
"""

import argparse
import hashlib
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"
IN_EVERY = ("build", "host")
APART = ("placement",)
"""Packages that are no part of bringup."""
ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<rest>.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
SPACE = uuid.UUID("6b1c2f0e-6f0c-5e0c-9b0a-0f7a4c6d2b11")


def pinned() -> Iterator[Component]:
    """Return the packages that an installation downloads, required or of an extra."""
    seen: dict[str, Component] = {}
    for path in sorted(REQUIREMENTS.glob("*.txt"), key=lambda path: (path.stem not in IN_EVERY, path.stem)):
        for entry in ENTRY.finditer(path.read_text()) if path.stem not in APART else ():
            name = canonicalize_name(entry["name"])
            if name not in seen:
                scope = ComponentScope.REQUIRED if path.stem in IN_EVERY else ComponentScope.OPTIONAL
                seen[name] = _python(name, entry["version"], HASH.findall(entry["rest"]), scope)
    yield from seen.values()


def _python(name: str, version: str, hashes: list[str], scope: ComponentScope | None = None) -> Component:
    url = PackageURL("pypi", None, name, version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(url)),
        comment="any of the files of this version",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in hashes],
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=url,
        bom_ref=str(url),
        scope=scope,
        external_references=[files] if hashes else [],
    )


def in_image(listing: str) -> Iterator[Component]:
    """Return the Python packages of an image (``NAME==VERSION`` per line).

    :raises SystemExit: one has no hash.
    """
    known = {component.name: component for component in pinned()}
    for line in listing.split():
        name, _, version = line.partition("==")
        found = known.get(canonicalize_name(name))
        if found is None or found.version != version:
            sys.exit(f"{line} is in the image, and requirements/ has no hash of it")
        yield found


def of_debian(listing: str) -> Iterator[Component]:
    """Return the Debian packages of an image (``NAME VERSION ARCHITECTURE`` per line)."""
    for name, version, architecture in map(str.split, listing.splitlines()):
        url = PackageURL("deb", "debian", name, version, {"arch": architecture})
        yield Component(type=ComponentType.LIBRARY, name=name, version=version, purl=url, bom_ref=str(url))


def bom_of(subject: Component, components: list[Component], *, at: datetime) -> Bom:
    """Return the document; equal for equal input, so that two builds can be compared."""
    bom = Bom(components=components)
    bom.metadata.component = subject
    bom.metadata.timestamp = at
    bom.register_dependency(subject, components)
    said = "\n".join([str(subject.purl), at.isoformat(), *sorted(str(component.purl) for component in components)])
    bom.serial_number = uuid.uuid5(SPACE, said)
    return bom


def of_bringup(kind: ComponentType, files: Mapping[str, bytes]) -> Component:
    """Return the component that it describes, with the hashes of its files."""
    version = re.findall(r'^__version__ = "(.+)"$', (ROOT / "bringup/__init__.py").read_text(), re.MULTILINE)[0]
    url = PackageURL("generic", None, "bringup", version)
    return Component(
        type=kind,
        name="bringup",
        version=version,
        purl=url,
        bom_ref=str(url),
        hashes=[
            HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(each).hexdigest()) for each in files.values()
        ],
        properties=[Property(name="file", value=name) for name in files],
    )


def main() -> None:
    """Write an SBOM to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--python", type=Path)
    parser.add_argument("--debian", type=Path)
    parser.add_argument("--epoch", type=int, default=0, help="seconds since 1970 that it says it was made at")
    arguments = parser.parse_args()
    if arguments.wheel is not None:
        subject = of_bringup(ComponentType.APPLICATION, {arguments.wheel.name: arguments.wheel.read_bytes()})
        components = list(pinned())
    else:
        subject = of_bringup(ComponentType.CONTAINER, {})
        components = [*in_image(arguments.python.read_text()), *of_debian(arguments.debian.read_text())]
    bom = bom_of(subject, components, at=datetime.fromtimestamp(arguments.epoch, UTC))
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415 - seconds, and not where it is refused

    text = JsonV1Dot6(bom).output_as_string(indent=1)
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        sys.exit(f"what was written is no CycloneDX: {problem}")
    print(text)


if __name__ == "__main__":
    main()
