//! The bin: deletions listed, looked into, and restored by their ids.

use anyhow::Result;
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::{PDF, PNG, TEXT};
use keepsake_tests::token;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{
    Tenant, attachment_path, deletion_id, expect_nothing, id, items, own_stack, run_schedule,
    tenant,
};

async fn restore(
    api: &Api,
    deletion: &str,
    on_conflict: &str,
) -> Result<keepsake_tests::api::Reply> {
    api.post(
        &format!("/v1/deletions/{deletion}/restore"),
        &json!({ "on_conflict": on_conflict }),
    )
    .await
}

/// Deletes what is at `path`; the id of the deletion.
async fn delete(api: &Api, path: &str) -> Result<String> {
    let reply = api.delete(path).await?;
    reply.expect(204)?;
    Ok(deletion_id(&reply)?.to_owned())
}

/// Another post of the thread, with this slug.
async fn add_post(tenant: &Tenant<'_>, slug: &str) -> Result<String> {
    let mut database = tenant.database().await?;
    let sql = "INSERT INTO public.post (tenant, thread_id, slug, body) VALUES ($1, $2::bigint, $3, '') RETURNING id::text";
    Ok(sqlx::query_scalar(sql)
        .bind(&tenant.name)
        .bind(&tenant.thread)
        .bind(slug)
        .fetch_one(&mut database)
        .await?)
}

#[tokio::test]
async fn the_bin_tells_what_went_together() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    let alone = delete(&tenant.api, &attachment_path(&attachments[0])?).await?;
    let thread = format!("/v1/thread/{}", tenant.thread);
    let whole = delete(&tenant.api, &thread).await?;

    let bin = tenant
        .api
        .get("/v1/deletions?limit=1")
        .await?
        .json_if(200)?;
    let first = &items(&bin)[0];
    assert_eq!(id(first)?, whole);
    assert_eq!(
        first["root"],
        json!({ "kind": "entity", "entity_type": "thread", "id": tenant.thread, "label": "a thread" })
    );
    assert_eq!(
        (&first["actor"], &first["days_left"]),
        (&json!("ada"), &json!(30))
    );
    assert_eq!(
        (&first["held"], &first["state"]),
        (&json!(false), &json!("deleted"))
    );
    assert_eq!(
        first["counts"],
        json!({
            "entities": [{ "entity_type": "post", "count": 1 }, { "entity_type": "thread", "count": 1 }],
            "attachments": 1, "capped": false,
        })
    );
    let cursor = text(&bin, "/next_cursor")?;
    let second = tenant
        .api
        .get(&format!("/v1/deletions?limit=1&cursor={cursor}"))
        .await?
        .json_if(200)?;
    assert_eq!(id(&items(&second)[0])?, alone);
    assert_eq!(text(&items(&second)[0], "/root/label")?, PNG.name);
    assert_eq!(second["next_cursor"], Value::Null);

    let details = tenant
        .api
        .get(&format!("/v1/deletions/{whole}"))
        .await?
        .json_if(200)?;
    let post = &details["tree"][0]["children"][0];
    assert_eq!(details["tree"][0]["id"], json!(tenant.thread));
    assert_eq!(
        (&post["id"], &post["label"]),
        (&json!(tenant.post), &json!("a-post"))
    );
    let file = &post["children"][0];
    assert_eq!(
        (&file["label"], &file["size"]),
        (&json!(TEXT.name), &json!(TEXT.bytes.len()))
    );
    assert_eq!(file["id"], attachments[1]["id"]);
    assert_eq!(
        (&details["truncated"], &details["conflicts"]),
        (&json!(false), &json!([]))
    );
    Ok(())
}

