//! The program `keepsake`, run as its user runs it, on a PostgreSQL of its own.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use keepsake_cli::migrations::newest;
use keepsake_tests::migrate;
use keepsake_tests::places::{POSTGRES_MAJOR, checkout, tested_majors};
use keepsake_tests::postgres::{DATABASE, Postgres};
use keepsake_tests::stack::throwaway_folder;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

const PASSWORD: &str = "not-to-be-printed";

/// A call of the program: what it printed, and how it left.
#[derive(Debug)]
struct Called {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Called {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let called = Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        // Whatever it is asked, and whatever comes of it.
        assert!(
            !called.out.contains(PASSWORD) && !called.err.contains(PASSWORD),
            "{called:?}"
        );
        called
    }
}

impl Called {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{self:?}"))
    }

    fn leaves(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// The program as it stands: built once for all tests here, as cargo builds those of other packages for nobody.
fn program() -> Result<Command> {
    static BUILT: OnceLock<bool> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let build = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "keepsake-cli",
                "--bin",
                "keepsake",
            ])
            .current_dir(checkout())
            .status();
        build.is_ok_and(|status| status.success())
    });
    ensure!(built, "cargo build --package keepsake-cli failed");
    let test = std::env::current_exe()?;
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("no folder of programs")?;
    let mut command = Command::new(folder.join("keepsake"));
    command.env_remove("DATABASE_URL").env_remove("PGPASSWORD");
    Ok(command)
}

fn call_on(url: &str, arguments: &[&str]) -> Result<Called> {
    Ok(program()?
        .env("DATABASE_URL", url)
        .args(arguments)
        .output()?
        .into())
}

/// A server with the database of a stack, in which nothing is installed.
struct World {
    postgres: Postgres,
    // Removes the server's folder.
    _leash: keepsake_tests::leash::Leash,
}

impl World {
    async fn new() -> Result<Self> {
        Self::on(POSTGRES_MAJOR).await
    }

    /// A server of this release.
    async fn on(major: u16) -> Result<Self> {
        let (folder, leash) = throwaway_folder()?;
        let postgres = Postgres::start_release(major, &folder, PASSWORD, &leash).await?;
        Ok(Self {
            postgres,
            _leash: leash,
        })
    }

    async fn migrated() -> Result<Self> {
        let world = Self::new().await?;
        world.call(&["migrate"])?.leaves(0);
        Ok(world)
    }

    fn call(&self, arguments: &[&str]) -> Result<Called> {
        call_on(&self.postgres.superuser_url(), arguments)
    }

    async fn connect(&self) -> Result<PgConnection> {
        self.postgres.connect().await
    }

    /// Two tables, one of which cascades into the other, that Keepsake manages.
    async fn with_tables() -> Result<(Self, PgConnection)> {
        let world = Self::migrated().await?;
        let mut connection = world.connect().await?;
        connection
            .execute(
                "CREATE TABLE folder (id bigint PRIMARY KEY, name text NOT NULL);
                 CREATE TABLE file (id bigint PRIMARY KEY, folder_id bigint NOT NULL REFERENCES folder ON DELETE CASCADE);
                 CREATE INDEX ON file (folder_id);
                 INSERT INTO folder VALUES (1, 'one'), (2, 'two');
                 INSERT INTO file VALUES (10, 1), (11, 1), (20, 2)",
            )
            .await?;
        world
            .call(&["manage", "folder", "--retention", "10 days"])?
            .leaves(0);
        world.call(&["manage", "file"])?.leaves(0);
        connection
            .execute("CREATE UNIQUE INDEX ON folder (name) WHERE deleted_at IS NULL")
            .await?;
        Ok((world, connection))
    }
}

