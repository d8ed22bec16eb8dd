-- One row an owner; `version` counts the writes, so that two tabs cannot silently undo each other.
CREATE TABLE preferences (
    owner TEXT PRIMARY KEY,
    version {int} NOT NULL,
    content TEXT NOT NULL,
    updated {real} NOT NULL
) {strict};
