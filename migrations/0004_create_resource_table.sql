-- Functions that create the table of a resource such as orders. A resource's table holds each document as
-- one column, so its shape is not known here: another resource needs a name and nothing else.

-- Creates the function with which a component inserts new rows, one or many in a statement. The number in
-- its name changes with every shape of the rows: a component that is newer than the database then fails,
-- where a function of the same name would ignore a member that it does not know, and lose its data.
CREATE FUNCTION create_insert_function(name text, one text) RETURNS void
LANGUAGE plpgsql AS $create$
BEGIN
    EXECUTE format($sql$
        -- Takes a JSON array of objects with the members below: fingerprint in hexadecimal, created_at in
        -- milliseconds since the Unix epoch. Returns the ids of the rows that nothing conflicted with. A
        -- function because hosts prepare every statement anew: a session plans this insertion once. The
        -- timeout is for conflicts with a transaction in progress: requests that share this statement do
        -- not wait long for it. Type json keeps the document's text as it stands in the array.
        CREATE OR REPLACE FUNCTION %3$I(new_rows json) RETURNS SETOF uuid
        LANGUAGE plpgsql SET lock_timeout = '200ms' AS $insert$
        BEGIN
            RETURN QUERY
            INSERT INTO %1$I (%2$I, customer_id, idempotency_key, fingerprint, document, created_at)
            SELECT new.id, new.customer_id, new.idempotency_key, decode(new.fingerprint, 'hex'),
                   new.document, to_timestamp(new.created_at / 1000.0)
            FROM json_to_recordset(new_rows) AS new (
                id uuid, customer_id text, idempotency_key text, fingerprint text, document json,
                created_at bigint)
            ON CONFLICT DO NOTHING
            RETURNING %1$I.%2$I;
        END
        $insert$
    $sql$, name, one || '_id', format('insert_%s_2', name));
END
$create$;

-- Creates the table of a resource, its indexes and its insert function: name is the plural ("refunds"), one
-- the singular ("refund"). With partitions > 0 the table is partitioned by the hash of the customer.
CREATE FUNCTION create_resource_table(name text, one text, partitions integer DEFAULT 0) RETURNS void
LANGUAGE plpgsql AS $create$
BEGIN
    -- The longest name of an index is the table's with 32 characters more; Postgres cuts names at 63.
    IF name !~ '^[a-z][a-z0-9_]{0,30}$' OR one !~ '^[a-z][a-z0-9_]{0,30}$' OR name = one THEN
        RAISE EXCEPTION 'a resource needs two names like "orders" and "order", not "%" and "%"', name, one;
    END IF;
    IF partitions < 0 THEN
        RAISE EXCEPTION 'a table cannot have % partitions', partitions;
    END IF;
    EXECUTE format($sql$
        CREATE TABLE %1$I (
            -- UUID version 7, drawn before the insertion; its time is created_at.
            %2$I            uuid        NOT NULL,
            -- "C": keys are compared byte by byte, whatever the database's collation.
            customer_id     text        COLLATE "C" NOT NULL,
            idempotency_key text        COLLATE "C" NOT NULL,
            -- SHA-256 of the request.
            fingerprint     bytea       NOT NULL,
            created_at      timestamptz NOT NULL,
            -- Drawn at the insertion: an id may have been drawn long before, by a request that died.
            seq             bigint      NOT NULL %3$s,
            -- The state that a conditional creation was based on.
            based_on        bytea,
            -- Canonical JSON: members sorted by name, no white space.
            document        json        NOT NULL,
            -- Every unique constraint contains the customer, as a partitioned table demands.
            CONSTRAINT %4$I PRIMARY KEY (customer_id, %2$I),
            -- This constraint decides every race.
            CONSTRAINT %5$I UNIQUE (customer_id, idempotency_key)
        ) %6$s
    $sql$,
        name, one || '_id',
        -- Postgres before version 17 has no identity columns in partitioned tables.
        CASE WHEN partitions = 0 THEN 'GENERATED ALWAYS AS IDENTITY' ELSE '' END,
        name || '_pkey', name || '_customer_id_idempotency_key_key',
        CASE WHEN partitions > 0 THEN 'PARTITION BY HASH (customer_id)' ELSE '' END);
    IF partitions > 0 THEN
        EXECUTE format('CREATE SEQUENCE %I OWNED BY %I.seq', name || '_seq_seq', name);
        EXECUTE format('ALTER TABLE %I ALTER COLUMN seq SET DEFAULT nextval(%L)', name, name || '_seq_seq');
    END IF;
    FOR partition IN 0 .. partitions - 1 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
                       name || '_' || partition, name, partitions, partition);
    END LOOP;
    -- For a customer's list, newest first, and for the state that the list is in.
    EXECUTE format('CREATE INDEX %I ON %I (customer_id, seq)', name || '_customer_id_seq_idx', name);
    -- Of all creations that are based on one state, one succeeds. The unconditional ones are not in it.
    EXECUTE format('CREATE UNIQUE INDEX %I ON %I (customer_id, based_on) WHERE based_on IS NOT NULL',
                   name || '_customer_id_based_on_key', name);
    PERFORM create_insert_function(name, one);
END
$create$;

SELECT create_insert_function('orders', 'order');
