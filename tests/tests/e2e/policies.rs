//! The application's own rules on its tables hold for attachments too. These tests change the tables, so each
//! has a stack of its own.

use anyhow::Result;
use keepsake_tests::api::{sha256_base64, text};
use keepsake_tests::fixtures::{CSV, Fixture, JPEG, PDF, PNG, TEXT};
use keepsake_tests::migrate::Keep;
use keepsake_tests::stack::StackSettings;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{
    Tenant, any_object_exists, attachment_path, deletion_id, own_stack, run_schedule, start_stack,
    upload_path,
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

/// Files of a thing are changed by whom the policies of its table let update the thing.
#[tokio::test]
async fn who_may_not_change_the_post_changes_no_file_of_it() -> Result<()> {
    let stack = own_stack().await?;
    let ada = Tenant::new(&stack).await?;
    let bob = ada.user("bob");
    let kept = ada.upload_one(PNG).await?;
    let deleted = ada.upload_one(TEXT).await?;
    let reply = ada.delete_attachment(&deleted).await?;
    let deletion = format!("/v1/deletions/{}/restore", deletion_id(&reply)?);
    let open = ada.declare(&[PDF]).await?;
    // Several files by one statement: a deletion without one root.
    ada.upload(&[CSV, JPEG]).await?;
    run(
        &ada,
        format!(
            "SET request.jwt.claims = '{{\"tenant\": \"{tenant}\"}}';
             DELETE FROM attachments.attachment WHERE tenant_id = '{tenant}' AND file_name IN ('{}', '{}')",
            CSV.name,
            JPEG.name,
            tenant = ada.name
        ),
    )
    .await?;
    let listed = ada.api.get("/v1/deletions").await?.json_if(200)?;
    let of_several = format!("/v1/deletions/{}/restore", text(&listed, "/items/0/id")?);
    run(
        &ada,
        "CREATE POLICY ada_only ON public.post AS RESTRICTIVE FOR UPDATE USING (attachments.claim('sub') = 'ada')".into(),
    )
    .await?;

    let here = format!("{}/attachments", ada.post_path());
    let sent = Some(PNG.bytes.to_vec());
    bob.send(Method::POST, &format!("{here}?name=bob.png"), &[], sent)
        .await?
        .expect_problem(404, "not_found")?;

    // Bob sees all of it.
    let path = attachment_path(&kept)?;
    bob.get(&path).await?.json_if(200)?;
    bob.get(&upload_path(&open)?).await?.json_if(200)?;
    let listed = bob.list(ada.entity()).await?;
    assert_eq!(listed.len(), 1);

    let name = json!({ "name": "other.png" });
    for refused in [
        bob.declare(ada.entity(), &[CSV]).await?,
        bob.patch(&path, &name).await?,
        bob.delete(&path).await?,
        bob.restore(&attachment_path(&deleted)?).await?,
        bob.post(&deletion, &json!({})).await?,
        bob.post(&of_several, &json!({})).await?,
        bob.delete(&upload_path(&open)?).await?,
    ] {
        let problem = refused.expect_problem(404, "not_found")?;
        assert!(text(&problem, "/detail")?.contains("whose files you may change"));
    }

    ada.api.patch(&path, &name).await?.json_if(200)?;
    ada.api.post(&deletion, &json!({})).await?.json_if(200)?;
    let restored = ada.api.post(&of_several, &json!({})).await?.json_if(200)?;
    assert_eq!(restored["restored"][0]["rows"], 2, "{restored}");
    ada.api.delete(&upload_path(&open)?).await?.expect(204)?;
    ada.delete_attachment(&kept).await?.expect(204)?;
    ada.api.restore(&path).await?.json_if(200)?;
    Ok(())
}

/// Larger files come in parts.
const IN_PARTS: (&str, &str) = ("MULTIPART_THRESHOLD_BYTES", "20");

/// A file that comes whole.
const NOTE: Fixture = Fixture {
    name: "note.txt",
    media_type: "text/plain",
    bytes: b"one line\n",
};

#[tokio::test]
async fn who_may_not_change_the_post_goes_on_with_no_upload_of_another() -> Result<()> {
    let stack = start_stack(StackSettings {
        keep: crate::KEEP,
        vars: vec![(IN_PARTS.0.to_owned(), IN_PARTS.1.to_owned())],
        ..StackSettings::default()
    })
    .await?;
    let ada = Tenant::new(&stack).await?;
    let bob = ada.user("bob");
    let open = ada.declare(&[CSV]).await?;
    let left = ada.store(&[NOTE]).await?;
    let attachment = text(&open, "/files/0/attachment_id")?;
    let of_s3 = format!("{}/multipart/{attachment}", upload_path(&open)?);
    let parts = format!("{}/parts", upload_path(&open)?);
    let wanted = json!({
        "attachment_id": attachment,
        "parts": [{ "number": 1, "checksum": sha256_base64(CSV.bytes) }],
    });
    run(
        &ada,
        "CREATE POLICY eve_only ON public.post AS RESTRICTIVE FOR UPDATE USING (attachments.claim('sub') = 'eve')".into(),
    )
    .await?;

    let refused = async || -> Result<()> {
        for refused in [
            bob.post(&parts, &wanted).await?,
            bob.get(&format!("{parts}?attachment_id={attachment}"))
                .await?,
            bob.post_empty(&format!("{of_s3}?uploads")).await?,
            bob.get(&of_s3).await?,
            bob.complete(&open).await?,
            bob.complete(&left).await?,
        ] {
            let problem = refused.expect_problem(404, "not_found")?;
            assert!(text(&problem, "/detail")?.contains("whose files you may change"));
        }
        Ok(())
    };
    refused().await?;
    // Ada may no longer change the post; what she declared is hers to go on with, as it is to abort.
    let signed = ada.api.post(&parts, &wanted).await?.json_if(200)?;
    ada.api
        .put(&signed["parts"][0], CSV.bytes)
        .await?
        .expect_stored()?;
    refused().await?;
    let multiparts = "SELECT count(*) FROM attachments.multipart WHERE tenant_id = $1";
    assert_eq!(ada.count(multiparts).await?, 1, "nobody joined the parts");
    ada.complete(&open).await?.json_if(200)?;
    bob.complete(&open)
        .await?
        .expect_problem(404, "not_found")?;

    // The schedule comes as ada, without any other claim of hers.
    ada.let_time_pass_until("5 minutes").await?;
    run_schedule(&stack).await?;
    assert_eq!(ada.visible().await?, [CSV.name, NOTE.name]);
    Ok(())
}

#[tokio::test]
async fn a_conflict_with_another_tenant_does_not_name_its_row() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    run(
        &tenant,
        format!(
            "ALTER TABLE public.post DISABLE ROW LEVEL SECURITY;
             DROP INDEX public.post_live_slug;
             CREATE UNIQUE INDEX post_slug_of_all ON public.post (slug){live};",
            live = match crate::KEEP {
                Keep::InPlace => " WHERE deleted_at IS NULL",
                Keep::Apart => "",
            }
        ),
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
    let conflict = &problem["conflicts"][0];
    assert_eq!(conflict["holder"], Value::Null);
    let said = text(conflict, "/detail")?;
    assert!(said.starts_with("The post “a-post” ("), "{said}");
    assert!(said.contains(HOLDER_IS_HIDDEN), "{said}");
    Ok(())
}

/// What a conflict says of a row that the caller may not see.
const HOLDER_IS_HIDDEN: &str =
    " cannot come back, because something you may not see has its place now. ";

#[tokio::test]
async fn a_conflict_of_rows_that_are_no_entities_names_their_table() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let (keep, live) = match crate::KEEP {
        Keep::InPlace => ("in place", " WHERE deleted_at IS NULL"),
        Keep::Apart => ("archive", ""),
    };
    run(
        &tenant,
        format!(
            "CREATE TABLE public.secret (id int PRIMARY KEY, post_id bigint NOT NULL, code text NOT NULL);
             CREATE INDEX secret_of_post ON public.secret (post_id);
             SELECT keepsake.manage('public.secret', keep => '{keep}');
             ALTER TABLE public.secret ADD FOREIGN KEY (post_id) REFERENCES public.post ON DELETE CASCADE;
             CREATE UNIQUE INDEX secret_code ON public.secret (code){live};
             INSERT INTO public.secret VALUES (1, {}, 'a code')",
            tenant.post
        ),
    )
    .await?;
    tenant.delete_post().await?.expect(204)?;
    run(
        &tenant,
        format!(
            "WITH other AS (
                 INSERT INTO public.post (tenant, thread_id, slug, body) VALUES ('{}', {}, 'other', '') RETURNING id)
             INSERT INTO public.secret SELECT 2, id, 'a code' FROM other",
            tenant.name, tenant.thread
        ),
    )
    .await?;
    let problem = tenant
        .restore_post()
        .await?
        .expect_problem(409, "restore_conflict")?;
    let said = text(&problem, "/conflicts/0/detail")?;
    assert!(
        said.starts_with(&format!("A row of public.secret{HOLDER_IS_HIDDEN}")),
        "{said}"
    );
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
