-- What payments needs beside the tables of the order handler's migrations: deposits, balances, and one payment per order.

-- A deposit is a resource like an order: created once per customer and key.
SELECT create_resource_table('deposits', 'deposit');

-- Derived from deposits and payments, and the only row that two payments of one customer compete for.
CREATE TABLE accounts (
    customer_id text COLLATE "C" NOT NULL,
    currency    text COLLATE "C" NOT NULL,
    -- In minor units. The check is the last resort: make_payment() does not ask for more than there is.
    balance     bigint NOT NULL CHECK (balance >= 0),
    PRIMARY KEY (customer_id, currency)
);

-- Credits the account in the statement that stores the deposit: a repeated one stores nothing and credits nothing. AFTER,
-- because a trigger BEFORE would also run for a row that conflicts.
CREATE FUNCTION credit_account() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO accounts (customer_id, currency, balance)
    VALUES (NEW.customer_id, NEW.document ->> 'currency', (NEW.document ->> 'amount')::bigint)
    ON CONFLICT (customer_id, currency) DO UPDATE SET balance = accounts.balance + EXCLUDED.balance;
    RETURN NULL;
END
$$;
CREATE TRIGGER credit_account AFTER INSERT ON deposits FOR EACH ROW EXECUTE FUNCTION credit_account();

-- An order's payment, made or refused. It never changes.
CREATE TABLE payments (
    -- This constraint decides which of two deliveries of an order's event pays.
    order_id    uuid   PRIMARY KEY,
    customer_id text   COLLATE "C" NOT NULL,
    currency    text   COLLATE "C" NOT NULL,
    amount      bigint NOT NULL CHECK (amount >= 0),
    -- Why it is refused; NULL where the money has moved.
    refusal     text   CHECK (refusal IN ('no_account', 'another_currency', 'insufficient_funds')),
    decided_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Pays an order, or returns how it was paid or refused before. One statement, and so one transaction.
--
-- The customer's account is locked before anything is decided: payments of one customer are decided one after the other, and
-- each sees the balance that the last one has left. A second delivery of the same event waits for that lock, or, where there
-- is no account, for the row of the first one; then it inserts nothing, and takes nothing. Every statement in the function
-- has a snapshot of its own (READ COMMITTED), so the last one sees the row that was in the way. Under a stricter isolation
-- level Postgres refuses the second delivery, and the component sends it again.
CREATE FUNCTION make_payment(new_order uuid, payer text, payer_currency text, price bigint)
RETURNS TABLE (order_id text, customer_id text, currency text, amount text, refusal text, decided_at text, is_new boolean)
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
    available bigint;
    reason    text;
    inserted  boolean := false;
BEGIN
    IF NOT EXISTS (SELECT FROM payments WHERE payments.order_id = new_order) THEN
        SELECT balance INTO available FROM accounts
        WHERE accounts.customer_id = payer AND accounts.currency = payer_currency FOR UPDATE;
        reason := CASE
            WHEN available >= price THEN NULL
            WHEN available IS NOT NULL THEN 'insufficient_funds'
            WHEN EXISTS (SELECT FROM accounts WHERE accounts.customer_id = payer) THEN 'another_currency'
            ELSE 'no_account'
        END;
        INSERT INTO payments (order_id, customer_id, currency, amount, refusal)
        VALUES (new_order, payer, payer_currency, price, reason)
        ON CONFLICT DO NOTHING;
        inserted := FOUND;
        IF inserted AND reason IS NULL THEN
            UPDATE accounts SET balance = balance - price
            WHERE accounts.customer_id = payer AND accounts.currency = payer_currency;
        END IF;
    END IF;
    RETURN QUERY
        SELECT payments.order_id::text, payments.customer_id, payments.currency, payments.amount::text, payments.refusal,
               to_char(payments.decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), inserted
        FROM payments WHERE payments.order_id = new_order;
END
$$;
