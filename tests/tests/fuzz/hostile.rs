//! Code of an owner's that runs inside Keepsake: triggers, conditions of policies, indexes, domains and
//! checks. It tries to come by rights, to leave something behind, and to fail at the worst moment.

use crate::statement::{Phrase, all, one};
use crate::words::Words;

type Make = fn(&mut Words) -> Phrase;

pub const PHRASES: [(usize, Make); 17] = [
    (8, trigger),
    (4, trigger_function),
    (3, keepsakes_own_trigger),
    (3, keepsakes_own_trigger_everywhere),
    (2, constraint_trigger),
    (2, deferred_from_a_purge),
    (2, nested_restores),
    (2, function_in_expression),
    (2, policy),
    (1, cast),
    (1, rule),
    (1, wrapper),
    (1, materialized),
    (2, capture),
    (2, exchange_in_a_trigger),
    (2, bound_storage),
    (1, drop_hostile),
];

/// What stands at the head of a trigger. That it runs as one who only ever calls Keepsake is written to the server's
/// log, where it stays even when the transaction is rolled back, and used. So is that it runs as the other owner, who
/// has no rights by which he could write to these tables himself.
fn probe(words: &mut Words) -> String {
    let other = match words.own_schema() {
        "sa" => "fuzz_b",
        _ => "fuzz_a",
    };
    let others =
        format!("'{other}', 'fuzz_operator', 'fuzz_worker', 'fuzz_nobody', 'fuzz_c', 'postgres'");
    probe_for(words, &others)
}

/// The same for what a policy may call, which is about the role that asks: a superuser asks none.
fn probe_of_policies(words: &mut Words) -> String {
    probe_for(words, "'fuzz_operator', 'postgres'")
}

fn probe_for(words: &mut Words, others: &str) -> String {
    let name = words.role.name();
    let then = match words.number(3) {
        0 => format!("EXECUTE 'ALTER ROLE {name} SUPERUSER';"),
        1 => format!("EXECUTE 'GRANT fuzz_operator TO {name}';"),
        _ => String::new(),
    };
    format!(
        "IF current_user IN ({others}) THEN RAISE WARNING 'owner code runs as %', current_user; {then} END IF;"
    )
}

/// Statements in the language PL/pgSQL, some in blocks that catch what they raise.
pub fn nested(words: &mut Words, depth: usize) -> String {
    let count = 1 + words.number(2);
    let mut body = String::new();
    for _ in 0..count {
        let statement = if depth > 0 && words.one_in(3) {
            let (inner, handler) = (nested(words, depth - 1), caught(words, depth));
            let which = words.pick(&[
                "OTHERS",
                "OTHERS",
                "foreign_key_violation",
                "integrity_constraint_violation",
            ]);
            format!("BEGIN {inner} EXCEPTION WHEN {which} THEN {handler} END;")
        } else {
            statement(words)
        };
        body.push_str(&statement);
        body.push(' ');
    }
    body
}

/// What follows a caught error. One that should not exist is written to the log.
fn caught(words: &mut Words, depth: usize) -> String {
    let tell = "IF SQLSTATE LIKE 'XX%' OR SQLERRM LIKE '%panicked%' THEN RAISE WARNING 'caught an internal error: % %', SQLSTATE, SQLERRM; END IF;";
    let then = match words.number(5) {
        0 => "RAISE;".to_owned(),
        1 => nested(words, depth - 1),
        _ => String::new(),
    };
    format!("{tell} {then}")
}

