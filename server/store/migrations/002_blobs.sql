-- What the page keeps here for its other devices: bytes that it has encrypted, which this server cannot read.
-- One row an owner. `clock` counts the owner's writes and gives each its version, so that no version ever comes twice, not even
-- of a name that was deleted and made again; `floor` is the newest version among the deletions that are forgotten by now.
CREATE TABLE blob_owners (
    owner TEXT PRIMARY KEY,
    clock {int} NOT NULL,
    bytes {int} NOT NULL,
    blobs {int} NOT NULL,
    floor {int} NOT NULL
) {strict};
-- A deletion leaves its row without content: other devices have to hear of it.
CREATE TABLE blobs (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    version {int} NOT NULL,
    bytes {int} NOT NULL,
    content {blob},
    updated {real} NOT NULL,
    PRIMARY KEY (owner, name)
) {strict};
CREATE INDEX blobs_by_version ON blobs (owner, version);
