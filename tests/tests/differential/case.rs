//! One schema, one list of statements, two databases.

use anyhow::{Result, bail};
use keepsake_tests::random::Random;

use crate::answer::{
    MARK, answers, is_different, is_known_refusal, is_refused, refusals, refusing_key,
    without_documented,
};
use crate::code::Code;
use crate::restoring;
use crate::schema::{Reference, Schema, Table};
use crate::server::{APPLICATION, OWNER, Server, Side};
use crate::statements::{UNDONE, Writer, periods};
use crate::tally::Tally;

/// What Keepsake does with removed rows on the side where it does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is not even there: shows that the test itself makes no difference.
    Nothing,
    Archive,
    InPlace,
}

/// For which way of keeping deleted rows a case is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Archive,
    /// What `docs/compatibility.md` lists as different is left out. Both sides have the columns that Keepsake adds.
    InPlace,
}

impl Mode {
    /// Before seeds of the mode's, in the file of those that once failed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Archive => "differential",
            Self::InPlace => "in-place",
        }
    }
}

/// Statements of a case, and after how many of them the tables are compared.
const PHRASES: usize = 150;
const COMPARED_AFTER: usize = 6;

const AS_OWNER: &str = "SET ROLE difference_owner;";
const AS_APPLICATION: &str = "SET ROLE difference_application;";
/// What a session may be in the course of a case.
const SESSIONS: [&str; 4] = [AS_APPLICATION, AS_OWNER, AS_OWNER, "RESET ROLE;"];

/// The same where a policy hides deleted rows: from no superuser.
fn session_in_place(random: &mut Random) -> &'static [&'static str] {
    match random.below(3) {
        0 => &[AS_OWNER, AS_APPLICATION],
        1 => &[AS_APPLICATION],
        _ => &[AS_OWNER],
    }
}

#[derive(Clone, Debug)]
pub struct Case {
    pub schema: Schema,
    pub code: Code,
    mode: Mode,
    pub keep: Keep,
    roles: &'static [&'static str],
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
    refused_by: Option<Refused>,
}

/// A statement that a foreign key refuses without Keepsake, and only there.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// Its place among all steps.
    at: usize,
    /// The table that refers, and which of its references says so.
    child: usize,
    key: usize,
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

