-- Functions for the time in which components of two releases run: each release writes its own columns of an
-- order, and a trigger (next migration) fills the other release's. The contract migration drops them.

-- The document of an order that has its content in columns: the text that the component would write.
-- Postgres escapes strings as the component does.
CREATE FUNCTION orders_document(currency text, items jsonb, note text) RETURNS json
LANGUAGE sql IMMUTABLE AS $$
    SELECT ('{"currency":' || to_json(currency) || ',"items":[' || (
        SELECT coalesce(string_agg(
            '{"quantity":' || (item -> 'quantity')::text || ',"sku":' || (item -> 'sku')::text
            || ',"unitPrice":' || (item -> 'unitPrice')::text || '}', ',' ORDER BY place), '')
        FROM jsonb_array_elements(items) WITH ORDINALITY AS listed (item, place)
    ) || '],"note":' || coalesce(to_json(note)::text, 'null') || '}')::json
$$;

-- For an order that the previous release inserts.
CREATE FUNCTION orders_fill_document() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.document := orders_document(NEW.currency, NEW.items, NEW.note);
    NEW.based_on := NEW.follows;
    RETURN NEW;
END
$$;

-- For an order that this release inserts, because the previous one reads these columns.
CREATE FUNCTION orders_fill_columns() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.currency := NEW.document ->> 'currency';
    NEW.items := NEW.document -> 'items';
    NEW.note := NEW.document ->> 'note';
    NEW.total := (
        SELECT sum((item ->> 'quantity')::numeric * (item ->> 'unitPrice')::numeric)
        FROM json_array_elements(NEW.document -> 'items') AS item);
    NEW.follows := NEW.based_on;
    RETURN NEW;
END
$$;

-- Fills both new columns of the orders that were there before them, a batch a transaction. An insertion that
-- conflicts with an order of the batch waits for its end: hence small batches, and between two of them a
-- pause as long as the batch took. The progress is shown as the session's application_name.
CREATE PROCEDURE orders_fill_documents(batch integer DEFAULT 500)
LANGUAGE plpgsql AS $$
DECLARE
    last uuid := '00000000-0000-0000-0000-000000000000';
    ids uuid[];
    filled bigint := 0;
    started timestamptz;
BEGIN
    LOOP
        started := clock_timestamp();
        SELECT array_agg(order_id ORDER BY order_id) INTO ids FROM (
            SELECT order_id FROM orders
            WHERE order_id > last AND document IS NULL
            ORDER BY order_id LIMIT batch
        ) AS next;
        EXIT WHEN ids IS NULL;
        UPDATE orders SET document = orders_document(currency, items, note), based_on = follows
        WHERE order_id = ANY (ids) AND document IS NULL;
        COMMIT;
        last := ids[cardinality(ids)];
        filled := filled + cardinality(ids);
        PERFORM set_config('application_name', filled || ' orders filled', false);
        PERFORM pg_sleep(extract(epoch FROM clock_timestamp() - started));
    END LOOP;
END
$$;
