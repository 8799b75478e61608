"""The tables of the journal.

``boots`` and ``runs`` are counted in the order in which they were begun: a clock may jump, a counter does not.  Times
are UTC, ISO 8601, to the microsecond.
"""

VERSION = 1

TABLES = """
CREATE TABLE boots (
  number INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL UNIQUE, first_seen TEXT NOT NULL,
  last_seen TEXT NOT NULL, down_s REAL, memory_lost INTEGER NOT NULL DEFAULT 0);
CREATE TABLE runs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, boot INTEGER NOT NULL REFERENCES boots,
  host TEXT NOT NULL, began_at TEXT NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, ended_at TEXT,
  took_s REAL, error TEXT, counts TEXT, delivery TEXT);
CREATE TABLE instances (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, uuid TEXT NOT NULL, attempt INTEGER NOT NULL,
  because TEXT NOT NULL, began_at TEXT, settled_at TEXT, kind TEXT, outcome TEXT, left_as TEXT, was TEXT,
  PRIMARY KEY (run, uuid)) WITHOUT ROWID;
CREATE INDEX instances_uuid ON instances (uuid);
CREATE TABLE actions (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, uuid TEXT NOT NULL, attempt INTEGER NOT NULL,
  number INTEGER NOT NULL, rule TEXT NOT NULL, verb TEXT NOT NULL, detail TEXT, began_at TEXT NOT NULL, ended_at TEXT,
  took_s REAL, error TEXT, PRIMARY KEY (run, uuid, attempt, number)) WITHOUT ROWID;
CREATE TABLE kept_disks (
  uuid TEXT PRIMARY KEY, place TEXT NOT NULL, kept_at TEXT NOT NULL, until TEXT NOT NULL);
CREATE TABLE releases (
  number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL, at TEXT NOT NULL, after_run INTEGER NOT NULL,
  taken_at TEXT);
"""

ADDED = """
CREATE TABLE IF NOT EXISTS retries (
  number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL, at TEXT NOT NULL, after_run INTEGER NOT NULL,
  taken_at TEXT);
"""
"""What a journal of an earlier version lacks; one that has it is still one that an earlier version can use."""
ADDED_COLUMNS = {"instances": {"was": "TEXT"}}

RUNNING, STOPPED, ENDED = "running", "stopped", "ended"
"""States of a run: under way or killed; given up with unfinished instances; over."""
