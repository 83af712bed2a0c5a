//! How entities and names are found: by queries that stand in functions, so that sessions keep their plans. They find what queries planned each
//! time would, whatever has happened to the tables.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::leash::Leash;
use keepsake_tests::migrate;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const APPLICATION: &str = "
    CREATE SCHEMA app;
    CREATE TABLE app.post (id bigint PRIMARY KEY, tenant text NOT NULL, author text NOT NULL, spare text);
    ALTER TABLE app.post ENABLE ROW LEVEL SECURITY;
    CREATE POLICY reading ON app.post FOR SELECT USING (tenant = attachments.tenant());
    CREATE POLICY writing ON app.post FOR UPDATE USING (author = attachments.claim('sub'));
    SELECT attachments.register_entity('post', 'app.post', 'tenant');
    INSERT INTO app.post VALUES (1, 'acme', 'ann'), (2, 'acme', 'bob'), (3, 'globex', 'ann')";

const PLAN: &str = "SELECT attachments.plan_lookups()";

/// Ids of posts, and what is none.
const IDS: [&str; 7] = ["1", "2", "3", "4", "01", "post", ""];

/// What one finds of an entity, and whether one may change its files.
type Found = (bool, Option<String>, bool);

/// A session of the API's role for a user of the tenant acme.
struct Caller(PgConnection);

