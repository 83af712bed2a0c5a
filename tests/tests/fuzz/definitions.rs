//! What an owner does to the shape of his tables.

use crate::hostile::keepsakes_trigger;
use crate::statement::{Phrase, Statement, all, one};
use crate::words::Words;
use crate::world::{self, TABLES};

type Make = fn(&mut Words) -> Phrase;

pub const PHRASES: [(usize, Make); 21] = [
    (4, rename_column),
    (2, rename_table),
    (3, change_type),
    (3, add_column),
    (2, drop_column),
    (5, exchange),
    (2, column_rules),
    (5, reference),
    (3, index),
    (2, constraint),
    (6, partition),
    (2, inherit),
    (3, switch_trigger),
    (1, drop_table),
    (1, drop_much),
    (2, view),
    (2, maintain),
    (6, keepsakes),
    (1, shadow),
    (1, foreign),
    (14, rebuild),
];

fn rename_column(words: &mut Words) -> Phrase {
    let (table, from, to) = (words.own_table(), words.column(), words.column());
    one(format!("ALTER TABLE {table} RENAME {from} TO {to}"))
}

fn rename_table(words: &mut Words) -> Phrase {
    let table = words.own_table();
    let to = words.pick(&["y0", "y1", "t0", "t1", "t2", "t3", "p", "v"]);
    one(format!("ALTER TABLE {table} RENAME TO {to}"))
}

fn change_type(words: &mut Words) -> Phrase {
    let (table, column, kind) = (words.own_table(), words.column(), words.kind());
    let using = words.pick(&["", " USING NULL", " USING NULL"]);
    one(format!(
        "ALTER TABLE {table} ALTER {column} TYPE {kind}{using}"
    ))
}

fn add_column(words: &mut Words) -> Phrase {
    let (table, column, kind) = (words.own_table(), words.column(), words.kind());
    let more = words.pick(&[
        "",
        "",
        " NOT NULL",
        " DEFAULT NULL",
        " UNIQUE",
        " GENERATED ALWAYS AS (NULL) STORED",
    ]);
    one(format!(
        "ALTER TABLE {table} ADD COLUMN {column} {kind}{more}"
    ))
}

fn drop_column(words: &mut Words) -> Phrase {
    let (table, column) = (words.own_table(), words.column());
    let how = words.pick(&["", " CASCADE", " CASCADE"]);
    one(format!("ALTER TABLE {table} DROP COLUMN {column}{how}"))
}

/// A column makes place for another of its name, and the rows are written and deleted.
fn exchange(words: &mut Words) -> Phrase {
    let table = words.own_table();
    let column = words.pick(&[
        "deletion_id",
        "deletion_id",
        "deleted_at",
        "id",
        "up",
        "label",
    ]);
    let kind = words.kind();
    let (id, more) = (words.id(), words.number(9));
    let away = if words.one_in(3) {
        format!("ALTER TABLE {table} DROP COLUMN {column} CASCADE")
    } else {
        format!("ALTER TABLE {table} RENAME {column} TO x1")
    };
    let then = match words.number(5) {
        0 => format!("SELECT keepsake.soft_delete('{table}', {id})"),
        1 => format!("UPDATE {table} SET deleted_at = now()"),
        2 => format!("INSERT INTO {table} (id, {column}) VALUES ({more}, NULL)"),
        3 => format!("SELECT keepsake.restore({})", words.deletion()),
        _ => format!("DELETE FROM {table}"),
    };
    all([
        away,
        format!("ALTER TABLE {table} ADD {column} {kind}"),
        then,
    ])
}

fn column_rules(words: &mut Words) -> Phrase {
    let (table, column) = (words.own_table(), words.column());
    let value = words.value(column);
    let rule = words.pick(&[
        "DROP NOT NULL",
        "SET NOT NULL",
        "DROP DEFAULT",
        "SET STORAGE EXTERNAL",
        "SET STATISTICS 10",
        "DROP EXPRESSION",
    ]);
    one(if words.one_in(3) {
        format!("ALTER TABLE {table} ALTER {column} SET DEFAULT {value}")
    } else {
        format!("ALTER TABLE {table} ALTER {column} {rule}")
    })
}

