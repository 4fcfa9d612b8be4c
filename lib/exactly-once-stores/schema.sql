-- The library's schema in a Postgres database: how the table of a resource is created, the database's history, and
-- the feed's numbering. A resource needs one call more: SELECT create_resource_table('refunds', 'refund'). To be
-- applied once to a database, in one transaction.

-- A document may have any character of Unicode.
DO $$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'the database has the encoding %', current_setting('server_encoding')
            USING HINT = 'CREATE DATABASE orders ENCODING ''UTF8'' LOCALE ''C'' TEMPLATE template0';
    END IF;
END
$$;

-- The database's history: a value that changes whenever committed rows may be missing from now on. Redis keeps
-- records of rows; a record is believed only in the history that its row was read in. The feed's numbering: a value
-- that changes whenever sequence numbers may have been given to other rows; a cursor of the feed names it. Both are
-- random: timeline numbers are used again, after two restores or two promotions from the same backup.

-- The random values, and where each was drawn. No row is written by the migration, so that data can be restored into a
-- database that was just migrated.
CREATE TABLE database_epochs (
    purpose     text PRIMARY KEY CHECK (purpose IN ('records', 'feed')),
    epoch       uuid NOT NULL,
    -- current_incarnation() when it was drawn.
    incarnation text NOT NULL,
    -- The transaction that drew it: a row that a restore or a replication has written has another xmin.
    drawn_by    xid  NOT NULL
);
-- No secret, and every role that reads rows needs it.
GRANT SELECT ON database_epochs TO PUBLIC;

-- What a promotion or a restore changes, and a mere start of the server does not. The name of the current segment of the
-- write-ahead log begins with the timeline (pg_control_checkpoint() has it only after the first checkpoint). Neon has
-- branches instead of timelines. A server that does not tell its timeline (Aurora) may have lost rows at every start.
-- The result must not depend on the caller's rights.
CREATE FUNCTION current_branch() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    RETURN concat_ws(':',
        (SELECT system_identifier FROM pg_control_system()),
        substring(pg_walfile_name(pg_current_wal_lsn()) FROM 1 FOR 8),
        current_setting('neon.timeline_id', true));
EXCEPTION WHEN OTHERS THEN
    RETURN concat('start:', extract(epoch FROM pg_postmaster_start_time()));
END
$$;

-- What an epoch is valid in. Whatever loses rows needs a new start of the server, or another server: records are not
-- believed after one. Cursors stay valid after a start in the same branch. Only functions that every Postgres has are
-- called for the records, because requests wait for them.
CREATE FUNCTION current_incarnation(of_purpose text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN concat_ws(':',
        CASE of_purpose
            WHEN 'records' THEN extract(epoch FROM pg_postmaster_start_time())::text
            ELSE current_branch()
        END,
        (SELECT oid FROM pg_database WHERE datname = current_database()));
END
$$;

-- The epoch in the snapshot of the calling statement. NULL on a standby, which may lack rows, and where none was drawn
-- in this incarnation: draw_epochs() draws one. In PL/pgSQL: hosts prepare every statement anew, and Postgres would
-- plan the text each time (0.2 ms); a session plans this one once (15 us).
CREATE FUNCTION current_epoch(of_purpose text) RETURNS uuid
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT epoch FROM database_epochs
            WHERE purpose = of_purpose AND incarnation = current_incarnation(of_purpose) AND drawn_by = xmin);
END
$$;

-- 8 bytes, or NULL.
CREATE FUNCTION database_history() RETURNS bytea
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN substring(uuid_send(current_epoch('records')) FROM 9);
END
$$;

-- 8 bytes, or NULL. Of a table, because a new one begins to count again.
CREATE FUNCTION feed_numbering(of_table regclass) RETURNS bytea
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN substring(sha256(uuid_send(current_epoch('feed')) || int8send(of_table::oid::bigint)) FROM 1 FOR 8);
END
$$;

