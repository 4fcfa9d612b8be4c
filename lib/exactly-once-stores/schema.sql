-- The library's schema in a Postgres database: how the table of a resource is created, the database's history, and
-- the feed's numbering. A resource needs one call more: SELECT create_resource_table('refunds', 'refund'). To be
-- applied once to a database, in one transaction.

-- The database's history: a value that changes whenever committed rows may be missing from now on. Redis keeps
-- records of rows; a record is believed only in the history that its row was read in. The history consists of the
-- server (pg_basebackup keeps it, initdb draws a new one), its timeline (a promotion begins a new one), the database,
-- and an epoch for what the server does not see as a change: deleted rows, and a restore into the same database.

-- One row. The epoch is random, not a number: after a restore of an old epoch, a number would be counted to twice.
CREATE TABLE database_epoch (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch  uuid    NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO database_epoch DEFAULT VALUES;
-- No secret, and every role that reads rows needs it.
GRANT SELECT ON database_epoch TO PUBLIC;

-- The feed's numbering has an epoch of its own: deleting rows gives no sequence number away.
CREATE TABLE feed_epoch (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch  uuid    NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO feed_epoch DEFAULT VALUES;
GRANT SELECT ON feed_epoch TO PUBLIC;

-- 8 bytes; NULL on a standby, which may lack rows. The name of the current segment of the write-ahead log begins with
-- the timeline; pg_control_checkpoint() has the new timeline only after the first checkpoint. Not in SQL: hosts
-- prepare every statement anew, and Postgres would plan the text each time (0.2 ms); a session plans this one once
-- (15 us).
CREATE FUNCTION database_history() RETURNS bytea
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    RETURN substring(sha256(convert_to(concat_ws(':',
        (SELECT system_identifier FROM pg_control_system()),
        substring(pg_walfile_name(pg_current_wal_lsn()) FROM 1 FOR 8),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        (SELECT epoch FROM database_epoch)
    ), 'UTF8')) FROM 1 FOR 8);
END
$$;

-- The feed's numbering: a value that changes whenever sequence numbers may have been given to other rows. A cursor of
-- the feed names it. It consists of the server, its timeline, the database, the table, because a new one begins to
-- count again, and the epoch. 8 bytes; NULL on a standby, which does not know who writes on the primary.
CREATE FUNCTION feed_numbering(of_table regclass) RETURNS bytea
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    RETURN substring(sha256(convert_to(concat_ws(':',
        (SELECT system_identifier FROM pg_control_system()),
        substring(pg_walfile_name(pg_current_wal_lsn()) FROM 1 FOR 8),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        of_table::oid,
        (SELECT epoch FROM feed_epoch)
    ), 'UTF8')) FROM 1 FOR 8);
END
$$;

-- Makes every record of a row unbelievable, and every cursor of the feed invalid: for a restore into the same
-- database, where the numbers of lost rows are drawn again, and after a partition was dropped or detached. Rows are
-- then looked for in the tables, and retries of lost creations create again.
CREATE FUNCTION forget_records() RETURNS void
LANGUAGE sql AS $$
    UPDATE database_epoch SET epoch = gen_random_uuid();
    UPDATE feed_epoch SET epoch = gen_random_uuid()
$$;

-- The same for a role that deletes rows, without a right to the epochs. The component deletes none, so creations pay
-- nothing. Deleted rows leave the cursors valid. TRUNCATE may restart the numbers.
CREATE FUNCTION forget_records_of_deleted_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        UPDATE database_epoch SET epoch = gen_random_uuid();
    ELSE
        PERFORM forget_records();
    END IF;
    RETURN NULL;
END
$$;

-- Creates the triggers of a table. A statement that names a partition runs only the partition's triggers.
CREATE FUNCTION create_history_triggers(name text) RETURNS void
LANGUAGE plpgsql AS $create$
DECLARE
    part text;
BEGIN
    FOR part IN SELECT relid::text FROM pg_partition_tree(name::regclass)
                UNION SELECT name::regclass::text LOOP
        EXECUTE format('CREATE TRIGGER forget_records AFTER DELETE OR TRUNCATE ON %s
                        FOR EACH STATEMENT EXECUTE FUNCTION forget_records_of_deleted_rows()', part);
    END LOOP;
END
$create$;

-- Creates the publication of new rows of a resource's table for logical decoding, or adds a table that was dropped
-- and created again. The table is the outbox: a row never changes, so its insertion is all there is to tell. This
-- works with any wal_level; with one below logical, Postgres warns. What a consumer has no use for stays inside: the
-- key, the fingerprint, the state that a creation was based on, and seq, whose order is not that of the commits.
-- Postgres before version 15 publishes whole rows.
CREATE FUNCTION publish_created(name text, one text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    publication text := name || '_created';
    columns text := '';
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        columns := format('(%I, customer_id, created_at, document)', one || '_id');
    END IF;
    IF EXISTS (SELECT FROM pg_publication WHERE pubname = publication) THEN
        EXECUTE format('ALTER PUBLICATION %I ADD TABLE %I %s', publication, name, columns);
    ELSIF has_database_privilege(current_database(), 'CREATE') THEN
        EXECUTE format('CREATE PUBLICATION %I FOR TABLE %I %s WITH (publish = ''insert'', publish_via_partition_root)',
                       publication, name, columns);
    ELSE
        -- Orders are created without it.
        RAISE WARNING 'no publication of %: % has no right to create in the database', name, current_user
            USING HINT = format('SELECT publish_created(%L, %L) as a role that has it and owns the table.', name, one);
    END IF;
END
$$;

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

-- Creates the table of a resource, its indexes, triggers, insert function and publication: name is the plural
-- ("refunds"), one the singular ("refund"). The table holds each document as one column, so its shape is not known
-- here. With partitions > 0 the table is partitioned by the hash of the customer.
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
    -- For the feed: the rows of all customers after a sequence number.
    EXECUTE format('CREATE INDEX %I ON %I (seq)', name || '_seq_idx', name);
    PERFORM create_insert_function(name, one);
    PERFORM create_history_triggers(name);
    PERFORM publish_created(name, one);
END
$create$;
