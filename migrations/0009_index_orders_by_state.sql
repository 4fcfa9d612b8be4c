-- no-transaction
-- Of all creations that are based on one state, one succeeds. While two releases run, every order has the same
-- value in follows and in based_on, so that each of their two unique indexes sees the orders of both releases.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS orders_customer_id_based_on_key ON orders (customer_id, based_on)
    WHERE based_on IS NOT NULL;
