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

-- Whether Citus has distributed the table.
CREATE FUNCTION is_distributed(of_table regclass) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF to_regclass('pg_dist_partition') IS NULL THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = of_table);
END
$$;

-- 8 bytes, or NULL. Of a table, because a new one begins to count again. The rows of a distributed table have numbers
-- of several servers, in no common order, so that a feed would skip rows: it is refused.
CREATE FUNCTION feed_numbering(of_table regclass) RETURNS bytea
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF is_distributed(of_table) THEN
        RAISE EXCEPTION '% is distributed: there is no feed, read the logs of the servers', of_table
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
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

-- Why the caller, a component, cannot use a table, for its log; NULL if it can.
CREATE FUNCTION fault_of_resource(name text, id_column text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    fault text;
BEGIN
    SELECT format('%s is missing; apply the migrations', signature) INTO fault
    FROM unnest(functions_of_resource(name)) AS signature WHERE to_regprocedure(signature) IS NULL;
    IF fault IS NULL AND is_distributed(name::regclass) THEN
        SELECT format('%s is distributed wrongly (%s); run distribute_resource_table', name, reason) INTO fault
        FROM (
            SELECT 'not by the customer, or with copies of shards' AS reason FROM pg_dist_partition
            WHERE logicalrelid = name::regclass AND (partmethod <> 'h' OR repmodel <> 's'
                OR column_to_column_name(logicalrelid, partkey) <> 'customer_id')
            UNION ALL
            SELECT format('a function runs on the coordinator: %s', signature)
            FROM unnest(functions_of_resource(name)) AS signature
            WHERE NOT EXISTS (
                SELECT 1 FROM pg_dist_object JOIN pg_proc ON pg_proc.oid = objid AND classid = 'pg_proc'::regclass
                WHERE objid = to_regprocedure(signature)
                    AND proargnames[1 + distribution_argument_index] = 'of_customer'
                    AND colocationid = (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = name::regclass)
                    AND prosrc ~ 'history_of_shard|inserted.inserted')
            UNION ALL
            SELECT format('%s:%s lacks the metadata', nodename, nodeport) FROM pg_dist_node
            WHERE isactive AND shouldhaveshards AND NOT (hasmetadata AND metadatasynced)
            UNION ALL
            SELECT 'two rows of a customer may have one number'
            WHERE NOT EXISTS (SELECT 1 FROM pg_index WHERE indisunique AND indisvalid
                              AND indexrelid = to_regclass(name || '_customer_id_seq_idx'))
        ) AS reasons;
    ELSIF fault IS NULL THEN
        EXECUTE format('SELECT %I, seq, based_on, document FROM %I LIMIT 0', id_column, name);
        IF numbers_continue(name::regclass) IS NOT TRUE THEN
            fault := format('sequence numbers of %s repeat; run: SELECT continue_numbers(%L)', name, name);
        END IF;
    END IF;
    RETURN fault;
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
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM draw_epochs('{records,feed}');
    -- Each server of a distributed table has its own history.
    IF to_regclass('pg_dist_node') IS NOT NULL THEN
        PERFORM run_on_workers('SELECT forget_records_of_shards()');
    END IF;
END
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

-- The state of a customer's list. Sequence numbers are drawn before they are committed, so a resource can appear below
-- the newest one: hence the sequence numbers of the newest 256, descending, and not the last one alone, make the state.
-- The id of the newest makes it unguessable; the customer makes it the customer's even when the list is empty.
CREATE FUNCTION state_of_list(name text, of_customer text, newest uuid, numbers bigint[]) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN substring(sha256(
        convert_to(name || ' list 1:' || octet_length(of_customer) || ':' || of_customer, 'UTF8')
            || coalesce(uuid_send(newest), ''::bytea)
            || coalesce((SELECT string_agg(int8send(number), ''::bytea ORDER BY number DESC)
                         FROM unnest(numbers) AS number), ''::bytea)
    ) FROM 1 FOR 16);
END
$$;

-- The functions of a resource's table, of this version of the component.
CREATE FUNCTION functions_of_resource(name text) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY[
        format('insert_%s_2(json, text)', name),
        format('insert_or_find_%s_1(text, text, uuid, bytea, json, bigint, text)', name),
        format('insert_%s_based_on_1(text, text, uuid, bytea, json, bigint, text, text)', name),
        format('find_%s_1(text, uuid, text)', name),
        format('page_%s_1(text, uuid, bigint, uuid)', name)]
$$;

-- Creates the functions of a resource's table. Each statement of the component about one customer is a call of one of
-- them that names the customer. So it runs whole on the server that has the customer's rows, and a session plans it
-- once; hosts prepare every statement anew. The number in a name changes with every shape of the arguments and rows: a
-- component that is newer than the database then fails, where a function of the same name would ignore an unknown
-- property and lose it.
--
-- Each reads the history before it reads or inserts a row. Rows never change, and what is deleted later makes this
-- history another one, so that the statements of a function need no common snapshot. Without a history, on a standby
-- and until draw_missing_epochs(), nothing is inserted.
CREATE FUNCTION create_resource_functions(name text, one text, is_distributed boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql AS $create$
DECLARE
    -- Of a distributed table, these differ: the history; the number of a row, which no sequence draws; and what
    -- all this is worth if the shard has left the server meanwhile.
    history text := 'database_history()';
    number_column text := '';
    draw_number text := '';
    number_value text := '';
    check_place text := '';
    check_session text := '';
BEGIN
    IF is_distributed THEN
        history := format('history_of_shard(%L, of_customer)', name);
        number_column := ', seq';
        -- By the clock, and after all numbers of the customer, whatever the clock of the shard's last server was. The
        -- unique index settles ties.
        draw_number := format(
            'SELECT max(seq) INTO number FROM %I WHERE customer_id = of_customer;
             number := greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
                                number + 1 + (random() * 1000)::bigint);', name);
        number_value := ', number';
        -- The insertion, or a lock of its rows, keeps the shard here until the transaction ends.
        check_place := format(
            'IF %s IS DISTINCT FROM history THEN
                 RAISE EXCEPTION ''a shard of %s has moved'' USING ERRCODE = ''serialization_failure'';
             END IF;', history, name);
        -- An insertion in another session would neither end with this transaction nor have its lock timeout.
        check_session := format(
            'IF pg_current_xact_id_if_assigned() IS NULL THEN
                 RAISE EXCEPTION ''a shard of %s has moved, or citus.enable_local_execution is off''
                     USING ERRCODE = ''serialization_failure'';
             END IF;', name);
    END IF;

    -- Inserts many rows: a JSON array of objects with the properties below, with the fingerprint in hexadecimal and
    -- created_at in milliseconds since the Unix epoch. Returns the ids of the rows that nothing conflicted with, and
    -- then NULL if there are any: a caller that only counts rows knows that this function returned them. The timeout
    -- is for conflicts with a transaction in progress: requests that share this statement do not wait long for it.
    -- Type json keeps the document's text as it stands in the array. of_customer is the customer of all rows, or
    -- empty: no transaction inserts into several shards, so rows of several customers are left to statements of their
    -- own there.
    EXECUTE format($sql$
        CREATE OR REPLACE FUNCTION %3$I(new_rows json, of_customer text DEFAULT '') RETURNS SETOF uuid
        LANGUAGE plpgsql SET lock_timeout = '200ms' AS $insert$
        BEGIN
            RETURN QUERY
    $sql$ || CASE WHEN is_distributed THEN $sql$
            SELECT inserted.id::uuid
            FROM json_to_recordset(new_rows) AS new (
                id uuid, customer_id text, idempotency_key text, fingerprint text, document json,
                created_at bigint),
                %4$I(of_customer, new.idempotency_key, new.id, decode(new.fingerprint, 'hex'), new.document,
                     new.created_at, '200') AS inserted
            WHERE of_customer <> '' AND new.customer_id = of_customer AND inserted.inserted;
    $sql$ ELSE $sql$
            INSERT INTO %1$I (%2$I, customer_id, idempotency_key, fingerprint, document, created_at)
            SELECT new.id, new.customer_id, new.idempotency_key, decode(new.fingerprint, 'hex'),
                   new.document, to_timestamp(new.created_at / 1000.0)
            FROM json_to_recordset(new_rows) AS new (
                id uuid, customer_id text, idempotency_key text, fingerprint text, document json,
                created_at bigint)
            ON CONFLICT DO NOTHING
            RETURNING %1$I.%2$I;
    $sql$ END || $sql$
            IF FOUND THEN
                RETURN NEXT NULL;
            END IF;
        END
        $insert$
    $sql$, name, one || '_id', format('insert_%s_2', name), format('insert_or_find_%s_1', name));

    -- Inserts a row unless the scope has one, and otherwise returns that one. A row that was deleted meanwhile gives
    -- neither, and so does a conflict with an id: the caller asks again. The conflict names no constraint because a
    -- request that continues an interrupted one repeats an id as well as a key. The lock timeout is for this
    -- transaction only: a statement that waited for longer than its request would make the next one wait that gets the
    -- connection.
    EXECUTE format($sql$
        CREATE OR REPLACE FUNCTION %3$I(
            of_customer text, key text, new_id uuid, new_fingerprint bytea, new_document json, created bigint,
            longest_wait text)
        RETURNS TABLE (history bytea, inserted boolean, id text, fingerprint bytea, document text)
        LANGUAGE plpgsql AS $insert$
        #variable_conflict use_column
        DECLARE
            number bigint;
        BEGIN
            history := %4$s;
            IF history IS NOT NULL THEN
                PERFORM set_config('lock_timeout', longest_wait, true);
                %5$s
                INSERT INTO %1$I (%2$I, customer_id, idempotency_key, fingerprint, document, created_at%6$s)
                VALUES (new_id, of_customer, key, new_fingerprint, new_document, to_timestamp(created / 1000.0)%7$s)
                ON CONFLICT DO NOTHING;
                IF FOUND THEN
                    inserted := true;
                    %9$s
                ELSE
                    SELECT false, %2$I::text, fingerprint, document::text
                    INTO inserted, id, fingerprint, document
                    FROM %1$I WHERE customer_id = of_customer AND idempotency_key = key;
                    PERFORM wait_for_standbys();
                END IF;
                %8$s
            END IF;
            RETURN NEXT;
        END
        $insert$
    $sql$, name, one || '_id', format('insert_or_find_%s_1', name), history, draw_number, number_column, number_value,
        check_place, check_session);

    -- Inserts if the list's state is an expected one, and returns the row inserted, or the scope's, or none; the state
    -- before; and the state after an insertion. An insertion waits for a concurrent one that is based on the same
    -- state, and then inserts nothing: the state is still an expected one, and the caller asks again. Rows without a
    -- condition neither wait for this one nor make it wait. The state after it has no row that the state before it has
    -- not: the client has not seen such a row.
    EXECUTE format($sql$
        CREATE OR REPLACE FUNCTION %3$I(
            of_customer text, key text, new_id uuid, new_fingerprint bytea, new_document json, created bigint,
            longest_wait text, expected text)
        RETURNS TABLE (history bytea, inserted boolean, id text, fingerprint bytea, document text, before bytea,
                       after bytea)
        LANGUAGE plpgsql AS $insert$
        #variable_conflict use_column
        DECLARE
            number bigint;
            numbers bigint[];
            newest uuid;
            is_here boolean := owns_slot(%9$L, of_customer);
        BEGIN
            history := %4$s;
            IF history IS NOT NULL THEN
                PERFORM set_config('lock_timeout', longest_wait, true);
                numbers := ARRAY(SELECT seq FROM %1$I WHERE customer_id = of_customer ORDER BY seq DESC LIMIT 256);
                SELECT %2$I INTO newest FROM %1$I WHERE customer_id = of_customer AND seq = numbers[1];
                before := state_of_list(%9$L, of_customer, newest, numbers);
                inserted := false;
                IF ARRAY['*', encode(before, 'hex')] && string_to_array(expected, ',') THEN
                    %5$s
                    INSERT INTO %1$I
                        (%2$I, customer_id, idempotency_key, fingerprint, document, created_at, based_on%6$s)
                    VALUES (new_id, of_customer, key, new_fingerprint, new_document, to_timestamp(created / 1000.0),
                            CASE WHEN expected <> '*' THEN before END%7$s)
                    ON CONFLICT DO NOTHING
                    RETURNING seq INTO number;
                    inserted := FOUND;
                END IF;
                IF inserted THEN
                    %10$s
                    IF number < numbers[1] THEN
                        numbers := ARRAY(SELECT other FROM unnest(numbers || number) AS other
                                         ORDER BY other DESC LIMIT 256);
                    ELSE
                        newest := new_id;
                        numbers := (number || numbers)[:256];
                    END IF;
                    after := state_of_list(%9$L, of_customer, newest, numbers);
                ELSE
                    SELECT %2$I::text, fingerprint, document::text INTO id, fingerprint, document
                    FROM %1$I WHERE customer_id = of_customer AND idempotency_key = key;
                    IF id IS NULL AND NOT is_here THEN
                        PERFORM refuse_slot(%9$L, slot_of(of_customer));
                    END IF;
                    PERFORM wait_for_standbys();
                END IF;
                %8$s
            END IF;
            RETURN NEXT;
        END
        $insert$
    $sql$, name, one || '_id', format('insert_%s_based_on_1', name), history, draw_number, number_column, number_value,
        check_place, name, check_session);

    -- One row: the history, and the resource with this id or, without one, with this key. What is found by its key is
    -- acknowledged.
    EXECUTE format($sql$
        CREATE OR REPLACE FUNCTION %3$I(of_customer text, of_id uuid, of_key text)
        RETURNS TABLE (history bytea, id text, fingerprint bytea, document text)
        LANGUAGE plpgsql AS $find$
        #variable_conflict use_column
        BEGIN
            history := %4$s;
            FOR try IN 1 .. 2 LOOP
                IF of_id IS NOT NULL THEN
                    SELECT %2$I::text, fingerprint, document::text INTO id, fingerprint, document
                    FROM %1$I WHERE customer_id = of_customer AND %2$I = of_id;
                ELSE
                    SELECT %2$I::text, fingerprint, document::text INTO id, fingerprint, document
                    FROM %1$I WHERE customer_id = of_customer AND idempotency_key = of_key;
                    IF FOUND THEN
                        PERFORM wait_for_standbys();
                    END IF;
                END IF;
                EXIT WHEN id IS NOT NULL OR try = 2;
                -- Not after the last look: the row may have been moved here in between.
                PERFORM expect_slot(%6$L, of_customer);
            END LOOP;
            %5$s
            RETURN NEXT;
        END
        $find$
    $sql$, name, one || '_id', format('find_%s_1', name), history, check_place, name);

    -- One row per resource, and one without a resource where there is none. Up to 1 MB of documents, and the first one
    -- in any case; a resource after that is a row without an id. A cursor that is none of the customer's resources has
    -- no sequence number. Comparing with one number that is known before the index is entered makes a later page as
    -- cheap as the first. The rows and the state are of one snapshot. Planned anew each time, for the customer's rows.
    EXECUTE format($sql$
        CREATE OR REPLACE FUNCTION %3$I(of_customer text, after_id uuid, longest bigint, from_id uuid)
        RETURNS TABLE (history bytea, id text, fingerprint bytea, document text, cursor_known boolean, state bytea)
        LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $page$
        #variable_conflict use_column
        DECLARE
            here bytea;
        BEGIN
            here := %4$s;
            history := here;
            PERFORM expect_slot(%6$L, of_customer);
            RETURN QUERY
            WITH start AS MATERIALIZED (
                SELECT CASE WHEN after_id IS NULL THEN 9223372036854775807
                       ELSE (SELECT seq FROM %1$I WHERE %2$I = after_id AND customer_id = of_customer)
                       END AS seq
            ), page AS (
                SELECT *,
                       sum(octet_length(document)) OVER (ORDER BY seq DESC) - octet_length(document) < 1000000 AS fits
                FROM (SELECT %2$I::text AS id, fingerprint, document::text AS document, seq FROM %1$I
                      WHERE customer_id = of_customer AND seq < (SELECT seq FROM start)
                          AND (from_id IS NULL OR %2$I >= from_id)
                      ORDER BY seq DESC LIMIT longest) AS newest
            )
            SELECT here, CASE WHEN fits THEN id END, fingerprint, CASE WHEN fits THEN document END,
                   start.seq IS NOT NULL,
                   (SELECT state_of_list(
                       %6$L, of_customer,
                       (SELECT %2$I FROM %1$I WHERE customer_id = of_customer ORDER BY seq DESC LIMIT 1),
                       ARRAY(SELECT seq FROM %1$I WHERE customer_id = of_customer ORDER BY seq DESC LIMIT 256)))
            FROM start LEFT JOIN page ON true ORDER BY page.seq DESC;
            %5$s
        END
        $page$
    $sql$, name, one || '_id', format('page_%s_1', name), history, check_place, name);
END
$create$;

-- Cells: several databases share the customers, each has those of some slots, and a gateway routes. A table refuses the
-- new rows of other slots if it is fenced; nothing is checked before. The slots are an argument of its trigger `cells`:
--
-- 1. Whoever changes them waits for the insertions in progress (SHARE ROW EXCLUSIVE conflicts with their lock). Each
--    later insertion has its lock after the commit, and so reads the new definition of the trigger. Definitions are read
--    in no snapshot, so this holds in every isolation level, where a row of a table would be read as it was.
-- 2. The trigger runs at the end of the statement that inserts, in its transaction: it refuses all of the statement's
--    rows or none. A statement that inserts nothing is not refused: it returns the row of its key, which never changes.
-- 3. Slots are given up for one other database, which takes them when it has all rows. So no two have a slot.

-- The slot of a customer, from 0 to 1023: the first 10 bits of SHA-256, which every gateway can compute.
CREATE FUNCTION slot_of(customer text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    hash bytea := sha256(convert_to(customer, 'UTF8'));
BEGIN
    RETURN get_byte(hash, 0) * 4 + get_byte(hash, 1) / 64;
END
$$;

-- The slots that were moved: how often, and to which database, or NULL for those that this one has taken. The count is
-- a ticket: a program that was interrupted and goes on later takes nothing with an old one.
CREATE TABLE moved_slots (
    of_table    text    NOT NULL,
    slot        integer NOT NULL,
    moves       bigint  NOT NULL,
    to_database text,
    PRIMARY KEY (of_table, slot)
);

-- The slots of a table; NULL where it is not fenced.
CREATE FUNCTION owned_slots(of_table regclass) RETURNS int4multirange
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT split_part(encode(tgargs, 'escape'), '\000', 1)::int4multirange
            FROM pg_trigger WHERE tgrelid = of_table AND tgname = 'cells');
END
$$;

CREATE FUNCTION refuse_slot(of_table text, slot integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'slot % of % is not in this database', slot, of_table USING ERRCODE = 'MD421';
END
$$;

CREATE FUNCTION refuse_other_slots() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('cells.copies', true) = 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM refuse_slot(TG_TABLE_NAME, slot_of(customer_id)) FROM new_rows
    WHERE NOT slot_of(customer_id) <@ TG_ARGV[0]::int4multirange;
    RETURN NULL;
END
$$;

-- Whether a table has the rows of a customer. Asked before a statement that returns all of them, or says that there is
-- none: if the slot is given up after that, the answer was true when it was asked.
CREATE FUNCTION owns_slot(of_table regclass, customer text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    owned int4multirange := owned_slots(of_table);
BEGIN
    RETURN owned IS NULL OR slot_of(customer) <@ owned;
END
$$;

CREATE FUNCTION expect_slot(of_table regclass, customer text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT owns_slot(of_table, customer) THEN
        PERFORM refuse_slot(of_table::text, slot_of(customer));
    END IF;
END
$$;

-- Fences a table with these slots, such as '{[0,1024)}'. Of all databases, one may have a slot: after this call, slots
-- are only moved.
CREATE FUNCTION own_slots(of_table regclass, owned int4multirange) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF (owned <@ '{[0,1024)}'::int4multirange) IS NOT TRUE THEN
        RAISE EXCEPTION 'slots are numbers from 0 to 1023, not %', owned;
    END IF;
    PERFORM lock_slots(of_table);
    EXECUTE format('CREATE OR REPLACE TRIGGER cells AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows
                    FOR EACH STATEMENT EXECUTE FUNCTION refuse_other_slots(%L)', of_table, owned);
END
$$;

-- Waits for the insertions in progress. What is read after this call holds until the end of the transaction. Fails if it
-- waits for long, because all later insertions wait behind it; then repeat the transaction.
CREATE FUNCTION lock_slots(of_table regclass) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'slots are changed in a transaction that is READ COMMITTED';
    END IF;
    -- This lock waits for VACUUM, and no insertion waits behind it.
    EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', of_table);
    PERFORM set_config('lock_timeout', '100ms', true);
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', of_table);
END
$$;

-- The greatest number of a table. Each insertion that is in progress, or begins later, has a greater one.
CREATE FUNCTION settled_number(of_table regclass) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    settled bigint;
BEGIN
    PERFORM lock_slots(of_table);
    EXECUTE format('SELECT coalesce(max(seq), 0) FROM %s', of_table) INTO settled;
    RETURN settled;
END
$$;

-- Gives slots up for another database, or finds that it has done so. Returns their tickets by slot.
CREATE FUNCTION give_slots(of_table regclass, given int4multirange, receiver text) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    owned int4multirange;
BEGIN
    PERFORM lock_slots(of_table);
    owned := owned_slots(of_table);
    INSERT INTO moved_slots AS moved SELECT of_table::text, number, 1, receiver FROM generate_series(0, 1023) AS number
    WHERE number <@ (owned * given)
    ON CONFLICT ON CONSTRAINT moved_slots_pkey DO UPDATE SET moves = moved.moves + 1, to_database = receiver;
    IF NOT given <@ (SELECT range_agg(int4range(slot, slot + 1)) FROM moved_slots AS moved
                     WHERE moved.of_table = give_slots.of_table::text AND to_database = receiver) IS TRUE THEN
        RAISE EXCEPTION 'some slots of % are neither here nor given up for %', given, receiver;
    END IF;
    PERFORM own_slots(of_table, owned - given);
    RETURN (SELECT json_object_agg(slot, moves) FROM moved_slots AS moved
            WHERE moved.of_table = give_slots.of_table::text AND slot <@ given);
END
$$;

-- Takes slots that another database has given up for this one, when all rows are here, or finds that it has done so.
CREATE FUNCTION take_slots(of_table regclass, tickets json) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    taken int4multirange := (SELECT range_agg(int4range(slot::integer, slot::integer + 1))
                             FROM json_object_keys(tickets) AS slot);
BEGIN
    PERFORM lock_slots(of_table);
    INSERT INTO moved_slots AS moved SELECT of_table::text, key::integer, value::bigint FROM json_each_text(tickets)
    ON CONFLICT ON CONSTRAINT moved_slots_pkey DO UPDATE SET moves = excluded.moves, to_database = NULL
    WHERE moved.moves < excluded.moves;
    IF EXISTS (SELECT FROM json_each_text(tickets) JOIN moved_slots AS moved ON slot = key::integer
               WHERE moved.of_table = take_slots.of_table::text
                   AND (moves > value::bigint OR to_database IS NOT NULL)) THEN
        RAISE EXCEPTION 'some slots of % were moved on since', taken;
    END IF;
    PERFORM own_slots(of_table, owned_slots(of_table) + taken);
END
$$;

-- Inserts rows of another database, in text form, in the order of their numbers and with new ones. Returns how many of
-- them are here now as they are there.
CREATE FUNCTION copy_rows(of_table regclass, given_rows text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    -- Not in JSON, where a document may have \u0000, which Postgres does not read.
    given text := format('(SELECT (given::%s).* FROM unnest($1) AS given) AS given', of_table);
    columns text := (SELECT string_agg(format('given.%I', attname), ', ' ORDER BY attnum) FROM pg_attribute
                     WHERE attrelid = of_table AND attnum > 0 AND NOT attisdropped AND attname <> 'seq');
    same bigint;
BEGIN
    PERFORM set_config('cells.copies', 'on', true);
    EXECUTE format('INSERT INTO %s (%s) SELECT %s FROM %s ORDER BY given.seq ON CONFLICT DO NOTHING',
                   of_table, replace(columns, 'given.', ''), columns, given) USING given_rows;
    EXECUTE format('SELECT count(*) FROM %s JOIN %s AS kept USING (customer_id, idempotency_key)
                    WHERE ROW(%s)::text = ROW(%s)::text',
                   given, of_table, columns, replace(columns, 'given.', 'kept.')) INTO same USING given_rows;
    RETURN same;
END
$$;

-- Creates the table of a resource, its indexes, triggers, functions and publication: name is the plural
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
    PERFORM create_resource_functions(name, one);
    PERFORM create_history_triggers(name);
    PERFORM publish_created(name, one);
END
$create$;

-- The history of the rows of a customer, for a distributed table: that of this server, and of the place of the shard. A
-- shard that has moved has another one, so that no record of a row is believed after the server has changed that
-- may lose it. Without draw_missing_epochs() as a statement of its own, because that would run on another server.
CREATE FUNCTION history_of_shard(of_table regclass, of_customer text) RETURNS bytea
LANGUAGE plpgsql AS $$
DECLARE
    place bigint;
BEGIN
    -- Otherwise a look at the place would not see that the shard has moved.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'each server of % must have default_transaction_isolation = ''read committed''', of_table;
    END IF;
    SELECT placementid INTO place FROM pg_dist_placement
    WHERE shardid = get_shard_id_for_distribution_column(of_table, of_customer)
        AND groupid = (SELECT groupid FROM pg_dist_local_group);
    IF place IS NULL THEN
        RAISE EXCEPTION 'a shard of % is not on this server', of_table USING ERRCODE = 'serialization_failure';
    END IF;
    IF current_epoch('records') IS NULL THEN
        PERFORM draw_missing_epochs();
    END IF;
    RETURN substring(sha256(uuid_send(current_epoch('records')) || int8send(place)) FROM 1 FOR 8);
END
$$;

-- Runs a command on each worker, and fails if one fails.
CREATE FUNCTION run_on_workers(command text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    failed text;
BEGIN
    SELECT string_agg(format('%s:%s: %s', nodename, nodeport, result), '; ') INTO failed
    FROM run_command_on_workers(command) WHERE NOT success;
    IF failed IS NOT NULL THEN
        RAISE EXCEPTION '% failed: %', command, failed USING HINT = 'Repeat it.';
    END IF;
END
$$;

-- forget_records() on a worker. A deletion may be open, or prepared and not yet committed: until then its rows are read,
-- and would be read in the new history. So this waits for the end of each transaction that writes, and fails where it
-- takes long: in the transaction of the deletion itself.
CREATE FUNCTION forget_records_of_shards() RETURNS void
LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    shard text;
BEGIN
    PERFORM set_config('citus.enable_manual_changes_to_shards', 'on', true);
    FOR shard IN
        SELECT shard_name(logicalrelid, shardid) FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)
        WHERE groupid = (SELECT groupid FROM pg_dist_local_group)
    LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE MODE', shard);
    END LOOP;
    PERFORM draw_epochs('{records,feed}');
END
$$;

-- Distributes a resource's table over the workers of a Citus cluster by the customer (docs/capacity.md). On each
-- worker, this file must have been applied before. Repeat it after a migration that replaces functions.
CREATE FUNCTION distribute_resource_table(name text, one text, shards integer DEFAULT 16) RETURNS void
LANGUAGE plpgsql AS $create$
DECLARE
    signature text;
BEGIN
    -- Citus can otherwise not change functions in the transaction that distributes the table.
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
    IF NOT is_distributed(name::regclass) THEN
        -- What Citus rejects, and what only the feed uses.
        EXECUTE format('DROP TRIGGER forget_records ON %I', name);
        EXECUTE format('ALTER TABLE %I ALTER COLUMN seq DROP IDENTITY', name);
        -- For rows that are inserted by hand.
        EXECUTE format('ALTER TABLE %I ALTER COLUMN seq
                        SET DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint', name);
        EXECUTE format('DROP INDEX %I', name || '_seq_idx');
        EXECUTE format('DROP INDEX %I', name || '_customer_id_seq_idx');
        EXECUTE format('CREATE UNIQUE INDEX %I ON %I (customer_id, seq)', name || '_customer_id_seq_idx', name);
        PERFORM create_distributed_table(name::regclass, 'customer_id', colocate_with => 'none', shard_count => shards);
    END IF;
    PERFORM create_resource_functions(name, one, true);
    FOREACH signature IN ARRAY functions_of_resource(name) LOOP
        PERFORM create_distributed_function(signature::regprocedure, 'of_customer', colocate_with => name);
    END LOOP;
    -- Functions have the owners that they have here; a table that is not distributed has not.
    PERFORM run_on_workers(format('ALTER TABLE database_epochs OWNER TO %s', relowner::regrole))
    FROM pg_class WHERE oid = 'database_epochs'::regclass;
    -- The rows have other histories from now on.
    PERFORM draw_epochs('{records,feed}');
END
$create$;
