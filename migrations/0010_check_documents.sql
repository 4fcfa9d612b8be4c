-- no-transaction
-- Reads the whole table under a lock (SHARE UPDATE EXCLUSIVE) that lets orders through.
ALTER TABLE orders VALIDATE CONSTRAINT orders_has_document;
