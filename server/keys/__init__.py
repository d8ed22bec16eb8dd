"""Provider keys at rest and on their way to the provider, and nowhere else.

A person's key is sealed with AES-256-GCM under a random data key of its owner, which is wrapped under a key derived from the
master key (environment, file or the system's keyring). Every ciphertext is bound to table, owner, provider and version: moved to
another row, or brought back after a change, it does not open. Parts: `envelope` (sealing), `master` (the master key), `keyring`
(what the relay asks), `trial` (does the provider take it), `routes` (`/api/keys`), `command` (`hybr keys`).
"""