#[tokio::test]
async fn a_deletion_is_undone_by_its_id_once_and_again() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG, PDF]).await?;
    let deletion = delete(&tenant.api, &tenant.post_path()).await?;
    let restored = restore(&tenant.api, &deletion, "fail")
        .await?
        .json_if(200)?;
    assert_eq!(restored["restored"][0]["rows"], 2);
    assert_eq!(tenant.visible().await?, [PDF.name, PNG.name]);
    let again = restore(&tenant.api, &deletion, "skip")
        .await?
        .json_if(200)?;
    assert_eq!(again["restored"], json!([]));
    let details = tenant
        .api
        .get(&format!("/v1/deletions/{deletion}"))
        .await?
        .json_if(200)?;
    assert_eq!(
        (&details["state"], &details["tree"]),
        (&json!("restored"), &json!([]))
    );
    let bin = tenant.api.get("/v1/deletions").await?.json_if(200)?;
    assert_eq!(bin["items"], json!([]));
    Ok(())
}

#[tokio::test]
async fn a_conflict_names_both_sides_and_can_be_skipped_or_renamed() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG, TEXT]).await?;
    add_post(&tenant, "other").await?;
    let thread = format!("/v1/thread/{}", tenant.thread);
    let post = delete(&tenant.api, &tenant.post_path()).await?;
    let holder = add_post(&tenant, "a-post").await?;

    let preview = tenant
        .api
        .get(&format!("/v1/deletions/{post}"))
        .await?
        .json_if(200)?;
    let refused = restore(&tenant.api, &post, "fail").await?;
    let refused = refused.expect_problem(409, "restore_conflict")?;
    assert_eq!(refused["conflicts"], preview["conflicts"]);
    let conflict = &refused["conflicts"][0];
    assert_eq!(
        conflict["item"],
        json!({ "kind": "entity", "entity_type": "post", "id": tenant.post, "label": "a-post" })
    );
    assert_eq!(
        conflict["holder_item"],
        json!({ "kind": "entity", "entity_type": "post", "id": holder, "label": "a-post" })
    );
    let said = text(conflict, "/detail")?;
    assert!(said.contains(&holder) && said.contains("a-post"), "{said}");

    let skipped = restore(&tenant.api, &post, "skip").await?.json_if(200)?;
    assert_eq!(skipped["restored"], json!([]));
    assert_eq!(skipped["conflicts"][0]["holder_item"]["id"], json!(holder));
    assert!(tenant.visible().await.is_err());

    let label = json!({ "label": "a-post-2" });
    tenant
        .api
        .patch(&tenant.post_path(), &label)
        .await?
        .json_if(200)?;
    restore(&tenant.api, &post, "fail").await?.json_if(200)?;
    assert_eq!(tenant.visible().await?.len(), 2);

    // A parent that is deleted as well is named, too.
    let post = delete(&tenant.api, &tenant.post_path()).await?;
    delete(&tenant.api, &thread).await?;
    let refused = restore(&tenant.api, &post, "fail").await?;
    let refused = refused.expect_problem(409, "restore_conflict")?;
    let parent = &refused["conflicts"][0];
    assert_eq!(parent["kind"], "parent_deleted");
    assert_eq!(
        (&parent["holder_item"]["id"], &parent["holder_table"]),
        (&json!(tenant.thread), &json!("public.thread"))
    );
    Ok(())
}

/// The rows of a deletion that are looked through for conflicts, at most.
const LOOKED_THROUGH: i32 = 10_000;

