-- One row an owner; `version` counts the writes, so that two tabs cannot silently undo each other.
CREATE TABLE preferences (
    owner TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    content TEXT NOT NULL,
    updated REAL NOT NULL
) STRICT;
