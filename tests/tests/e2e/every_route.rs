//! What holds on every route, those to come included: who is of another tenant, and who is kept out by the
//! application's own policies, meets nothing.

use anyhow::{Context, Result, ensure};
use keepsake_tests::api::Api;
use keepsake_tests::token::{claims, mint};

use crate::routes::{Operation, Things};
use crate::world::{Tenant, items, own_stack, tenant};

/// Answers of routes that name one of these things are, to the last letter, those for things that are not there.
async fn meets_nothing(stranger: &Api, things: &Things) -> Result<()> {
    let nobodys = Things::of_nobody();
    let mut asked = 0;
    for operation in Operation::of_users()? {
        if !operation.names_something() {
            continue;
        }
        let told = operation.about(things)?.send(stranger).await?;
        told.expect_problem(404, "not_found")
            .with_context(|| format!("{} {}", operation.method, operation.template))?;
        let nothing = operation.about(&nobodys)?.send(stranger).await?;
        nothing.expect(404)?;
        assert_eq!(
            things.anonymous(&told.body)?,
            nobodys.anonymous(&nothing.body)?,
            "{} {} tells what is there from what is not",
            operation.method,
            operation.template
        );
        asked += 1;
    }
    ensure!(asked > 15, "only {asked} routes were asked");
    Ok(())
}

/// Every listing, in every state it knows, with what none of them may show.
async fn no_listing_shows(stranger: &Api, things: &Things, post: &str) -> Result<()> {
    let mut listings = vec![
        "/v1/attachments?uploader=ada".to_owned(),
        format!("/v1/attachments?q={post}"),
        "/v1/post?q=a-post".to_owned(),
    ];
    for operation in Operation::of_users()? {
        if operation.method == "GET" && !operation.names_something() {
            let path = operation.about(things)?.path;
            let narrowed = operation.choices();
            listings.extend(narrowed.iter().map(|choice| format!("{path}?{choice}")));
            listings.push(path);
        }
    }
    let hidden = [
        things.attachment.as_str(),
        &things.upload,
        &things.pending,
        &things.deletion,
        "secret.png",
        "deleted.txt",
        "pending.png",
    ];
    ensure!(listings.len() > 8, "too few: {listings:?}");
    for path in listings {
        let reply = stranger.get(&path).await?;
        reply.expect(200).with_context(|| path.clone())?;
        let shown = String::from_utf8_lossy(&reply.body).into_owned();
        for one in hidden {
            ensure!(!shown.contains(one), "{path} shows {one}: {shown}");
        }
    }
    Ok(())
}

/// A listing by an entity that is not the caller's answers as one by an entity that is not there.
async fn no_filter_tells(stranger: &Api, things: &Things) -> Result<()> {
    for post in [&things.post, &Things::of_nobody().post] {
        for state in ["available", "deleted"] {
            let path = format!("/v1/attachments?entity_type=post&entity_id={post}&state={state}");
            let reply = stranger.get(&path).await?;
            reply.expect_problem(404, "not_found").context(path)?;
        }
    }
    Ok(())
}

/// The same, with a file in the place of the available one in which malware was found.
async fn with_a_shut_file(tenant: &Tenant<'_>, things: &Things) -> Result<Things> {
    let shut = Things::make(&tenant.api, &tenant.post).await?.attachment;
    sqlx::query("UPDATE attachments.attachment SET state = 'quarantined' WHERE id = $1::uuid")
        .bind(&shut)
        .execute(&mut tenant.database().await?)
        .await?;
    let path = format!("/v1/attachments/{shut}");
    let owner = tenant.api.get(&path).await?;
    owner.expect_problem(403, "file_quarantined")?;
    Ok(Things {
        attachment: shut,
        ..things.clone()
    })
}

