//! Reading and writing rows, in every way that SQL has for it.

use crate::hostile;
use crate::statement::{Act, Phrase, Statement, all, one};
use crate::words::Words;

type Make = fn(&mut Words) -> Phrase;

pub const PHRASES: [(usize, Make); 17] = [
    (8, insert),
    (2, insert_many),
    (3, insert_on_conflict),
    (8, update),
    (5, mark),
    (16, delete),
    (4, delete_within),
    (3, merge),
    (1, truncate),
    (2, copy),
    (4, cursor),
    (3, prepare),
    (2, lock),
    (2, explain),
    (2, constraints),
    (4, block),
    (2, settings),
];

fn returning(words: &mut Words) -> &'static str {
    words.pick(&["", "", "", " RETURNING *", " RETURNING id, tableoid, ctid"])
}

fn insert(words: &mut Words) -> Phrase {
    let table = words.table();
    let (id, k, up) = (words.id(), 1 + words.number(3), words.value("up"));
    let label = words.value("label");
    let returning = returning(words);
    one(format!(
        "INSERT INTO {table} (id, k, up, label) VALUES ({id}, {k}, {up}, {label}){returning}"
    ))
}

fn insert_many(words: &mut Words) -> Phrase {
    let table = words.table();
    let source = words.table();
    one(if words.coin() {
        format!(
            "INSERT INTO {table} (id, k, up, label) SELECT n, 1 + n % 3, n - 1, 'row ' || n FROM generate_series(1, 9) AS n ON CONFLICT DO NOTHING"
        )
    } else {
        format!("INSERT INTO {table} SELECT * FROM {source}")
    })
}

fn insert_on_conflict(words: &mut Words) -> Phrase {
    let table = words.table();
    let column = words.column();
    let (id, value) = (words.id(), words.value(column));
    let target = words.pick(&[
        "(id)",
        "(id)",
        "(id, k)",
        "(label) WHERE deleted_at IS NULL",
    ]);
    one(format!(
        "INSERT INTO {table} (id, label) VALUES ({id}, 'row {id}') ON CONFLICT {target} DO UPDATE SET {column} = {value}"
    ))
}

fn update(words: &mut Words) -> Phrase {
    let (table, column) = (words.table(), words.column());
    let (value, condition) = (words.value(column), words.condition());
    let other = words.table();
    let returning = returning(words);
    one(match words.number(6) {
        0 => format!("UPDATE {table} SET {column} = {column} WHERE {condition}"),
        1 => format!(
            "UPDATE {table} AS t SET n = t.n + 1, {column} = {value} FROM {other} AS o WHERE o.id = t.up"
        ),
        2 => format!("UPDATE {table} SET k = 4 - k WHERE {condition}{returning}"),
        _ => format!("UPDATE {table} SET {column} = {value} WHERE {condition}{returning}"),
    })
}

fn mark(words: &mut Words) -> Phrase {
    let (table, condition) = (words.table(), words.condition());
    let set = words.pick(&[
        "deleted_at = now()",
        "deleted_at = now()",
        "deleted_at = now(), n = n + 1",
        "deleted_at = NULL, deletion_id = NULL",
        "deletion_id = gen_random_uuid()",
        "deleted_at = now(), deletion_id = gen_random_uuid()",
        "id = id + 100",
    ]);
    one(format!("UPDATE {table} SET {set} WHERE {condition}"))
}

fn delete(words: &mut Words) -> Phrase {
    let (table, condition) = (words.table(), words.condition());
    let other = words.table();
    let returning = returning(words);
    one(match words.number(8) {
        0 => format!("DELETE FROM {table} AS t USING {other} AS o WHERE o.id = t.id{returning}"),
        1 => format!("DELETE FROM ONLY {table} WHERE {condition}"),
        2 => format!("DELETE FROM {table}"),
        _ => format!("DELETE FROM {table} WHERE {condition}{returning}"),
    })
}

