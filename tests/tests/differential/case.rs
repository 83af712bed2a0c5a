//! One schema, one list of statements, two databases.

use anyhow::{Result, bail};
use keepsake_tests::random::Random;

use crate::code::Code;
use crate::restoring;
use crate::schema::Schema;
use crate::server::{APPLICATION, OWNER, Server, Side};
use crate::statements::Writer;

/// What Keepsake does with removed rows on the side where it does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is not even there: shows that the test itself makes no difference.
    Nothing,
    Archive,
}

/// Statements of a case, and after how many of them the tables are compared.
const PHRASES: usize = 150;
const COMPARED_AFTER: usize = 6;

#[derive(Clone, Debug)]
pub struct Case {
    pub schema: Schema,
    pub code: Code,
    pub keep: Keep,
    preloaded: bool,
    /// Whether statements change definitions: what is archived is then not compared, nor restored.
    defines: bool,
    seed: u64,
    major: u16,
    steps: Vec<String>,
    rounds: Vec<usize>,
}

/// Where the two sides part.
#[derive(Debug)]
pub struct Difference {
    pub what: String,
    at: At,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Setup,
    Step(usize),
    Round(usize),
}

impl Difference {
    /// What it has in common with others of its kind: an error, without names and numbers, or the kind of statement.
    pub fn kind(&self) -> String {
        let seen = self.what.split("--- with it").last().unwrap_or_default();
        let error = seen.lines().find(|line| line.contains("ERROR:"));
        let line = usize::from(matches!(self.at, At::Step(_)));
        let told = error
            .or_else(|| self.what.lines().nth(line))
            .unwrap_or_default();
        let word = |word: &str| {
            let is_name = word.contains(|c: char| c.is_ascii_digit() || c == '"');
            if is_name {
                "…".to_owned()
            } else {
                word.to_owned()
            }
        };
        let words: Vec<String> = told.split(' ').take(12).map(word).collect();
        words.join(" ")
    }
}

/// What a case has shown.
#[derive(Debug, Default)]
pub struct Tally {
    pub statements: usize,
    pub errors: usize,
    pub removed: usize,
    pub restored: usize,
}

impl Case {
    pub fn random(seed: u64, keep: Keep, major: u16) -> Self {
        let random = &mut Random::new(seed);
        let schema = Schema::random(random, major);
        let code = Code::random(random, &schema);
        let preloaded = !random.one_in(4);
        let defines = random.one_in(2);
        let mut writer = Writer {
            schema: &schema,
            code: &code,
            random,
            major,
            defines,
        };
        let steps = (0..PHRASES).flat_map(|_| writer.phrase()).collect();
        Self {
            schema,
            code,
            keep,
            preloaded,
            defines,
            seed,
            major,
            steps,
            rounds: (0..restoring::ROUNDS).collect(),
        }
    }

    pub fn steps(&self) -> Vec<String> {
        self.steps.clone()
    }

    pub fn with_steps(&self, steps: &[String]) -> Self {
        Self {
            steps: steps.to_vec(),
            ..self.clone()
        }
    }

    /// Only what a difference needs for sure.
    pub fn until(&self, difference: &Difference) -> Self {
        let mut case = self.clone();
        match difference.at {
            At::Setup => case.steps.clear(),
            At::Step(last) => case.steps.truncate(last + 1),
            At::Round(round) => case.rounds = vec![round],
        }
        case
    }

    /// Runs it; the difference between the two sides, if there is one.
    pub async fn run(
        &self,
        server: &Server,
        number: usize,
        tally: &mut Tally,
    ) -> Result<Option<Difference>> {
        let snapshots = server.make(number, self.keep, self.preloaded).await?;
        let found = self.run_in(server, number, tally);
        drop(snapshots);
        server.discard(number).await?;
        found
    }

