"""Write a scenario file, read it, and tell what was wrong."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bringup.drivers.simulated import Scenario, ScenarioError, read_scenario
from bringup.drivers.simulated.scenario_file import SCHEMA

SCHEMA_SAYS = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def read(tmp_path: Path, content: dict[str, Any] | str | bytes) -> Scenario:
    """Read ``content`` as a scenario file."""
    path = tmp_path / "scenario.json"
    text = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_scenario(path)


def problems_of(tmp_path: Path, content: dict[str, Any] | str | bytes) -> tuple[str, ...]:
    """Read ``content`` as a scenario file, which is refused, and tell why."""
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / "scenario.json"))
    return caught.value.problems
