-- Removes what only the previous release's component uses; apply it once none runs any more. Changes the
-- catalog only: Postgres sees by the valid check constraint that no document is NULL, and reads no row.
LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = '100ms';

DROP TRIGGER orders_fill_document ON orders;
DROP TRIGGER orders_fill_columns ON orders;

-- The index orders_customer_id_follows_key goes with its column.
ALTER TABLE orders
    DROP COLUMN currency,
    DROP COLUMN items,
    DROP COLUMN note,
    DROP COLUMN total,
    DROP COLUMN follows,
    ALTER COLUMN document SET NOT NULL;
ALTER TABLE orders DROP CONSTRAINT orders_has_document;

DROP FUNCTION insert_orders(json);
DROP PROCEDURE orders_fill_documents(integer);
DROP FUNCTION orders_fill_document();
DROP FUNCTION orders_fill_columns();
DROP FUNCTION orders_document(text, jsonb, text);
