//! What was removed is in the archive, and a restore brings all of it back.

use keepsake_tests::random::Random;

use crate::case::Mode;
use crate::code::Code;
use crate::schema::Schema;
use crate::server::Side;
use crate::statements::{Writer, periods};

/// How often rows are removed and restored, each time with statements that depend on nothing before.
pub const ROUNDS: usize = 12;

const HELPERS: &str = include_str!("restoring.sql");

/// Marks the checks, whose answer is an empty table.
const CHECK: &str = "=?= ";

/// Triggers that write down what is removed where Keepsake does not: a row that only moves to another partition is nothing
/// that they could tell from one that goes.
pub fn witnesses(schema: &Schema) -> Vec<String> {
    let see = |name: &str| {
        format!(
            "CREATE TRIGGER keepsake_archive_row AFTER DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION witness.see()"
        )
    };
    let mut sql = vec![
        "CREATE SCHEMA witness".to_owned(),
        "CREATE TABLE witness.gone (relation text, line jsonb)".to_owned(),
        "CREATE FUNCTION witness.see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN INSERT INTO witness.gone VALUES (TG_RELID::regclass::text, to_jsonb(OLD)); RETURN NULL; END $$"
            .to_owned(),
    ];
    for table in schema
        .tables
        .iter()
        .filter(|table| !table.keyless && table.partitions.is_none())
    {
        let heir = table.has_heir.then(|| table.name_with("_heir"));
        for name in [Some(table.name.to_owned()), heir].into_iter().flatten() {
            sql.push(see(&name));
        }
    }
    if schema.periods {
        sql.extend(periods::TABLES.map(see));
    }
    sql
}

/// All that was removed for good, by the witnesses on one side and the archive on the other.
pub fn archived(side: Side, schema: &Schema) -> String {
    if side == Side::Plain {
        return "SELECT relation, line - 'seen' AS line FROM witness.gone ORDER BY relation COLLATE \"C\", (line - 'seen')::text COLLATE \"C\";".to_owned();
    }
    let partitioned = schema
        .tables
        .iter()
        .filter(|table| table.partitions.is_some());
    let names: Vec<String> = partitioned
        .map(|table| format!("'{}'", table.name))
        .collect();
    format!(
        "\\o /dev/null\n{HELPERS}\n\\o\nSELECT relation, line FROM seen.archived() WHERE relation <> ALL (ARRAY[{}]::text[]) ORDER BY relation COLLATE \"C\", line::text COLLATE \"C\";",
        names.join(", ")
    )
}

/// Removes rows and restores them, over and over, each time with a look at the tables.
pub fn script(schema: &Schema, code: &Code, seed: u64, major: u16, rounds: &[usize]) -> String {
    let mut script = format!(
        "\\set VERBOSITY verbose\n\\set ON_ERROR_ROLLBACK on\nSET client_min_messages = warning;\nDROP SCHEMA IF EXISTS seen CASCADE;\n{HELPERS}\n"
    );
    for meddler in &code.meddlers {
        script += &format!(
            "DROP TRIGGER IF EXISTS {} ON {};\n",
            meddler.name, meddler.table
        );
    }
    for &round in rounds {
        let random = &mut Random::new(!seed ^ round as u64);
        for statement in schema
            .fill_sql(random, 0)
            .into_iter()
            .chain(schema.close_rings_sql(0))
        {
            script += &format!("{statement};\n");
        }
        let steps = Writer {
            schema,
            code,
            random,
            major,
            defines: false,
            mode: Mode::Archive,
            base: 0,
            roles: &[],
        }
        .undoable();
        let (begin, end) = random.one_of(&[("", ""), ("", ""), ("BEGIN;", "COMMIT;")]);
        // A transaction that fails as it ends takes with it what was noted within.
        script += &format!("\\echo round {round}\nSELECT seen.take('before'); {begin}\n");
        for step in &steps {
            script += &format!("{step}\n");
        }
        script += &format!(
            "SELECT seen.take('after');
             \\echo {CHECK}archived in round {round}\nSELECT * FROM seen.not_archived();
             SELECT 'restored ' || deletion FROM seen.restore_all() AS deletion;
             SELECT seen.take('restored');
             \\echo {CHECK}restored in round {round}\nSELECT * FROM seen.differences('before', 'restored'); {end}
             SELECT count(keepsake.restore(id)) FROM keepsake.deletion WHERE state = 'restored';
             SELECT seen.take('again');
             \\echo {CHECK}restored again in round {round}\nSELECT * FROM seen.differences('restored', 'again');
             \\echo {CHECK}counts after round {round}\nSELECT * FROM seen.wrong_counts();\n\\echo end\n"
        );
    }
    script
}

/// The first round in which a check found something, and what was said in it.
pub fn wrong(said: &str) -> Option<(usize, String)> {
    for round in said.split("\nround ").skip(1) {
        let round = round.split("\nend\n").next().unwrap_or_default();
        for check in round.split(CHECK).skip(1) {
            let is_answer = |line: &&str| {
                line.contains("ERROR:") || line.ends_with("rows)") || line.ends_with("row)")
            };
            if check.lines().find(is_answer) != Some("(0 rows)") {
                let number = round.lines().next().and_then(|line| line.parse().ok());
                let name = check.lines().next().unwrap_or_default();
                let name = name.split(" in round").next().unwrap_or_default();
                let error = round
                    .lines()
                    .find(|line| line.contains("ERROR:"))
                    .unwrap_or_default();
                return Some((
                    number.unwrap_or_default(),
                    format!("{name} differs: {error}\nround {round}"),
                ));
            }
        }
    }
    None
}
