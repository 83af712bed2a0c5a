//! Bucket against database, both ways, and what is kept of each scheduled run. What is found is the
//! same for every tenant, so each test has a stack of its own.

use anyhow::{Context as _, Result};
use keepsake_shared::{KeyRing, MediaType, ObjectKey, ObjectToken, Sha256Digest};
use keepsake_tests::api::{Api, sha256_base64};
use keepsake_tests::fixtures::{PDF, PNG, TEXT};
use keepsake_tests::requires;
use keepsake_tests::stack::Stack;
use keepsake_tests::token;
use reqwest::Method;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::agreement::{Place, assert_agreement};
use crate::world::{
    Tenant, any_object_exists, id, object_exists, own_stack, run_schedule, s3_stack, upload_path,
};

/// Stores a picture under any key, by a URL of our own making or in the store itself: the database knows nothing of it.
async fn store_behind_its_back(stack: &Stack, key: &str) -> Result<()> {
    if let Some(store) = &stack.store {
        return store.put(key, PNG.bytes);
    }
    let keys: KeyRing = stack.secrets.url_key_ring().parse()?;
    let checksum = sha256_base64(PNG.bytes);
    let media_type = MediaType::from_extension("png").context("no png")?;
    let sha256: Sha256Digest = checksum.parse()?;
    let token = ObjectToken::Upload {
        key: ObjectKey::parse(key)?,
        size: PNG.bytes.len() as u64,
        media_type,
        sha256,
        expires_at: OffsetDateTime::now_utc() + Duration::minutes(5),
    };
    let path = format!("/v1/objects/{}", token.sign(&keys));
    let headers = [
        ("content-type", PNG.media_type),
        ("if-none-match", "*"),
        ("x-amz-checksum-sha256", checksum.as_str()),
    ];
    let api = Api::new(&stack.worker.url(), None)?;
    api.send(Method::PUT, &path, &headers, Some(PNG.bytes.to_vec()))
        .await?
        .expect(201)
}

async fn findings(tenant: &Tenant<'_>) -> Result<Vec<(String, String)>> {
    let sql = "SELECT kind, object_key FROM attachments.audit_finding ORDER BY object_key";
    Ok(sqlx::query_as(sql)
        .fetch_all(&mut tenant.database().await?)
        .await?)
}

/// The answer of `/v1/runs` to an operator.
async fn runs(tenant: &Tenant<'_>) -> Result<Value> {
    let mut claims = token::claims(&tenant.name, "operator");
    claims["scope"] = json!("metrics");
    let bearer = token::mint(&claims, &tenant.stack.secrets.jwt_key);
    let operator = tenant.api.with_bearer(Some(&bearer));
    operator.get("/v1/runs?limit=9").await?.json_if(200)
}

async fn run_sql(tenant: &Tenant<'_>, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql)
        .execute(&mut tenant.database().await?)
        .await?;
    Ok(())
}

const ORPHAN: &str = "t/acme/post/1/0198f7d0-1111-7aaa-8bbb-000000000001.png";

