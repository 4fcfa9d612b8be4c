-- The feed's numbering (docs/events.md): a value that changes whenever sequence numbers may have been given to other rows. A
-- cursor of the feed names it. As the history (0014), it consists of the server, its timeline and the database, and of the table,
-- because a new one begins to count again. It has an epoch of its own: deleting rows gives no number away.
CREATE TABLE feed_epoch (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch  uuid    NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO feed_epoch DEFAULT VALUES;
GRANT SELECT ON feed_epoch TO PUBLIC;

-- 8 bytes; NULL on a standby, which does not know who writes on the primary.
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

-- As before (0014), and makes every cursor of the feed invalid: after a restore into the same database, the numbers of lost rows
-- are drawn again.
CREATE OR REPLACE FUNCTION forget_records() RETURNS void
LANGUAGE sql AS $$
    UPDATE database_epoch SET epoch = gen_random_uuid();
    UPDATE feed_epoch SET epoch = gen_random_uuid()
$$;

-- Deleted rows leave the cursors valid. TRUNCATE may restart the numbers.
CREATE OR REPLACE FUNCTION forget_records_of_deleted_rows() RETURNS trigger
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

-- As before (0015), which is now without the feed's index, and with it.
ALTER FUNCTION create_resource_table(text, text, integer) RENAME TO create_resource_table_without_feed;
CREATE FUNCTION create_resource_table(name text, one text, partitions integer DEFAULT 0) RETURNS void
LANGUAGE plpgsql AS $create$
BEGIN
    PERFORM create_resource_table_without_feed(name, one, partitions);
    EXECUTE format('CREATE INDEX %I ON %I (seq)', name || '_seq_idx', name);
END
$create$;