impl Case {
    pub fn random(seed: u64, mode: Mode, keep: Keep, major: u16) -> Self {
        let random = &mut Random::new(seed);
        let mut schema = Schema::random(random, major);
        let mut roles: &[&str] = &SESSIONS;
        if mode == Mode::InPlace {
            roles = session_in_place(random);
            schema.keep_in_place(roles == [AS_OWNER]);
        }
        let code = Code::random(random, &schema, mode);
        let preloaded = mode == Mode::InPlace || !random.one_in(4);
        let defines = mode == Mode::Archive && random.one_in(2);
        let mut writer = Writer {
            schema: &schema,
            code: &code,
            random,
            major,
            defines,
            mode,
            base: 0,
            roles,
        };
        let steps = (0..PHRASES).flat_map(|_| writer.phrase()).collect();
        Self {
            schema,
            code,
            mode,
            keep,
            roles,
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
        if let Ok(Some(difference)) = &found
            && let Some(refused) = difference.refused_by
            && self.cascade_takes_referrer(server, number, refused).await?
        {
            tally.refused_before_cascade += 1;
            return Ok(None);
        }
        found
    }

    /// Whether the statement that a key refuses without Keepsake removes with it a row that refers by that key together with the row that it
    /// refers to. PostgreSQL checks keys in the order in which they were made, and may come to this one before the cascade that takes the row.
    async fn cascade_takes_referrer(
        &self,
        server: &Server,
        number: usize,
        refused: Refused,
    ) -> Result<bool> {
        let snapshots = server.make(number, self.keep, self.preloaded).await?;
        let setup = server.begin(number, Side::Kept, &self.setup(Side::Kept))?;
        setup.finish()?;
        let script = self.script_asking(refused);
        let said = server.begin(number, Side::Kept, &script)?.finish()?;
        drop(snapshots);
        server.discard(number).await?;
        let answer = said.split(ASKED).nth(1).unwrap_or_default();
        Ok(answer.lines().any(|line| line == "went together"))
    }

    /// The steps up to one that a key refuses on the other side, and which rows that one removed.
    fn script_asking(&self, refused: Refused) -> String {
        let reference = self.schema.tables[refused.child].references[refused.key];
        let parent = &self.schema.tables[reference.parent];
        let columns = self.schema.columns_of(refused.child, refused.key);
        let joins: Vec<String> = columns
            .iter()
            .zip(if reference.to_alt {
                &["alt"][..]
            } else {
                &["id", "k"]
            })
            .map(|(child, parent)| format!("c.{child} = p.{parent}"))
            .collect();
        let newest = "\\set newest 00000000-0000-0000-0000-000000000000
            SELECT current_role AS role \\gset
            RESET ROLE; SELECT id AS newest FROM keepsake.deletion ORDER BY id DESC LIMIT 1 \\gset
            SET ROLE :\"role\";";
        let together = format!(
            "RESET ROLE; SELECT 'went together' FROM {child} AS c JOIN {parent} AS p ON {joins}
             WHERE c.deletion_id = p.deletion_id AND c.deletion_id > :'newest' LIMIT 1;",
            child = self.schema.tables[refused.child].name,
            parent = parent.name,
            joins = joins.join(" AND "),
        );
        let mut steps = self.all_steps(Side::Kept);
        steps.truncate(refused.at + 1);
        // What a block undoes could not be asked for.
        if let Some(step) = steps.last_mut() {
            *step = step.replace(UNDONE, "");
        }
        steps.insert(refused.at, newest.to_owned());
        steps.push(format!("\\echo {ASKED}\n{together}"));
        self.script_of(&steps)
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
                refused_by: None,
            }));
        }
        let plain = server.begin(number, Side::Plain, &self.script(Side::Plain))?;
        let kept = server.begin(number, Side::Kept, &self.script(Side::Kept))?;
        let (plain, kept) = (plain.finish()?, kept.finish()?);
        tally.count(&plain);
        if let Some(difference) = self.compare(&plain, &kept, tally) {
            return Ok(Some(difference));
        }
        if self.keep != Keep::Archive || self.defines {
            return Ok(None);
        }
        let rounds = self.restoring();
        let said = server.begin(number, Side::Kept, &rounds)?.finish()?;
        tally.restored += said.matches("\nrestored ").count();
        Ok(restoring::wrong(&said).map(|(round, what)| Difference {
            what,
            at: At::Round(round),
            refused_by: None,
        }))
    }

    /// Where the answers differ first.
    fn compare(&self, plain: &str, kept: &str, tally: &mut Tally) -> Option<Difference> {
        let (plain, kept) = (answers(plain), answers(kept));
        let all = self.all_steps(Side::Plain);
        for (at, sql) in all.iter().enumerate() {
            let (expected, seen) = (plain.get(at).copied(), kept.get(at).copied());
            let documented = |answer: Option<&str>| answer.map(without_documented);
            let same_but_documented = || {
                let expected = documented(expected);
                let same = |seen: Option<&str>| {
                    !is_different(expected.as_deref(), documented(seen).as_deref())
                };
                self.mode == Mode::InPlace
                    && (same(seen)
                        || same(
                            seen.map(|seen| self.without_forgotten(sql, seen))
                                .as_deref(),
                        ))
            };
            if expected == seen || !is_different(expected, seen) || same_but_documented() {
                continue;
            }
            let refused_within =
                || !is_different(refusals(expected).as_deref(), refusals(seen).as_deref());
            if self.mode == Mode::InPlace && self.is_uncounted(sql, expected, seen) {
                tally.uncounted += 1;
                continue;
            }
            if self.mode == Mode::InPlace
                && (is_refused(expected) && is_refused(seen) || refused_within())
            {
                tally.otherwise_refused += 1;
                continue;
            }
            if self.mode == Mode::InPlace && self.is_refused_early(expected, seen) {
                tally.refused_early += 1;
                return None;
            }
            if self.mode == Mode::InPlace
                && (is_known_refusal(sql, expected, seen)
                    || self.keeps_partition(sql, expected, seen))
            {
                tally.by_plan += 1;
                return None;
            }
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
                refused_by: self.refused_by(at, expected, seen),
            });
        }
        None
    }

    /// An answer without what triggers say that PostgreSQL forgets: those after a statement that updates a table and deletes from another,
    /// where a foreign key then updates the same table (`cancel_prior_stmt_triggers` in `trigger.c`) and not their columns.
    fn without_forgotten(&self, sql: &str, answer: &str) -> String {
        let lets_go = |table: &&Table| table.references.iter().any(|one| one.action.lets_go());
        let tables = self.schema.tables.iter().filter(lets_go);
        let forgotten: Vec<String> = tables
            .map(|table| format!(" AFTER UPDATE STATEMENT on {}: ", table.bare_name()))
            .collect();
        if !(sql.contains("DELETE") && sql.contains("UPDATE")) {
            return answer.to_owned();
        }
        let mut kept = Vec::new();
        let mut lines = answer.lines();
        while let Some(line) = lines.next() {
            let is_notice = line.contains("NOTICE:  ");
            if is_notice && forgotten.iter().any(|one| line.contains(one)) {
                // Up to where it comes from, which is told last.
                lines.find(|line| line.starts_with("LOCATION:"));
            } else {
                kept.push(line);
            }
        }
        kept.join("\n")
    }

    /// Whether deleted rows that refer to a row keep it from moving to another partition: they do not follow it there, and what the key does
    /// on an update they may not be able to.
    fn keeps_partition(&self, sql: &str, expected: Option<&str>, seen: Option<&str>) -> bool {
        let of_table = |table: &Table| sql.starts_with(&format!("UPDATE {} ", table.name));
        let refused = seen.is_some_and(|said| {
            let acts = "CONTEXT:  SQL statement \"UPDATE ONLY \"";
            said.contains("ERROR:  23503: ") && said.contains("LOCATION:  ri_ReportViolation")
                || said.contains("ERROR:  23502: ") && said.contains(acts)
        });
        let is_moved = |table: &Table| table.partitions.is_some() && of_table(table);
        let passes = expected.is_some_and(|said| !said.contains("ERROR:  "));
        refused && (passes || is_refused(expected)) && self.schema.tables.iter().any(is_moved)
    }

    /// Whether a MERGE that updates rows as well of a table with policies does not count or return the rows that it deletes.
    fn is_uncounted(&self, sql: &str, expected: Option<&str>, seen: Option<&str>) -> bool {
        let of_table = |table: &Table| sql.starts_with(&format!("MERGE INTO {} ", table.name));
        let fails = |answer: Option<&str>| answer.is_none_or(|said| said.contains("ERROR:  "));
        let both = sql.contains("THEN DELETE") && sql.contains("THEN UPDATE");
        let bound = |table: &Table| table.policies && of_table(table);
        both && !fails(expected) && !fails(seen) && self.schema.tables.iter().any(bound)
    }

    /// Whether a new row under a deleted parent is refused at its statement, where PostgreSQL checks the deferred key at the commit.
    fn is_refused_early(&self, expected: Option<&str>, seen: Option<&str>) -> bool {
        let violates = |table: &Table, key: usize| {
            let error = format!(
                "on table public.{} violates reference \"key{key}\": ",
                table.name
            );
            seen.is_some_and(|answer| answer.contains(&error))
        };
        expected.is_some_and(|answer| !answer.contains("ERROR:  "))
            && self.schema.tables.iter().any(|table| {
                let keys = table.references.iter().enumerate();
                keys.filter(|(_, reference)| !reference.deferrable.is_empty())
                    .any(|(key, _)| violates(table, key))
            })
    }

    /// The key that refuses a statement without Keepsake, where it is one that stops a removal and is checked at once.
    fn refused_by(&self, at: usize, expected: Option<&str>, seen: Option<&str>) -> Option<Refused> {
        if self.mode != Mode::InPlace || seen.is_none_or(|answer| answer.contains("ERROR:  ")) {
            return None;
        }
        let error = without_documented(expected?);
        let (table, key) = refusing_key(&error)?;
        let tables = self.schema.tables.iter();
        let child = tables
            .map(Table::bare_name)
            .position(|name| name == table)?;
        let reference: &Reference = self.schema.tables[child].references.get(key)?;
        reference
            .stops_at_once()
            .then_some(Refused { at, child, key })
    }

    /// Makes the tables, run by a superuser.
    fn setup(&self, side: Side) -> String {
        let random = &mut Random::new(self.seed);
        let mut sql = vec![format!("SET ROLE {OWNER}")];
        sql.extend(self.schema.tables_sql());
        sql.extend(self.code.sql.clone());
        if self.mode == Mode::InPlace {
            // Else the owner, and views of his, would see deleted rows of tables with policies of their own.
            let own = self.schema.tables.iter().filter(|table| table.policies);
            sql.extend(
                own.map(|table| format!("ALTER TABLE {} FORCE ROW LEVEL SECURITY", table.name)),
            );
        }
        sql.push(format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {APPLICATION}"
        ));
        sql.extend(self.schema.revocations_sql());
        match (side, self.mode) {
            (Side::Kept, _) if self.keep != Keep::Nothing => sql.extend(self.give_to_keepsake()),
            (Side::Plain, Mode::Archive) => sql.extend(restoring::witnesses(&self.schema)),
            (_, Mode::InPlace) => sql.extend(self.add_marks()),
            (Side::Kept, Mode::Archive) => {}
        }
        sql.extend(self.schema.fill_sql(random, 0));
        sql.extend(self.schema.close_rings_sql(0));
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
        let mut sql = Vec::new();
        let tables: Vec<_> = match self.mode {
            Mode::Archive => self.schema.tables.iter().collect(),
            Mode::InPlace => self.schema.parents_first().collect(),
        };
        let mut names: Vec<String> = Vec::new();
        for table in tables.into_iter().filter(|table| !table.keyless) {
            names.push(table.name.to_owned());
            names.extend(table.has_heir.then(|| table.name_with("_heir")));
        }
        if self.schema.periods {
            names.extend(periods::TABLES.map(str::to_owned));
        }
        for name in &names {
            sql.push(match self.mode {
                Mode::Archive => format!(
                    "SELECT keepsake.manage('{name}', '30 days', keep => 'archive', on_truncate => 'archive', cascade => true)"
                ),
                Mode::InPlace => format!("SELECT keepsake.manage('{name}', '30 days', keep => 'in place')"),
            });
        }
        if self.mode == Mode::InPlace {
            for name in names {
                sql.push(format!("SELECT keepsake.live_unique('{name}')"));
                sql.push(format!("SELECT keepsake.hide_deleted('{name}', 'policy')"));
            }
        }
        sql
    }

    /// The columns that Keepsake adds, so that rows look alike. They are never set.
    fn add_marks(&self) -> Vec<String> {
        let managed = self.schema.tables.iter().filter(|table| !table.keyless);
        let mut names: Vec<&str> = managed.map(|table| table.name).collect();
        if self.schema.periods {
            names.extend(periods::TABLES);
        }
        let names = names.into_iter();
        names
            .map(|name| {
                format!(
                    "ALTER TABLE {name} ADD COLUMN deleted_at timestamptz, ADD COLUMN deletion_id uuid"
                )
            })
            .collect()
    }

    /// The statements, and what compares the tables every few of them.
    fn all_steps(&self, side: Side) -> Vec<String> {
        let names = self.schema.names().into_iter();
        let tables: Vec<String> = names
            .map(|name| format!("SELECT tableoid::regclass, x.* FROM {name} AS x;"))
            .collect();
        // Rows stand elsewhere, and what a statement writes about each of them comes in another order.
        let log = match self.mode {
            Mode::Archive => "TABLE log;",
            Mode::InPlace => "SELECT who, what FROM log;",
        };
        // The owner may look everywhere.
        let compare = format!(
            "SELECT current_role AS compared_by \\gset\n{AS_OWNER} {} {log} SET ROLE :\"compared_by\";",
            tables.join(" ")
        );
        let mut all = Vec::new();
        for steps in self.steps.chunks(COMPARED_AFTER) {
            all.extend_from_slice(steps);
            all.push(compare.clone());
        }
        let role = match self.mode {
            Mode::Archive => "RESET ROLE;",
            Mode::InPlace => self.roles[0],
        };
        all.push(format!(
            "ROLLBACK; ROLLBACK PREPARED :'both'; {role} RESET ALL;"
        ));
        all.push(compare);
        if self.mode == Mode::Archive {
            all.push(CATALOG.to_owned());
        }
        if self.keep == Keep::Archive && !self.defines {
            all.push(restoring::archived(side, &self.schema));
        }
        all
    }

    fn script(&self, side: Side) -> String {
        self.script_of(&self.all_steps(side))
    }

    fn script_of(&self, steps: &[String]) -> String {
        let role = match self.mode {
            Mode::Archive => AS_OWNER,
            Mode::InPlace => self.roles[0],
        };
        let mut script = format!("{HEADER}{role}\n\\set ON_ERROR_ROLLBACK on\n");
        for (at, step) in steps.iter().enumerate() {
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

/// Ends what must succeed of the set-up; rows that a check or a key refuses are missing on both sides.
const FILLING: &str = "=#= filling";

/// Before the answer to what only one side is asked.
const ASKED: &str = "=#= asked";

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
