//! What the worker's role may do in a database: execute `attachments_api`, and nothing else. And that taking rights in the
//! schema `keepsake` from everybody leaves plain statements on managed tables, and the worker's calls, as they were.

use anyhow::{Context as _, Result};
use keepsake_tests::migrate;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// Every name that the role could find and use, read from the catalog in another way than
/// `attachments.worker_rights()` does: as the role itself, and by trying.
const FOUND_BY_THE_ROLE: &str = "
    SELECT 'function ' || p.oid::regprocedure FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'attachments_api')
      AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
    UNION ALL
    SELECT 'relation ' || c.oid::regclass FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE')
    UNION ALL
    SELECT 'schema ' || n.nspname FROM pg_catalog.pg_namespace n WHERE pg_catalog.has_schema_privilege(n.oid, 'CREATE')
    UNION ALL
    SELECT 'database' WHERE pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY, CREATE')
    UNION ALL
    SELECT 'role ' || r.rolname FROM pg_catalog.pg_roles r
    WHERE pg_catalog.pg_has_role(r.oid, 'MEMBER') AND r.rolname <> current_user";

const APPLICATION: &str = "
    CREATE ROLE app LOGIN PASSWORD 'app';
    CREATE SCHEMA shop AUTHORIZATION app;
    SET ROLE app;
    CREATE TABLE shop.customer (id bigint PRIMARY KEY, tenant text NOT NULL);
    CREATE TABLE shop.purchase (id bigint PRIMARY KEY, customer_id bigint NOT NULL REFERENCES shop.customer ON DELETE CASCADE);
    RESET ROLE;
    SELECT keepsake.manage('shop.customer'), keepsake.manage('shop.purchase')";

async fn database(postgres: &Postgres) -> Result<PgConnection> {
    let mut superuser = postgres.connect().await?;
    migrate::up(&mut superuser).await?;
    migrate::install_example(&mut superuser, migrate::Keep::default()).await?;
    migrate::admit_worker(&mut superuser, "worker").await?;
    superuser.execute(APPLICATION).await?;
    Ok(superuser)
}

async fn as_role(postgres: &Postgres, role: &str) -> Result<PgConnection> {
    let password = role.trim_start_matches("keepsake_");
    let url = postgres.url(role, password, "keepsake");
    PgConnection::connect(&url).await.context("cannot log in")
}

async fn rights(superuser: &mut PgConnection) -> Result<Vec<String>> {
    let found = "SELECT what || ' ' || object FROM attachments.worker_rights() ORDER BY 1";
    Ok(sqlx::query_scalar(found).fetch_all(superuser).await?)
}

/// The SQLSTATE with which a statement is refused.
async fn refusal(connection: &mut PgConnection, sql: &str) -> Option<String> {
    let refused = connection.execute(AssertSqlSafe(sql.to_owned())).await;
    let error = refused.err()?.into_database_error()?;
    error.code().map(std::borrow::Cow::into_owned)
}

#[tokio::test]
async fn it_executes_the_api_and_nothing_else() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut superuser = database(&postgres).await?;
    assert_eq!(rights(&mut superuser).await?, [""; 0]);

    let mut worker = as_role(&postgres, "keepsake_worker").await?;
    let found: Vec<String> = sqlx::query_scalar(FOUND_BY_THE_ROLE)
        .fetch_all(&mut worker)
        .await?;
    assert_eq!(found, [""; 0]);
    for refused in [
        "SELECT keepsake.uuid_v7()",
        "SELECT keepsake.soft_delete('public.post', 1)",
        "SELECT attachments.tenant()",
        "TABLE keepsake.managed_table",
        "TABLE public.post",
        "CREATE TEMPORARY TABLE of_its_own (id integer)",
        "CREATE TABLE public.of_its_own (id integer)",
        "CREATE SCHEMA of_its_own",
        "SET ROLE keepsake_api",
        "ALTER FUNCTION attachments_api.ping() OWNER TO keepsake_worker",
    ] {
        let state = refusal(&mut worker, refused).await;
        assert_eq!(state.as_deref(), Some("42501"), "{refused}");
    }
    worker.execute("SELECT attachments_api.ping()").await?;
    Ok(())
}

#[tokio::test]
async fn what_others_grant_it_is_listed() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut superuser = database(&postgres).await?;
    superuser
        .execute(
            "CREATE FUNCTION public.shared() RETURNS integer LANGUAGE sql AS 'SELECT 1';
             GRANT SELECT (title) ON public.thread TO PUBLIC;
             GRANT USAGE ON SCHEMA keepsake TO PUBLIC;
             GRANT USAGE ON SEQUENCE public.thread_id_seq TO keepsake_worker;
             GRANT CREATE ON SCHEMA public TO PUBLIC;
             GRANT TEMPORARY, CREATE ON DATABASE keepsake TO PUBLIC;
             GRANT app TO keepsake_worker;
             SELECT lo_create(42); GRANT SELECT ON LARGE OBJECT 42 TO PUBLIC;
             ALTER ROLE keepsake_worker CREATEDB",
        )
        .await?;
    let listed = rights(&mut superuser).await?;
    for right in [
        "execute function public.shared()",
        "execute function keepsake.uuid_v7()",
        "use relation public.thread",
        "use relation keepsake.managed_table",
        "use relation public.thread_id_seq",
        "create in schema public",
        "create in database keepsake",
        "make temporary tables in database keepsake",
        "act as role app",
        "use large object 42",
        "has the attribute CREATEDB",
    ] {
        assert!(
            listed.iter().any(|line| line == right),
            "{right} is not among {listed:#?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn roles_of_the_application_keep_their_temporary_tables() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut superuser = postgres.connect().await?;
    superuser
        .execute(
            "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE SCHEMA shop AUTHORIZATION app;
             CREATE ROLE elsewhere",
        )
        .await?;
    migrate::up(&mut superuser).await?;
    let mut app = as_role(&postgres, "app").await?;
    app.execute("CREATE TEMPORARY TABLE of_its_own (id integer)")
        .await?;
    // One that has nothing here is left alone: whoever drops it need not look here.
    superuser.execute("DROP ROLE elsewhere").await?;
    Ok(())
}

/// What PostgREST's guide has administrators do, and more: nobody has any right in the schema.
const HARDENED: &str = "
    REVOKE ALL ON SCHEMA keepsake FROM PUBLIC;
    REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA keepsake FROM PUBLIC;
    REVOKE ALL ON ALL TABLES IN SCHEMA keepsake FROM PUBLIC";

#[tokio::test]
async fn plain_statements_need_no_right_in_the_schema() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut superuser = database(&postgres).await?;
    plain_statements(&postgres, &mut superuser)
        .await
        .context("as installed")?;
    superuser
        .execute("DROP SCHEMA shop CASCADE; DROP OWNED BY app; DROP ROLE app")
        .await?;
    superuser.execute(APPLICATION).await?;
    superuser.execute(HARDENED).await?;
    plain_statements(&postgres, &mut superuser)
        .await
        .context("hardened")
}

