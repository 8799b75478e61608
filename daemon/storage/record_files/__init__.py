"""Files of records: Nova's answers to ``GET /servers/detail`` and our own JSON.

``documents`` parses a file into JSON documents, ``servers_detail`` and ``own`` turn a document into records,
``problems`` collects what is wrong with them, ``writing`` writes our own JSON.  What is written to the store is decided
elsewhere.
"""

from bringup.daemon.storage.record_files.reading import FORMAT, LIMIT_BYTES, dump_records, read_records
from bringup.daemon.storage.store.base import Records

__all__ = ["FORMAT", "LIMIT_BYTES", "Records", "dump_records", "read_records"]
