//! Clocks that differ by some minutes: the issuer's, the worker's, the store's and the database's.

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, Reply};
use keepsake_tests::fixtures::{PDF, PNG, TEXT};
use keepsake_tests::requires;
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{claims, mint, unix_now};
use serde_json::{Value, json};

use crate::agreement::{Place, assert_agreement};
use crate::world::{
    Tenant, id, object_exists, own_stack, run_schedule, s3_stack_off, start_stack, upload_path,
};

const MINUTES: i32 = 4 * 60;

/// A stack with the bucket of the binding, and a worker whose clock is so far ahead.
async fn stack_off(worker_clock_ahead: i32) -> Result<Stack> {
    let settings = StackSettings {
        worker_clock_ahead,
        ..StackSettings::default()
    };
    start_stack(settings).await
}

/// How far the worker's clock is ahead, as its answers say: in seconds.
async fn worker_ahead(tenant: &Tenant<'_>, upload: &Value) -> Result<i64> {
    let sql = "SELECT extract(epoch FROM expires_at - created_at)::bigint - 900 FROM attachments.upload_set WHERE id = $1::uuid";
    Ok(sqlx::query_scalar(sql)
        .bind(id(upload)?)
        .fetch_one(&mut tenant.database().await?)
        .await?)
}

/// Uploads, lists, reads, deletes, restores and lets go, and all is where it belongs.
async fn tells_the_same_story(stack: &Stack, place: Place<'_>, ahead: i32) -> Result<()> {
    let tenant = Tenant::new(stack).await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    let seen = worker_ahead(&tenant, &upload).await?;
    ensure!(
        (seen - i64::from(ahead)).abs() <= 20,
        "the worker's clock is {seen} s ahead"
    );
    tenant.complete(&upload).await?.json_if(200)?;
    let attachments = tenant.attachments().await?;
    for attachment in &attachments {
        tenant.api.download(id(attachment)?).await?;
    }
    tenant.delete_post().await?.expect(204)?;
    tenant.restore_post().await?.json_if(200)?;
    assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);

    let abandoned = tenant.store(&[PDF]).await?;
    tenant
        .api
        .delete(&upload_path(&abandoned)?)
        .await?
        .expect(204)?;
    let left = Tenant::new(stack).await?;
    left.store(&[PNG]).await?;
    left.let_time_pass_until("9 minutes").await?;
    run_schedule(stack).await?;
    assert_eq!(left.visible().await?, [PNG.name]);
    assert_agreement(stack, place).await
}

#[tokio::test]
async fn the_workers_clock_is_off_and_the_store_takes_what_it_signs() -> Result<()> {
    requires!(S3);
    for ahead in [-MINUTES, MINUTES] {
        let (stack, store) = s3_stack_off(&[], ahead).await?;
        tells_the_same_story(&stack, Place::Store(&store), ahead)
            .await
            .with_context(|| format!("{ahead} s ahead"))?;
    }
    Ok(())
}

#[tokio::test]
async fn the_workers_clock_is_off_and_the_bucket_is_its_own() -> Result<()> {
    for ahead in [-MINUTES, MINUTES] {
        let stack = stack_off(ahead).await?;
        tells_the_same_story(&stack, Place::Bucket, ahead)
            .await
            .with_context(|| format!("{ahead} s ahead"))?;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_late_clock_lets_in_after_the_sweep_goes_in_the_end() -> Result<()> {
    let stack = stack_off(-MINUTES).await?;
    let tenant = Tenant::new(&stack).await?;
    let upload = tenant.declare(&[PNG]).await?;
    let key = tenant.object_keys().await?.remove(0);
    // By the database's clock it is over by two minutes, by the worker's it is not.
    let over = "UPDATE attachments.attachment SET writable_until = now() - interval '2 minutes' WHERE tenant_id = $1";
    sqlx::query(over)
        .bind(&tenant.name)
        .execute(&mut tenant.database().await?)
        .await?;
    tenant.let_time_pass_until("-2 minutes").await?;
    run_schedule(&stack).await?;
    assert_eq!(tenant.rows().await?, 0);
    tenant.put(&upload["files"][0], PNG).await?;
    assert!(object_exists(&stack, &key).await?);
    // Known to the outbox, for as long as a clock may be late.
    run_schedule(&stack).await?;
    assert!(object_exists(&stack, &key).await?, "it was not late");
    assert_agreement(&stack, Place::Bucket).await?;
    assert!(!object_exists(&stack, &key).await?);
    Ok(())
}

/// An answer to a token whose issuer's clock is so many seconds ahead, which lives for a minute.
async fn by_an_issuer(tenant: &Tenant<'_>, api: &Api, ahead: i64) -> Result<Reply> {
    let now = i64::try_from(unix_now())? + ahead;
    let mut claims = claims(&tenant.name, "ada");
    claims["iat"] = json!(now);
    claims["nbf"] = json!(now);
    claims["exp"] = json!(now + 60);
    let bearer = mint(&claims, &tenant.stack.secrets.jwt_key);
    let path = format!("{}/attachments", tenant.post_path());
    api.with_bearer(Some(&bearer)).get(&path).await
}

#[tokio::test]
async fn the_issuers_clock_is_off_by_as_much_as_the_setting_allows() -> Result<()> {
    let stack = own_stack().await?;
    let lenient = stack
        .another_worker("lenient", &[("JWT_LEEWAY_SECONDS", "300")], None)
        .await?;
    let lenient = Api::new(&lenient.url(), None).map(|api| (api, lenient))?;
    let tenant = Tenant::new(&stack).await?;
    for ahead in [-340, -240, -70, 0, 20, 240, 290] {
        let reply = by_an_issuer(&tenant, &lenient.0, ahead).await?;
        reply.json_if(200).with_context(|| format!("{ahead} s"))?;
    }
    for (ahead, code) in [(-400, "token_expired"), (330, "invalid_token")] {
        let reply = by_an_issuer(&tenant, &lenient.0, ahead).await?;
        reply.expect_problem(401, code)?;
    }
    // Half a minute, unless told otherwise.
    for (ahead, code) in [
        (-240, Some("token_expired")),
        (-70, None),
        (20, None),
        (240, Some("invalid_token")),
    ] {
        let reply = by_an_issuer(&tenant, &tenant.api, ahead).await?;
        match code {
            Some(code) => drop(reply.expect_problem(401, code)?),
            None => drop(reply.json_if(200)?),
        }
    }
    Ok(())
}
