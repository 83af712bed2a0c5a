//! What must be the same after all statements as before, and what the server's log must not say.

use std::collections::BTreeMap;

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::errors::tells_of_its_source;
use crate::server::Server;
use crate::world::World;

/// Rights, and whatever gives them: roles, members, settings of roles, Keepsake's own functions.
const RIGHTS: &str = "
SELECT 'role ' || rolname || concat_ws(',', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls) || md5(coalesce(rolpassword, ''))
FROM pg_authid WHERE rolname LIKE 'fuzz%' OR rolname = 'postgres'
UNION ALL SELECT format('%s is a member of %s', member::regrole, roleid::regrole) FROM pg_auth_members WHERE member::regrole::text LIKE 'fuzz%' OR roleid::regrole::text LIKE 'fuzz%'
UNION ALL SELECT format('settings of %s: %s', setrole, setconfig) FROM pg_db_role_setting WHERE setrole <> 0
UNION ALL SELECT format('function %s of %s: %s', oid::regprocedure, proowner::regrole, md5(concat_ws(',', prosrc, probin, prosecdef, proconfig::text)))
FROM pg_proc WHERE pronamespace = 'keepsake'::regnamespace
UNION ALL SELECT format('relation %s of %s', oid::regclass, relowner::regrole) FROM pg_class WHERE relnamespace = 'keepsake'::regnamespace
UNION ALL SELECT format('event trigger %s %s', evtname, evtenabled) FROM pg_event_trigger
UNION ALL SELECT format('trigger %s on %s', tgname, tgrelid::regclass) FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE relnamespace = 'keepsake'::regnamespace AND NOT tgisinternal
ORDER BY 1";

/// The bystander's rows, and what the registry knows of them.
const BYSTANDERS: &str = "
SELECT 'row ' || t::text FROM sc.t0 AS t UNION ALL SELECT 'row ' || t::text FROM sc.t1 AS t
UNION ALL SELECT 'managed ' || m::text FROM keepsake.managed_table AS m WHERE relation IN ('sc.t0'::regclass, 'sc.t1'::regclass)
UNION ALL SELECT 'deletion ' || d::text FROM keepsake.deletion AS d WHERE root_table IN ('sc.t0'::regclass, 'sc.t1'::regclass)
UNION ALL SELECT 'rows of a deletion ' || t::text FROM keepsake.deletion_table AS t WHERE relation IN ('sc.t0'::regclass, 'sc.t1'::regclass)
UNION ALL SELECT 'detached ' || t::text FROM keepsake.detached AS t WHERE relation IN ('sc.t0'::regclass, 'sc.t1'::regclass)
UNION ALL SELECT 'override ' || t::text FROM keepsake.reference_override AS t WHERE child IN ('sc.t0'::regclass, 'sc.t1'::regclass)
UNION ALL SELECT 'declared ' || t::text FROM keepsake.declared_reference AS t WHERE child IN ('sc.t0'::regclass, 'sc.t1'::regclass) OR parent IN ('sc.t0'::regclass, 'sc.t1'::regclass)
UNION ALL SELECT 'hidden ' || t::text FROM keepsake.hidden_reads AS t WHERE relation IN ('sc.t0'::regclass, 'sc.t1'::regclass)
UNION ALL SELECT 'bound ' || t::text FROM keepsake.bound_storage AS t WHERE relation IN ('sc.t0'::regclass, 'sc.t1'::regclass)
UNION ALL SELECT format('trigger %s on %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE tgrelid IN ('sc.t0'::regclass, 'sc.t1'::regclass) AND NOT tgisinternal
ORDER BY 1";

const OWNERS: &str = "
SELECT 'relation ' || oid, relowner::regrole::text FROM pg_class WHERE oid >= 16384
UNION ALL SELECT 'function ' || oid, proowner::regrole::text FROM pg_proc WHERE oid >= 16384";

/// How things stand.
pub struct Watcher {
    looker: PgConnection,
    rights: Vec<String>,
    bystanders: Vec<String>,
    owners: BTreeMap<String, String>,
}

impl Watcher {
    pub async fn new(server: &Server, database: &str) -> Result<Self> {
        let mut looker = server.superuser(database).await?;
        Ok(Self {
            rights: lines(&mut looker, RIGHTS).await?,
            bystanders: lines(&mut looker, BYSTANDERS).await?,
            owners: owners(&mut looker).await?,
            looker,
        })
    }

    /// Whether those who have nothing to do with the owners can work, when all sessions are over.
    pub async fn others_can_work(&mut self) -> Result<Option<String>> {
        // Sessions that were left in the middle of a transaction hold their locks until they notice.
        let sql = format!(
            "SET lock_timeout = '10s'; SET statement_timeout = '20s'; {}",
            World::UNDISTURBED
        );
        let done = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.looker)
            .await;
        let Err(error) = done else {
            return Ok(None);
        };
        sqlx::raw_sql("ROLLBACK; RESET SESSION AUTHORIZATION")
            .execute(&mut self.looker)
            .await?;
        Ok(Some(format!(
            "who has nothing to do with it cannot work: {error}"
        )))
    }

    /// What is otherwise than it was at first.
    pub async fn wrong(&mut self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let rights = lines(&mut self.looker, RIGHTS).await?;
        wrong.extend(difference("rights", &self.rights, &rights));
        let bystanders = lines(&mut self.looker, BYSTANDERS).await?;
        wrong.extend(difference("bystander", &self.bystanders, &bystanders));
        let owners = owners(&mut self.looker).await?;
        for (what, owner) in &owners {
            match self.owners.get(what) {
                Some(before) if before != owner => {
                    wrong.push(format!("owner: {what} went from {before} to {owner}"));
                }
                _ => {}
            }
        }
        self.owners = owners;
        Ok(wrong)
    }
}

