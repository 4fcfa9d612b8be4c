//! The feed: what [`exactly_once::feed`] asks of Postgres, two statements.

// - **The writers** are the transactions that have `RowExclusiveLock` on the table or on one of its partitions. An
//   insertion takes this lock before the default of `seq` is evaluated, and a stronger lock does not replace it. The
//   lock is released after the transaction has become visible to new snapshots (`CommitTransaction`:
//   `ProcArrayEndTransaction`, then the locks). With synchronous replication both happen after the wait for the
//   standby.
// - **The order within [`LOOK`].** A statement's snapshot is taken before its execution, and the locks are read in its
//   execution. Each statement is a transaction, so that also with `repeatable read` or `serializable` as the default
//   level each has a snapshot of its own.
// - **`pg_locks` misses no lock that is held all the while it is read.** It reads the fast-path locks of one session
//   after another, and then the common table. A lock that moves meanwhile moves from the former to the latter.
// - **Names.** No two transactions have one `virtualtransaction`. A transaction that is prepared (`PREPARE
//   TRANSACTION`) keeps its locks under another one, without a process.
// - **Numbers** ascend: the sequence has no cache, and only the column's default draws from it.

/// One row: the mark, the greatest number of the next page, and the writers, if `$3` is not NULL only those that are in
/// it or have got another name since.
pub(super) const LOOK: &str = "\
    SELECT feed_numbering('{table}') AS here, \
        (SELECT int8send(max(seq)) \
         FROM (SELECT seq FROM {table} WHERE seq > $1 ORDER BY seq LIMIT $2) AS next) AS last, \
        (SELECT string_agg(virtualtransaction, ',') FROM pg_locks \
         WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted \
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
           AND relation IN (SELECT relid::oid FROM pg_partition_tree('{table}') \
                            UNION SELECT '{table}'::regclass::oid) \
           AND ($3::text IS NULL OR pid IS NULL \
                OR virtualtransaction = ANY (string_to_array($3::text, ',')))) AS writers";

/// One row per resource, and one without a resource where there is none. Up to 1 MB of documents, and the first one in
/// any case.
pub(super) const READ: &str = "\
    SELECT here, here AS mark, int8send(seq) AS seq, id, customer_id, document, replicated \
    FROM (SELECT feed_numbering('{table}') AS here, \
                 CASE WHEN EXISTS (SELECT FROM {table} WHERE seq > $1 AND seq <= $2) \
                      THEN wait_for_standbys() END AS replicated) AS current \
    LEFT JOIN ( \
        SELECT *, sum(octet_length(document)) OVER (ORDER BY seq) - octet_length(document) AS before \
        FROM (SELECT seq, {id}::text AS id, customer_id, document::text AS document \
              FROM {table} WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) AS numbered \
    ) AS page ON before < 1000000 \
    ORDER BY page.seq";
