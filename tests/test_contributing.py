"""The worked example of CONTRIBUTING.md fits the code that it changes."""

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text()


def test_the_example_of_a_new_rule_applies_to_the_code() -> None:
    [block] = re.findall(r"^   ```diff\n(.*?)^   ```$", PAGE, re.DOTALL | re.MULTILINE)
    change = re.sub(r"^   ", "", block, flags=re.MULTILINE)

    applied = subprocess.run(
        ["git", "apply", "--check", "-"],  # noqa: S607
        cwd=REPOSITORY,
        input=change,
        capture_output=True,
        text=True,
        check=False,
    )

    assert applied.stderr == ""