#[tokio::test]
async fn a_large_deletion_tells_its_conflicts_when_it_is_restored() -> Result<()> {
    let tenant = tenant().await?;
    let mut database = tenant.database().await?;
    sqlx::query("SELECT set_config('request.jwt.claims', $1, false)")
        .bind(json!({ "sub": "batch", "tenant": tenant.name }).to_string())
        .execute(&mut database)
        .await?;
    // One post is there already.
    for (more, checked) in [(LOOKED_THROUGH - 1, true), (1, false)] {
        sqlx::query(
            "INSERT INTO public.post (tenant, thread_id, slug, body)
             SELECT $1, $2::bigint, $3::int || '-' || n, '' FROM generate_series(1, $3::int) AS n",
        )
        .bind(&tenant.name)
        .bind(&tenant.thread)
        .bind(more)
        .execute(&mut database)
        .await?;
        sqlx::query("DELETE FROM public.post WHERE tenant = $1")
            .bind(&tenant.name)
            .execute(&mut database)
            .await?;
        let bin = tenant
            .api
            .get("/v1/deletions?limit=1")
            .await?
            .json_if(200)?;
        let deletion = id(&items(&bin)[0])?;
        let holder = add_post(&tenant, "a-post").await?;

        let path = format!("/v1/deletions/{deletion}");
        let shown = tenant.api.get(&path).await?.json_if(200)?;
        assert_eq!(shown["conflicts_checked"], checked);
        let seen = shown["conflicts"].as_array().map(Vec::len);
        assert_eq!(seen, Some(usize::from(checked)));
        assert_eq!(shown["conflict_count"], json!(i32::from(checked)));
        let all = format!("{path}?conflicts=all");
        let shown = tenant.api.get(&all).await?.json_if(200)?;
        assert_eq!(shown["conflicts_checked"], true);
        assert_eq!(shown["conflict_count"], 1);
        assert_eq!(shown["conflicts"][0]["holder_item"]["id"], json!(holder));
        let odd = format!("{path}?conflicts=some");
        tenant
            .api
            .get(&odd)
            .await?
            .expect_problem(400, "invalid_field")?;

        let refused = restore(&tenant.api, deletion, "fail").await?;
        let refused = refused.expect_problem(409, "restore_conflict")?;
        assert_eq!(refused["conflicts"][0]["holder_item"]["id"], json!(holder));
        delete(&tenant.api, &format!("/v1/post/{holder}")).await?;
        restore(&tenant.api, deletion, "fail").await?.json_if(200)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_foreign_deletion_answers_as_a_missing_one() -> Result<()> {
    let (owner, stranger) = (tenant().await?, tenant().await?);
    owner.upload(&[PNG]).await?;
    let deletion = delete(&owner.api, &owner.post_path()).await?;
    for id in [deletion.as_str(), "01890000-0000-7000-8000-000000000000"] {
        expect_nothing(
            &stranger.api,
            &[(Method::GET, &format!("/v1/deletions/{id}"))],
        )
        .await?;
        let reply = restore(&stranger.api, id, "fail").await?;
        reply.expect_problem(404, "not_found")?;
    }
    let bin = stranger.api.get("/v1/deletions").await?.json_if(200)?;
    assert_eq!(bin["items"], json!([]));
    for id in ["7", "x", "%00"] {
        let reply = owner.api.get(&format!("/v1/deletions/{id}")).await?;
        reply.expect_problem(400, "invalid_id")?;
    }
    let path = format!("/v1/deletions/{deletion}/restore");
    let reply = owner
        .api
        .post(&path, &json!({ "on_conflict": "force" }))
        .await?;
    reply.expect_problem(400, "invalid_field")?;
    let reader = json!({ "sub": "eve", "tenant": owner.name, "scope": "attachments:read", "exp": token::unix_now() + 60 });
    let reader = token::mint(&reader, &owner.stack.secrets.jwt_key);
    let reply = restore(&owner.api.with_bearer(Some(&reader)), &deletion, "fail").await?;
    reply.expect_problem(403, "insufficient_scope")?;
    Ok(())
}

#[tokio::test]
async fn what_was_purged_is_gone_and_what_is_held_says_so() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG]).await?;
    let deletion = delete(&tenant.api, &tenant.post_path()).await?;
    let path = format!("/v1/deletions/{deletion}");
    let mut database = tenant.database().await?;
    let hold: i64 = sqlx::query_scalar("SELECT keepsake.hold('public.post', $1, 'a lawsuit')")
        .bind(&tenant.post)
        .fetch_one(&mut database)
        .await?;
    let held = tenant.api.get(&path).await?.json_if(200)?;
    assert_eq!(held["held"], true);
    let bin = tenant.api.get("/v1/deletions").await?.json_if(200)?;
    assert_eq!(items(&bin)[0]["held"], true);

    sqlx::query("SELECT keepsake.release($1)")
        .bind(hold)
        .execute(&mut database)
        .await?;
    tenant.let_retention_run_out().await?;
    let expired = tenant.api.get(&path).await?.json_if(200)?;
    assert_eq!(
        (&expired["held"], &expired["days_left"]),
        (&json!(false), &json!(0))
    );
    run_schedule(tenant.stack).await?;
    tenant.api.get(&path).await?.expect_problem(410, "purged")?;
    let reply = restore(&tenant.api, &deletion, "fail").await?;
    reply.expect_problem(410, "purged")?;
    Ok(())
}

