//! The migrations go up, down and up again, on an empty database and on one in use.

use anyhow::{Context as _, Result};
use keepsake_cli::migrations::newest;
use keepsake_tests::migrate;
use keepsake_tests::places::outer_majors;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use sqlx::{Connection as _, Executor as _, PgConnection};

/// Everything the migrations could leave behind. The extension is meant to stay, as other tables
/// may be managed by it; but nothing of ours may stay in its registry.
const LEFT_BEHIND: &str = "
    SELECT string_agg(name, ', ') FROM (
        SELECT nspname FROM pg_namespace WHERE nspname LIKE 'attachments%'
        UNION ALL
        SELECT rolname FROM pg_roles WHERE rolname IN ('keepsake_api', 'keepsake_worker')
        UNION ALL
        SELECT relation::text FROM keepsake.managed_table WHERE relation <> ALL ($1::text[]::regclass[])
        UNION ALL
        SELECT child::text FROM keepsake.declared_reference
        UNION ALL
        SELECT relation::text FROM keepsake.bound_storage
    ) AS found (name)";

async fn left_behind(
    connection: &mut PgConnection,
    managed_by_the_application: &[&str],
) -> Result<Option<String>> {
    Ok(sqlx::query_scalar(LEFT_BEHIND)
        .bind(managed_by_the_application)
        .fetch_one(connection)
        .await?)
}

/// Every object of the schemas and of the extension as text that can be compared: no OID, no order of columns.
const SHAPE: &str = include_str!("../src/shape.sql");

async fn shape(connection: &mut PgConnection) -> Result<String> {
    let lines: Vec<String> = sqlx::query_scalar(SHAPE).fetch_all(connection).await?;
    Ok(lines.join("\n"))
}

#[tokio::test]
async fn up_down_up() -> Result<()> {
    for major in outer_majors()? {
        up_down_up_on(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn up_down_up_on(major: u16) -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start_release(major, &folder, "secret", &leash).await?;
    let mut connection = postgres.connect().await?;

    migrate::up(&mut connection).await?;
    let first = shape(&mut connection).await?;
    migrate::down(&mut connection).await?;
    assert_eq!(left_behind(&mut connection, &[]).await?, None);
    migrate::up(&mut connection).await?;
    assert_eq!(
        shape(&mut connection).await?,
        first,
        "the second way up made something else"
    );
    Ok(())
}

#[tokio::test]
async fn a_function_with_another_body_is_another() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut connection = postgres.connect().await?;
    migrate::up(&mut connection).await?;
    let first = shape(&mut connection).await?;
    for body in [
        "RETURN 'another'",
        "SET search_path = pg_catalog, pg_temp AS $$ SELECT 'another' $$",
    ] {
        let replaced = format!(
            "CREATE OR REPLACE FUNCTION attachments.tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE {body}"
        );
        connection
            .execute(sqlx::AssertSqlSafe(replaced.clone()))
            .await?;
        let second = shape(&mut connection).await?;
        assert_ne!(first, second);
        let once_more = replaced.replace("'another'", "'one more'");
        connection.execute(sqlx::AssertSqlSafe(once_more)).await?;
        assert_ne!(second, shape(&mut connection).await?, "{body}");
    }
    Ok(())
}

/// What is released is migrated to, one migration after another; what is read are the files of `migrations/schema`. Each way
/// down leads to what was before.
#[tokio::test]
async fn migrating_gives_the_schema_of_the_files() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut connection = postgres.connect().await?;
    connection.execute("CREATE DATABASE from_files").await?;
    let url = postgres.url("postgres", "secret", "from_files");
    let mut from_files = PgConnection::connect(&url).await?;
    let mut transaction = from_files.begin().await?;
    for part in keepsake_schema::parts(keepsake_schema::folder())? {
        transaction
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(part.up)))
            .await
            .with_context(|| part.name)?;
    }
    transaction.commit().await?;

    let mut on_the_way = Vec::new();
    for version in 1..=newest() {
        migrate::up_to(&mut connection, version).await?;
        on_the_way.push(shape(&mut connection).await?);
    }
    assert_same(
        on_the_way.last().context("there is no migration")?,
        &shape(&mut from_files).await?,
        "the migrations give something else than the files of migrations/schema",
    );
    let version: i32 = sqlx::query_scalar("SELECT attachments.schema_version()")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(i64::from(version), newest());

    while let Some(_newest) = on_the_way.pop() {
        migrate::down_to(&mut connection, i64::try_from(on_the_way.len())?).await?;
        if let Some(before) = on_the_way.last() {
            assert_same(
                &shape(&mut connection).await?,
                before,
                "the way down gives something else than what was",
            );
        }
    }
    // The roles are those of the other database still; here nothing refers to them.
    let roles = "keepsake_api, keepsake_worker".to_owned();
    assert_eq!(left_behind(&mut connection, &[]).await?, Some(roles));
    let granted: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_shdepend
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND refobjid IN (SELECT oid FROM pg_roles WHERE rolname LIKE 'keepsake%')",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(granted, 0);
    Ok(())
}