fn delete_within(words: &mut Words) -> Phrase {
    let (table, condition) = (words.table(), words.condition());
    let (other, column) = (words.table(), words.column());
    let value = words.value(column);
    one(match words.number(5) {
        0 => format!(
            "WITH gone AS (DELETE FROM {table} WHERE {condition} RETURNING *) INSERT INTO {other} SELECT * FROM gone"
        ),
        1 => format!(
            "WITH gone AS (DELETE FROM {table} WHERE {condition} RETURNING id) UPDATE {other} SET {column} = {value} WHERE id IN (SELECT id FROM gone)"
        ),
        2 => format!(
            "WITH gone AS (DELETE FROM {table} RETURNING *), more AS (DELETE FROM {other} RETURNING *) SELECT count(*) FROM gone, more"
        ),
        3 => format!(
            "WITH put AS (INSERT INTO {other} (id) VALUES (9) RETURNING id) DELETE FROM {table} WHERE id IN (SELECT id FROM put)"
        ),
        _ => format!(
            "CREATE TEMP TABLE IF NOT EXISTS gone AS WITH gone AS (SELECT keepsake.soft_delete('{table}', 3)) SELECT * FROM gone"
        ),
    })
}

fn merge(words: &mut Words) -> Phrase {
    let (table, column) = (words.table(), words.column());
    let value = words.value(column);
    let matched = match words.number(4) {
        0 => format!("UPDATE SET {column} = {value}"),
        1 => "DO NOTHING".to_owned(),
        _ => "DELETE".to_owned(),
    };
    let also = words.pick(&["", "WHEN MATCHED AND s.n % 2 = 0 THEN UPDATE SET n = 7"]);
    one(format!(
        "MERGE INTO {table} AS t USING generate_series(2, 7) AS s (n) ON t.id = s.n {also} WHEN MATCHED THEN {matched} WHEN NOT MATCHED THEN INSERT (id, k, label) VALUES (s.n, 1, 'merged')"
    ))
}

fn truncate(words: &mut Words) -> Phrase {
    let (table, other) = (words.table(), words.table());
    let how = words.pick(&["", " CASCADE", " RESTART IDENTITY"]);
    one(format!("TRUNCATE {table}, {other}{how}"))
}

fn copy(words: &mut Words) -> Phrase {
    let (table, condition) = (words.table(), words.condition());
    let (one_id, other) = (words.id(), words.id());
    let act = match words.number(4) {
        0 => Act::CopyOut(format!(
            "COPY (DELETE FROM {table} WHERE {condition} RETURNING *) TO STDOUT"
        )),
        1 => Act::CopyOut(format!("COPY {table} TO STDOUT")),
        2 => Act::CopyIn {
            sql: format!("COPY {table} FROM STDIN"),
            data: format!("{one_id}\t1\t\\N\tcopied\t0\t\\N\t\\N\n"),
        },
        _ => Act::CopyIn {
            sql: format!("COPY {table} (id, k, up) FROM STDIN"),
            data: format!("{one_id}\t1\t{other}\n{other}\t2\t\\N\n"),
        },
    };
    vec![Statement::of(act)]
}

fn cursor(words: &mut Words) -> Phrase {
    let (table, condition) = (words.table(), words.condition());
    let column = words.column();
    let value = words.value(column);
    let lock = words.pick(&[
        "",
        " FOR UPDATE",
        " FOR UPDATE",
        " FOR NO KEY UPDATE SKIP LOCKED",
    ]);
    let kind = words.pick(&["CURSOR", "CURSOR", "CURSOR WITH HOLD", "SCROLL CURSOR"]);
    let then = match words.number(4) {
        0 => format!("UPDATE {table} SET {column} = {value} WHERE CURRENT OF c"),
        1 => "MOVE ALL c".to_owned(),
        _ => format!("DELETE FROM {table} WHERE CURRENT OF c"),
    };
    all([
        format!("DECLARE c {kind} FOR SELECT * FROM {table} WHERE {condition}{lock}"),
        "FETCH 1 FROM c".to_owned(),
        then.clone(),
        "FETCH 2 FROM c".to_owned(),
        then,
        "CLOSE c".to_owned(),
    ])
}

