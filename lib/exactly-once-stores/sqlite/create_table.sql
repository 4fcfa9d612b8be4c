CREATE TABLE IF NOT EXISTS {table} (
    seq INTEGER PRIMARY KEY,
    {id} TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    document TEXT NOT NULL,
    created_at TEXT NOT NULL,
    based_on BLOB,
    UNIQUE (customer_id, idempotency_key),
    UNIQUE (customer_id, {id}),
    UNIQUE (customer_id, based_on),
    UNIQUE (customer_id, seq)
) STRICT