fn statement(words: &mut Words) -> String {
    let (table, id, deletion) = (words.table(), words.id(), words.deletion());
    let own = words.own_schema();
    match words.number(38) {
        0..=3 => format!("PERFORM keepsake.soft_delete('{table}', {id});"),
        4..=7 => format!("PERFORM keepsake.restore({deletion});"),
        8 => format!("PERFORM keepsake.restore({deletion}, 'skip');"),
        9 => format!("PERFORM keepsake.purge_deletion({deletion});"),
        10 => "PERFORM keepsake.purge_batch(10, now() + interval '40 days');".to_owned(),
        11 => format!("PERFORM keepsake.hold('{table}', {id}, 'because');"),
        12 | 13 => format!("DELETE FROM {table} WHERE {};", words.condition()),
        14 => {
            let column = words.column();
            let value = words.value(column);
            format!(
                "UPDATE {table} SET {column} = {value} WHERE {};",
                words.condition()
            )
        }
        15 => format!("INSERT INTO {table} (id, label) VALUES ({id}, 'from a trigger');"),
        16 => format!("INSERT INTO {own}.j (id) VALUES ({id});"),
        17 => raise(words),
        18 => raise(words),
        19 => format!(
            "PERFORM set_config('{}', '{}', {});",
            words.pick(&[
                "search_path",
                "work_mem",
                "DateStyle",
                "keepsake.actor",
                "row_security",
                "session_replication_role"
            ]),
            words.pick(&["sa", "64kB", "German", "0", "off", "replica"]),
            words.pick(&["false", "false", "true"]),
        ),
        20 => format!("EXECUTE 'DECLARE held{id} CURSOR WITH HOLD FOR SELECT 1';"),
        21 => "EXECUTE 'CREATE TEMP TABLE IF NOT EXISTS left_behind (id int)';".to_owned(),
        22 => format!(
            "EXECUTE '{}';",
            words.pick(&[
                "LISTEN something",
                "PREPARE left_behind AS SELECT 1",
                "DEALLOCATE ALL",
                "SET ROLE NONE",
                "RESET SESSION AUTHORIZATION",
                "RESET ALL",
                "SET search_path = sa",
                "SET LOCAL work_mem = 64",
                "SET CONSTRAINTS ALL IMMEDIATE",
                "SET CONSTRAINTS ALL DEFERRED",
                "CLOSE ALL",
                "NOTIFY something",
                "SAVEPOINT s",
                "COMMIT",
                "VACUUM",
                "DISCARD TEMP",
                "SET TRANSACTION READ ONLY",
            ])
        ),
        23 => format!(
            "EXECUTE 'ALTER TABLE {table} ADD COLUMN IF NOT EXISTS x{} int';",
            words.number(3)
        ),
        24 => format!("EXECUTE 'DROP TABLE IF EXISTS {table} CASCADE';"),
        25 => format!(
            "EXECUTE 'DROP TRIGGER IF EXISTS {} ON {table}';",
            keepsakes_trigger(words)
        ),
        26 => format!(
            "EXECUTE 'ALTER TABLE {table} RENAME {} TO {}';",
            words.column(),
            words.column()
        ),
        27 => format!("EXECUTE 'TRUNCATE {table} CASCADE';"),
        28 => format!("PERFORM keepsake.manage('{table}');"),
        29 => format!(
            "PERFORM * FROM {table} WHERE {} FOR UPDATE;",
            words.condition()
        ),
        30 => format!(
            "PERFORM keepsake.plan_delete('{table}', {id}), keepsake.restore_conflicts({deletion});"
        ),
        31 => "PERFORM pg_sleep(0.002);".to_owned(),
        33 => "PERFORM set_config('exit_on_error', 'on', true);".to_owned(),
        // Not by DECLARE, so no command is refused.
        34 => format!("DECLARE c refcursor := 'stays{id}'; BEGIN OPEN c FOR SELECT current_user; END;"),
        35 => "DECLARE c refcursor := 'secret'; r record; BEGIN FETCH c INTO r; RAISE WARNING 'owner code runs as a reader of %', r; CLOSE c; END;".to_owned(),
        36 => exchange_for_view(words),
        32 => format!(
            "MERGE INTO {table} AS t USING (VALUES ({id})) AS s (n) ON t.id = s.n WHEN MATCHED THEN DELETE;"
        ),
        _ => {
            let call: Vec<String> = crate::calls::anything(words)
                .iter()
                .map(crate::statement::Statement::sql)
                .collect();
            match call.concat().strip_prefix("SELECT ") {
                Some(call) => format!("PERFORM {call}"),
                None => String::new(),
            }
        }
    }
}

/// Puts a view, whose reader runs code, in the place of a table.
fn exchange_for_view(words: &mut Words) -> String {
    let own = words.own_schema();
    let table = words.pick(&["guest", "guest", "t1", "t2", "p", "o"]);
    let columns =
        "id int, k int, up int, label text, n int, deleted_at timestamptz, deletion_id uuid";
    format!(
        "EXECUTE 'DROP TABLE IF EXISTS {own}.{table} CASCADE'; EXECUTE 'CREATE TABLE IF NOT EXISTS {own}.behind ({columns})'; INSERT INTO {own}.behind SELECT n, 1, n, 'behind' FROM generate_series(1, 6) AS n; EXECUTE 'CREATE VIEW {own}.{table} AS SELECT id, k, up, {own}.g0(label) AS label, n, deleted_at, deletion_id FROM {own}.behind'; EXECUTE 'CREATE TRIGGER i INSTEAD OF UPDATE OR DELETE ON {own}.{table} FOR EACH ROW EXECUTE FUNCTION {own}.f0()'; EXECUTE 'GRANT ALL ON {own}.{table}, {own}.behind TO PUBLIC';"
    )
}