async fn lines(looker: &mut PgConnection, sql: &'static str) -> Result<Vec<String>> {
    let rows = sqlx::raw_sql(sql).fetch_all(looker).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn owners(looker: &mut PgConnection) -> Result<BTreeMap<String, String>> {
    let rows = sqlx::raw_sql(OWNERS).fetch_all(looker).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

fn difference(what: &str, before: &[String], after: &[String]) -> Vec<String> {
    let gone = before.iter().filter(|line| !after.contains(line));
    let come = after.iter().filter(|line| !before.contains(line));
    gone.map(|line| format!("{what}: no longer {line}"))
        .chain(come.map(|line| format!("{what}: now {line}")))
        .collect()
}

/// The lines of the server's log that tell of what must not be.
pub fn alarms(news: &str) -> Vec<&str> {
    const OF_THE_SERVER: [&str; 6] = [
        "was terminated by signal",
        "exited with exit code",
        "PANIC:",
        "TRAP:",
        "reinitializing",
        "shared memory",
    ];
    const RAISED: [&str; 2] = ["owner code runs as", "caught an internal error"];
    let names_one = |line: &str, of: &[&str]| of.iter().any(|alarm| line.contains(alarm));
    news.lines()
        .filter(|line| {
            // What a line after the first holds may be the text of a statement: a deadlock's report has those of both sides.
            let is_first = !line.starts_with('\t');
            let is_place = line.contains("LOCATION:");
            (is_first && names_one(line, &OF_THE_SERVER))
                || (is_first && line.contains("WARNING:") && names_one(line, &RAISED))
                || (!is_place && tells_of_its_source(line))
        })
        .collect()
}

/// Whether a process of the server's died, and all others with it.
pub fn is_crash(news: &str) -> bool {
    news.contains("was terminated by signal") || news.contains("PANIC:") || news.contains("TRAP:")
}

#[cfg(test)]
mod tests {
    use super::alarms;

    #[test]
    fn a_raised_warning_is_an_alarm() {
        let news = "[1] WARNING:  owner code runs as fuzz_b\n[1] CONTEXT:  at RAISE\n";
        assert_eq!(alarms(news), ["[1] WARNING:  owner code runs as fuzz_b"]);
    }

    #[test]
    fn the_text_of_a_statement_is_none() {
        let news = "[1] ERROR:  deadlock detected\n\
            [1] DETAIL:  Process 1 waits for ShareLock on transaction 7; blocked by process 2.\n\
            \tProcess 1: DO $$ BEGIN RAISE WARNING 'owner code runs as %', r;\n\
            \tRAISE WARNING 'caught an internal error: %', 'PANIC:'; END $$\n\
            [1] CONTEXT:  SQL statement \"DO 'BEGIN RAISE WARNING ''owner code runs as %'' …\"\n";
        assert!(alarms(news).is_empty());
    }
}