fn reference(words: &mut Words) -> Phrase {
    let (table, parent) = (words.own_table(), words.table());
    let action = words.pick(&[
        "CASCADE",
        "CASCADE",
        "SET NULL",
        "SET DEFAULT",
        "RESTRICT",
        "NO ACTION",
        "SET NULL (up)",
    ]);
    let late = words.pick(&[
        "",
        "",
        " DEFERRABLE",
        " DEFERRABLE INITIALLY DEFERRED",
        " NOT VALID",
    ]);
    let columns = words.pick(&[
        "(up) REFERENCES PARENT (id)",
        "(up) REFERENCES PARENT (id)",
        "(up, k) REFERENCES PARENT (id, k)",
        "(n) REFERENCES PARENT",
    ]);
    let columns = columns.replace("PARENT", &parent);
    one(match words.number(5) {
        0 => format!(
            "ALTER TABLE {table} DROP CONSTRAINT {}_up_fkey",
            words.bare_table()
        ),
        1 => format!("ALTER TABLE {table} VALIDATE CONSTRAINT more"),
        2 => format!(
            "SELECT keepsake.override_reference('{table}', '{}_up_fkey', 'cascade')",
            words.bare_table()
        ),
        3 => format!(
            "SELECT keepsake.declare_reference('{table}', 'label', 'up', 'row {}', '{parent}')",
            words.id()
        ),
        _ => format!(
            "ALTER TABLE {table} ADD CONSTRAINT more FOREIGN KEY {columns} ON DELETE {action}{late}"
        ),
    })
}

fn index(words: &mut Words) -> Phrase {
    let (table, column, other) = (words.own_table(), words.column(), words.column());
    let unique = words.pick(&["", "UNIQUE "]);
    let partial = words.pick(&[
        "",
        " WHERE deleted_at IS NULL",
        " WHERE n > 0 AND deleted_at IS NULL",
    ]);
    let what = match words.number(4) {
        0 => format!("{column}, {other}"),
        1 => format!("lower({column}::text)"),
        2 => format!("({table}.*)").replace(&format!("({table}"), "((t"),
        _ => column.to_owned(),
    };
    let at = words.number(3);
    one(match words.number(5) {
        0 => format!("DROP INDEX IF EXISTS {}.i{at}", words.own_schema()),
        1 => format!("REINDEX TABLE {table}"),
        _ => format!("CREATE {unique}INDEX i{at} ON {table} ({what}){partial}"),
    })
}

fn constraint(words: &mut Words) -> Phrase {
    let table = words.own_table();
    one(match words.number(7) {
        0 => format!(
            "ALTER TABLE {table} ADD CONSTRAINT e EXCLUDE USING gist (box(point(n, n), point(n + 1, n + 1)) WITH &&) WHERE (deleted_at IS NULL)"
        ),
        1 => format!(
            "ALTER TABLE {table} ADD CONSTRAINT ch CHECK (deleted_at IS NULL OR n < 5) NOT VALID"
        ),
        2 => format!(
            "ALTER TABLE {table} ADD CONSTRAINT u UNIQUE (label) DEFERRABLE INITIALLY DEFERRED"
        ),
        3 => format!(
            "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS e, DROP CONSTRAINT IF EXISTS ch, DROP CONSTRAINT IF EXISTS u"
        ),
        4 => format!(
            "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {}_pkey CASCADE",
            words.bare_table()
        ),
        5 => format!("ALTER TABLE {table} ADD PRIMARY KEY (id)"),
        _ => format!(
            "ALTER TABLE {table} ADD CONSTRAINT u UNIQUE NULLS NOT DISTINCT (label, deleted_at)"
        ),
    })
}