fn raise(words: &mut Words) -> String {
    let code = words.pick(&[
        "P0001", "40001", "40P01", "57014", "55P03", "23505", "23503", "23514", "53200", "02000",
        "P0002", "23000", "09000",
    ]);
    format!(
        "RAISE EXCEPTION 'by a trigger' USING ERRCODE = '{code}', DETAIL = 'of its own', CONSTRAINT = 'none', TABLE = 't0';"
    )
}

/// So that most recursions end; some are left to PostgreSQL's limit of the stack.
fn bound(words: &mut Words) -> String {
    if words.one_in(12) {
        return String::new();
    }
    format!(
        "IF pg_trigger_depth() > {} THEN RETURN coalesce(NEW, OLD); END IF;",
        1 + words.number(7)
    )
}

fn result(words: &mut Words) -> &'static str {
    words.pick(&[
        "coalesce(NEW, OLD)",
        "coalesce(NEW, OLD)",
        "coalesce(NEW, OLD)",
        "NULL",
        "NEW",
        "OLD",
    ])
}

fn make_function(name: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN {body} END $body$"
    )
}

fn trigger_function(words: &mut Words) -> Phrase {
    let own = words.own_schema();
    let at = words.number(4);
    let body = [probe(words), bound(words), change(words), nested(words, 2)].concat();
    let result = result(words);
    one(make_function(
        &format!("{own}.f{at}"),
        &format!("{body} RETURN {result};"),
    ))
}

/// What a BEFORE trigger does to its row.
fn change(words: &mut Words) -> String {
    if !words.one_in(6) {
        return String::new();
    }
    let column = words.column();
    let value = words.value(column);
    format!("NEW.{column} := {value}; ")
}

fn trigger(words: &mut Words) -> Phrase {
    let mut phrase = trigger_function(words);
    let (own, table) = (words.own_schema(), words.own_table());
    let at = words.number(4);
    let (event, each) = shape(words);
    // Some come before Keepsake's own, in the order of names, some behind.
    let name = words.pick(&["a_trigger", "m_trigger", "z_trigger"]);
    phrase.extend(one(format!(
        "CREATE OR REPLACE TRIGGER {name} {event} ON {table} {each} EXECUTE FUNCTION {own}.f{at}()"
    )));
    phrase
}

/// When a trigger fires, and how often.
fn shape(words: &mut Words) -> (String, String) {
    let time = words.pick(&["BEFORE", "BEFORE", "AFTER", "INSTEAD OF"]);
    let event = words.pick(&[
        "INSERT",
        "UPDATE",
        "UPDATE",
        "DELETE",
        "DELETE",
        "INSERT OR UPDATE OR DELETE",
        "UPDATE OF label, deleted_at",
        "TRUNCATE",
    ]);
    let when = words.pick(&[
        "",
        "",
        "",
        "WHEN (pg_trigger_depth() < 9)",
        "WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)",
        "WHEN (NEW.deleted_at IS NULL)",
    ]);
    let transition = if time == "AFTER" && words.one_in(3) {
        words.pick(&[
            "REFERENCING NEW TABLE AS keepsake_new",
            "REFERENCING OLD TABLE AS keepsake_old",
            "REFERENCING OLD TABLE AS o NEW TABLE AS n",
        ])
    } else {
        ""
    };
    let each = words.pick(&["ROW", "ROW", "STATEMENT"]);
    (
        format!("{time} {event}"),
        format!("{transition} FOR EACH {each} {when}"),
    )
}