impl Caller {
    async fn of(postgres: &Postgres) -> Result<Self> {
        let mut session = postgres.connect().await?;
        session.execute("SET ROLE keepsake_api").await?;
        session
            .execute(r#"SET request.jwt.claims = '{"tenant": "acme", "sub": "ann"}'"#)
            .await?;
        Ok(Self(session))
    }

    async fn looks_for(&mut self, entity_type: &str, id: &str) -> Result<Found, sqlx::Error> {
        sqlx::query_as(
            "SELECT f.is_there, f.key::text, (attachments.lock_entity($1, $2)).is_there FROM attachments.find_entity($1, $2) AS f",
        )
        .bind(entity_type)
        .bind(id)
        .fetch_one(&mut self.0)
        .await
    }

    /// The same by queries that are planned each time.
    async fn looks_anew(&mut self, entity_type: &str, id: &str) -> Result<Found, sqlx::Error> {
        sqlx::query_as(
            "SELECT f.is_there, f.key::text, (attachments.lock_unplanned($1, $2)).is_there FROM attachments.find_unplanned($1, $2) AS f",
        )
        .bind(entity_type)
        .bind(id)
        .fetch_one(&mut self.0)
        .await
    }

    /// Who may be found by whom, as often as it takes to have the plans that are kept.
    async fn posts(&mut self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for _ in 0..7 {
            found.clear();
            for id in &IDS[..4] {
                found.push(self.looks_for("post", id).await?);
            }
        }
        Ok(found)
    }
}

/// Of posts 1 to 4: seen, and changed, or not.
fn posts(expected: [(bool, bool); 4]) -> Vec<Found> {
    let one = |(number, (seen, changed))| (seen, Some(format!("{{\"id\": {number}}}")), changed);
    (1..).zip(expected).map(one).collect()
}

const AS_THE_POLICIES_SAY: [(bool, bool); 4] =
    [(true, true), (true, false), (false, false), (false, false)];

/// A database with the schema and an application, and a superuser in it. It ends with the leash.
async fn database(application: &'static str) -> Result<(Leash, Postgres, PgConnection)> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut superuser = postgres.connect().await?;
    migrate::up(&mut superuser).await?;
    superuser.execute(application).await?;
    Ok((leash, postgres, superuser))
}

async fn unplanned(superuser: &mut PgConnection) -> Result<Vec<String>> {
    let types = "SELECT entity_type FROM attachments.unplanned_lookups() ORDER BY 1";
    Ok(sqlx::query_scalar(types).fetch_all(superuser).await?)
}

/// The SQLSTATE of an error.
fn state(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error()?.code();
    code.map(std::borrow::Cow::into_owned)
}

#[tokio::test]
async fn policies_decide_and_what_is_no_id_finds_nothing() -> Result<()> {
    let (_leash, postgres, mut superuser) = database(APPLICATION).await?;
    let mut caller = Caller::of(&postgres).await?;

    assert_eq!(unplanned(&mut superuser).await?, [""; 0]);
    assert_eq!(caller.posts().await?, posts(AS_THE_POLICIES_SAY));
    for id in IDS {
        let anew = caller.looks_anew("post", id).await;
        let nothing = (false, None, false);
        // Only the functions around them take an error for an answer.
        assert_eq!(
            caller.looks_for("post", id).await?,
            anew.unwrap_or(nothing),
            "{id}"
        );
    }
    assert_eq!(
        caller.looks_for("comment", "1").await?,
        (false, None, false)
    );

    // The plans that a session keeps follow the policies.
    superuser
        .execute(
            "DROP POLICY writing ON app.post; CREATE POLICY writing ON app.post FOR UPDATE USING (author = 'bob');
             DROP POLICY reading ON app.post; CREATE POLICY reading ON app.post FOR SELECT USING (id > 1)",
        )
        .await?;
    assert_eq!(
        caller.posts().await?,
        posts([(false, false), (true, true), (false, false), (false, false)])
    );
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_renamed_or_moved_is_followed() -> Result<()> {
    let (_leash, postgres, mut superuser) = database(APPLICATION).await?;
    let mut caller = Caller::of(&postgres).await?;
    assert_eq!(caller.posts().await?, posts(AS_THE_POLICIES_SAY));

    // Another table has the name now, with every row that the caller may not see.
    superuser
        .execute(
            "ALTER TABLE app.post RENAME TO article;
             CREATE TABLE app.post (id bigint PRIMARY KEY, tenant text, deletion_id uuid);
             INSERT INTO app.post SELECT n, 'acme' FROM generate_series(1, 4) AS n;
             GRANT ALL ON app.post TO keepsake_api",
        )
        .await?;
    assert_eq!(unplanned(&mut superuser).await?, ["post"]);
    assert_eq!(caller.posts().await?, posts(AS_THE_POLICIES_SAY));
    superuser.execute(PLAN).await?;
    assert_eq!(unplanned(&mut superuser).await?, [""; 0]);
    assert_eq!(caller.posts().await?, posts(AS_THE_POLICIES_SAY));

    superuser
        .execute(
            "CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO keepsake_api;
             ALTER TABLE app.article SET SCHEMA elsewhere;
             ALTER TABLE elsewhere.article DROP COLUMN spare",
        )
        .await?;
    assert_eq!(unplanned(&mut superuser).await?, ["post"]);
    assert_eq!(caller.posts().await?, posts(AS_THE_POLICIES_SAY));
    superuser.execute(PLAN).await?;
    assert_eq!(caller.posts().await?, posts(AS_THE_POLICIES_SAY));

    // A table that is gone is no reason to find none of the others, and none to plan anything.
    superuser
        .execute(
            "CREATE TABLE app.note (id uuid PRIMARY KEY, tenant text NOT NULL);
             INSERT INTO app.note VALUES ('01890000-0000-7000-8000-000000000001', 'acme');
             SELECT attachments.register_entity('note', 'app.note', 'tenant');
             DROP TABLE elsewhere.article CASCADE",
        )
        .await?;
    assert_eq!(unplanned(&mut superuser).await?, [""; 0]);
    superuser.execute(PLAN).await?;
    assert_eq!(unplanned(&mut superuser).await?, [""; 0]);
    let (is_there, _, may_change) = caller
        .looks_for("note", "01890000-0000-7000-8000-000000000001")
        .await?;
    assert!(is_there && may_change);
    Ok(())
}

#[tokio::test]
async fn lookups_that_would_be_written_in_another_way_are_reported() -> Result<()> {
    let (_leash, postgres, mut superuser) = database(APPLICATION).await?;
    let mut caller = Caller::of(&postgres).await?;
    assert_eq!(caller.posts().await?, posts(AS_THE_POLICIES_SAY));
    // As a migration would change it, but that it ends with plan_lookups().
    superuser
        .execute(
            "CREATE OR REPLACE FUNCTION attachments.is_entity_sql(known attachments.entity_type) RETURNS text
             LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
             BEGIN
                 RETURN format('t.%1$I = $1::%2$s AND t.%3$I::text = attachments.tenant() AND t.%1$I <> 1',
                               known.key_column, known.key_type, known.tenant_column);
             END
             $$",
        )
        .await?;
    assert_eq!(unplanned(&mut superuser).await?, ["post"]);
    superuser.execute(PLAN).await?;
    assert_eq!(unplanned(&mut superuser).await?, [""; 0]);
    assert_eq!(
        caller.posts().await?,
        posts([
            (false, false),
            (true, false),
            (false, false),
            (false, false)
        ])
    );
    Ok(())
}

#[tokio::test]
async fn only_who_registers_makes_another_wait() -> Result<()> {
    let (_leash, postgres, mut superuser) = database(APPLICATION).await?;
    superuser
        .execute(
            "CREATE TABLE app.note (id bigint PRIMARY KEY, tenant text);
             CREATE TABLE app.page (id bigint PRIMARY KEY, tenant text);
             CREATE ROLE stranger LOGIN PASSWORD 'stranger'; GRANT keepsake_api TO stranger",
        )
        .await?;
    let mut stranger =
        PgConnection::connect(&postgres.url("stranger", "stranger", "keepsake")).await?;
    // Whatever lock anybody may have: advisory ones, and those that reading takes.
    stranger
        .execute(
            "SELECT pg_advisory_lock(hashtextextended('attachments.plan_lookups', 0));
             SET ROLE keepsake_api; BEGIN; SELECT count(*) FROM attachments.entity_type",
        )
        .await?;
    let refused = stranger
        .execute("SAVEPOINT s; LOCK TABLE attachments.entity_type IN ROW SHARE MODE")
        .await;
    let refused = refused.err().context("it is locked")?;
    assert_eq!(state(&refused).as_deref(), Some("42501"));
    stranger.execute("ROLLBACK TO s").await?;

    let register = "SELECT attachments.register_entity('note', 'app.note', 'tenant')";
    superuser.execute("SET lock_timeout = '10s'; BEGIN").await?;
    superuser.execute(register).await?;
    let mut another = postgres.connect().await?;
    another.execute("SET lock_timeout = '200ms'; BEGIN").await?;
    let register = "SELECT attachments.register_entity('page', 'app.page', 'tenant')";
    let late = another.execute(register).await;
    let late = late.err().context("it did not wait")?;
    assert_eq!(state(&late).as_deref(), Some("55P03"));
    another
        .execute("ROLLBACK; SET lock_timeout = '10s'")
        .await?;
    superuser.execute("COMMIT").await?;
    another.execute(register).await?;
    assert_eq!(unplanned(&mut superuser).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn names_are_names_whatever_is_in_them() -> Result<()> {
    let (_leash, postgres, mut superuser) = database(APPLICATION).await?;
    superuser
        .execute(
            r#"CREATE SCHEMA "a'b; DROP TABLE app.post; --";
               CREATE TABLE "a'b; DROP TABLE app.post; --"."in$1 INTO ""entity"" $$ %I" ("k""e'y$2 %s" varchar PRIMARY KEY, "te nant;" text NOT NULL);
               SELECT attachments.register_entity('odd', '"a''b; DROP TABLE app.post; --"."in$1 INTO ""entity"" $$ %I"', 'te nant;');
               INSERT INTO "a'b; DROP TABLE app.post; --"."in$1 INTO ""entity"" $$ %I" VALUES ('x''; --', 'acme')"#,
        )
        .await?;
    assert_eq!(unplanned(&mut superuser).await?, [""; 0]);
    let mut caller = Caller::of(&postgres).await?;
    for id in ["x'; --", "y"] {
        let found = caller.looks_for("odd", id).await?;
        assert_eq!(found, caller.looks_anew("odd", id).await?);
        assert_eq!(found.0, id != "y");
    }
    assert_eq!(caller.posts().await?, posts(AS_THE_POLICIES_SAY));
    Ok(())
}

#[tokio::test]
async fn whoever_may_not_read_the_table_is_refused() -> Result<()> {
    let (_leash, postgres, mut superuser) = database(APPLICATION).await?;
    let mut caller = Caller::of(&postgres).await?;
    assert_eq!(caller.posts().await?, posts(AS_THE_POLICIES_SAY));
    superuser
        .execute("REVOKE SELECT ON app.post FROM keepsake_api")
        .await?;
    let refused = caller.looks_for("post", "1").await;
    let refused = refused.err().context("it is found")?;
    assert_eq!(state(&refused).as_deref(), Some("42501"));

    superuser
        .execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
        .await?;
    let mut stranger =
        PgConnection::connect(&postgres.url("stranger", "stranger", "keepsake")).await?;
    for function in [
        "find_planned('1', '')",
        "lock_planned('1', '')",
        "plan_lookups()",
    ] {
        let sql = format!("SELECT attachments.{function}");
        let refused = stranger.execute(AssertSqlSafe(sql)).await;
        let refused = refused.err().with_context(|| function.to_owned())?;
        assert_eq!(state(&refused).as_deref(), Some("42501"), "{function}");
    }
    Ok(())
}

#[tokio::test]
async fn deleted_entities_are_found_where_they_are_kept() -> Result<()> {
    let (_leash, postgres, mut superuser) = database(
            "CREATE SCHEMA app;
             CREATE TABLE app.post (id bigint PRIMARY KEY, tenant text NOT NULL);
             CREATE TABLE app.page (id bigint PRIMARY KEY, tenant text NOT NULL);
             SELECT keepsake.manage('app.post', keep => 'archive');
             SELECT attachments.register_entity('post', 'app.post', 'tenant'), attachments.register_entity('page', 'app.page', 'tenant');
             INSERT INTO app.post VALUES (1, 'acme'), (2, 'acme');
             INSERT INTO app.page VALUES (1, 'acme'), (2, 'acme');
             DELETE FROM app.post WHERE id = 1;
             DELETE FROM app.page WHERE id = 1",
    )
    .await?;
    let mut caller = Caller::of(&postgres).await?;
    let deletions = "SELECT (attachments.find_entity(t.name, i.id)).deletion_id IS NOT NULL
        FROM unnest(ARRAY['post', 'page']) AS t (name), unnest(ARRAY['1', '2']) AS i (id)";
    for _ in 0..7 {
        let deleted: Vec<bool> = sqlx::query_scalar(deletions)
            .fetch_all(&mut caller.0)
            .await?;
        assert_eq!(deleted, [true, false, true, false]);
    }
    superuser
        .execute("SELECT keepsake.manage('app.page', keep => 'archive')")
        .await?;
    assert_eq!(unplanned(&mut superuser).await?, ["page"]);
    let deleted: Vec<bool> = sqlx::query_scalar(deletions)
        .fetch_all(&mut caller.0)
        .await?;
    assert_eq!(deleted, [true, false, true, false]);
    superuser.execute(PLAN).await?;
    assert_eq!(unplanned(&mut superuser).await?, [""; 0]);
    let deleted: Vec<bool> = sqlx::query_scalar(deletions)
        .fetch_all(&mut caller.0)
        .await?;
    assert_eq!(deleted, [true, false, true, false]);
    Ok(())
}

/// Declares a file of post 1 and completes the upload, in the transaction of a statement; so often.
const UPLOADS: &str = r#"
    DO $$
    DECLARE
        claims jsonb := '{"tenant": "acme", "sub": "ann"}';
        answer jsonb;
    BEGIN
        FOR n IN 1..COUNT LOOP
            answer := attachments_api.create_upload(claims, jsonb_build_object(
                'entity_type', 'post', 'entity_id', '1', 'expires_at', now() + interval '1 hour',
                'files', jsonb_build_array(jsonb_build_object('name', format('FIRST %s.txt', n), 'media_type', 'text/plain',
                                                              'size', 1, 'sha256', encode(sha256(''), 'hex')))));
            answer := attachments_api.complete_upload(claims, jsonb_build_object('upload_id', answer -> 'ok' -> 'id'));
            ASSERT answer -> 'ok' ->> 'state' = 'completed', answer;
        END LOOP;
    END $$"#;

fn uploads(first: &str, count: usize) -> AssertSqlSafe<String> {
    let sql = UPLOADS.replace("FIRST", first);
    AssertSqlSafe(sql.replace("COUNT", &count.to_string()))
}

#[tokio::test]
async fn a_name_is_looked_up_among_many_files_without_statistics() -> Result<()> {
    const READ: &str = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_user_tables
                        WHERE relid = 'attachments.attachment'::regclass";
    let (_leash, _postgres, mut superuser) = database(APPLICATION).await?;
    superuser
        .execute("ALTER TABLE attachments.attachment SET (autovacuum_enabled = off)")
        .await?;
    // The session keeps the plans that it makes while there is next to nothing.
    superuser.execute(uploads("early", 10)).await?;
    superuser.execute(uploads("file", 400)).await?;

    let mut one = superuser.begin().await?;
    let before: i64 = sqlx::query_scalar(READ).fetch_one(&mut *one).await?;
    one.execute(uploads("late", 1)).await?;
    let after: i64 = sqlx::query_scalar(READ).fetch_one(&mut *one).await?;
    one.rollback().await?;
    let read = after - before;
    assert!(read < 50, "one upload reads {read} rows of attachments");
    Ok(())
}

#[tokio::test]
async fn a_dump_has_them() -> Result<()> {
    let (_leash, postgres, mut superuser) = database(APPLICATION).await?;
    let dumped = postgres
        .program("pg_dump")?
        .arg("--format=plain")
        .output()?;
    ensure!(
        dumped.status.success(),
        "{}",
        String::from_utf8_lossy(&dumped.stderr)
    );
    superuser.execute("CREATE DATABASE restored").await?;
    let mut psql = postgres
        .program("psql")?
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"])
        .arg("--dbname=restored")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = psql.stdin.take().context("no input")?;
    input.write_all(&dumped.stdout)?;
    drop(input);
    ensure!(psql.wait()?.success(), "psql could not restore the dump");

    let mut restored =
        PgConnection::connect(&postgres.url("postgres", "secret", "restored")).await?;
    assert_eq!(unplanned(&mut restored).await?, [""; 0]);
    let found: Vec<bool> = sqlx::query_scalar(
        "SELECT (attachments.find_planned(p.id::text, l.planned_for)).is_there FROM app.post AS p, attachments.entity_lookup AS l,
                LATERAL set_config('request.jwt.claims', jsonb_build_object('tenant', p.tenant)::text, false)
         ORDER BY p.id",
    )
    .fetch_all(&mut restored)
    .await?;
    assert_eq!(found.len(), 3);
    assert!(found.contains(&true));
    Ok(())
}
