-- The primary key contains the customer, so that the table can be distributed by customer. Both indexes
-- exist: this changes the catalog only.
LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = '100ms';

ALTER TABLE orders
    DROP CONSTRAINT orders_pkey,
    ADD CONSTRAINT orders_pkey PRIMARY KEY USING INDEX orders_customer_id_order_id_key;
