//! Calls of everything in the schema `keepsake`, with arguments that nobody expects.

use anyhow::Result;
use sqlx::{PgConnection, Row as _};

use crate::statement::{Phrase, Statement};
use crate::words::Words;

/// A function or procedure, as the catalog has it.
#[derive(Clone, Debug)]
pub struct Routine {
    pub name: String,
    pub is_procedure: bool,
    pub is_set: bool,
    pub result: String,
    pub arguments: Vec<String>,
    /// How many of them, at the end, may be left out.
    pub defaults: usize,
}

impl Routine {
    /// All of them, in an order that depends on nothing but their names.
    pub async fn all(connection: &mut PgConnection) -> Result<Vec<Self>> {
        let rows = sqlx::raw_sql(
            "SELECT p.proname::text, p.prokind = 'p', p.proretset, p.prorettype::regtype::text, p.pronargdefaults::int4,
                    coalesce((SELECT string_agg(t.kind::regtype::text, ',' ORDER BY t.at) FROM unnest(p.proargtypes) WITH ORDINALITY AS t (kind, at)), '')
             FROM pg_proc p WHERE p.pronamespace = 'keepsake'::regnamespace
             ORDER BY p.proname, pg_get_function_identity_arguments(p.oid)",
        )
        .fetch_all(connection)
        .await?;
        rows.iter()
            .map(|row| {
                let arguments: String = row.try_get(5)?;
                let defaults: i32 = row.try_get(4)?;
                Ok(Self {
                    name: row.try_get(0)?,
                    is_procedure: row.try_get::<Option<bool>, _>(1)?.unwrap_or_default(),
                    is_set: row.try_get(2)?,
                    result: row.try_get::<Option<String>, _>(3)?.unwrap_or_default(),
                    arguments: arguments
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(str::to_owned)
                        .collect(),
                    defaults: usize::try_from(defaults)?,
                })
            })
            .collect()
    }

    pub fn is_trigger(&self) -> bool {
        self.result == "trigger"
    }
}

/// A call of any of them.
pub fn anything(words: &mut Words) -> Phrase {
    let routines = std::sync::Arc::clone(&words.routines);
    let Some(routine) = routines.get(words.number(routines.len())) else {
        return Vec::new();
    };
    let least = routine.arguments.len() - routine.defaults;
    let given = least + words.number(routine.defaults + 1);
    let arguments: Vec<String> = routine.arguments[..given]
        .iter()
        .map(|kind| argument(words, kind))
        .collect();
    let call = format!("keepsake.{}({})", routine.name, arguments.join(", "));
    let sql = if routine.is_procedure {
        format!("CALL {call}")
    } else if routine.is_set && words.coin() {
        format!("SELECT * FROM {call}")
    } else {
        format!("SELECT {call}")
    };
    vec![Statement::call(sql)]
}

/// What an application, an owner or a schedule calls all day, with arguments that mostly make sense.
pub fn usual(words: &mut Words) -> Phrase {
    let (table, id, deletion) = (words.table(), words.id(), words.deletion());
    let key = words.random.weighted(&[(6, 0), (1, 1), (1, 2), (1, 3)]);
    let key = match key {
        0 => id.to_string(),
        1 => format!("'{id}'"),
        2 => format!("'{{\"id\": {id}}}'::jsonb"),
        _ => format!("'{{\"id\": {id}, \"k\": {}}}'::jsonb", 1 + id % 2),
    };
    let sql = match words.number(20) {
        0..=5 => format!("SELECT keepsake.soft_delete('{table}', {key})"),
        6..=9 => format!("SELECT keepsake.restore({deletion})"),
        10 => format!("SELECT keepsake.restore({deletion}, 'skip')"),
        11 => format!("SELECT * FROM keepsake.restore_conflicts({deletion})"),
        12 => format!("SELECT * FROM keepsake.plan_delete('{table}', {key})"),
        13 => format!("SELECT keepsake.hold('{table}', {key}, 'because')"),
        14 => format!("SELECT keepsake.hold({deletion}, 'because')"),
        15 => format!("SELECT keepsake.release({id})"),
        16 => format!("SELECT keepsake.purge_deletion({deletion})"),
        17 => format!("SELECT keepsake.set_deletion_retention({deletion}, '0')"),
        18 => format!("SELECT keepsake.manage('{table}')"),
        _ => "SELECT keepsake.purge_batch(100, now() + interval '40 days')".to_owned(),
    };
    vec![Statement::call(sql)]
}

/// What a schedule does, for all owners.
pub fn upkeep(words: &mut Words) -> Phrase {
    let rows = 1 + words.number(20);
    let sql = match words.number(10) {
        0..=4 => format!("SELECT keepsake.purge_batch({rows}, now() + interval '40 days')"),
        5 => format!("CALL keepsake.purge({rows})"),
        6 => format!("SELECT * FROM keepsake.purge_candidates({rows}, now() + interval '40 days')"),
        7 => "SELECT * FROM keepsake.purge_plan(now() + interval '40 days')".to_owned(),
        8 => format!("SELECT * FROM keepsake.lease_objects({rows}, '1 second')"),
        _ => "SELECT * FROM keepsake.doctor()".to_owned(),
    };
    vec![Statement {
        // The doctor reads with the rights of whoever asks.
        must_answer: !sql.contains("doctor"),
        ..Statement::call(sql)
    }]
}