#[tokio::test]
async fn migrate_installs_and_a_second_run_changes_nothing() -> Result<()> {
    for major in tested_majors()? {
        migrate_twice_on(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn migrate_twice_on(major: u16) -> Result<()> {
    let world = World::on(major).await?;
    let before = world.call(&["doctor", "--json"])?.leaves(1).json()?;
    assert_eq!(before[0]["check_name"], "extension_missing");

    let first = world.call(&["migrate", "--json"])?.leaves(0);
    assert!(
        first.err.contains("==> Applying 0001 baseline"),
        "{first:?}"
    );
    assert_eq!(first.json()?["schema"], json!(newest()));
    assert_eq!(
        first.json()?["findings"]
            .as_array()
            .map(|found| found.iter().filter(|f| f["severity"] != "info").count()),
        Some(0)
    );
    let second = world.call(&["migrate", "--json"])?.leaves(0).json()?;
    assert_eq!(second["applied"], json!([]));
    world.call(&["doctor"])?.leaves(0);

    let mut connection = world.connect().await?;
    let recorded: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM keepsake_migration.applied ORDER BY 1")
            .fetch_all(&mut connection)
            .await?;
    assert_eq!(recorded.last(), Some(&newest()));
    // The tests' own way takes it as its own: there is one record.
    migrate::up(&mut connection).await?;
    Ok(())
}

#[tokio::test]
async fn what_dry_run_prints_does_the_same() -> Result<()> {
    let world = World::new().await?;
    let printed = world.call(&["migrate", "--dry-run"])?.leaves(0);
    let mut connection = world.connect().await?;
    let untouched: bool = sqlx::query_scalar(
        "SELECT to_regnamespace('attachments') IS NULL AND to_regnamespace('keepsake') IS NULL",
    )
    .fetch_one(&mut connection)
    .await?;
    assert!(untouched);
    let file = world.postgres.folder().join("migrate.sql");
    std::fs::write(&file, &printed.out)?;
    let psql = world
        .postgres
        .program("psql")?
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&file)
        .output()?;
    ensure!(
        psql.status.success(),
        "{}",
        String::from_utf8_lossy(&psql.stderr)
    );
    assert_eq!(
        world.call(&["migrate", "--json"])?.leaves(0).json()?["applied"],
        json!([])
    );
    Ok(())
}

#[tokio::test]
async fn two_runs_at_once_do_not_collide() -> Result<()> {
    let world = World::new().await?;
    let url = world.postgres.superuser_url();
    let started: Vec<_> = (0..3)
        .map(|_| {
            let mut command = program()?;
            command.env("DATABASE_URL", &url).arg("migrate");
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            Ok(command.spawn()?)
        })
        .collect::<Result<_>>()?;
    for run in started {
        Called::from(run.wait_with_output()?).leaves(0);
    }
    Ok(())
}

#[tokio::test]
async fn a_migration_that_was_changed_or_comes_from_the_future_is_refused() -> Result<()> {
    let world = World::migrated().await?;
    let mut connection = world.connect().await?;
    for (change, said) in [
        (
            "UPDATE keepsake_migration.applied SET checksum = '\\x00' WHERE version = 1",
            "different text",
        ),
        (
            "UPDATE keepsake_migration.applied SET version = 9999 WHERE version = 1",
            "newer",
        ),
    ] {
        connection.execute(change).await?;
        let refused = world.call(&["migrate"])?.leaves(1);
        assert!(refused.err.contains(said), "{refused:?}");
        assert!(refused.err.contains("hint:"), "{refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_schema_that_was_applied_by_hand_is_adopted() -> Result<()> {
    let world = World::migrated().await?;
    let mut connection = world.connect().await?;
    connection
        .execute("DROP SCHEMA keepsake_migration CASCADE")
        .await?;
    let refused = world.call(&["migrate"])?.leaves(1);
    assert!(refused.err.contains("--adopt"), "{refused:?}");
    assert_eq!(
        world
            .call(&["migrate", "--adopt", "--json"])?
            .leaves(0)
            .json()?["applied"],
        json!([])
    );
    world.call(&["migrate"])?.leaves(0);
    Ok(())
}

#[tokio::test]
async fn who_is_no_superuser_is_told() -> Result<()> {
    let world = World::new().await?;
    let mut connection = world.connect().await?;
    connection
        .execute(sqlx::AssertSqlSafe(format!(
            "CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'"
        )))
        .await?;
    let url = world.postgres.url("clerk", PASSWORD, DATABASE);
    let refused = call_on(&url, &["migrate"])?.leaves(1);
    assert!(refused.err.contains("clerk may not migrate"), "{refused:?}");
    let printed = call_on(&url, &["migrate", "--dry-run"])?.leaves(0);
    assert!(
        printed.out.contains("CREATE EXTENSION keepsake"),
        "{printed:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_deletion_is_planned_listed_held_and_restored() -> Result<()> {
    let (world, mut connection) = World::with_tables().await?;
    let plan = world
        .call(&["plan", "folder", "1", "--json"])?
        .leaves(0)
        .json()?;
    assert_eq!(plan.as_array().map(Vec::len), Some(2), "{plan}");
    connection
        .execute("SET keepsake.actor = 'ada'; DELETE FROM folder WHERE id = 1")
        .await?;

    let deletions = world
        .call(&[
            "deletions",
            "--state",
            "deleted",
            "--table",
            "folder",
            "--json",
        ])?
        .leaves(0)
        .json()?;
    let deletion = deletions[0]["id"]
        .as_str()
        .context("no deletion")?
        .to_owned();
    assert_eq!(
        (&deletions[0]["actor"], &deletions[0]["rows"]),
        (&json!("ada"), &json!(3))
    );
    let shown = world.call(&["deletions"])?.leaves(0);
    assert!(
        shown.out.starts_with("ID ") && shown.out.contains(&deletion),
        "{shown:?}"
    );

    let hold = world
        .call(&[
            "hold",
            "--deletion",
            &deletion,
            "--reason",
            "a lawsuit",
            "--actor",
            "eve",
            "--json",
        ])?
        .leaves(0)
        .json()?;
    let refused = world.call(&["purge", "--deletion", &deletion])?.leaves(1);
    for part in ["SQLSTATE: 55000", "DETAIL:", "HINT:"] {
        assert!(refused.err.contains(part), "{refused:?}");
    }
    let (reason, actor): (String, String) =
        sqlx::query_as("SELECT reason, actor FROM keepsake.hold")
            .fetch_one(&mut connection)
            .await?;
    assert_eq!((reason.as_str(), actor.as_str()), ("a lawsuit", "eve"));
    world
        .call(&["release", &hold["hold"].to_string()])?
        .leaves(0);
    let restored = world.call(&["restore", &deletion])?.leaves(0);
    assert!(
        restored.out.contains("public.folder 1") && restored.out.contains("public.file 2"),
        "{restored:?}"
    );
    Ok(())
}

#[tokio::test]
async fn conflicts_of_a_restore_are_findings() -> Result<()> {
    let (world, mut connection) = World::with_tables().await?;
    connection
        .execute("DELETE FROM folder WHERE id = 1; INSERT INTO folder VALUES (3, 'one')")
        .await?;
    let deletion: String = sqlx::query_scalar("SELECT id::text FROM keepsake.deletion")
        .fetch_one(&mut connection)
        .await?;
    let looked = world
        .call(&["restore", &deletion, "--dry-run", "--json"])?
        .leaves(1)
        .json()?;
    assert_eq!(looked[0]["table_name"], "public.folder", "{looked}");
    let refused = world.call(&["restore", &deletion, "--json"])?.leaves(1);
    let error: Value = serde_json::from_str(&refused.err)?;
    assert_eq!(error["error"]["sqlstate"], "23000");
    assert!(error["error"]["detail"].is_array(), "{error}");
    let live: i64 = sqlx::query_scalar("SELECT count(*) FROM file WHERE deleted_at IS NULL")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(live, 1, "nothing was changed");
    world.call(&["restore", &deletion, "--skip"])?.leaves(1);
    Ok(())
}

#[tokio::test]
async fn purge_shows_and_removes_what_has_expired() -> Result<()> {
    let (world, mut connection) = World::with_tables().await?;
    connection
        .execute("DELETE FROM folder WHERE id = 1")
        .await?;
    assert_eq!(
        world.call(&["purge", "--json"])?.leaves(0).json()?["rows"],
        json!(0)
    );
    connection
        .execute("SELECT keepsake.set_retention('folder', '0')")
        .await?;
    let plan = world
        .call(&["purge", "--dry-run", "--json"])?
        .leaves(0)
        .json()?;
    assert!(!plan.as_array().context("no plan")?.is_empty());
    assert_eq!(
        world
            .call(&["purge", "--batch", "1", "--json"])?
            .leaves(0)
            .json()?["rows"],
        json!(3)
    );
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM file")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(left, 1);
    Ok(())
}

#[tokio::test]
async fn purge_goes_on_behind_what_fails_and_after_what_was_referred_to() -> Result<()> {
    let (world, mut connection) = World::with_tables().await?;
    connection
        .execute(
            "CREATE TABLE stuck (id bigint PRIMARY KEY);
             INSERT INTO stuck VALUES (1), (2), (3);
             SELECT keepsake.manage('stuck', '0');
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.deleted_at IS NOT NULL THEN RAISE EXCEPTION ''stuck''; END IF; RETURN OLD; END';
             CREATE TRIGGER refuse BEFORE DELETE ON stuck FOR EACH ROW EXECUTE FUNCTION refuse();
             SELECT keepsake.set_retention('folder', '0'), keepsake.set_retention('file', '0')",
        )
        .await?;
    // What one transaction deletes is one deletion.
    for row in [
        "stuck WHERE id = 1",
        "stuck WHERE id = 2",
        "stuck WHERE id = 3",
        "folder WHERE id = 1",
    ] {
        let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {row}"));
        connection.execute(delete).await?;
    }
    let purged = world.call(&["purge", "--batch", "2", "--json"])?.leaves(1);
    assert_eq!(purged.json()?["rows"], json!(3), "{purged:?}");
    Ok(())
}

#[tokio::test]
async fn a_deletion_that_is_referred_to_stays_and_that_is_a_finding() -> Result<()> {
    let world = World::migrated().await?;
    let mut connection = world.connect().await?;
    connection
        .execute(
            "CREATE TABLE parent (id bigint PRIMARY KEY);
             CREATE TABLE child (id bigint PRIMARY KEY, parent_id bigint REFERENCES parent);
             INSERT INTO parent VALUES (1);
             INSERT INTO child VALUES (1, 1);
             SELECT keepsake.manage('parent'), keepsake.manage('child')",
        )
        .await?;
    // What one transaction deletes is one deletion.
    for table in ["child", "parent"] {
        let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
        connection.execute(delete).await?;
    }
    let of = |table: &str| {
        format!("SELECT id::text FROM keepsake.deletion WHERE root_table = '{table}'::regclass")
    };
    let parent: String = sqlx::query_scalar(sqlx::AssertSqlSafe(of("parent")))
        .fetch_one(&mut connection)
        .await?;
    let child: String = sqlx::query_scalar(sqlx::AssertSqlSafe(of("child")))
        .fetch_one(&mut connection)
        .await?;
    let stays = world.call(&["purge", "--deletion", &parent])?.leaves(1);
    assert!(stays.out.contains("1 rows stay"), "{stays:?}");
    world.call(&["purge", "--deletion", &child])?.leaves(0);
    world.call(&["purge", "--deletion", &parent])?.leaves(0);
    Ok(())
}

#[tokio::test]
async fn a_key_of_several_columns_is_an_object() -> Result<()> {
    let world = World::migrated().await?;
    world
        .connect()
        .await?
        .execute(
            "CREATE TABLE pair (a integer, b text, PRIMARY KEY (a, b));
             INSERT INTO pair VALUES (1, 'x'); SELECT keepsake.manage('pair')",
        )
        .await?;
    let key = r#"{"a": 1, "b": "x"}"#;
    let plan = world.call(&["plan", "pair", key, "--json"])?.leaves(0);
    assert_eq!(plan.json()?[0]["row_count"], 1, "{plan:?}");
    world
        .call(&["hold", "--table", "pair", "--key", key, "--reason", "x"])?
        .leaves(0);
    Ok(())
}

#[tokio::test]
async fn doctor_reports_what_others_left_to_the_workers_role() -> Result<()> {
    let world = World::migrated().await?;
    world
        .connect()
        .await?
        .execute("CREATE FUNCTION public.shared() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        .await?;
    let found = world.call(&["doctor", "--json"])?.leaves(1).json()?;
    let found = found.as_array().context("no list")?.iter().any(|finding| {
        finding["check_name"] == "worker_may_more" && finding["object"] == "public.shared()"
    });
    assert!(found);
    Ok(())
}

#[tokio::test]
async fn doctor_reports_lookups_that_are_not_planned() -> Result<()> {
    let world = World::migrated().await?;
    let mut connection = world.connect().await?;
    connection
        .execute(
            "CREATE TABLE public.leaf (id bigint PRIMARY KEY, tenant text);
             SELECT attachments.register_entity('leaf', 'public.leaf', 'tenant');
             ALTER TABLE public.leaf RENAME TO foliage",
        )
        .await?;
    let unplanned = |world: &World| -> Result<bool> {
        let found = world.call(&["doctor", "--json"])?.json()?;
        let mut found = found.as_array().context("no list")?.iter();
        Ok(found.any(|finding| {
            finding["check_name"] == "lookup_unplanned" && finding["object"] == "foliage"
        }))
    };
    assert!(unplanned(&world)?);
    connection
        .execute("SELECT attachments.plan_lookups()")
        .await?;
    assert!(!unplanned(&world)?);
    Ok(())
}

#[tokio::test]
async fn it_erases_and_prints_the_certificate() -> Result<()> {
    let world = World::migrated().await?;
    let mut connection = world.connect().await?;
    connection
        .execute(
            "INSERT INTO attachments.quota (scope, tenant_id, subject, max_files) VALUES ('user', 'acme', 'ada', 1), ('user', 'acme', 'eve', 1)",
        )
        .await?;
    let ada = [
        "erase",
        "--tenant",
        "acme",
        "--subject",
        "ada",
        "--reason",
        "ticket 1",
        "--actor",
        "olga",
        "--json",
    ];
    let certificate = world.call(&ada)?.leaves(0).json()?;
    assert_eq!(
        (
            &certificate["scope"],
            &certificate["actor"],
            &certificate["removed"]
        ),
        (
            &json!("subject"),
            &json!("olga"),
            &json!({ "attachments.quota": 1 })
        )
    );
    connection
        .execute("SELECT keepsake.hold_tenant('acme', 'a lawsuit')")
        .await?;
    let all = ["erase", "--tenant", "acme", "--reason", "ticket 2"];
    let refused = world.call(&all)?.leaves(1);
    assert!(refused.err.contains("SQLSTATE: KS004"), "{refused:?}");
    connection.execute("SELECT keepsake.release(1)").await?;
    let erased = world.call(&all)?.leaves(0);
    assert!(erased.out.contains("attachments.quota: 1"), "{erased:?}");
    world
        .call(&["erase", "--tenant", "acme", "--keep-files", "--reason", "x"])?
        .leaves(2);
    Ok(())
}

#[test]
fn a_server_that_cannot_run_says_what_to_do() -> Result<()> {
    let key = "k1:a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5";
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let here = taken.local_addr()?.to_string();
    let (folder, _leash) = throwaway_folder()?;
    let file = folder.join("file");
    std::fs::write(&file, "")?;
    let (folder, file) = (folder.to_string_lossy(), file.to_string_lossy());
    for (mode, setting, value, code, said, hint) in [
        (None, "LISTEN", &*here, 1, "in use", "another port"),
        (
            None,
            "LISTEN",
            "192.0.2.1:8787",
            1,
            "192.0.2.1",
            "of this machine",
        ),
        (None, "FILE_ROOT", &*file, 2, &*file, "another folder"),
        (None, "PAGE_ROOT", &*file, 2, &*file, "another folder"),
        (None, "STORAGE", "r2", 2, "STORAGE", "correct the settings"),
        (
            Some("--once"),
            "STORAGE",
            "r2",
            2,
            "STORAGE",
            "correct the settings",
        ),
        (
            Some("--once"),
            "STORAGE",
            "file",
            3,
            "was not done",
            "correct the cause",
        ),
    ] {
        let mut serve = program()?;
        serve.arg("serve").args(mode).envs([
            (
                "DATABASE_URL",
                "postgres://nobody@127.0.0.1:1/app?sslmode=disable",
            ),
            ("STORAGE", "file"),
            ("FILE_ROOT", &*folder),
            ("JWT_KEYS", key),
            ("URL_KEYS", key),
        ]);
        let refused = Called::from(serve.env(setting, value).output()?).leaves(code);
        for part in [said, hint, "hint: "] {
            assert!(refused.err.contains(part), "{part}: {refused:?}");
        }
        only_lines_of_the_log(&refused)?;
    }
    Ok(())
}

/// What a server prints is read by what collects logs.
fn only_lines_of_the_log(served: &Called) -> Result<()> {
    for line in served.out.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("{served:?}"))?;
        ensure!(
            line["time"].is_string() && line["level"].is_string(),
            "{line}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_scheduled_work_prints_its_log_and_no_more() -> Result<()> {
    let world = World::migrated().await?;
    world
        .connect()
        .await?
        .execute(sqlx::AssertSqlSafe(format!(
            "ALTER ROLE keepsake_worker LOGIN PASSWORD '{PASSWORD}'"
        )))
        .await?;
    let url = world.postgres.url("keepsake_worker", PASSWORD, DATABASE);
    let key = "k1:a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5";
    let root = world.postgres.folder().join("files");
    for json in [None, Some("--json")] {
        let mut once = program()?;
        once.args(["serve", "--once"]).args(json).envs([
            ("DATABASE_URL", &*format!("{url}?sslmode=disable")),
            ("STORAGE", "file"),
            ("FILE_ROOT", &*root.to_string_lossy()),
            ("JWT_KEYS", key),
            ("URL_KEYS", key),
        ]);
        only_lines_of_the_log(&Called::from(once.output()?).leaves(0))?;
    }
    Ok(())
}

/// A file on a disk that is always full.
fn full() -> Result<std::fs::File> {
    Ok(std::fs::OpenOptions::new().write(true).open("/dev/full")?)
}

#[tokio::test]
async fn work_goes_on_when_nobody_can_read_of_it() -> Result<()> {
    let world = World::new().await?;
    let url = world.postgres.superuser_url();
    let call = |arguments: &[&str]| -> Result<Command> {
        let mut command = program()?;
        command.env("DATABASE_URL", &url).args(arguments);
        Ok(command)
    };
    Called::from(call(&["migrate"])?.stderr(full()?).output()?).leaves(0);
    let mut connection = world.connect().await?;
    connection
        .execute(
            "CREATE TABLE folder (id bigint PRIMARY KEY);
             INSERT INTO folder SELECT generate_series(1, 20);
             SELECT keepsake.manage('folder');
             DELETE FROM folder;
             SELECT keepsake.set_retention('folder', '0')",
        )
        .await?;
    // A pipe whose reader has gone.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let purged = call(&["purge", "--batch", "1"])?.stderr(writer).output()?;
    let purged = Called::from(purged).leaves(0);
    assert_eq!(purged.out, "Purged 20 rows.\n");
    // A message that cannot be written changes no exit code.
    Called::from(call(&["release", "x"])?.stderr(full()?).output()?).leaves(2);
    Called::from(call(&["plan", "none", "1"])?.stderr(full()?).output()?).leaves(3);
    Ok(())
}

#[tokio::test]
async fn a_result_that_cannot_be_written_has_an_exit_code_of_its_own() -> Result<()> {
    let world = World::migrated().await?;
    let url = world.postgres.superuser_url();
    let call = |arguments: &[&str], out: std::process::Stdio| -> Result<Called> {
        let mut command = program()?;
        command
            .env("DATABASE_URL", &url)
            .args(arguments)
            .stdout(out);
        Ok(command
            .stderr(std::process::Stdio::piped())
            .output()?
            .into())
    };
    let hold = ["hold", "--tenant", "acme", "--reason", "a lawsuit"];
    let held = call(&hold, full()?.into())?.leaves(4);
    for said in ["is done", "No space left", "Placed hold 1"] {
        assert!(held.err.contains(said), "{said}: {held:?}");
    }
    let json = call(&["release", "1", "--json"], full()?.into())?.leaves(4);
    let told: Value = serde_json::from_str(&json.err)?;
    assert!(told["error"]["message"].is_string(), "{told}");
    call(&["deletions"], full()?.into())?.leaves(4);
    call(&["--help"], full()?.into())?.leaves(4);
    // Nobody wants it.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    call(&["deletions"], writer.into())?.leaves(0);
    Ok(())
}

#[tokio::test]
async fn calls_that_make_no_sense_and_databases_that_are_not_there() -> Result<()> {
    let nobody = format!("postgres://postgres:{PASSWORD}@127.0.0.1:1/keepsake");
    for (url, arguments, code) in [
        (nobody.as_str(), &["frobnicate"][..], 2),
        (&nobody, &["restore", "no-uuid"], 2),
        (&nobody, &["hold", "--reason", "none of what"], 2),
        ("", &["doctor"], 2),
        ("not a URL", &["doctor"], 2),
        (
            &format!("postgres://postgres:{PASSWORD}@[::1/keepsake"),
            &["doctor"],
            2,
        ),
        // What other programs take for a database, or pass over.
        (
            &format!("postgres://postgres:/{PASSWORD}@127.0.0.1:1/app"),
            &["doctor"],
            2,
        ),
        (
            &format!("postgres://postgres:1?{PASSWORD}@127.0.0.1:1/app"),
            &["doctor"],
            2,
        ),
        (&format!("{nobody}?sslmod=verify-full"), &["doctor"], 2),
        (&nobody.replace("postgres://", "mysql://"), &["doctor"], 2),
        ("", &["doctor", &nobody], 2),
        (
            &nobody,
            &["hold", "--tenant", "a", "--key", "1", "--reason", "x"],
            2,
        ),
        (&nobody, &["doctor"], 3),
        (&nobody, &["--help"], 0),
    ] {
        call_on(url, arguments)?.leaves(code);
    }
    let world = World::new().await?;
    let refused = world.call(&["deletions"])?.leaves(1);
    assert!(refused.err.contains("keepsake migrate"), "{refused:?}");
    world.call(&["migrate"])?.leaves(0);
    let refused = world.call(&["plan", "no_such_table", "1"])?.leaves(3);
    assert!(refused.err.contains("SQLSTATE: 42P01"), "{refused:?}");
    let wrong = world
        .postgres
        .url("postgres", &format!("{PASSWORD}-wrong"), DATABASE);
    call_on(&wrong, &["doctor"])?.leaves(3);
    let missing = world.postgres.url("postgres", PASSWORD, "no_such");
    let refused = call_on(&missing, &["doctor"])?.leaves(3);
    let said = "why: database \"no_such\" does not exist\n";
    assert!(refused.err.contains(said), "{refused:?}");
    world.connect().await?.close().await?;
    Ok(())
}