fn partition(words: &mut Words) -> Phrase {
    let own = words.own_schema();
    let part = words.pick(&["p_1", "p_2", "p_3"]);
    let values = words.pick(&["(1)", "(2, 3)", "(4)"]);
    match words.number(7) {
        0 => one(format!("ALTER TABLE {own}.p DETACH PARTITION {own}.{part}")),
        1 => vec![Statement {
            guarded: false,
            ..Statement::run(format!(
                "ALTER TABLE {own}.p DETACH PARTITION {own}.{part} CONCURRENTLY"
            ))
        }],
        2 => one(format!(
            "ALTER TABLE {own}.p ATTACH PARTITION {own}.{part} FOR VALUES IN {values}"
        )),
        3 => one(format!(
            "CREATE TABLE {own}.p_3 (LIKE {own}.p INCLUDING ALL)"
        )),
        4 => one(format!(
            "CREATE TABLE {own}.p_3 PARTITION OF {own}.p DEFAULT"
        )),
        5 => all([
            format!(
                "CREATE TABLE {own}.p_3 PARTITION OF {own}.p FOR VALUES IN (4) PARTITION BY RANGE (id)"
            ),
            format!("CREATE TABLE {own}.p_3a PARTITION OF {own}.p_3 FOR VALUES FROM (0) TO (5)"),
        ]),
        _ => all([
            format!("ALTER TABLE {own}.p DETACH PARTITION {own}.{part}"),
            format!("DELETE FROM {own}.{part} WHERE {}", words.condition()),
            format!("ALTER TABLE {own}.p ATTACH PARTITION {own}.{part} FOR VALUES IN {values}"),
        ]),
    }
}

fn inherit(words: &mut Words) -> Phrase {
    let (own, table) = (words.own_schema(), words.own_table());
    one(match words.number(3) {
        0 => format!("CREATE TABLE {own}.heir () INHERITS ({table})"),
        1 => format!("ALTER TABLE {own}.heir NO INHERIT {table}"),
        _ => format!("ALTER TABLE {own}.heir INHERIT {table}"),
    })
}

fn switch_trigger(words: &mut Words) -> Phrase {
    let (table, trigger) = (words.own_table(), keepsakes_trigger(words));
    one(match words.number(7) {
        0 => format!("DROP TRIGGER {trigger} ON {table}"),
        1 => format!("ALTER TABLE {table} DISABLE TRIGGER {trigger}"),
        2 => format!("ALTER TABLE {table} ENABLE REPLICA TRIGGER {trigger}"),
        3 => format!("ALTER TABLE {table} ENABLE TRIGGER USER"),
        4 => format!("ALTER TABLE {table} DISABLE TRIGGER USER"),
        5 => format!("ALTER TRIGGER {trigger} ON {table} RENAME TO zz"),
        _ => format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"),
    })
}

fn drop_table(words: &mut Words) -> Phrase {
    let table = words.own_table();
    let how = words.pick(&["", " CASCADE"]);
    one(format!("DROP TABLE {table}{how}"))
}

fn drop_much(words: &mut Words) -> Phrase {
    let (own, role) = (words.own_schema(), words.role.name());
    if !words.one_in(3) {
        return one(format!("SELECT keepsake.unmanage('{}')", words.own_table()));
    }
    let mut phrase = one(if words.coin() {
        format!("DROP SCHEMA {own} CASCADE")
    } else {
        format!("DROP OWNED BY {role} CASCADE")
    });
    phrase.extend(all([
        format!("CREATE SCHEMA IF NOT EXISTS {own}"),
        format!("GRANT USAGE ON SCHEMA {own} TO PUBLIC"),
        format!("ALTER DEFAULT PRIVILEGES IN SCHEMA {own} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO fuzz_app"),
        format!("CREATE TABLE {own}.j (id int, k int, up int, label text, n int)"),
    ]));
    for table in TABLES {
        phrase.extend(anew(words, table));
    }
    phrase
}