#[tokio::test]
async fn policies_hide_deletions_and_what_is_in_them() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    tenant.upload(&[PNG]).await?;
    let secret = add_post(&tenant, "secret").await?;
    tenant.api.upload(("post", &secret), &[TEXT]).await?;
    let mut database = tenant.database().await?;
    sqlx::raw_sql("CREATE POLICY not_for_eve ON public.post AS RESTRICTIVE USING (slug <> 'secret' OR attachments.claim('sub') <> 'eve')")
        .execute(&mut database)
        .await?;
    let eve = token::mint(&token::claims(&tenant.name, "eve"), &stack.secrets.jwt_key);
    let eve = tenant.api.with_bearer(Some(&eve));

    let hidden = delete(&tenant.api, &format!("/v1/post/{secret}")).await?;
    expect_nothing(&eve, &[(Method::GET, &format!("/v1/deletions/{hidden}"))]).await?;
    restore(&eve, &hidden, "fail")
        .await?
        .expect_problem(404, "not_found")?;
    let bin = eve.get("/v1/deletions").await?.json_if(200)?;
    assert_eq!(bin["items"], json!([]));
    restore(&tenant.api, &hidden, "fail").await?.json_if(200)?;

    let thread = delete(&tenant.api, &format!("/v1/thread/{}", tenant.thread)).await?;
    let seen = eve
        .get(&format!("/v1/deletions/{thread}"))
        .await?
        .json_if(200)?;
    assert_eq!(
        seen["counts"],
        json!({
            "entities": [{ "entity_type": "post", "count": 1 }, { "entity_type": "thread", "count": 1 }],
            "attachments": 1, "capped": false,
        })
    );
    let shown = seen["tree"].to_string();
    assert!(
        shown.contains("a-post") && shown.contains(PNG.name),
        "{shown}"
    );
    assert!(
        !shown.contains("secret") && !shown.contains(TEXT.name),
        "{shown}"
    );
    Ok(())
}

#[tokio::test]
async fn rows_that_one_statement_deleted_come_back_together() -> Result<()> {
    let tenant = tenant().await?;
    add_post(&tenant, "second").await?;
    let mut database = tenant.database().await?;
    sqlx::query("SELECT set_config('request.jwt.claims', $1, false)")
        .bind(json!({ "sub": "batch", "tenant": tenant.name }).to_string())
        .execute(&mut database)
        .await?;
    sqlx::query("DELETE FROM public.post WHERE tenant = $1")
        .bind(&tenant.name)
        .execute(&mut database)
        .await?;
    let bin = tenant.api.get("/v1/deletions").await?.json_if(200)?;
    let one = &items(&bin)[0];
    assert_eq!(
        one["root"],
        json!({ "kind": "entity", "entity_type": "post", "id": null, "label": null })
    );
    let details = tenant
        .api
        .get(&format!("/v1/deletions/{}", id(one)?))
        .await?
        .json_if(200)?;
    assert_eq!(details["tree"].as_array().map(Vec::len), Some(2));
    for rows in [json!([{ "table": "public.post", "rows": 2 }]), json!([])] {
        let restored = restore(&tenant.api, id(one)?, "fail").await?.json_if(200)?;
        assert_eq!(restored["restored"], rows);
    }
    Ok(())
}
