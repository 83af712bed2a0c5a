//! A worker does nothing on a schema that is older than it needs, or missing, and says what to do.

use anyhow::{Result, ensure};
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::PNG;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::world::{Tenant, own_stack};

/// Lets the database say that its schema has this version.
async fn set_version(tenant: &Tenant<'_>, version: u32) -> Result<()> {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION attachments.schema_version() RETURNS integer
         LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'SELECT {version}'"
    );
    tenant
        .database()
        .await?
        .execute(sqlx::AssertSqlSafe(sql))
        .await?;
    Ok(())
}

/// The problem of a request that needs the database; each says what is wrong and what to do.
async fn outdated(api: &Api, path: &str, what: &str) -> Result<()> {
    let problem = api
        .get(path)
        .await?
        .expect_problem(503, "schema_outdated")?;
    let detail = text(&problem, "/detail")?;
    ensure!(
        detail.contains(what) && detail.contains("needs version 1 or later"),
        "{detail}"
    );
    ensure!(detail.contains("keepsake migrate"), "{detail}");
    Ok(())
}

async fn versions(api: &Api) -> Result<Value> {
    let health = api.get("/healthz?deep=1").await?.json_if(200)?;
    Ok(health["schema"].clone())
}

#[tokio::test]
async fn an_older_schema_is_refused_before_anything_is_done_and_a_newer_one_is_not() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let required = versions(&tenant.api).await?["required"].clone();
    ensure!(required == 1, "{required}");

    set_version(&tenant, 0).await?;
    let older = "The database has version 0 of the attachment schema";
    outdated(&tenant.api, "/healthz?deep=1", older).await?;
    outdated(&tenant.api, "/v1/attachments", older).await?;
    let declared = tenant.api.declare(tenant.entity(), &[PNG]).await?;
    declared.expect_problem(503, "schema_outdated")?;
    tenant
        .delete_post()
        .await?
        .expect_problem(503, "schema_outdated")?;
    ensure!(tenant.upload_sets().await? == 0, "an upload was declared");
    let deletions = "SELECT count(*) FROM keepsake.deletion WHERE $1 <> ''";
    ensure!(tenant.count(deletions).await? == 0, "a post was deleted");
    tenant.api.get("/healthz").await?.expect(200)?;

    // The schema is updated first, and the worker after it.
    for version in [1, 2] {
        set_version(&tenant, version).await?;
        ensure!(
            versions(&tenant.api).await? == json!({ "version": version, "required": required })
        );
        tenant.api.get("/v1/attachments").await?.expect(200)?;
    }
    tenant.upload_one(PNG).await?;

    // As before there were versions.
    tenant
        .database()
        .await?
        .execute("DROP FUNCTION attachments_api.schema_version()")
        .await?;
    outdated(
        &tenant.api,
        "/v1/attachments",
        "has no schema for attachments",
    )
    .await
}

#[tokio::test]
async fn a_database_without_the_schema_says_how_to_get_it() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let mut database = tenant.database().await?;
    database.execute("CREATE DATABASE nothing_yet").await?;
    let (server, _) = stack
        .worker_url()
        .rsplit_once('/')
        .map(|(server, name)| (server.to_owned(), name.to_owned()))
        .unwrap_or_default();
    let url = format!("{server}/nothing_yet?sslmode=disable");
    let worker = stack
        .another_worker("early", &[("DATABASE_URL", &url)], None)
        .await?;
    let api = Api::new(&worker.url(), None)?;
    outdated(&api, "/healthz?deep=1", "has no schema for attachments").await
}
