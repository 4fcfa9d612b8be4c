-- no-transaction
-- Fills the new columns of the orders that were there before. Before the new indexes: each would make it slower.
CALL orders_fill_documents();
