"""docs/rules.md is what docs/write_rules.py makes of the tables, and an operator finds each rule in it."""

import re
import runpy
from pathlib import Path

from bringup.daemon.decisions.from_needs import MEANINGS
from bringup.daemon.decisions.table_order import EVACUATED_TABLES, FOREIGN_TABLES, LIFECYCLE_TABLES, OWN_TABLES
from bringup.daemon.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "rules.md").read_text(encoding="utf-8")
RULES = [
    rule
    for tables in (EVACUATED_TABLES, FOREIGN_TABLES, OWN_TABLES, LIFECYCLE_TABLES)
    for table in tables
    for rule in table or ()
]


def test_the_page_is_written_from_the_tables() -> None:
    assert runpy.run_path(str(DOCS / "write_rules.py"))["render"]() == PAGE, "run python docs/write_rules.py"


def test_each_rule_stands_on_the_page_in_the_order_in_which_it_is_read() -> None:
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == [rule.name for rule in RULES]
    assert set(re.findall(r"^`?\| `(\w+)` \|", PAGE, re.MULTILINE)) >= {row.name for row in MEANINGS}


def test_each_rule_says_when_it_holds_and_what_it_does() -> None:
    for name, text in [(row.name, text) for row in MEANINGS for text in (row.condition, row.why)]:
        assert text.endswith("."), name
    for rule in RULES:
        assert rule.condition.endswith("."), rule.name
        assert rule.why.endswith("."), rule.name
        assert (rule.then.__doc__ or "").strip(), rule.name
    assert PAGE.count("- **Then:** ") == PAGE.count("- **When:** ") == PAGE.count("- **Why:** ") == len(RULES)


def test_each_link_of_the_page_leads_to_a_heading_of_it() -> None:
    headings: dict[str, int] = {}
    anchors = set()
    for heading in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE):
        slug = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        anchors.add(f"{slug}-{headings[slug]}" if slug in headings else slug)
        headings[slug] = headings.get(slug, 0) + 1
    linked = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert linked <= anchors
    assert {rule.name for rule in RULES} <= linked


def test_each_setting_that_a_rule_names_is_one() -> None:
    for section, key in set(re.findall(r"`(guards|resume)\.(\w+)", PAGE)):
        assert key in type(getattr(Settings(), section)).__dataclass_fields__, f"{section}.{key}"