fn view(words: &mut Words) -> Phrase {
    let (own, table) = (words.own_schema(), words.own_table());
    one(match words.number(4) {
        0 => format!(
            "CREATE OR REPLACE VIEW {own}.v AS SELECT * FROM {table} WHERE deleted_at IS NULL"
        ),
        1 => format!(
            "CREATE OR REPLACE VIEW {own}.v AS SELECT id, k, up, label, n FROM {table} WITH CHECK OPTION"
        ),
        2 => format!("DROP VIEW IF EXISTS {own}.v CASCADE"),
        _ => format!(
            "CREATE VIEW {own}.v AS SELECT t.*, keepsake.shows_deleted(t.deletion_id) FROM {table} AS t"
        ),
    })
}

fn maintain(words: &mut Words) -> Phrase {
    let table = words.own_table();
    one(match words.number(8) {
        0 => format!("VACUUM FULL {table}"),
        1 => format!("VACUUM ANALYZE {table}"),
        2 => format!("CLUSTER {table} USING {}_pkey", words.bare_table()),
        3 => format!("ALTER TABLE {table} SET UNLOGGED"),
        4 => format!("ALTER TABLE {table} SET (fillfactor = 50, autovacuum_enabled = off)"),
        5 => format!("ALTER TABLE {table} REPLICA IDENTITY FULL"),
        6 => format!("COMMENT ON TABLE {table} IS 'x'"),
        _ => format!("ANALYZE {table}"),
    })
}

fn keepsakes(words: &mut Words) -> Phrase {
    let table = words.own_table();
    let how = words.pick(&["view", "policy", "policy", "nothing"]);
    let policy = words.pick(&["convert", "reject", "allow"]);
    let column = words.column();
    vec![Statement::call(match words.number(6) {
        0 => format!("SELECT keepsake.hide_deleted('{table}', '{how}')"),
        1 => format!("SELECT keepsake.manage('{table}', '1 day', '{policy}')"),
        2 => format!("SELECT keepsake.unmanage('{table}')"),
        3 => format!("SELECT keepsake.set_retention('{table}', '0')"),
        4 => format!("SELECT keepsake.bind_storage('{table}', '{column}')"),
        _ => format!("SELECT keepsake.guard_references('{table}')"),
    })]
}

/// Temporary tables that hide what the session means.
fn shadow(words: &mut Words) -> Phrase {
    let (table, name) = (words.table(), words.bare_table());
    one(match words.number(3) {
        0 => format!("CREATE TEMP TABLE {name} AS SELECT * FROM {table}"),
        1 => "DISCARD TEMP".to_owned(),
        _ => "CREATE TEMP TABLE deletion (id uuid); CREATE TEMP TABLE managed_table (relation regclass)".to_owned(),
    })
}

/// A table that is elsewhere.
fn foreign(words: &mut Words) -> Phrase {
    let own = words.own_schema();
    one(match words.number(3) {
        0 => format!("ALTER TABLE {own}.p ATTACH PARTITION {own}.ft FOR VALUES IN (5)"),
        1 => format!(
            "CREATE FOREIGN TABLE {own}.p_3 PARTITION OF {own}.p FOR VALUES IN (6) SERVER nowhere"
        ),
        _ => format!(
            "CREATE FOREIGN TABLE {own}.ft (id int NOT NULL, k int NOT NULL, up int, label text, n int, deleted_at timestamptz, deletion_id uuid) SERVER nowhere"
        ),
    })
}

/// A table as it was at first, since nothing else mends it.
fn rebuild(words: &mut Words) -> Phrase {
    let table = words.pick(&TABLES);
    anew(words, table)
}

fn anew(words: &mut Words, table: &str) -> Phrase {
    let own = words.own_schema();
    let mut phrase = one(format!("DROP TABLE IF EXISTS {own}.{table} CASCADE"));
    if table == "p" {
        phrase.extend(one(format!(
            "DROP TABLE IF EXISTS {own}.p_1, {own}.p_2, {own}.p_3 CASCADE"
        )));
    }
    phrase.extend(all(world::make_table(&mut words.random, own, table)));
    if !words.one_in(8) {
        phrase.extend(all(world::manage(&mut words.random, own, table)));
    }
    phrase.extend(one(world::fill(own, table)));
    phrase
}