/// A trigger function of Keepsake's, where and when it was never meant to be called.
fn keepsakes_own_trigger(words: &mut Words) -> Phrase {
    let table = words.own_table();
    let (event, each) = shape(words);
    let function = keepsakes_function(words);
    let arguments = words.pick(&[
        "",
        "",
        "",
        "'label'",
        "'id'",
        "'label', 'n'",
        "'a', 'b', 'c', 'd'",
        "''",
    ]);
    let at = words.number(3);
    one(format!(
        "CREATE OR REPLACE TRIGGER k{at} {event} ON {table} {each} EXECUTE FUNCTION keepsake.{function}({arguments})"
    ))
}

/// The same at every time at which a trigger may fire, followed by statements that fire it.
fn keepsakes_own_trigger_everywhere(words: &mut Words) -> Phrase {
    let table = words.own_table();
    let function = keepsakes_function(words);
    let event = words.pick(&["INSERT", "UPDATE", "DELETE", "TRUNCATE"]);
    let each = if event == "TRUNCATE" {
        "STATEMENT"
    } else {
        words.pick(&["ROW", "STATEMENT"])
    };
    let time = words.pick(&["BEFORE", "AFTER"]);
    let fire = match event {
        "INSERT" => format!(
            "INSERT INTO {table} (id, k) SELECT n, 1 FROM generate_series(1, 30) AS n ON CONFLICT DO NOTHING"
        ),
        "UPDATE" => format!("UPDATE {table} SET label = 'fired', deleted_at = deleted_at"),
        "DELETE" => format!("DELETE FROM {table}"),
        _ => format!("TRUNCATE {table} CASCADE"),
    };
    all([
        format!(
            "CREATE TRIGGER k9 {time} {event} ON {table} FOR EACH {each} EXECUTE FUNCTION keepsake.{function}()"
        ),
        fire,
        format!("DROP TRIGGER IF EXISTS k9 ON {table}"),
    ])
}

fn keepsakes_function(words: &mut Words) -> String {
    let routines = std::sync::Arc::clone(&words.routines);
    let triggers: Vec<_> = routines
        .iter()
        .filter(|routine| routine.is_trigger())
        .collect();
    match triggers.get(words.number(triggers.len().max(1))) {
        Some(routine) => routine.name.clone(),
        None => "protect_state".to_owned(),
    }
}

pub fn keepsakes_trigger(words: &mut Words) -> &'static str {
    words.pick(&[
        "keepsake_convert_delete",
        "keepsake_refuse_delete",
        "keepsake_allow_delete",
        "keepsake_refuse_marked",
        "keepsake_protect_state",
        "keepsake_keep_row_key",
        "keepsake_refuse_truncate",
        "keepsake_finish_statement",
        "keepsake_begin_statement",
        "keepsake_guard_insert",
        "keepsake_guard_update",
        "keepsake_guard_moved",
        "k0",
        "k1",
        "k2",
        "a_trigger",
        "m_trigger",
        "z_trigger",
    ])
}

fn constraint_trigger(words: &mut Words) -> Phrase {
    let mut phrase = trigger_function(words);
    let (own, table) = (words.own_schema(), words.own_table());
    let event = words.pick(&["INSERT", "UPDATE", "DELETE", "INSERT OR UPDATE OR DELETE"]);
    let when = words.pick(&[
        "DEFERRABLE INITIALLY DEFERRED",
        "DEFERRABLE INITIALLY IMMEDIATE",
        "",
    ]);
    let (function, name) = (words.number(4), words.number(2));
    phrase.extend(one(format!(
        "CREATE CONSTRAINT TRIGGER c{name} AFTER {event} ON {table} {when} FOR EACH ROW EXECUTE FUNCTION {own}.f{function}()"
    )));
    phrase
}

/// When somebody else purges the owner's rows, a trigger leaves something behind for the end of his transaction.
fn deferred_from_a_purge(words: &mut Words) -> Phrase {
    let (own, table) = (words.own_schema(), words.own_table());
    let late = [probe(words), nested(words, 1)].concat();
    let leave = match words.number(4) {
        0 => "PERFORM set_config('search_path', 'sa', false);".to_owned(),
        1 => "EXECUTE 'DECLARE left_open CURSOR WITH HOLD FOR SELECT 1';".to_owned(),
        _ => format!("INSERT INTO {own}.j (id) VALUES (1);"),
    };
    let event = words.pick(&["DELETE", "DELETE", "UPDATE"]);
    let id = words.id();
    all([
        make_function(&format!("{own}.late"), &format!("{late} RETURN NULL;")),
        format!("DROP TRIGGER IF EXISTS late ON {own}.j"),
        format!(
            "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON {own}.j DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {own}.late()"
        ),
        make_function(
            &format!("{own}.early"),
            &format!("{} {leave} RETURN coalesce(NEW, OLD);", probe(words)),
        ),
        format!(
            "CREATE OR REPLACE TRIGGER early BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {own}.early()"
        ),
        format!("SELECT keepsake.set_retention('{table}', '0')"),
        format!("SELECT keepsake.soft_delete('{table}', {id})"),
    ])
}

