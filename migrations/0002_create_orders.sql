-- The table of orders, and a view of it for reports. Rows are never updated or deleted by the service.
SELECT create_resource_table('orders', 'order');

-- Orders in columns, for reports. A new property of the order needs nothing here until a report wants it.

-- The text of a function is not tied to the table: orders can be dropped and created again, partitioned,
-- under the view. Postgres inlines the function, so conditions on the view use the table's indexes; for that,
-- the customer needs the table's collation, which a function's result does not carry.
CREATE FUNCTION report_orders()
RETURNS TABLE (order_id uuid, customer_id text, created_at timestamptz, currency text, total bigint,
               note text, item_count integer)
LANGUAGE sql STABLE AS $$
    SELECT order_id, customer_id, created_at, document ->> 'currency',
           (SELECT sum((item ->> 'quantity')::numeric * (item ->> 'unitPrice')::numeric)::bigint
            FROM json_array_elements(document -> 'items') AS item),
           document ->> 'note', json_array_length(document -> 'items')
    FROM orders
$$;

CREATE VIEW orders_report AS
SELECT order_id, customer_id COLLATE "C" AS customer_id, created_at, currency, total, note, item_count
FROM report_orders();
