"""The recorded rows of the real Nova: which folder they stand in, and one file of them."""

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "BRINGUP_ORACLE"
BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[3] / "shared" / "oracle"


def oracle_folder() -> Path | None:
    """Return the folder named by ``BRINGUP_ORACLE``, else ``../shared/oracle`` beside the repository, else None.

    A folder that was named must be there: a wrong name is a ``FileNotFoundError``, not a skipped test.
    """
    named = os.environ.get(VARIABLE)
    if named:
        folder = Path(named)
        if not folder.is_dir():
            raise FileNotFoundError(f"{VARIABLE}={named}: there is no such folder")
        return folder
    return BESIDE_THE_REPOSITORY if BESIDE_THE_REPOSITORY.is_dir() else None


def rows(name: str) -> list[dict[str, Any]]:
    """Read one file of rows, such as ``pci_whitelist.jsonl`` (the ending may be left off).

    Raises ``FileNotFoundError`` where there is no folder or no such file; ask ``why_missing`` before.
    """
    folder = oracle_folder()
    if folder is None:
        raise FileNotFoundError(why_missing(name))
    path = folder / _file_name(name)
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def why_missing(name: str) -> str | None:
    """Return the reason to skip a test that needs this file, or None where the file is there."""
    folder = oracle_folder()
    if folder is None:
        return f"no oracle: neither {VARIABLE} nor a folder shared/oracle beside the repository names one"
    if not (folder / _file_name(name)).is_file():
        return f"no oracle: {_file_name(name)} is not in the oracle folder"
    return None


def _file_name(name: str) -> str:
    return name if Path(name).suffix else f"{name}.jsonl"
