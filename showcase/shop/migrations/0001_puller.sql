-- What the puller remembers: how far it has read, and which events a consumer has refused.

CREATE TABLE cursors (
    feed   text PRIMARY KEY,
    cursor text NOT NULL
);

-- An event that a consumer refuses is kept here, and the chain goes on without it.
CREATE TABLE dead_letters (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer    text  NOT NULL,
    event       text  NOT NULL,
    -- The consumer's response.
    status      text  NOT NULL,
    reason      text  NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When the event was delivered after all.
    replayed_at timestamptz
);

-- The same event may be refused many times: deliveries are repeated.
CREATE UNIQUE INDEX dead_letters_consumer_event_key ON dead_letters (consumer, md5(event));
