//! Restores that meet, in the middle, somebody else's transaction.

use anyhow::Result;
use keepsake_tests::fixtures::PNG;
use keepsake_tests::migrate::Keep;
use sqlx::{Connection as _, PgConnection};

use crate::world::{Tenant, deletion_id, tenant, until};

/// Runs a statement in a transaction, holds it while the restore begins, and commits.
async fn restore_against(
    tenant: &Tenant<'_>,
    other: &mut PgConnection,
    sql: &str,
) -> Result<keepsake_tests::api::Reply> {
    let mut transaction = other.begin().await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(&mut *transaction)
        .await?;
    let holder: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *transaction)
        .await?;
    let mut observer = tenant.database().await?;
    let commit = async {
        until("the restore waits for the other transaction", async || {
            let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))";
            let waits = sqlx::query_scalar(sql).bind(holder);
            Ok(waits.fetch_one(&mut observer).await?)
        })
        .await?;
        anyhow::Ok(transaction.commit().await?)
    };
    let (restored, committed) = tokio::join!(tenant.restore_post(), commit);
    committed?;
    restored
}

#[tokio::test]
async fn a_place_taken_at_the_same_moment_is_a_conflict() -> Result<()> {
    let tenant = tenant().await?;
    tenant.delete_post().await?.expect(204)?;
    let sql = format!(
        "INSERT INTO public.post (tenant, thread_id, slug, body) VALUES ('{}', {}, 'a-post', 'newcomer')",
        tenant.name, tenant.thread
    );
    let reply = restore_against(&tenant, &mut tenant.database().await?, &sql).await?;
    reply.expect_problem(409, "restore_conflict")?;
    // The next look lists it.
    let problem = tenant
        .restore_post()
        .await?
        .expect_problem(409, "restore_conflict")?;
    assert_eq!(problem["conflicts"][0]["constraint"], "post_live_slug");
    Ok(())
}

#[tokio::test]
async fn a_purge_that_comes_first_leaves_nothing_to_restore() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload_one(PNG).await?;
    let deleted = tenant.delete_post().await?;
    let sql = format!(
        "SELECT keepsake.purge_deletion('{}')",
        deletion_id(&deleted)?
    );
    let reply = restore_against(&tenant, &mut tenant.database().await?, &sql).await?;
    reply.expect_problem(410, "purged")?;
    Ok(())
}

#[tokio::test]
async fn a_rule_of_the_application_that_forbids_it_is_told() -> Result<()> {
    let tenant = tenant().await?;
    tenant.delete_post().await?.expect(204)?;
    let trigger = format!(
        "CREATE FUNCTION public.forbid_{post}() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE check_violation USING MESSAGE = 'not now'; END $$;
         CREATE TRIGGER forbid_{post} {when} EXECUTE FUNCTION public.forbid_{post}();",
        post = tenant.post,
        when = match crate::KEEP {
            Keep::InPlace => format!(
                "BEFORE UPDATE ON public.post FOR EACH ROW WHEN (OLD.id = {} AND NEW.deleted_at IS NULL)",
                tenant.post
            ),
            Keep::Apart => format!(
                "AFTER INSERT ON public.post FOR EACH ROW WHEN (NEW.id = {})",
                tenant.post
            ),
        }
    );
    let mut database = tenant.database().await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))
        .execute(&mut database)
        .await?;
    tenant
        .restore_post()
        .await?
        .expect_problem(409, "restore_conflict")?;
    let gone = format!("DROP FUNCTION public.forbid_{} CASCADE", tenant.post);
    sqlx::raw_sql(sqlx::AssertSqlSafe(gone))
        .execute(&mut database)
        .await?;
    tenant.restore_post().await?.json_if(200)?;
    Ok(())
}
