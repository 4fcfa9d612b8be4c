-- no-transaction
-- For the feed: the orders of all customers after a sequence number. The migrator builds it partition by partition where the
-- table is partitioned.
CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_seq_idx ON orders (seq);
