-- Who may come in. Secrets are here as SHA-256 (of 256 random bits) or as Argon2id (passwords), never themselves.
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,
    role TEXT NOT NULL,
    created {real} NOT NULL,
    disabled {int} NOT NULL
) {strict};

-- `id` is public; `role` bounds what the token may do below its owner's own role.
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    created {real} NOT NULL,
    expires {real},
    revoked {int} NOT NULL
) {strict};

-- A person's browser. `seen` moves on in steps of minutes: idleness is counted from it.
CREATE TABLE sessions (
    digest TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    created {real} NOT NULL,
    seen {real} NOT NULL,
    expires {real} NOT NULL
) {strict};

-- One row a topic, counted up by every change that other processes must hear of.
CREATE TABLE changes (
    topic TEXT PRIMARY KEY,
    n {int} NOT NULL
) {strict};
