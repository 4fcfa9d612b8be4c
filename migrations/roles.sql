-- Two roles with no more rights than they need: orders_serving is the user in database_url, orders_migrating the one that
-- migrates. "Rows never change" then no longer depends on the component. For a superuser, in the database of the orders,
-- after a migration; repeat it after one that creates a table. Passwords: ALTER ROLE orders_serving PASSWORD '...'.

DO $$
DECLARE
    role_name text;
    object record;
BEGIN
    -- Roles belong to the whole server: another database may have brought them.
    FOREACH role_name IN ARRAY ARRAY['orders_serving', 'orders_migrating'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;

    -- Only the owner of an object may change or drop it. A table takes its sequences along.
    EXECUTE format('ALTER DATABASE %I OWNER TO orders_migrating', current_database());
    FOR object IN
        SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, oid::regclass::text AS name
        FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
          AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
        UNION ALL
        SELECT 'ROUTINE', oid::regprocedure::text
        FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
        UNION ALL
        -- A table that is dropped and created again is added to its publication, which only the owner may do.
        SELECT 'PUBLICATION', quote_ident(pubname)
        FROM pg_publication
        WHERE EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace
                      AND relkind IN ('r', 'p') AND relname || '_created' = pubname)
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO orders_migrating', object.kind, object.name);
    END LOOP;

    -- Before version 15, everybody may create tables in public; temporary ones, everybody may create still.
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    GRANT USAGE ON SCHEMA public TO orders_serving;
    -- A request waits no longer (database_timeout_ms). A step of a migration may take longer.
    EXECUTE format('ALTER ROLE orders_serving IN DATABASE %I SET statement_timeout = ''5s''', current_database());
    GRANT USAGE, CREATE ON SCHEMA public TO orders_migrating;

    -- The table of every resource, not its partitions: rows are reached through the table. The functions that insert run
    -- with the rights of the caller, and every role may call them.
    FOR object IN
        SELECT oid, oid::regclass::text AS name, relkind
        FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
          AND EXISTS (SELECT FROM pg_constraint WHERE conrelid = pg_class.oid
                      AND conname = relname || '_customer_id_idempotency_key_key')
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE %s FROM orders_serving', object.name);
        EXECUTE format('GRANT SELECT, INSERT ON TABLE %s TO orders_serving', object.name);
        -- An identity column needs no right to its sequence; a partitioned table has a default instead.
        IF object.relkind = 'p' THEN
            EXECUTE format('GRANT USAGE ON SEQUENCE %s TO orders_serving',
                           pg_get_serial_sequence(object.name, 'seq'));
        END IF;
    END LOOP;
END
$$;

-- Citus has told the workers the new owners of all but this table. A transaction of its own: they know the roles now.
DO $$
BEGIN
    IF to_regclass('pg_dist_node') IS NOT NULL THEN
        PERFORM run_on_workers('ALTER TABLE database_epochs OWNER TO orders_migrating');
    END IF;
END
$$;
