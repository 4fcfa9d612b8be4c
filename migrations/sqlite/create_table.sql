-- The embedded store's table of one collection: {table} is its name, {id} the column of its ids. Runs whenever an instance
-- opens the file, so it must be one statement that changes nothing where the table exists.
CREATE TABLE IF NOT EXISTS {table} (
    -- The order of the insertions, which is the order of the commits: SQLite has one writer at a time.
    seq             INTEGER PRIMARY KEY,
    -- UUID version 7, drawn before the insertion; its time is created_at.
    {id}            TEXT NOT NULL UNIQUE,
    customer_id     TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    -- SHA-256 of what the resource was asked for with.
    fingerprint     BLOB NOT NULL,
    document        TEXT NOT NULL,
    -- RFC 3339, UTC. For people: nothing reads it.
    created_at      TEXT NOT NULL,
    -- The state of the list that a conditional creation was based on.
    based_on        BLOB,
    -- The point at which every race is decided.
    UNIQUE (customer_id, idempotency_key),
    UNIQUE (customer_id, based_on),
    UNIQUE (customer_id, seq)
) STRICT