/// Each row that comes back brings back the next; the last one fails.
fn nested_restores(words: &mut Words) -> Phrase {
    let (own, table) = (words.own_schema(), words.own_table());
    let depth = 2 + words.number(8);
    let fail = raise(words);
    let restore = format!(
        "PERFORM keepsake.restore((SELECT deletion_id FROM {table} WHERE deletion_id IS NOT NULL AND id > NEW.id ORDER BY id LIMIT 1));"
    );
    let restore = match words.number(4) {
        0 => format!(
            "BEGIN {restore} EXCEPTION WHEN OTHERS THEN {} END;",
            caught(words, 1)
        ),
        1 => restore.replace("));", "), 'skip');"),
        _ => restore,
    };
    let body = format!(
        "{} IF NEW.deleted_at IS NULL AND OLD.deleted_at IS NOT NULL THEN IF NEW.id >= {depth} THEN {fail} END IF; {restore} END IF; RETURN NEW;",
        probe(words)
    );
    let time = words.pick(&["BEFORE", "AFTER"]);
    let mut phrase = all([
        make_function(&format!("{own}.again"), &body),
        format!(
            "INSERT INTO {table} (id, k) SELECT n, 1 FROM generate_series(1, 9) AS n ON CONFLICT DO NOTHING"
        ),
    ]);
    phrase.extend((1..10).map(|id| {
        crate::statement::Statement::call(format!(
            "SELECT keepsake.soft_delete('{table}', '{{\"id\": {id}, \"k\": 1}}'::jsonb - '{}')",
            if table.contains(".p") { "" } else { "k" }
        ))
    }));
    phrase.extend(all([
        format!("CREATE OR REPLACE TRIGGER again {time} UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {own}.again()"),
        format!("SELECT keepsake.restore((SELECT deletion_id FROM {table} WHERE deletion_id IS NOT NULL ORDER BY id LIMIT 1))"),
    ]));
    if words.coin() {
        phrase.extend(one(format!("DROP TRIGGER IF EXISTS again ON {table}")));
    }
    phrase
}

/// A function behind a domain, an index, a check, a default or a generated column.
fn function_in_expression(words: &mut Words) -> Phrase {
    let (own, table) = (words.own_schema(), words.own_table());
    let at = words.number(2);
    let (probe, body) = (
        probe_of_policies(words),
        if words.coin() {
            String::new()
        } else {
            nested(words, 1)
        },
    );
    let mut phrase = one(format!(
        "CREATE OR REPLACE FUNCTION {own}.g{at}(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $body$ BEGIN {probe} {body} RETURN given; END $body$"
    ));
    phrase.extend(match words.number(6) {
        0 => one(format!("CREATE INDEX ON {table} ({own}.g{at}(label))")),
        1 => one(format!(
            "CREATE UNIQUE INDEX ON {table} ({own}.g{at}(label)) WHERE deleted_at IS NULL"
        )),
        2 => one(format!(
            "ALTER TABLE {table} ADD CHECK ({own}.g{at}(label) IS NULL OR n < 1000000)"
        )),
        3 => all([
            format!("CREATE DOMAIN {own}.dom AS int CHECK ({own}.g{at}(VALUE::text) IS NOT NULL)"),
            format!(
                "ALTER TABLE {table} ALTER {} TYPE {own}.dom",
                words.column()
            ),
        ]),
        4 => one(format!(
            "ALTER TABLE {table} ADD COLUMN x1 text GENERATED ALWAYS AS ({own}.g{at}(label)) STORED"
        )),
        _ => one(format!(
            "ALTER TABLE {table} ALTER label SET DEFAULT {own}.g{at}('default')"
        )),
    });
    phrase
}