/// The owner finds everything as it was left.
async fn nothing_has_changed(tenant: &Tenant<'_>, things: &Things) -> Result<()> {
    let api = &tenant.api;
    let post = api
        .get(&format!("/v1/post/{}", things.post))
        .await?
        .json_if(200)?;
    assert_ne!(post["label"], "taken");
    let path = format!("/v1/attachments/{}", things.attachment);
    let attachment = api.get(&path).await?.json_if(200)?;
    assert_ne!(attachment["name"], "taken.png");
    let upload = format!("/v1/uploads/{}", things.upload);
    assert_eq!(api.get(&upload).await?.json_if(200)?["state"], "pending");
    let path = format!("/v1/deletions/{}", things.deletion);
    assert_eq!(api.get(&path).await?.json_if(200)?["state"], "deleted");
    Ok(())
}

/// What was refused above is a good request: its owner meets something.
async fn owner_meets_something(api: &Api, post: &str) -> Result<()> {
    for operation in Operation::of_users()? {
        if operation.names_something() {
            // New things each time, because much of this ends them; and the post comes back.
            let things = Things::make(api, post).await?;
            let reply = operation.about(&things)?.send(api).await?;
            let at = format!("{} {}", operation.method, operation.template);
            ensure!(reply.status != 404, "{at}: its owner does not find it");
            ensure!(reply.status != 400, "{at}: not a good request: {reply:?}");
            let bin = api.get("/v1/deletions?limit=1").await?.json_if(200)?;
            if let [last, ..] = items(&bin)
                && last["root"]["kind"] == "entity"
            {
                api.restore(&format!("/v1/post/{post}"))
                    .await?
                    .expect(200)?;
            }
            let path = format!("/v1/attachments/{}", things.attachment);
            api.delete(&path).await?;
            api.delete(&format!("/v1/uploads/{}", things.upload))
                .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_stranger_meets_nothing() -> Result<()> {
    let (owner, stranger) = (tenant().await?, tenant().await?);
    let things = Things::make(&owner.api, &owner.post).await?;
    meets_nothing(&stranger.api, &things).await?;
    meets_nothing(&stranger.api, &with_a_shut_file(&owner, &things).await?).await?;
    no_listing_shows(&stranger.api, &things, &owner.post).await?;
    no_filter_tells(&stranger.api, &things).await?;
    nothing_has_changed(&owner, &things).await
}

#[tokio::test]
async fn the_owner_meets_something() -> Result<()> {
    let owner = tenant().await?;
    owner_meets_something(&owner.api, &owner.post).await
}

#[tokio::test]
async fn whom_a_policy_keeps_out_meets_nothing() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    sqlx::raw_sql(
        "CREATE POLICY not_for_eve ON public.post AS RESTRICTIVE USING (attachments.claim('sub') <> 'eve')",
    )
    .execute(&mut tenant.database().await?)
    .await?;
    let eve = mint(&claims(&tenant.name, "eve"), &stack.secrets.jwt_key);
    let eve = tenant.api.with_bearer(Some(&eve));
    let things = Things::make(&tenant.api, &tenant.post).await?;
    meets_nothing(&eve, &things).await?;
    meets_nothing(&eve, &with_a_shut_file(&tenant, &things).await?).await?;
    no_listing_shows(&eve, &things, &tenant.post).await?;
    no_filter_tells(&eve, &things).await?;
    nothing_has_changed(&tenant, &things).await
}

#[tokio::test]
async fn an_id_of_another_kind_names_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let things = Things::make(&tenant.api, &tenant.post).await?;
    let turned = Things {
        post: tenant.thread.clone() + "0",
        attachment: things.upload.clone(),
        upload: things.deletion.clone(),
        pending: things.attachment.clone(),
        deletion: things.pending.clone(),
    };
    for operation in Operation::of_users()? {
        if operation.names_something() {
            let reply = operation.about(&turned)?.send(&tenant.api).await?;
            reply
                .expect_problem(404, "not_found")
                .with_context(|| format!("{} {}", operation.method, operation.template))?;
        }
    }
    nothing_has_changed(&tenant, &things).await
}