    fn run_in(
        &self,
        server: &Server,
        number: usize,
        tally: &mut Tally,
    ) -> Result<Option<Difference>> {
        let sides = [Side::Plain, Side::Kept];
        let setups = sides.map(|side| server.begin(number, side, &self.setup(side)));
        for (side, setup) in sides.into_iter().zip(setups) {
            let said = setup?.finish()?;
            let made = said.split(FILLING).next().unwrap_or_default();
            let Some(error) = made.find("ERROR:") else {
                continue;
            };
            // It is the same on both sides but for what gives the tables to Keepsake.
            let what = format!("the set-up fails: {}", &made[error..]);
            if side == Side::Plain {
                bail!("{what}\n{}", self.setup(side));
            }
            return Ok(Some(Difference {
                what,
                at: At::Setup,
            }));
        }
        let plain = server.begin(number, Side::Plain, &self.script(Side::Plain))?;
        let kept = server.begin(number, Side::Kept, &self.script(Side::Kept))?;
        let (plain, kept) = (plain.finish()?, kept.finish()?);
        tally.count(&plain);
        if let Some(difference) = self.compare(&plain, &kept) {
            return Ok(Some(difference));
        }
        if self.keep == Keep::Nothing || self.defines {
            return Ok(None);
        }
        let rounds = self.restoring();
        let said = server.begin(number, Side::Kept, &rounds)?.finish()?;
        tally.restored += said.matches("\nrestored ").count();
        Ok(restoring::wrong(&said).map(|(round, what)| Difference {
            what,
            at: At::Round(round),
        }))
    }

    /// Where the answers differ first.
    fn compare(&self, plain: &str, kept: &str) -> Option<Difference> {
        let (plain, kept) = (answers(plain), answers(kept));
        let all = self.all_steps(Side::Plain);
        for (at, sql) in all.iter().enumerate() {
            let (expected, seen) = (plain.get(at).copied(), kept.get(at).copied());
            if expected != seen && is_different(expected, seen) {
                let what = format!(
                    "step {at} differs:\n{sql}\n--- without Keepsake\n{}\n--- with it\n{}",
                    expected.unwrap_or("nothing"),
                    seen.unwrap_or("nothing")
                );
                // The steps that compare the tables are not among those that can be left out.
                let step = at - at / (COMPARED_AFTER + 1);
                return Some(Difference {
                    what,
                    at: At::Step(step),
                });
            }
        }
        None
    }

    /// Makes the tables, run by a superuser.
    fn setup(&self, side: Side) -> String {
        let random = &mut Random::new(self.seed);
        let mut sql = vec![format!("SET ROLE {OWNER}")];
        sql.extend(self.schema.tables_sql());
        sql.extend(self.code.sql.clone());
        sql.push(format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {APPLICATION}"
        ));
        if side == Side::Kept {
            sql.extend(self.give_to_keepsake());
        } else {
            sql.extend(restoring::witnesses(&self.schema));
        }
        sql.extend(self.schema.fill_sql(random));
        sql.extend(self.schema.close_rings_sql());
        let at = sql
            .iter()
            .position(|sql| sql.starts_with("INSERT"))
            .unwrap_or(sql.len());
        let filling = sql.split_off(at);
        format!(
            "\\set ON_ERROR_STOP on\n{};\n\\set ON_ERROR_STOP off\n\\echo {FILLING}\n{};\n",
            sql.join(";\n"),
            filling.join(";\n")
        )
    }

    fn give_to_keepsake(&self) -> Vec<String> {
        if self.keep == Keep::Nothing {
            return Vec::new();
        }
        let mut sql = Vec::new();
        for table in self.schema.tables.iter().filter(|table| !table.keyless) {
            let heir = table.has_heir.then(|| table.name_with("_heir"));
            for name in [Some(table.name.to_owned()), heir].into_iter().flatten() {
                sql.push(format!(
                    "SELECT keepsake.manage('{name}', '30 days', keep => 'archive', on_truncate => 'archive', cascade => true)"
                ));
            }
        }
        sql
    }

    /// The statements, and what compares the tables every few of them.
    fn all_steps(&self, side: Side) -> Vec<String> {
        let tables: Vec<String> = self
            .schema
            .tables
            .iter()
            .map(|table| format!("SELECT tableoid::regclass, x.* FROM {} AS x;", table.name))
            .collect();
        let compare = format!("{} TABLE log;", tables.join(" "));
        let mut all = Vec::new();
        for steps in self.steps.chunks(COMPARED_AFTER) {
            all.extend_from_slice(steps);
            all.push(compare.clone());
        }
        all.push("ROLLBACK; ROLLBACK PREPARED :'both'; RESET ROLE; RESET ALL;".to_owned());
        all.push(compare);
        all.push(CATALOG.to_owned());
        if self.keep == Keep::Archive && !self.defines {
            all.push(restoring::archived(side, &self.schema));
        }
        all
    }

    fn script(&self, side: Side) -> String {
        let mut script = format!("{HEADER}SET ROLE {OWNER};\n\\set ON_ERROR_ROLLBACK on\n");
        for (at, step) in self.all_steps(side).iter().enumerate() {
            script += &format!("\\echo {MARK}{at}\n{step}\n");
        }
        script
    }

    fn restoring(&self) -> String {
        restoring::script(
            &self.schema,
            &self.code,
            self.seed,
            self.major,
            &self.rounds,
        )
    }

    /// As a person would try it: in a database with the extension and in one without.
    pub fn script_for_people(&self, difference: &Difference) -> String {
        if let At::Round(_) = difference.at {
            return format!(
                "{}{}{}",
                self.setup(Side::Kept),
                self.script(Side::Kept),
                self.restoring()
            );
        }
        format!(
            "-- PostgreSQL {}\n{}{}",
            self.major,
            self.setup(Side::Kept),
            self.script(Side::Kept)
        )
    }
}

