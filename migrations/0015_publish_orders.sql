-- Publishes new rows of orders for logical decoding (docs/events.md). The table is the outbox: a row never changes, so its
-- insertion is all there is to tell. Creating a publication locks no insertion out (SHARE UPDATE EXCLUSIVE) and works with
-- any wal_level. With one below logical, Postgres warns, and insertions write what they wrote before.

-- Creates the publication of a resource's table, or adds a table that was dropped and created again. What a consumer has no
-- use for stays inside: the key, the fingerprint, the state that a creation was based on, and seq, whose order is not that of
-- the commits. Postgres before version 15 publishes whole rows.
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

SELECT publish_created('orders', 'order');

-- As before (0014), which is now without the publication, and with it.
ALTER FUNCTION create_resource_table(text, text, integer) RENAME TO create_resource_table_without_publication;
CREATE FUNCTION create_resource_table(name text, one text, partitions integer DEFAULT 0) RETURNS void
LANGUAGE plpgsql AS $create$
BEGIN
    PERFORM create_resource_table_without_publication(name, one, partitions);
    PERFORM publish_created(name, one);
END
$create$;
