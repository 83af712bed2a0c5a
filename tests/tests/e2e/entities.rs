//! Entities by their labels: listed, looked up and renamed.

use anyhow::Result;
use keepsake_tests::api::text;
use keepsake_tests::fixtures::{JPEG, PNG, TEXT};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Tenant, attachment_path, errors, expect_nothing, id, items, own_stack, tenant};

/// Adds posts to the tenant's thread, with these slugs.
async fn add_posts(tenant: &Tenant<'_>, slugs: &[&str]) -> Result<()> {
    let mut database = tenant.database().await?;
    let sql = "INSERT INTO public.post (tenant, thread_id, slug, body)
               SELECT $1, $2::bigint, slug, '' FROM unnest($3) WITH ORDINALITY AS s (slug, n) ORDER BY n";
    sqlx::query(sql)
        .bind(&tenant.name)
        .bind(&tenant.thread)
        .bind(slugs)
        .execute(&mut database)
        .await?;
    Ok(())
}

/// The labels of all pages of a listing, and how many pages there are.
async fn labels(tenant: &Tenant<'_>, base: &str) -> Result<(Vec<String>, usize)> {
    let (mut labels, mut path, mut pages) = (Vec::new(), base.to_owned(), 0);
    loop {
        let page = tenant.api.get(&path).await?.json_if(200)?;
        pages += 1;
        for item in items(&page) {
            labels.push(text(item, "/label")?.to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("{base}&cursor={cursor}"),
            None => return Ok((labels, pages)),
        }
    }
}

#[tokio::test]
async fn entities_are_listed_by_their_labels_newest_first() -> Result<()> {
    let tenant = tenant().await?;
    add_posts(&tenant, &["beach", "Mountain", "LÄRCHE"]).await?;
    tenant.upload(&[PNG, TEXT]).await?;

    let (all, pages) = labels(&tenant, "/v1/post?limit=3").await?;
    assert_eq!(all, ["LÄRCHE", "Mountain", "beach", "a-post"]);
    assert_eq!(pages, 2);
    for (part, found) in [
        ("MOUNT", vec!["Mountain"]),
        ("l%C3%A4rche", vec!["LÄRCHE"]),
        ("-post", vec!["a-post"]),
        ("%25", vec![]),
    ] {
        assert_eq!(
            labels(&tenant, &format!("/v1/post?q={part}")).await?.0,
            found
        );
    }

    let post = tenant.api.get(&tenant.post_path()).await?.json_if(200)?;
    let parent = json!({ "kind": "entity", "entity_type": "thread", "id": tenant.thread, "label": "a thread" });
    assert_eq!(post["label"], "a-post");
    assert_eq!(post["parent"], parent);
    let bytes = PNG.bytes.len() + TEXT.bytes.len();
    assert_eq!(post["attachments"], json!({ "count": 2, "bytes": bytes }));
    let listed = tenant.api.get("/v1/post?q=a-post").await?.json_if(200)?;
    assert_eq!(items(&listed), [post]);
    let thread = tenant.api.get("/v1/thread").await?.json_if(200)?;
    assert_eq!(items(&thread)[0]["parent"], Value::Null);

    tenant.delete_post().await?.expect(204)?;
    assert_eq!(labels(&tenant, "/v1/post?limit=9").await?.0.len(), 3);
    expect_nothing(&tenant.api, &[(Method::GET, &tenant.post_path())]).await
}

#[tokio::test]
async fn a_cursor_of_entities_continues_only_their_listing() -> Result<()> {
    let (one, other) = (tenant().await?, tenant().await?);
    for tenant in [&one, &other] {
        add_posts(tenant, &["x", "y"]).await?;
    }
    let page = one.api.get("/v1/post?limit=1").await?.json_if(200)?;
    let cursor = text(&page, "/next_cursor")?;
    for path in [
        "/v1/post?q=x&cursor=",
        "/v1/thread?cursor=",
        "/v1/deletions?cursor=",
        "/v1/attachments?cursor=",
    ] {
        let reply = one.api.get(&format!("{path}{cursor}")).await?;
        reply.expect_problem(400, "invalid_field")?;
    }
    let foreign = other.api.get(&format!("/v1/post?cursor={cursor}")).await?;
    foreign.expect_problem(400, "invalid_field")?;
    expect_nothing(
        &other.api,
        &[
            (Method::GET, &one.post_path()),
            (Method::GET, "/v1/comment"),
        ],
    )
    .await?;
    let reply = other
        .api
        .patch(&one.post_path(), &json!({ "label": "mine" }))
        .await?;
    reply.expect_problem(404, "not_found")?;
    Ok(())
}

#[tokio::test]
async fn an_entity_is_renamed_live_and_deleted() -> Result<()> {
    let tenant = tenant().await?;
    add_posts(&tenant, &["beach"]).await?;
    let path = tenant.post_path();
    let rename = async |label: &str| tenant.api.patch(&path, &json!({ "label": label })).await;

    let renamed = rename("Küste").await?.json_if(200)?;
    assert_eq!(
        renamed,
        json!({ "kind": "entity", "entity_type": "post", "id": tenant.post, "label": "Küste" })
    );
    rename("beach").await?.expect_problem(409, "name_taken")?;
    for wrong in [
        json!({ "label": "" }),
        json!({ "label": " " }),
        json!({ "label": "a\u{0}" }),
        json!({ "label": "x".repeat(256) }),
        json!({ "label": 1 }),
        json!({}),
    ] {
        let reply = tenant.api.patch(&path, &wrong).await?;
        reply.expect_problem(400, "invalid_field")?;
    }
    tenant.delete_post().await?.expect(204)?;
    rename("beach").await?.json_if(200)?;
    let conflict = tenant.restore_post().await?;
    let conflict = conflict.expect_problem(409, "restore_conflict")?;
    assert_eq!(conflict["conflicts"][0]["holder_item"]["label"], "beach");
    rename("Küste").await?.json_if(200)?;
    tenant.restore_post().await?.json_if(200)?;
    Ok(())
}

#[tokio::test]
async fn a_label_is_stored_whole_or_not_at_all() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let mut database = tenant.database().await?;
    sqlx::raw_sql(
        "CREATE DOMAIN public.short AS varchar(3); CREATE DOMAIN public.padded AS char(3);
         DO $$ BEGIN
             EXECUTE (SELECT format('CREATE TYPE public.word AS ENUM (''abc'', ''xyz'', %s)', string_agg(DISTINCT quote_literal(left(slug, 3)), ', '))
                      FROM public.post);
         END $$",
    )
    .execute(&mut database)
    .await?;
    let path = tenant.post_path();
    let rename = async |label: &str| tenant.api.patch(&path, &json!({ "label": label })).await;
    for kind in [
        "char(3)",
        "varchar(3)",
        "public.short",
        "public.padded",
        "public.word",
    ] {
        let alter = format!(
            "ALTER TABLE public.post ALTER COLUMN slug TYPE {kind} USING left(slug::text, 3)::{kind}"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(alter))
            .execute(&mut database)
            .await?;
        let renamed = rename("abc").await?.json_if(200)?;
        assert_eq!(renamed["label"], "abc", "{kind}");
        rename("abcd").await?.expect_problem(400, "invalid_field")?;
        tenant.delete_post().await?.expect(204)?;
        rename("abcd").await?.expect_problem(400, "invalid_field")?;
        let renamed = rename("xyz").await?.json_if(200)?;
        assert_eq!(renamed["label"], "xyz", "{kind}");
        tenant.restore_post().await?.json_if(200)?;
        let post = tenant.api.get(&path).await?.json_if(200)?;
        assert_eq!(post["label"], "xyz", "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn an_attachment_is_renamed_live_and_deleted() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    let path = attachment_path(&attachments[0])?;
    let rename = async |name: &str| tenant.api.patch(&path, &json!({ "name": name })).await;

    // A name in NFD is stored in NFC.
    let renamed = rename("Ku\u{308}ste.png").await?.json_if(200)?;
    assert_eq!(renamed["name"], "Küste.png");
    assert_eq!(id(&renamed)?, id(&attachments[0])?);
    let problem = rename("../a.png")
        .await?
        .expect_problem(422, "file_name_invalid")?;
    assert_eq!(errors(&problem), [("/name", "file_name_invalid")]);
    for other_type in ["a.jpg", "a", "a.txt"] {
        rename(other_type)
            .await?
            .expect_problem(422, "media_type_mismatch")?;
    }
    let taken = attachment_path(&attachments[1])?;
    let other = tenant.upload_one(JPEG).await?;
    let reply = tenant
        .api
        .patch(&taken, &json!({ "name": "KÜSTE.png" }))
        .await?;
    reply.expect_problem(422, "media_type_mismatch")?;

    let deleted = tenant.delete_attachment(&attachments[0]).await?;
    deleted.expect(204)?;
    let again = tenant.upload_one(PNG).await?;
    rename(&PNG.name.to_uppercase()).await?.json_if(200)?;
    let conflict = tenant
        .api
        .restore(&path)
        .await?
        .expect_problem(409, "restore_conflict")?;
    assert_eq!(text(&conflict, "/conflicts/0/holder_item/id")?, id(&again)?);
    assert_eq!(
        text(&conflict, "/conflicts/0/item/label")?,
        PNG.name.to_uppercase()
    );
    // Either side can give way.
    let path_again = attachment_path(&again)?;
    let reply = tenant
        .api
        .patch(&path_again, &json!({ "name": "other.png" }))
        .await?;
    reply.json_if(200)?;
    tenant.api.restore(&path).await?.json_if(200)?;
    let reply = tenant
        .api
        .patch(&path_again, &json!({ "name": PNG.name }))
        .await?;
    reply.expect_problem(409, "name_taken")?;
    assert_ne!(id(&other)?, id(&again)?);
    Ok(())
}

#[tokio::test]
async fn the_applications_policies_decide_who_renames() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let mut database = tenant.database().await?;
    sqlx::raw_sql(
        "CREATE POLICY bob_writes ON public.post AS RESTRICTIVE FOR UPDATE USING (attachments.claim('sub') = 'bob');
         CREATE POLICY no_secret ON public.thread AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (title <> 'secret');
         ALTER TABLE public.thread ADD CHECK (title <> 'bad');
         SELECT attachments.show_label('thread', NULL), attachments.show_label('thread', 'title')",
    )
    .execute(&mut database)
    .await?;
    let thread = format!("/v1/thread/{}", tenant.thread);
    for (path, label, status, code) in [
        (tenant.post_path(), "x", 404, "not_found"),
        (thread.clone(), "secret", 404, "not_found"),
        (thread.clone(), "bad", 400, "invalid_field"),
    ] {
        let reply = tenant.api.patch(&path, &json!({ "label": label })).await?;
        reply.expect_problem(status, code)?;
    }
    tenant
        .api
        .patch(&thread, &json!({ "label": "good" }))
        .await?
        .json_if(200)?;
    // What the API could write must not be what a row is found by; and a label fits in a line.
    for column in ["id", "tenant"] {
        let refused = sqlx::query("SELECT attachments.show_label('thread', $1::name)")
            .bind(column)
            .execute(&mut database)
            .await;
        assert!(refused.is_err(), "{column}");
    }
    sqlx::raw_sql("UPDATE public.thread SET title = repeat('x', 100000)")
        .execute(&mut database)
        .await?;
    let long = tenant.api.get(&thread).await?.json_if(200)?;
    assert_eq!(long["label"], "x".repeat(255));
    sqlx::raw_sql("SELECT attachments.show_label('thread', NULL)")
        .execute(&mut database)
        .await?;
    let unnamed = tenant.api.get(&thread).await?.json_if(200)?;
    assert_eq!(unnamed["label"], Value::Null);
    let reply = tenant
        .api
        .patch(&thread, &json!({ "label": "good" }))
        .await?;
    reply.expect_problem(400, "invalid_field")?;
    Ok(())
}
