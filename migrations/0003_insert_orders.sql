-- New orders, of one request or of many, as a JSON array of objects with these members; returns the ids of
-- those that nothing was in the way of. A function because hosts prepare every statement anew: a session
-- plans this insertion once. Its timeout is for conflicts with a statement that is still under way: who
-- shares this one does not wait long for a stranger's.
CREATE FUNCTION insert_orders(new_orders json) RETURNS SETOF uuid
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
BEGIN
    RETURN QUERY
    INSERT INTO orders (order_id, customer_id, idempotency_key, fingerprint,
                        currency, items, note, total, created_at)
    SELECT new.order_id, new.customer_id, new.idempotency_key, decode(new.fingerprint, 'hex'),
           new.currency, new.items, new.note, new.total, to_timestamp(new.created_at / 1000.0)
    FROM json_to_recordset(new_orders) AS new (
        order_id uuid, customer_id text, idempotency_key text, fingerprint text,
        currency text, items jsonb, note text, total bigint, created_at bigint)
    ON CONFLICT DO NOTHING
    RETURNING orders.order_id;
END
$$;
