-- A user is a row like an order: the customer is nobody, and the key is the e-mail in lower case. The table's unique
-- constraint decides which request gets an e-mail.
SELECT create_resource_table('users', 'user');

-- Its documents have hashes of passwords, which no subscriber needs.
DROP PUBLICATION IF EXISTS users_created;

-- How many log-ins of an account have failed in a period of five minutes. A slot is a hash of the e-mail, so that the
-- table has an end whatever strangers type; two accounts of one slot share its attempts.
CREATE TABLE login_attempts (
    slot     bigint PRIMARY KEY,
    period   bigint NOT NULL,
    attempts bigint NOT NULL
);