async fn plain_statements(postgres: &Postgres, superuser: &mut PgConnection) -> Result<()> {
    let mut app = as_role(postgres, "app").await?;
    app.execute("INSERT INTO shop.customer VALUES (1, 'acme'), (2, 'acme'); INSERT INTO shop.purchase VALUES (10, 1), (20, 2)")
        .await?;
    app.execute("UPDATE shop.purchase SET customer_id = 1 WHERE id = 20")
        .await?;
    // Made, changed and filled by a role that has no right in the schema; its references are guarded.
    app.execute("CREATE TABLE shop.review (id bigint PRIMARY KEY, customer_id bigint REFERENCES shop.customer)").await?;
    app.execute("ALTER TABLE shop.review ADD COLUMN purchase_id bigint REFERENCES shop.purchase")
        .await?;
    app.execute("INSERT INTO shop.review VALUES (100, 2)")
        .await?;
    let deleted = app
        .execute("DELETE FROM shop.customer WHERE id = 1")
        .await?;
    assert_eq!(deleted.rows_affected(), 1);
    let marked: i64 =
        sqlx::query_scalar("SELECT count(*) FROM shop.purchase WHERE deleted_at IS NOT NULL")
            .fetch_one(&mut app)
            .await?;
    assert_eq!(marked, 2, "the cascade");
    let refused = refusal(&mut app, "INSERT INTO shop.review VALUES (101, 1)").await;
    assert_eq!(
        refused.as_deref(),
        Some("23503"),
        "a reference to a deleted row"
    );
    let refused = refusal(&mut app, "DELETE FROM shop.customer WHERE id = 2").await;
    assert_eq!(
        refused.as_deref(),
        Some("23503"),
        "a row that a live one refers to"
    );
    superuser
        .execute("SELECT keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted'")
        .await?;
    app.execute("DROP TABLE shop.review").await?;
    app.close().await?;
    Ok(())
}

#[tokio::test]
async fn the_workers_calls_need_no_right_of_public() -> Result<()> {
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "secret", &leash).await?;
    let mut superuser = database(&postgres).await?;
    superuser.execute(HARDENED).await?;
    let mut worker = as_role(&postgres, "keepsake_worker").await?;
    let file =
        json!({"name": "a.png", "media_type": "image/png", "size": 1, "sha256": "0".repeat(64)});
    let declared = call(&mut worker, "create_upload", &json!({
        "entity_type": "post", "entity_id": "1", "expires_at": "2099-01-01T00:00:00Z", "files": [file]})).await?;
    let upload = declared.pointer("/ok/id").context("no upload")?;
    let attachment = declared
        .pointer("/ok/files/0/attachment_id")
        .context("no attachment")?;
    let of_file = json!({"attachment_id": attachment, "name": "b.png"});
    call(
        &mut worker,
        "complete_upload",
        &json!({"upload_id": upload}),
    )
    .await?;
    call(&mut worker, "rename_attachment", &of_file).await?;
    call(&mut worker, "delete_attachment", &of_file).await?;
    call(&mut worker, "restore_attachment", &of_file).await?;
    let post = json!({"entity_type": "post", "entity_id": "1", "limit": 10});
    let deletion = call(&mut worker, "delete_entity", &post).await?;
    call(&mut worker, "list_deletions", &post).await?;
    let deletion =
        json!({"deletion_id": deletion.pointer("/ok/deletion_id"), "on_conflict": "fail"});
    call(&mut worker, "get_deletion", &deletion).await?;
    call(&mut worker, "restore_deletion", &deletion).await?;
    call(
        &mut worker,
        "list_attachments",
        &json!({"q": "b", "limit": 10}),
    )
    .await?;
    Ok(())
}

/// Calls a function as the worker does; its answer has to be `ok`.
async fn call(worker: &mut PgConnection, function: &str, request: &Value) -> Result<Value> {
    let sql =
        format!(r#"SELECT attachments_api.{function}('{{"tenant": "acme", "sub": "ada"}}', $1)"#);
    let answer: Value = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(request)
        .fetch_one(worker)
        .await
        .with_context(|| function.to_owned())?;
    assert!(answer.get("ok").is_some(), "{function}: {answer}");
    Ok(answer)
}
