//! A hostile owner of a table with an archive: whatever he plants in it, nothing of his ever runs with another's rights when
//! others delete, restore, purge, analyze or only look.
//!
//! His code writes down who it runs as, and tries to make him a superuser. Each attack also says whether it is one: where the
//! code is to run as its owner, it must have run.

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::leash::Leash;
use keepsake_tests::places::{POSTGRES_MAJOR, tested_majors};
use keepsake_tests::postgres::{DATABASE, Postgres};
use keepsake_tests::stack::throwaway_folder;
use keepsake_tests::verifier::quick_verifier;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const PASSWORD: &str = "attacks";
const NEWEST: u16 = 18;

/// What the owner has to strike with.
const WEAPONS: &str = "
    CREATE TABLE seen (who name, what text);
    GRANT USAGE ON SCHEMA attacker TO PUBLIC;
    GRANT INSERT ON seen TO PUBLIC;
    CREATE FUNCTION strike(what text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        attempt text;
    BEGIN
        INSERT INTO attacker.seen VALUES (current_user, what);
        FOREACH attempt IN ARRAY ARRAY['ALTER ROLE attacker SUPERUSER', 'RESET ROLE', 'SET ROLE postgres', 'RESET SESSION AUTHORIZATION',
            'ALTER ROLE attacker SUPERUSER', 'SET ROLE attacker'] LOOP
            BEGIN
                EXECUTE attempt;
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
        END LOOP;
    END $$;
    CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM attacker.strike(TG_WHEN || ' ' || TG_OP);
        RETURN coalesce(NEW, OLD);
    END $$;
    CREATE FUNCTION is_fine(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN PERFORM attacker.strike('expression'); RETURN true; END $$;
    CREATE FUNCTION same(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN PERFORM attacker.strike('expression'); RETURN $1; END $$;";

struct World {
    postgres: Postgres,
    _leash: Leash,
}

impl World {
    async fn start(major: u16) -> Result<Self> {
        let (folder, leash) = throwaway_folder()?;
        let postgres = Postgres::start_release(major, &folder, PASSWORD, &leash).await?;
        let world = Self {
            postgres,
            _leash: leash,
        };
        let verifier = quick_verifier(PASSWORD)?;
        let mut superuser = world.superuser().await?;
        run(&mut superuser, "CREATE EXTENSION keepsake").await?;
        for role in ["attacker", "application", "worker"] {
            run(
                &mut superuser,
                &format!("CREATE ROLE {role} LOGIN PASSWORD '{verifier}'"),
            )
            .await?;
        }
        run(
            &mut superuser,
            "CREATE SCHEMA attacker AUTHORIZATION attacker;
             GRANT CREATE ON DATABASE keepsake TO attacker;
             GRANT EXECUTE ON ALL ROUTINES IN SCHEMA keepsake TO worker;
             GRANT SELECT ON ALL TABLES IN SCHEMA keepsake TO worker",
        )
        .await?;
        run(&mut world.attacker().await?, WEAPONS).await?;
        Ok(world)
    }

    async fn superuser(&self) -> Result<PgConnection> {
        self.postgres.connect().await
    }

    async fn as_role(&self, role: &str) -> Result<PgConnection> {
        let url = self.postgres.url(role, PASSWORD, DATABASE);
        Ok(PgConnection::connect(&url).await?)
    }

    async fn attacker(&self) -> Result<PgConnection> {
        let mut session = self.as_role("attacker").await?;
        run(&mut session, "SET search_path = attacker, public").await?;
        Ok(session)
    }

    /// Fails when his code ran as anybody else, or won anything; tells what ran.
    async fn judge(&self, what: &str) -> Result<Vec<String>> {
        let mut superuser = self.superuser().await?;
        let others: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT who || ': ' || what FROM attacker.seen WHERE who <> 'attacker'",
        )
        .fetch_all(&mut superuser)
        .await?;
        ensure!(
            others.is_empty(),
            "{what}: the owner's code ran as {others:?}"
        );
        let won: bool = sqlx::query_scalar(
            "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = 'attacker'",
        )
        .fetch_one(&mut superuser)
        .await?;
        ensure!(!won, "{what}: the owner has become a superuser");
        let seen = sqlx::query_scalar("SELECT DISTINCT what FROM attacker.seen ORDER BY 1")
            .fetch_all(&mut superuser)
            .await?;
        run(&mut superuser, "TRUNCATE attacker.seen").await?;
        Ok(seen)
    }
}

async fn run(session: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(session)
        .await
        .with_context(|| sql.to_owned())?;
    Ok(())
}

/// Runs what must be refused: for want of a right, or of a key to refer to.
async fn forbidden(session: &mut PgConnection, sql: &str) -> Result<()> {
    let answer = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(session)
        .await;
    let code = answer
        .err()
        .and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
    ensure!(
        matches!(code.as_deref(), Some("42501" | "42830")),
        "{sql}: {code:?}, not insufficient_privilege"
    );
    Ok(())
}

async fn worlds() -> Result<Vec<World>> {
    let mut worlds = Vec::new();
    for major in tested_majors()? {
        if major == POSTGRES_MAJOR || major == NEWEST {
            worlds.push(World::start(major).await?);
        }
    }
    Ok(worlds)
}

const DELETED: &str = "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted'";

/// ANALYZE runs a range type's `subtype_diff` as the table's owner: of a live table as his, of an archive as nobody's at all.
#[tokio::test]
async fn analyzing_an_archive_runs_nothing() -> Result<()> {
    for world in worlds().await? {
        let mut attacker = world.attacker().await?;
        run(
            &mut attacker,
            "CREATE FUNCTION distance(int, int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $$
             BEGIN PERFORM attacker.strike('subtype_diff'); RETURN 1; END $$;
             CREATE TYPE span AS RANGE (subtype = int, subtype_diff = distance);
             CREATE TABLE spans (id int PRIMARY KEY, s span);
             SELECT keepsake.manage('spans', '30 days', keep => 'archive');
             INSERT INTO spans SELECT n, span(n, n + 1) FROM generate_series(1, 100) AS n;",
        )
        .await?;
        let mut superuser = world.superuser().await?;
        run(&mut superuser, "ANALYZE attacker.spans").await?;
        let seen = world.judge("ANALYZE of the table").await?;
        ensure!(
            seen == ["subtype_diff"],
            "the attack is none any more: {seen:?}"
        );
        run(&mut attacker, "DELETE FROM spans WHERE id > 10").await?;
        world.judge("the deletion").await?;
        run(&mut superuser, "ANALYZE attacker_deleted.spans").await?;
        run(&mut superuser, "ANALYZE attacker_deleted.spans (s)").await?;
        run(
            &mut superuser,
            "VACUUM (ANALYZE, FULL) attacker_deleted.spans",
        )
        .await?;
        let seen = world.judge("ANALYZE of the archive").await?;
        ensure!(seen.is_empty(), "ANALYZE of the archive ran {seen:?}");
        let owner: (bool, bool, bool) = sqlx::query_as(
            "SELECT rolsuper, rolcanlogin, rolbypassrls FROM pg_roles JOIN pg_class ON relowner = pg_roles.oid WHERE pg_class.oid = 'attacker_deleted.spans'::regclass",
        )
        .fetch_one(&mut superuser)
        .await?;
        ensure!(
            owner == (false, false, false),
            "the archive's owner has rights"
        );
    }
    Ok(())
}

/// An archive is nobody's to change: what hangs on it would run when the engine writes there.
#[tokio::test]
async fn nothing_is_planted_on_an_archive() -> Result<()> {
    for world in worlds().await? {
        let mut attacker = world.attacker().await?;
        run(
            &mut attacker,
            "CREATE TABLE prey (id int PRIMARY KEY, n int);
             SELECT keepsake.manage('prey', '30 days', keep => 'archive');
             INSERT INTO prey VALUES (1, 1), (2, 2);
             DELETE FROM prey WHERE id = 1;
             CREATE TABLE heir (LIKE attacker_deleted.prey);",
        )
        .await?;
        for sql in [
            "CREATE TRIGGER t AFTER INSERT OR DELETE ON attacker_deleted.prey FOR EACH ROW EXECUTE FUNCTION trap()",
            "CREATE RULE r AS ON DELETE TO attacker_deleted.prey DO ALSO SELECT strike('rule')",
            "CREATE POLICY p ON attacker_deleted.prey USING (is_fine(n))",
            "CREATE INDEX ON attacker_deleted.prey (same(n))",
            "ALTER TABLE attacker_deleted.prey ADD CHECK (is_fine(n))",
            "ALTER TABLE attacker_deleted.prey ALTER n SET STATISTICS 100",
            "ALTER TABLE attacker_deleted.prey OWNER TO attacker",
            "ALTER TABLE attacker_deleted.prey ADD COLUMN more int DEFAULT same(1)",
            "ALTER TABLE heir INHERIT attacker_deleted.prey",
            "CREATE STATISTICS s (mcv) ON id, n FROM attacker_deleted.prey",
            "CREATE TABLE points (d uuid REFERENCES attacker_deleted.prey (keepsake_deletion))",
            "INSERT INTO attacker_deleted.prey SELECT * FROM attacker_deleted.prey",
            "UPDATE attacker_deleted.prey SET n = 7",
            "DELETE FROM attacker_deleted.prey",
            "TRUNCATE attacker_deleted.prey",
            "DO $$ BEGIN LOCK TABLE attacker_deleted.prey IN ACCESS EXCLUSIVE MODE; END $$",
            "DROP TABLE attacker_deleted.prey",
            "CREATE TABLE attacker_deleted.other (id int)",
            "ALTER SCHEMA attacker_deleted RENAME TO mine",
            "SET ROLE keepsake_archive",
            "GRANT keepsake_archive TO attacker",
        ] {
            forbidden(&mut attacker, sql).await?;
        }
        // What he may: read, and let others read.
        run(&mut attacker, "SELECT * FROM attacker_deleted.prey; GRANT SELECT ON attacker_deleted.prey TO application").await?;
        // A grant of what he may not grant only warns.
        run(
            &mut attacker,
            "GRANT ALL ON attacker_deleted.prey TO attacker, application",
        )
        .await?;
        for role in ["attacker", "application"] {
            let may: bool = sqlx::query_scalar(AssertSqlSafe(format!(
                "SELECT has_table_privilege('{role}', 'attacker_deleted.prey', 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
            )))
            .fetch_one(&mut attacker)
            .await?;
            ensure!(!may, "{role} has more than SELECT");
        }
        world.judge("planting").await?;
    }
    Ok(())
}

/// All that an owner can hang on his own table runs as him when others restore, and not at all when they purge.
#[tokio::test]
async fn the_owners_code_runs_as_him_alone() -> Result<()> {
    for world in worlds().await? {
        let mut attacker = world.attacker().await?;
        run(
            &mut attacker,
            "CREATE TABLE prey (id int PRIMARY KEY, n int CHECK (is_fine(n)), twice int GENERATED ALWAYS AS (same(n)) STORED, up int REFERENCES prey ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
             CREATE UNIQUE INDEX ON prey (same(n)) WHERE is_fine(n);
             CREATE TRIGGER b BEFORE INSERT OR UPDATE ON prey FOR EACH ROW EXECUTE FUNCTION trap();
             CREATE TRIGGER a AFTER INSERT OR UPDATE ON prey FOR EACH ROW EXECUTE FUNCTION trap();
             CREATE TRIGGER s AFTER INSERT ON prey FOR EACH STATEMENT EXECUTE FUNCTION trap();
             CREATE CONSTRAINT TRIGGER d AFTER INSERT OR UPDATE ON prey DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trap();
             ALTER TABLE prey ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON prey USING (is_fine(n)) WITH CHECK (is_fine(n));
             SELECT keepsake.manage('prey', '0', keep => 'archive');
             INSERT INTO prey (id, n, up) VALUES (1, 1, NULL), (2, 2, 1);
             CREATE FUNCTION claims(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN PERFORM attacker.strike('operator'); RETURN true; END $$;
             CREATE OPERATOR = (FUNCTION = claims, LEFTARG = uuid, RIGHTARG = uuid);",
        )
        .await?;
        for (role, path) in [
            ("superuser", "DEFAULT"),
            ("superuser", "attacker, pg_catalog"),
            ("worker", "attacker, pg_catalog"),
        ] {
            run(&mut attacker, "DELETE FROM prey").await?;
            world.judge("the owner's own deletion").await?;
            let mut other = match role {
                "superuser" => world.superuser().await?,
                _ => world.as_role(role).await?,
            };
            run(&mut other, &format!("SET search_path = {path}")).await?;
            for sql in [
                "SELECT * FROM keepsake.deletion",
                "SELECT * FROM keepsake.metrics",
                "SELECT * FROM keepsake.plan_delete('attacker.prey', 1)",
                "SELECT c.* FROM keepsake.deletion AS d, keepsake.restore_conflicts(d.id) AS c WHERE d.state = 'deleted'",
                DELETED,
                "BEGIN; SET CONSTRAINTS ALL DEFERRED; SELECT keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted'; COMMIT",
                "SELECT * FROM keepsake.doctor()",
            ] {
                // He who has no right to a row is refused; what counts is what ran.
                let _ = run(&mut other, sql).await;
                let _ = run(&mut other, "ROLLBACK").await;
                let seen = world.judge(&format!("{role}: {sql}")).await?;
                ensure!(
                    !seen.iter().any(|what| what == "BEFORE INSERT"),
                    "a restore fires BEFORE INSERT triggers"
                );
            }
            let _ = run(&mut attacker, DELETED).await;
            world.judge("the owner's own restore").await?;
        }
        run(&mut attacker, "DELETE FROM prey").await?;
        world.judge("the owner's last deletion").await?;
        run(&mut world.as_role("worker").await?, "CALL keepsake.purge()").await?;
        let seen = world.judge("the purge").await?;
        ensure!(seen.is_empty(), "a purge runs {seen:?}");
        let mut superuser = world.superuser().await?;
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM attacker_deleted.prey")
            .fetch_one(&mut superuser)
            .await?;
        ensure!(left == 0, "the purge left {left} rows");
    }
    Ok(())
}

/// A superuser's restore does run what an INSERT runs: as the owner.
#[tokio::test]
async fn a_superusers_restore_fires_triggers_as_the_owner() -> Result<()> {
    for world in worlds().await? {
        let mut attacker = world.attacker().await?;
        run(
            &mut attacker,
            "CREATE TABLE prey (id int PRIMARY KEY, n int CHECK (is_fine(n)));
             CREATE TRIGGER a AFTER INSERT ON prey FOR EACH ROW EXECUTE FUNCTION trap();
             SELECT keepsake.manage('prey', '30 days', keep => 'archive');
             INSERT INTO prey VALUES (1, 1), (2, 2);
             DELETE FROM prey;",
        )
        .await?;
        world.judge("the set-up").await?;
        let mut superuser = world.superuser().await?;
        run(&mut superuser, DELETED).await?;
        let seen = world.judge("a superuser's restore").await?;
        ensure!(
            seen.iter().any(|what| what == "AFTER INSERT"),
            "no trigger was fired: {seen:?}"
        );
        let back: i64 = sqlx::query_scalar("SELECT count(*) FROM attacker.prey")
            .fetch_one(&mut superuser)
            .await?;
        ensure!(back == 2, "{back} rows are back");
    }
    Ok(())
}

/// A cast of the owner's that a restore needs, for rows that are older than the column's type, runs as him.
#[tokio::test]
async fn a_cast_of_the_owners_runs_as_him() -> Result<()> {
    for world in worlds().await? {
        let mut attacker = world.attacker().await?;
        run(
            &mut attacker,
            "CREATE TYPE word AS (t text);
             CREATE FUNCTION to_word(int) RETURNS word LANGUAGE plpgsql AS $$
             BEGIN PERFORM attacker.strike('cast'); RETURN ROW($1::text)::attacker.word; END $$;
             CREATE CAST (int AS word) WITH FUNCTION to_word(int) AS ASSIGNMENT;
             CREATE TABLE prey (id int PRIMARY KEY, n int);
             SELECT keepsake.manage('prey', '30 days', keep => 'archive');
             INSERT INTO prey VALUES (1, 1), (2, 2);
             DELETE FROM prey;
             ALTER TABLE prey ALTER n TYPE word USING NULL;",
        )
        .await?;
        world.judge("the set-up").await?;
        let mut superuser = world.superuser().await?;
        let _ = run(&mut superuser, DELETED).await;
        world.judge("a superuser's restore of older rows").await?;
    }
    Ok(())
}

/// Who may read the table may not read what it had: its archive is closed, and stays so where the table has policies.
#[tokio::test]
async fn policies_are_not_passed_by_the_archive() -> Result<()> {
    for world in worlds().await? {
        let mut attacker = world.attacker().await?;
        run(
            &mut attacker,
            "CREATE TABLE secret (id int PRIMARY KEY, owner name);
             ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON secret USING (owner = current_user);
             GRANT SELECT, DELETE ON secret TO application;
             SELECT keepsake.manage('secret', '30 days', keep => 'archive');
             INSERT INTO secret VALUES (1, 'attacker'), (2, 'application');
             DELETE FROM secret;",
        )
        .await?;
        let mut application = world.as_role("application").await?;
        forbidden(&mut application, "SELECT * FROM attacker_deleted.secret").await?;
        run(
            &mut attacker,
            "GRANT USAGE ON SCHEMA attacker_deleted TO application",
        )
        .await
        .or_else(|_| anyhow::Ok(()))?;
        run(
            &mut attacker,
            "GRANT SELECT ON attacker_deleted.secret TO application",
        )
        .await?;
        let answer = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM attacker_deleted.secret")
            .fetch_one(&mut application)
            .await;
        ensure!(
            !matches!(answer, Ok(1..)),
            "the archive shows what the policies hide: {answer:?}"
        );
        let own: i64 = sqlx::query_scalar("SELECT count(*) FROM attacker_deleted.secret")
            .fetch_one(&mut attacker)
            .await?;
        ensure!(own == 2, "the owner sees {own} of his 2 removed rows");
        // Nor does he who may see only one of the rows bring back the other.
        run(&mut application, DELETED)
            .await
            .or_else(|_| anyhow::Ok(()))?;
        let live: i64 = sqlx::query_scalar("SELECT count(*) FROM secret")
            .fetch_one(&mut attacker)
            .await?;
        ensure!(
            live == 0,
            "{live} rows came back for one who may not see all of them"
        );
    }
    Ok(())
}