fn policy(words: &mut Words) -> Phrase {
    let (own, table) = (words.own_schema(), words.own_table());
    let at = words.number(2);
    let command = words.pick(&["ALL", "SELECT", "UPDATE", "DELETE", "INSERT"]);
    let kind = words.pick(&["PERMISSIVE", "PERMISSIVE", "RESTRICTIVE"]);
    let condition = match words.number(5) {
        0 => format!("{own}.g{at}(label) IS NULL OR true"),
        1 => "deleted_at IS NULL".to_owned(),
        2 => format!("id IN (SELECT id FROM {})", words.table()),
        3 => "current_user <> 'fuzz_app'".to_owned(),
        _ => "true".to_owned(),
    };
    let clause = if command == "INSERT" {
        "WITH CHECK"
    } else {
        "USING"
    };
    let name = words.number(2);
    let switch = words.pick(&["ENABLE", "ENABLE", "FORCE", "DISABLE", "NO FORCE"]);
    all([
        format!("ALTER TABLE {table} {switch} ROW LEVEL SECURITY"),
        format!("DROP POLICY IF EXISTS p{name} ON {table}"),
        format!("CREATE POLICY p{name} ON {table} AS {kind} FOR {command} {clause} ({condition})"),
    ])
}

/// A type of the owner's own, with a cast that runs code.
fn cast(words: &mut Words) -> Phrase {
    let (own, table, column) = (words.own_schema(), words.own_table(), words.column());
    let (probe, body) = (probe(words), nested(words, 1));
    let target = words.pick(&["text", "int", "uuid", "timestamptz"]);
    all([
        format!("CREATE TYPE {own}.wrapped AS (t text)"),
        format!(
            "CREATE OR REPLACE FUNCTION {own}.unwrap({own}.wrapped) RETURNS {target} LANGUAGE plpgsql AS $body$ BEGIN {probe} {body} RETURN ($1).t; END $body$"
        ),
        format!(
            "CREATE CAST ({own}.wrapped AS {target}) WITH FUNCTION {own}.unwrap({own}.wrapped) AS IMPLICIT"
        ),
        format!(
            "ALTER TABLE {table} ALTER {column} TYPE {own}.wrapped USING ROW({column}::text)::{own}.wrapped"
        ),
    ])
}

fn rule(words: &mut Words) -> Phrase {
    let (table, other) = (words.own_table(), words.table());
    let event = words.pick(&["DELETE", "UPDATE", "INSERT"]);
    let (also, action) = match words.number(3) {
        0 => ("INSTEAD", "NOTHING".to_owned()),
        1 => ("ALSO", format!("DELETE FROM {other} WHERE id = 3")),
        _ => (
            "INSTEAD",
            format!("UPDATE {other} SET deleted_at = now() WHERE id = 2"),
        ),
    };
    all(if words.coin() {
        vec![format!(
            "CREATE OR REPLACE RULE r AS ON {event} TO {table} DO {also} {action}"
        )]
    } else {
        vec![format!("DROP RULE IF EXISTS r ON {table}")]
    })
}

/// A function with its owner's rights that calls Keepsake for others.
fn wrapper(words: &mut Words) -> Phrase {
    let (own, table) = (words.own_schema(), words.table());
    let body = nested(words, 2);
    all([
        format!(
            "CREATE OR REPLACE FUNCTION {own}.wrapper() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$ BEGIN {body} END $body$"
        ),
        format!("SELECT {own}.wrapper() FROM {table}"),
    ])
}

/// When a row is deleted, its trigger exchanges what the deletion comes to next.
fn exchange_in_a_trigger(words: &mut Words) -> Phrase {
    let own = words.own_schema();
    let table = words.pick(&["t0", "t1"]);
    let (g, f, id) = (probe(words), probe(words), words.id());
    let exchange = exchange_for_view(words);
    let how = words.pick(&["soft_delete", "soft_delete", "restore"]);
    let when = if how == "restore" {
        "OLD.deleted_at IS NOT NULL"
    } else {
        "NEW.deleted_at IS NOT NULL"
    };
    let call = if how == "restore" {
        format!("SELECT keepsake.restore((SELECT deletion_id FROM {own}.{table} WHERE id = {id}))")
    } else {
        format!("SELECT keepsake.soft_delete('{own}.{table}', {id})")
    };
    all([
        format!("SELECT keepsake.soft_delete('{own}.{table}', {id}) WHERE '{how}' = 'restore'"),
        format!(
            "CREATE OR REPLACE FUNCTION {own}.g0(given text) RETURNS text LANGUAGE plpgsql AS $body$ BEGIN {g} RETURN given; END $body$"
        ),
        make_function(
            &format!("{own}.f0"),
            &format!("{f} RETURN coalesce(NEW, OLD);"),
        ),
        make_function(
            &format!("{own}.swap"),
            &format!("IF {when} THEN {exchange} END IF; RETURN NEW;"),
        ),
        format!(
            "CREATE OR REPLACE TRIGGER swap BEFORE UPDATE ON {own}.{table} FOR EACH ROW EXECUTE FUNCTION {own}.swap()"
        ),
        call,
        format!("DROP TRIGGER IF EXISTS swap ON {own}.{table}"),
    ])
}