/// A value of the type, of all kinds that there are.
fn argument(words: &mut Words, kind: &str) -> String {
    if words.one_in(12) {
        return format!("NULL::{}", if kind == "anyelement" { "int" } else { kind });
    }
    match kind {
        "regclass" | "oid" => relation(words, kind),
        "anyelement" => anyelement(words),
        "text" | "name" | "cstring" => format!("{}::{kind}", text(words)),
        "uuid" => words.deletion(),
        "integer" | "bigint" | "smallint" => {
            let number = words.pick(&["0", "1", "2", "-1", "32767", "100"]);
            let extreme = match (kind, words.number(8)) {
                ("integer", 0) => "2147483647",
                ("integer", 1) => "(-2147483648)",
                ("bigint", 0) => "9223372036854775807",
                ("bigint", 1) => "(-9223372036854775808)",
                _ => number,
            };
            format!("({extreme})::{kind}")
        }
        "interval" => format!(
            "interval '{}'",
            words.pick(&[
                "0",
                "1 second",
                "30 days",
                "-1 day",
                "178000000 years",
                "1 month -30 days",
                "200000 years"
            ])
        ),
        "timestamp with time zone" => words
            .pick(&[
                "now()",
                "now() + interval '40 days'",
                "'-infinity'::timestamptz",
                "'epoch'::timestamptz",
                "'4713-01-01 BC'::timestamptz",
                "'2200-01-01'::timestamptz",
            ])
            .to_owned(),
        "jsonb" | "json" => format!(
            "{}::{kind}",
            words.pick(&[
                "'{}'",
                "'[]'",
                "'null'",
                "'1'",
                r#"'"text"'"#,
                r#"'{"id": 1}'"#,
                r#"'{"id": null}'"#,
                r#"'{"id": 1e400}'"#,
                r#"'{"id": {"id": [1]}}'"#,
                r#"'{"files": [{"name": "a.png", "size": 5}]}'"#,
                r#"'{"host": "x", "Content-Type": "a"}'"#,
                "(repeat('[', 3000) || repeat(']', 3000))",
            ])
        ),
        "boolean" => words.pick(&["true", "false"]).to_owned(),
        "bytea" => words
            .pick(&[
                r"'\x'::bytea",
                r"'\x89504e470d0a1a0a'::bytea",
                "decode(repeat('ff', 100000), 'hex')",
            ])
            .to_owned(),
        other if other.ends_with("[]") => {
            words
                .pick(&["'{}'", "NULL", "'{NULL}'", "ARRAY[1]", "ARRAY[1, 2, 3]"])
                .to_owned()
                + "::"
                + other
        }
        other => format!("NULL::{other}"),
    }
}

fn relation(words: &mut Words, kind: &str) -> String {
    // The operator may do anything to the bystander, so he is not asked to.
    let theirs = !words.role.only_calls();
    match words.number(16) {
        0 => format!("0::oid::{kind}"),
        1 => format!("4294967295::oid::{kind}"),
        2 => format!("'pg_catalog.pg_class'::regclass::{kind}"),
        3 => format!("'keepsake.deletion'::regclass::{kind}"),
        4 => format!("'keepsake.metrics'::regclass::{kind}"),
        5 => format!("'pg_catalog.pg_class_oid_index'::regclass::{kind}"),
        6 => format!("'information_schema.tables'::regclass::{kind}"),
        7 if theirs => format!(
            "(SELECT oid FROM pg_class WHERE relname = 't0' AND relowner = (SELECT oid FROM pg_roles WHERE rolname = 'fuzz_c'))::{kind}"
        ),
        8 => format!("to_regclass('{}_pkey')::{kind}", words.table()),
        9 => format!("to_regclass('pg_temp.gone')::{kind}"),
        _ => format!("to_regclass('{}')::{kind}", words.table()),
    }
}

fn anyelement(words: &mut Words) -> String {
    let id = words.id();
    match words.number(14) {
        0 => format!("'{id}'::text"),
        1 => format!("'{id}'"),
        2 => format!("{id}::bigint"),
        3 => format!("{id}.5"),
        4 => format!("'{{\"id\": {id}}}'::jsonb"),
        5 => format!("'{{\"id\": {id}, \"k\": 1, \"extra\": 2}}'::jsonb"),
        6 => format!("ARRAY[{id}]"),
        7 => format!("ROW({id}, 'x')"),
        8 => "now()".to_owned(),
        9 => "repeat('9', 100000)".to_owned(),
        10 => "'pg_class'::regclass".to_owned(),
        11 => "'(0,1)'::tid".to_owned(),
        _ => id.to_string(),
    }
}

fn text(words: &mut Words) -> String {
    let column = words.column();
    let table = words.bare_table();
    match words.number(24) {
        0 => "''".to_owned(),
        1 => "repeat('x', 1000000)".to_owned(),
        2 => r#"'"; DROP TABLE sa.t0; --'"#.to_owned(),
        3 => r"E'\u0001\n\u202e'".to_owned(),
        4 => "'😀'".to_owned(),
        5 => "repeat('é', 64)".to_owned(),
        6 | 7 => format!("'{column}'"),
        8 => format!("'{table}_up_fkey'"),
        9 => format!("'{}'", words.id()),
        _ => format!(
            "'{}'",
            words.pick(&[
                "cascade",
                "restrict",
                "set null",
                "set default",
                "view",
                "policy",
                "nothing",
                "convert",
                "reject",
                "allow",
                "fail",
                "skip",
                "GET",
                "image/png",
                "a.png",
                "../a",
                "one",
                "t0",
                "now",
            ])
        ),
    }
}
