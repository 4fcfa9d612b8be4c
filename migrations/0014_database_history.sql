-- The database's history: a value that changes whenever committed rows may be missing from now on. Redis keeps records of
-- rows; a record is believed only in the history that its row was read in. The history consists of the server
-- (pg_basebackup keeps it, initdb draws a new one), its timeline (a promotion begins a new one), the database, and an epoch
-- for what the server does not see as a change: deleted rows, and a restore into the same database.
LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = '100ms';

-- One row. The epoch is random, not a number: after a restore of an old epoch, a number would be counted to twice.
CREATE TABLE database_epoch (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch  uuid    NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO database_epoch DEFAULT VALUES;
-- No secret, and every role that reads rows needs it.
GRANT SELECT ON database_epoch TO PUBLIC;

-- 8 bytes; NULL on a standby, which may lack rows. The name of the current segment of the write-ahead log begins with the
-- timeline; pg_control_checkpoint() has the new timeline only after the first checkpoint. Not in SQL: hosts prepare every
-- statement anew, and Postgres would plan the text each time (0.2 ms); a session plans this one once (15 us).
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

-- Makes every record of a row unbelievable: for a restore into the same database, and after a partition was dropped or
-- detached. Rows are then looked for in the tables, and retries of lost creations create again.
CREATE FUNCTION forget_records() RETURNS void
LANGUAGE sql AS $$
    UPDATE database_epoch SET epoch = gen_random_uuid()
$$;

-- The same for a role that deletes rows, without a right to the epoch. The component deletes none, so creations pay nothing.
CREATE FUNCTION forget_records_of_deleted_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM forget_records();
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

SELECT create_history_triggers('orders');

-- As before (0004), which is now without triggers, and with them.
ALTER FUNCTION create_resource_table(text, text, integer) RENAME TO create_resource_table_without_history;
CREATE FUNCTION create_resource_table(name text, one text, partitions integer DEFAULT 0) RETURNS void
LANGUAGE plpgsql AS $create$
BEGIN
    PERFORM create_resource_table_without_history(name, one, partitions);
    PERFORM create_history_triggers(name);
END
$create$;

DO $$
DECLARE
    resource text;
BEGIN
    -- Other resources' tables, which this function has created before.
    FOR resource IN
        SELECT pg_class.oid::regclass::text FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
          AND relname <> 'orders'
          AND EXISTS (SELECT FROM pg_constraint WHERE conrelid = pg_class.oid
                      AND conname = relname || '_customer_id_idempotency_key_key')
    LOOP
        PERFORM create_history_triggers(resource);
    END LOOP;
END
$$;
