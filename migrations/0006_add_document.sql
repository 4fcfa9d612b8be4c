-- An order's content becomes one column, document. From this commit on, every new order has the columns of
-- both releases, whichever release inserts it. Locks the table (ACCESS EXCLUSIVE) for changes to the catalog
-- only. A statement that waits for this lock blocks every later one, so this one gives up soon, and the
-- migrator tries again. The first lock does not block orders: it waits for a VACUUM, and ends an automatic one.
LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = '100ms';

ALTER TABLE orders
    ADD COLUMN based_on bytea,
    ADD COLUMN document json,
    ALTER COLUMN currency DROP NOT NULL,
    ALTER COLUMN items DROP NOT NULL,
    ALTER COLUMN total DROP NOT NULL,
    -- Holds for new orders at once. The others are checked later, under a lock that lets orders through.
    ADD CONSTRAINT orders_has_document CHECK (document IS NOT NULL) NOT VALID;

CREATE TRIGGER orders_fill_document BEFORE INSERT ON orders
    FOR EACH ROW WHEN (NEW.document IS NULL) EXECUTE FUNCTION orders_fill_document();

CREATE TRIGGER orders_fill_columns BEFORE INSERT ON orders
    FOR EACH ROW WHEN (NEW.document IS NOT NULL AND NEW.currency IS NULL)
    EXECUTE FUNCTION orders_fill_columns();
