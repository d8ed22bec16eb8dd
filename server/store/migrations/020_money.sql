-- What was used, by day (UTC), owner and model. `cost` is nano-dollars; `unpriced` counts answers whose price nobody knew.
CREATE TABLE ledger (
    day TEXT NOT NULL,
    owner TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    requests {int} NOT NULL,
    prompt {int} NOT NULL,
    cached {int} NOT NULL,
    completion {int} NOT NULL,
    cost {int} NOT NULL,
    unpriced {int} NOT NULL,
    errors {int} NOT NULL,
    PRIMARY KEY (day, owner, provider, model)
) {strict};

-- What of a budget is spent, in nano-dollars: a scope is "user:<owner>" or "key:<token>", a period "2026-11-22" or "2026-11".
CREATE TABLE budgets (
    scope TEXT NOT NULL,
    period TEXT NOT NULL,
    spent {int} NOT NULL,
    PRIMARY KEY (scope, period)
) {strict};

-- What of a budget is set aside for a process. `amount` is still in its hands; `written` was, until it was not heard of past
-- `expires`, and counts as spent since then.
CREATE TABLE leases (
    process TEXT NOT NULL,
    scope TEXT NOT NULL,
    period TEXT NOT NULL,
    amount {int} NOT NULL,
    written {int} NOT NULL,
    expires {real} NOT NULL,
    PRIMARY KEY (process, scope, period)
) {strict};

-- Which pieces of which process's journal are in the ledger already, so that none is counted twice.
CREATE TABLE segments (
    name TEXT PRIMARY KEY,
    settled {real} NOT NULL
) {strict};
