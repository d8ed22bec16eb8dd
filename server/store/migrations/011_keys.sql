-- One random data key an owner, wrapped under the master key: "v1:<id of the master key>:<base64 of nonce and ciphertext>".
CREATE TABLE data_keys (
    owner TEXT PRIMARY KEY,
    wrapped TEXT NOT NULL
) {strict};

-- Provider keys under their owner's data key. `version` counts the writes and is bound into the ciphertext.
CREATE TABLE provider_keys (
    owner TEXT NOT NULL,
    provider TEXT NOT NULL,
    version {int} NOT NULL,
    sealed TEXT NOT NULL,
    suspect {int} NOT NULL,
    changed {real} NOT NULL,
    PRIMARY KEY (owner, provider)
) {strict};