#[tokio::test]
async fn an_orphan_is_told_first_and_goes_when_found_again_after_its_grace() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    tenant.declare(&[PDF]).await?;
    store_behind_its_back(&stack, ORPHAN).await?;

    let found = [("orphan".to_owned(), ORPHAN.to_owned())];
    for _ in 0..3 {
        run_schedule(&stack).await?;
        assert_eq!(findings(&tenant).await?, found);
        assert!(object_exists(&stack, ORPHAN).await?, "gone without grace");
    }
    let told = runs(&tenant).await?;
    assert_eq!(
        (&told["audit"]["orphans"], &told["audit"]["missing"]),
        (&json!(1), &json!(0))
    );

    // Known for long enough, but seen once only.
    run_sql(
        &tenant,
        "UPDATE attachments.audit_finding SET first_seen = now() - interval '8 days', times = 0",
    )
    .await?;
    run_schedule(&stack).await?;
    assert!(object_exists(&stack, ORPHAN).await?, "gone at first sight");
    run_schedule(&stack).await?;
    assert!(!object_exists(&stack, ORPHAN).await?);
    run_schedule(&stack).await?;
    assert!(findings(&tenant).await?.is_empty());
    for attachment in &attachments {
        tenant.api.download(id(attachment)?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_a_grace_orphans_are_only_told() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    store_behind_its_back(&stack, ORPHAN).await?;
    run_sql(&tenant, "UPDATE attachments.audit SET grace = NULL").await?;
    run_schedule(&stack).await?;
    run_sql(
        &tenant,
        "UPDATE attachments.audit_finding SET first_seen = '-infinity'",
    )
    .await?;
    run_schedule(&stack).await?;
    run_schedule(&stack).await?;
    assert!(object_exists(&stack, ORPHAN).await?);
    assert_eq!(findings(&tenant).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_missing_object_is_told_until_it_is_there() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    tenant.upload(&[PNG]).await?;
    let key = tenant.object_keys().await?.remove(0);
    // A row that names an object which nobody ever stored.
    run_sql(
        &tenant,
        "INSERT INTO attachments.attachment (id, tenant_id, upload_set_id, position, entity_type, entity_id, file_name,
             media_type, byte_size, sha256, object_key, writable_until, uploaded_by, state, available_at)
         SELECT n.id, a.tenant_id, a.upload_set_id, 1, a.entity_type, a.entity_id, 'lost.png', a.media_type, a.byte_size,
             a.sha256, keepsake.object_key(a.tenant_id, a.entity_type, a.entity_id, n.id, 'lost.png'), now(), 'ada',
             'available', now() - interval '2 hours'
         FROM attachments.attachment a, (SELECT keepsake.uuid_v7() AS id OFFSET 0) AS n",
    )
    .await?;
    let lost = tenant.object_keys().await?.remove(1);
    run_schedule(&stack).await?;
    assert_eq!(
        findings(&tenant).await?,
        [("missing".to_owned(), lost.clone())]
    );
    assert_eq!(runs(&tenant).await?["audit"]["missing"], 1);

    store_behind_its_back(&stack, &lost).await?;
    run_schedule(&stack).await?;
    assert!(findings(&tenant).await?.is_empty());
    assert!(object_exists(&stack, &key).await?);
    Ok(())
}

#[tokio::test]
async fn a_bucket_of_several_pages_is_walked_to_its_end() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    tenant.upload(&[PNG]).await?;
    let key = tenant.object_keys().await?.remove(0);
    let before = key.replace("/post/", "/aaa/");
    let behind = key.replace("/post/", "/zzz/");
    for key in [&before, &behind] {
        store_behind_its_back(&stack, key).await?;
    }
    // Pages of one key, as the worker would ask for them.
    let mut database = tenant.database().await?;
    let mut place = String::new();
    for key in [&before, &key, &behind] {
        let answer: Value = sqlx::query_scalar("SELECT attachments_api.audit_objects($1)")
            .bind(json!({ "after": place, "keys": [key], "more": key != &behind }))
            .fetch_one(&mut database)
            .await?;
        assert_eq!(answer["ok"]["checked"], 1, "{answer}");
        place = sqlx::query_scalar("SELECT after FROM attachments.audit")
            .fetch_one(&mut database)
            .await?;
        assert_eq!(place, if key == &behind { "" } else { key.as_str() });
    }
    let pass: i64 = sqlx::query_scalar("SELECT pass FROM attachments.audit")
        .fetch_one(&mut database)
        .await?;
    assert_eq!(pass, 2);
    let orphans = [before, behind].map(|key| ("orphan".to_owned(), key));
    assert_eq!(findings(&tenant).await?, orphans);

    // Who compares a page that another run has done changes nothing.
    let answer: Value = sqlx::query_scalar("SELECT attachments_api.audit_objects($1)")
        .bind(json!({ "after": key, "keys": [], "more": false }))
        .fetch_one(&mut database)
        .await?;
    assert_eq!(answer["ok"]["checked"], 0);
    assert_eq!(findings(&tenant).await?, orphans);
    Ok(())
}

/// More than two pages of a store that lists a thousand.
const STRAYS: usize = 2300;