/// Whether two answers differ in more than the order of their lines: rows come in no order that is promised.
fn is_different(expected: Option<&str>, seen: Option<&str>) -> bool {
    let sorted = |answer: Option<&str>| {
        let mut lines: Vec<String> = answer
            .unwrap_or("nothing")
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort_unstable();
        lines
    };
    sorted(expected) != sorted(seen)
}

/// Ends what must succeed of the set-up; rows that a check or a key refuses are missing on both sides.
const FILLING: &str = "=#= filling";

/// Before each step, alone on its line.
const MARK: &str = "=#= ";

const HEADER: &str = "\\set VERBOSITY verbose
\\set SHOW_CONTEXT always
\\pset null ~
\\set both :DBNAME
SET lock_timeout = '1s';
SET statement_timeout = '20s';
SET client_min_messages = notice;
";

/// What there is besides rows: no column, index, constraint or policy of Keepsake's.
const CATALOG: &str = "
    SELECT attrelid::regclass, attnum, attname, atttypid::regtype, atttypmod, attnotnull, attgenerated, attidentity, attcompression, attstattarget, attacl
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace ORDER BY attrelid::regclass::text, attnum;
    SELECT relname, relkind, relhasindex, relpersistence, relrowsecurity, relforcerowsecurity, relreplident, reloptions, relacl, relowner::regrole
    FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1;
    SELECT conrelid::regclass, conname, contype, convalidated, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2;
    SELECT * FROM pg_policies WHERE schemaname = 'public' ORDER BY 2, 3;
    SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1;";

/// The answers to the steps, in their order.
fn answers(said: &str) -> Vec<&str> {
    said.split(MARK)
        .skip(1)
        .map(|answer| answer.split_once('\n').map_or("", |(_, answer)| answer))
        .collect()
}

impl Tally {
    fn count(&mut self, said: &str) {
        for answer in answers(said) {
            self.statements += 1;
            self.errors += usize::from(answer.contains("ERROR:  "));
        }
        let removed = said.lines().filter_map(|line| line.strip_prefix("DELETE "));
        self.removed += removed
            .filter_map(|rows| rows.parse::<usize>().ok())
            .sum::<usize>();
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} statements, {} of them refused, {} rows removed by name, {} removals restored",
            self.statements, self.errors, self.removed, self.restored
        )
    }
}
