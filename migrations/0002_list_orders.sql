-- For listing a customer's orders, newest first, and for the state that such a list is in.
ALTER TABLE orders
    ADD COLUMN seq bigint,
    -- What a conditional order was created on: the first 16 bytes of the digest in its customer's ETag.
    ADD COLUMN follows bytea;

-- Orders of before get their places by the time they were asked for.
UPDATE orders SET seq = numbered.place
FROM (SELECT order_id, row_number() OVER (ORDER BY created_at, order_id) AS place FROM orders) AS numbered
WHERE orders.order_id = numbered.order_id;

-- Drawn at insertion, by default: an id may be drawn long before, by somebody who died.
ALTER TABLE orders
    ALTER COLUMN seq SET NOT NULL,
    ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY;
SELECT setval(pg_get_serial_sequence('orders', 'seq'), (SELECT max(seq) FROM orders))
WHERE EXISTS (SELECT FROM orders);

CREATE INDEX orders_customer_id_seq_idx ON orders (customer_id, seq);

-- Of all orders that were to follow one state, one does. Unconditional ones are not in it.
CREATE UNIQUE INDEX orders_customer_id_follows_key ON orders (customer_id, follows)
    WHERE follows IS NOT NULL;
