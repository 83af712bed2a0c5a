//! The application's own rules on its tables hold for attachments too. These tests change the tables, so each
//! has a stack of its own.

use anyhow::Result;
use keepsake_tests::fixtures::{PNG, TEXT};
use serde_json::Value;

use crate::world::{
    Tenant, any_object_exists, attachment_path, own_stack, run_schedule, upload_path,
};

async fn run(tenant: &Tenant<'_>, sql: String) -> Result<()> {
    let mut database = tenant.database().await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut database)
        .await?;
    Ok(())
}

#[tokio::test]
async fn who_may_not_see_the_post_does_not_see_its_files() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let attachment = tenant.upload_one(PNG).await?;
    let path = attachment_path(&attachment)?;
    run(
        &tenant,
        "CREATE POLICY bob_only ON public.post AS RESTRICTIVE USING (attachments.claim('sub') = 'bob')".into(),
    )
    .await?;

    tenant
        .api
        .get(&path)
        .await?
        .expect_problem(404, "not_found")?;
    tenant
        .api
        .get(&format!("{path}/content"))
        .await?
        .expect_problem(404, "not_found")?;
    tenant
        .delete_attachment(&attachment)
        .await?
        .expect_problem(404, "not_found")?;
    tenant
        .api
        .restore(&path)
        .await?
        .expect_problem(404, "not_found")?;
    let listed = tenant.api.get("/v1/attachments").await?.json_if(200)?;
    assert_eq!(listed["items"], Value::Array(Vec::new()));
    Ok(())
}

#[tokio::test]
async fn a_conflict_with_another_tenant_does_not_name_its_row() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    run(
        &tenant,
        "ALTER TABLE public.post DISABLE ROW LEVEL SECURITY;
         DROP INDEX public.post_live_slug;
         CREATE UNIQUE INDEX post_slug_of_all ON public.post (slug) WHERE deleted_at IS NULL;"
            .into(),
    )
    .await?;
    tenant.delete_post().await?.expect(204)?;
    run(
        &tenant,
        format!(
            "INSERT INTO public.post (tenant, thread_id, slug, body) VALUES ('globex', {}, 'a-post', 'secret')",
            tenant.thread
        ),
    )
    .await?;
    let problem = tenant
        .restore_post()
        .await?
        .expect_problem(409, "restore_conflict")?;
    assert_eq!(problem["conflicts"][0]["constraint"], "post_slug_of_all");
    assert_eq!(problem["conflicts"][0]["holder"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_removed_yet_holds_nobody_up() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let pinned = tenant.store(&[PNG]).await?;
    let other = tenant.store(&[TEXT]).await?;
    let keys = tenant.object_keys().await?;
    run(
        &tenant,
        format!(
            "CREATE TABLE public.cover (id int PRIMARY KEY, attachment uuid REFERENCES attachments.attachment (id));
             INSERT INTO public.cover VALUES (1, '{}')",
            pinned["files"][0]["attachment_id"].as_str().unwrap_or_default()
        ),
    )
    .await?;
    tenant
        .api
        .delete(&upload_path(&pinned)?)
        .await?
        .expect(204)?;
    tenant
        .api
        .delete(&upload_path(&other)?)
        .await?
        .expect(204)?;
    run_schedule(&stack).await?;
    assert_eq!(
        tenant.rows().await?,
        1,
        "only the file that is referred to stays"
    );

    run(&tenant, "DROP TABLE public.cover".into()).await?;
    run_schedule(&stack).await?;
    assert_eq!(tenant.rows().await?, 0);
    assert!(!any_object_exists(&stack, &keys).await?);
    Ok(())
}
