-- no-transaction
-- The index of the new primary key, which contains the customer.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS orders_customer_id_order_id_key ON orders (customer_id, order_id);
