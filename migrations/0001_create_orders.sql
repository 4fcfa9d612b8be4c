-- One row per order. Rows are never updated or deleted by the service: what was acknowledged stays as it was.
CREATE TABLE orders (
    -- UUID version 7, picked before the insertion; its time is created_at.
    order_id        uuid        NOT NULL,
    -- "C": keys are compared byte by byte, whatever the database's collation.
    customer_id     text        COLLATE "C" NOT NULL,
    idempotency_key text        COLLATE "C" NOT NULL,
    -- SHA-256 of what the order was asked for with.
    fingerprint     bytea       NOT NULL,
    currency        text        NOT NULL,
    items           jsonb       NOT NULL,
    note            text,
    total           bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    CONSTRAINT orders_pkey PRIMARY KEY (order_id),
    -- The point at which every race is decided.
    CONSTRAINT orders_customer_id_idempotency_key_key UNIQUE (customer_id, idempotency_key)
);