fn prepare(words: &mut Words) -> Phrase {
    let (table, column) = (words.table(), words.column());
    let at = words.number(3);
    let id = words.id();
    match words.number(5) {
        0 => one(format!(
            "PREPARE q{at} (int) AS DELETE FROM {table} WHERE id = $1 RETURNING *"
        )),
        1 => one(format!(
            "PREPARE q{at} (int) AS UPDATE {table} SET {column} = {column}, deleted_at = now() WHERE id = $1"
        )),
        2 => one(format!("DEALLOCATE q{at}")),
        // Often enough for a generic plan.
        3 => all((0..7).map(|more| format!("EXECUTE q{at} ({})", id + more))),
        _ => one(format!("EXECUTE q{at} ({id})")),
    }
}

fn lock(words: &mut Words) -> Phrase {
    let (table, condition) = (words.table(), words.condition());
    let how = words.pick(&[
        "UPDATE",
        "SHARE",
        "KEY SHARE",
        "UPDATE SKIP LOCKED",
        "UPDATE NOWAIT",
    ]);
    one(match words.number(4) {
        0 => format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE NOWAIT"),
        1 => format!("SELECT pg_advisory_xact_lock_shared({})", words.id()),
        _ => format!("SELECT * FROM {table} WHERE {condition} FOR {how}"),
    })
}

fn explain(words: &mut Words) -> Phrase {
    let (table, condition) = (words.table(), words.condition());
    let options = words.pick(&[
        "",
        "ANALYZE",
        "(ANALYZE, VERBOSE, FORMAT json)",
        "(GENERIC_PLAN)",
    ]);
    let statement = match words.number(4) {
        0 => "EXECUTE q1 (3)".to_owned(),
        1 => format!("UPDATE {table} SET deleted_at = now() WHERE {condition}"),
        _ => format!("DELETE FROM {table} WHERE {condition}"),
    };
    one(format!("EXPLAIN {options} {statement}"))
}

fn constraints(words: &mut Words) -> Phrase {
    let when = words.pick(&["IMMEDIATE", "DEFERRED"]);
    one(format!("SET CONSTRAINTS ALL {when}"))
}

/// The session's own block of PL/pgSQL, which may do what a hostile trigger does.
fn block(words: &mut Words) -> Phrase {
    let body = hostile::nested(words, 3);
    let again = words.pick(&["", "", "COMMIT;", "ROLLBACK;"]);
    one(format!("DO $do$ BEGIN {body} {again} END $do$"))
}

fn settings(words: &mut Words) -> Phrase {
    one(words.pick(&[
        "SET search_path = sa, sb, public",
        "SET search_path = ''",
        "RESET search_path",
        "SET keepsake.include_deleted = on",
        "SET keepsake.include_deleted = off",
        "SET keepsake.actor = 'somebody'",
        r#"SELECT set_config('request.jwt.claims', '{"sub": "s", "tenant": "one"}', false)"#,
        "SELECT set_config('request.jwt.claims', '{broken', false)",
        "SET statement_timeout = '20ms'",
        "SET statement_timeout = '3s'",
        "SET lock_timeout = '1ms'",
        "SET session_replication_role = replica",
        "SET plan_cache_mode = force_generic_plan",
        "SET plan_cache_mode = auto",
        "SET constraint_exclusion = on",
        "SET row_security = off",
        "SET row_security = on",
        "SET DateStyle = 'German'",
        "SET IntervalStyle = 'iso_8601'",
        "SET enable_indexscan = off",
        "SET jit_above_cost = 0",
        "SET work_mem = '64kB'",
        "SET default_transaction_isolation = 'serializable'",
        "SET default_transaction_read_only = on",
        "RESET ALL",
        "DISCARD ALL",
        "DISCARD PLANS",
    ]))
}
