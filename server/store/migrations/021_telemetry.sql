-- One answer, or one thing that happened to one. No column takes free text: words are out of the closed lists of
-- server/telemetry/row.py, models are those the server knows. `latency` and `ttft` are milliseconds, `rate` tokens a second.
CREATE TABLE telemetry (
    id {id},
    owner TEXT NOT NULL,
    at {real} NOT NULL,
    day TEXT NOT NULL,
    source TEXT NOT NULL,
    event TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    device TEXT NOT NULL,
    error TEXT NOT NULL,
    latency {int},
    ttft {int},
    prompt {int},
    completion {int},
    rate {real},
    attempts {int}
) {strict};

CREATE INDEX telemetry_owner ON telemetry (owner, id);
CREATE INDEX telemetry_day ON telemetry (day);

-- Sums and histograms of the same, which outlive the rows: `measure` says of what, `bucket` of which size, `n` how many.
CREATE TABLE telemetry_days (
    day TEXT NOT NULL,
    owner TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    measure TEXT NOT NULL,
    bucket {int} NOT NULL,
    n {int} NOT NULL,
    PRIMARY KEY (day, owner, provider, model, measure, bucket)
) {strict};