#[tokio::test]
async fn an_s3_store_of_several_pages_is_walked_and_tidied_both_ways() -> Result<()> {
    requires!(S3);
    let (stack, store) = s3_stack(&[]).await?;
    let tenant = Tenant::new(&stack).await?;
    tenant.upload(&[PNG, TEXT, PDF]).await?;
    let keys = tenant.object_keys().await?;
    // Behind everybody's back: strays before and after the tenant's own, a stranger, and a file that goes.
    let mut strays = Vec::new();
    for number in 0..STRAYS {
        let owner = if number % 2 == 0 { "aaa" } else { "zzz" };
        strays.push(format!(
            "t/{owner}/post/1/0198f7d0-1111-7aaa-8bbb-{number:012x}.png"
        ));
    }
    strays.sort_unstable();
    for key in strays.iter().map(String::as_str).chain(["other/file.png"]) {
        let path = store.path(key);
        std::fs::create_dir_all(path.parent().context("no folder")?)?;
        std::fs::write(path, PNG.bytes)?;
    }
    std::fs::remove_file(store.path(&keys[1]))?;
    run_sql(
        &tenant,
        "UPDATE attachments.attachment SET available_at = now() - interval '2 hours'",
    )
    .await?;

    let pass = async || {
        tenant
            .count("SELECT pass FROM attachments.audit WHERE $1 <> ''")
            .await
    };
    for walked in [1, 1, 2] {
        run_schedule(&stack).await?;
        assert_eq!(pass().await?, walked);
    }
    let told = runs(&tenant).await?;
    assert_eq!(told["audit"]["orphans"], STRAYS);
    assert_eq!(told["audit"]["missing"], 1);
    let found = findings(&tenant).await?;
    let orphans: Vec<&String> = found
        .iter()
        .filter(|(kind, _)| kind == "orphan")
        .map(|(_, key)| key)
        .collect();
    assert!(orphans.into_iter().eq(&strays));
    assert!(found.contains(&("missing".to_owned(), keys[1].clone())));
    assert_eq!(store.keys()?.len(), STRAYS + 3, "nothing goes at once");

    run_sql(
        &tenant,
        "UPDATE attachments.audit_finding SET first_seen = now() - interval '8 days'",
    )
    .await?;
    // What was removed no longer stands before what comes behind it, so there may be fewer pages than before.
    for _ in 0..4 {
        run_schedule(&stack).await?;
    }
    let mut left = store.keys()?;
    left.sort_unstable();
    let mut wanted = vec![
        "other/file.png".to_owned(),
        keys[0].clone(),
        keys[2].clone(),
    ];
    wanted.sort_unstable();
    assert_eq!(left, wanted);
    run_schedule(&stack).await?;
    run_schedule(&stack).await?;
    let missing = [("missing".to_owned(), keys[1].clone())];
    assert_eq!(findings(&tenant).await?, missing);

    // The file comes back, from a copy.
    std::fs::write(store.path(&keys[1]), TEXT.bytes)?;
    std::fs::remove_file(store.path("other/file.png"))?;
    run_schedule(&stack).await?;
    assert!(findings(&tenant).await?.is_empty());
    assert_agreement(&stack, Place::Store(&store)).await
}

#[tokio::test]
async fn what_is_stored_after_an_abort_is_no_orphan_and_goes() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let upload = tenant.declare(&[PNG]).await?;
    let keys = tenant.object_keys().await?;
    tenant
        .api
        .delete(&upload_path(&upload)?)
        .await?
        .expect(204)?;
    // The URL was given out and still works.
    tenant.put(&upload["files"][0], PNG).await?;
    run_schedule(&stack).await?;
    assert!(findings(&tenant).await?.is_empty(), "the outbox knows it");

    run_sql(
        &tenant,
        "UPDATE keepsake.outbox SET writable_until = now() - interval '2 minutes', next_attempt_at = now()",
    )
    .await?;
    run_schedule(&stack).await?;
    assert!(!any_object_exists(&stack, &keys).await?);
    Ok(())
}

#[tokio::test]
async fn each_step_of_each_run_is_kept_and_shown_to_operators() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    run_schedule(&stack).await?;
    let told = runs(&tenant).await?;
    let steps: Vec<(&str, &str)> = told["items"]
        .as_array()
        .context("no items")?
        .iter()
        .map(|run| {
            (
                run["step"].as_str().unwrap_or_default(),
                run["outcome"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let done = [
        "deliver", "complete", "sample", "audit", "tidy", "drain", "purge", "parts", "sweep",
    ]
    .map(|step| (step, "done"));
    assert_eq!(steps, done);
    assert_eq!(
        told["items"][3]["counts"],
        json!({ "checked": 0, "orphans": 0, "missing": 0, "removed": 0 })
    );

    // A step that fails does not stop the others, and says why.
    run_sql(
        &tenant,
        "ALTER TABLE attachments.idempotency RENAME TO mislaid",
    )
    .await?;
    run_schedule(&stack).await?;
    run_sql(
        &tenant,
        "ALTER TABLE attachments.mislaid RENAME TO idempotency",
    )
    .await?;
    let told = runs(&tenant).await?;
    assert_eq!(told["items"][4]["outcome"], "failed");
    let error = told["items"][4]["error"].as_str().unwrap_or_default();
    assert!(error.contains("42P01"), "{error}");
    assert_eq!(
        (&told["items"][3]["outcome"], &told["items"][5]["outcome"]),
        (&json!("done"), &json!("done"))
    );

    let refused = tenant.api.get("/v1/runs").await?;
    refused.expect_problem(403, "insufficient_scope")?;
    Ok(())
}

#[tokio::test]
async fn two_runs_at_once_audit_each_page_once() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    store_behind_its_back(&stack, ORPHAN).await?;
    for _ in 0..3 {
        let (one, two) = tokio::join!(run_schedule(&stack), run_schedule(&stack));
        one.and(two)?;
    }
    assert_eq!(findings(&tenant).await?.len(), 1);
    assert!(object_exists(&stack, ORPHAN).await?);
    Ok(())
}