/// Says which lines differ, as all of them are too many to read.
fn assert_same(left: &str, right: &str, otherwise: &str) {
    let missing = |of: &str, other: &str| -> Vec<String> {
        let there: std::collections::HashSet<&str> = other.lines().collect();
        let lines = of.lines().filter(|line| !there.contains(line));
        lines.map(str::to_owned).collect()
    };
    let (more, less) = (missing(left, right), missing(right, left));
    assert!(
        more.is_empty() && less.is_empty(),
        "{otherwise}\n+ {}\n- {}",
        more.join("\n+ "),
        less.join("\n- ")
    );
}

#[tokio::test]
async fn down_and_up_with_data_keeps_the_application() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut connection = postgres.connect().await?;
    migrate::up(&mut connection).await?;
    migrate::install_example(&mut connection, migrate::Keep::default()).await?;
    declare_and_complete(&mut connection, 1).await?;
    declare_and_complete(&mut connection, 2).await?;
    connection
        .execute("SELECT keepsake.soft_delete('public.post', '2')")
        .await?;

    // The application's policies call into the schema that goes; it takes them off first.
    connection
        .execute(
            "DROP POLICY own_tenant ON public.thread; DROP POLICY own_tenant ON public.post;
             ALTER TABLE public.thread DISABLE ROW LEVEL SECURITY;
             ALTER TABLE public.post DISABLE ROW LEVEL SECURITY",
        )
        .await?;
    migrate::down(&mut connection).await?;
    let of_the_application = ["public.thread", "public.post"];
    assert_eq!(
        left_behind(&mut connection, &of_the_application).await?,
        None
    );
    let (threads, posts): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM public.thread), (SELECT count(*) FROM public.post)",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(
        (threads, posts),
        (3, 4),
        "the way down took the application's rows"
    );

    migrate::up(&mut connection).await?;
    connection
        .execute(
            "SELECT attachments.register_entity('thread', 'public.thread', 'tenant');
             SELECT attachments.register_entity('post', 'public.post', 'tenant')",
        )
        .await?;
    declare_and_complete(&mut connection, 1).await?;
    connection.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_second_run_changes_nothing() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut connection = postgres.connect().await?;
    migrate::up(&mut connection).await?;
    let first = shape(&mut connection).await?;
    migrate::up(&mut connection).await?;
    assert_eq!(shape(&mut connection).await?, first);
    Ok(())
}

#[tokio::test]
async fn data_of_other_migrations_is_told_and_left_alone() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut connection = postgres.connect().await?;
    migrate::up(&mut connection).await?;
    let first = shape(&mut connection).await?;
    connection
        .execute("UPDATE keepsake_migration.applied SET checksum = '\\x00' WHERE version = 1")
        .await?;
    let refused = migrate::up(&mut connection).await;
    let told = refused
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(told.contains("make reset"), "{told}");
    assert_eq!(shape(&mut connection).await?, first);
    Ok(())
}

/// An attachment of a post, made as the worker makes it.
async fn declare_and_complete(connection: &mut PgConnection, post: i32) -> Result<()> {
    let upload: serde_json::Value = sqlx::query_scalar(
        r#"SELECT attachments_api.create_upload('{"tenant": "acme", "sub": "ada"}', jsonb_build_object(
               'entity_type', 'post', 'entity_id', $1::text, 'expires_at', now() + interval '1 hour',
               'files', jsonb_build_array(jsonb_build_object(
                   'name', 'a.png', 'media_type', 'image/png', 'size', 1, 'sha256', repeat('0', 64)))))"#,
    )
    .bind(post)
    .fetch_one(&mut *connection)
    .await?;
    let id = upload.pointer("/ok/id").cloned();
    assert!(id.is_some(), "not declared: {upload}");
    let done: serde_json::Value = sqlx::query_scalar(
        r#"SELECT attachments_api.complete_upload('{"tenant": "acme", "sub": "ada"}', jsonb_build_object('upload_id', $1))"#,
    )
    .bind(id)
    .fetch_one(&mut *connection)
    .await?;
    assert_eq!(
        done.pointer("/ok/state"),
        Some(&serde_json::json!("completed")),
        "{done}"
    );
    Ok(())
}