/// Rows that name objects, in a column that becomes another.
fn bound_storage(words: &mut Words) -> Phrase {
    let own = words.own_schema();
    let kind = words.kind();
    let value = words.pick(&["NULL", r"E'\x01\x01AAAAAA'", "'1'", "repeat('a', 60)"]);
    let purge = words.pick(&["SELECT keepsake.purge_batch(100)", "SELECT 1"]);
    all([
        format!("DROP TABLE IF EXISTS {own}.o CASCADE"),
        format!(
            "CREATE TABLE {own}.o (id int PRIMARY KEY, k int, up int, label text NOT NULL, n int)"
        ),
        format!("CREATE INDEX ON {own}.o (label)"),
        format!("SELECT keepsake.manage('{own}.o', '0')"),
        format!("SELECT keepsake.bind_storage('{own}.o', 'label')"),
        format!(
            "INSERT INTO {own}.o (id, label) SELECT n, repeat('a', 59 + n) FROM generate_series(1, 5) AS n"
        ),
        format!("DELETE FROM {own}.o WHERE id < 4"),
        purge.to_owned(),
        format!("ALTER TABLE {own}.o RENAME label TO x1"),
        format!("ALTER TABLE {own}.o ALTER x1 DROP NOT NULL"),
        format!("ALTER TABLE {own}.o ADD label {kind}"),
        format!("INSERT INTO {own}.o (id, label) VALUES (8, {value})"),
        format!("CREATE INDEX ON {own}.o (label)"),
    ])
}

/// An operator or function by a name of PostgreSQL's own, found first by whom the path leads there.
fn capture(words: &mut Words) -> Phrase {
    let own = words.own_schema();
    let probe = probe(words);
    let path = words.pick(&[
        "SET search_path = sa, sb, pg_catalog",
        "SET search_path = pg_temp, sa, pg_catalog",
        "RESET search_path",
    ]);
    let function = |name: &str, arguments: &str, result: &str, body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION {own}.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql AS $body$ BEGIN {probe} RETURN {body}; END $body$"
        )
    };
    let mut phrase = match words.number(4) {
        0 => all([
            function(
                "same",
                "int, int",
                "boolean",
                "$1 OPERATOR(pg_catalog.=) $2",
            ),
            format!(
                "CREATE OPERATOR {own}.= (LEFTARG = int, RIGHTARG = int, FUNCTION = {own}.same)"
            ),
        ]),
        1 => all([
            function(
                "same_id",
                "uuid, uuid",
                "boolean",
                "$1 OPERATOR(pg_catalog.=) $2",
            ),
            format!(
                "CREATE OPERATOR {own}.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = {own}.same_id)"
            ),
        ]),
        2 => one(function("now", "", "timestamptz", "pg_catalog.now()")),
        _ => one(function("count", "anyelement", "bigint", "1")),
    };
    phrase.extend(one(path));
    phrase
}

fn materialized(words: &mut Words) -> Phrase {
    let (own, table, id) = (words.own_schema(), words.own_table(), words.id());
    all([
        format!(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS {own}.m AS SELECT *, keepsake.soft_delete('{table}', {id}) FROM {table}"
        ),
        format!("REFRESH MATERIALIZED VIEW {own}.m"),
    ])
}

fn drop_hostile(words: &mut Words) -> Phrase {
    let own = words.own_schema();
    let at = words.number(4);
    one(match words.number(3) {
        0 => format!("DROP FUNCTION IF EXISTS {own}.f{at} CASCADE"),
        1 => format!("DROP FUNCTION IF EXISTS {own}.g{at}(text) CASCADE"),
        _ => format!("DROP DOMAIN IF EXISTS {own}.dom CASCADE"),
    })
}