-- Draws the epochs that were not drawn in this incarnation, and these in any case. The second of two calls at the same
-- time waits for the first, and draws nothing.
CREATE FUNCTION draw_epochs(anew text[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO database_epochs AS old (purpose, epoch, incarnation, drawn_by)
    SELECT purpose, gen_random_uuid(), current_incarnation(purpose), pg_current_xact_id()::xid
    FROM unnest(ARRAY['records', 'feed']) AS purpose
    -- Otherwise a call that draws nothing would be a transaction that writes.
    WHERE purpose = ANY (anew) OR current_epoch(purpose) IS NULL
    ON CONFLICT (purpose) DO UPDATE
    SET epoch = excluded.epoch, incarnation = excluded.incarnation, drawn_by = excluded.drawn_by
    WHERE old.purpose = ANY (anew) OR old.incarnation <> excluded.incarnation OR old.drawn_by <> old.xmin
$$;

-- For every role that reads rows: the component calls it where a statement has returned no epoch.
CREATE FUNCTION draw_missing_epochs() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '200ms' AS $$
    SELECT draw_epochs('{}')
$$;

-- Whether the next sequence number of a table is greater than all that it has. A logical replication copies rows and no
-- sequences: the feed and the lists of such a database would end at the copied rows.
CREATE FUNCTION numbers_continue(of_table regclass) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    greatest_number bigint;
BEGIN
    EXECUTE format('SELECT max(seq) FROM %s', of_table) INTO greatest_number;
    RETURN greatest_number IS NULL
        OR greatest_number <= pg_sequence_last_value(pg_get_serial_sequence(of_table::text, 'seq')::regclass);
END
$$;

-- Makes the sequence continue after the greatest number of a table, and the cursors of its feed invalid.
CREATE FUNCTION continue_numbers(of_table regclass) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, ''seq''), max(seq)) FROM %s', of_table, of_table);
    PERFORM draw_epochs('{feed}');
END
$$;

-- Invalidates every record of a row and every cursor of the feed: to be called after a partition was dropped or
-- detached, or rows were restored one by one. Rows are then looked for in the tables, and retries of lost creations
-- create again.
CREATE FUNCTION forget_records() RETURNS void
LANGUAGE sql AS $$
    SELECT draw_epochs('{records,feed}')
$$;

-- The same for a role that deletes rows, without a right to the epochs. The component deletes none, so creations pay
-- nothing. Deleted rows leave the cursors valid. TRUNCATE may restart the numbers.
CREATE FUNCTION forget_records_of_deleted_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM draw_epochs(CASE TG_OP WHEN 'DELETE' THEN '{records}' ELSE '{records,feed}' END::text[]);
    RETURN NULL;
END
$$;

-- Makes its transaction wait, when it commits, for the standbys of synchronous replication, as an insertion does.
-- A statement that acknowledges an existing row calls it: a row that still waited for a standby becomes
-- visible when a crash restarts the server, and a failover would lose it. Without such standbys nothing is written.
CREATE FUNCTION wait_for_standbys() RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery() THEN
        PERFORM pg_logical_emit_message(true, 'wait_for_standbys', '');
    END IF;
    RETURN true;
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
-- works with any wal_level; with one below logical, Postgres warns. Not published, because no consumer needs it: the
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
-- where a function of the same name would ignore an unknown property and lose it.
CREATE FUNCTION create_insert_function(name text, one text) RETURNS void
LANGUAGE plpgsql AS $create$
BEGIN
    EXECUTE format($sql$
        -- Takes a JSON array of objects with the members below: fingerprint in hexadecimal, created_at in
        -- milliseconds since the Unix epoch. Returns the ids of the rows that nothing conflicted with, and then
        -- NULL if there are any: a caller that only counts rows knows that this function returned them. A
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
            IF FOUND THEN
                RETURN NEXT NULL;
            END IF;
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
