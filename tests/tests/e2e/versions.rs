//! A new content for an attachment: current at one moment, and the old ones stay behind it.

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, Reply, declaration};
use keepsake_tests::fixtures::{Fixture, PDF, TEXT};
use keepsake_tests::stack::Stack;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::agreement::{Place, assert_agreement};
use crate::world::{
    Tenant, any_object_exists, attachment_path, id, is_waiting, items, object_exists, own_stack,
    run_schedule, tenant, until, upload_path,
};

/// Contents of `note.txt`, each of another length.
const CONTENTS: [&[u8]; 6] = [
    b"one",
    b"two two",
    b"three three",
    b"four four four",
    b"five five five five",
    b"six six six six six six",
];

pub fn note(number: usize) -> Fixture {
    Fixture {
        name: "note.txt",
        bytes: CONTENTS[number - 1],
        ..TEXT
    }
}

pub async fn declare_if(
    api: &Api,
    attachment: &Value,
    file: Fixture,
    headers: &[(&str, &str)],
) -> Result<Reply> {
    let body = json!({ "files": [declaration(&file)] }).to_string();
    let headers = [&[("content-type", "application/json")], headers].concat();
    let path = format!("{}/versions", attachment_path(attachment)?);
    api.send(Method::POST, &path, &headers, Some(body.into_bytes()))
        .await
}

/// Declares a new version and sends its bytes.
pub async fn store(api: &Api, attachment: &Value, file: Fixture) -> Result<Value> {
    let declared = declare_if(api, attachment, file, &[]).await?;
    let upload = declared.json_if(201)?;
    api.put(&upload["files"][0], file.bytes)
        .await?
        .expect_stored()?;
    Ok(upload)
}

pub async fn replace(api: &Api, attachment: &Value, file: Fixture) -> Result<Value> {
    let upload = store(api, attachment, file).await?;
    let done = api.complete(&upload).await?.json_if(200)?;
    Ok(done["attachments"][0].clone())
}

/// The note with as many versions.
pub async fn note_of(tenant: &Tenant<'_>, versions: usize) -> Result<Value> {
    let mut attachment = tenant.upload_one(note(1)).await?;
    for number in 2..=versions {
        attachment = replace(&tenant.api, &attachment, note(number)).await?;
    }
    Ok(attachment)
}

pub async fn history(api: &Api, attachment: &Value) -> Result<Vec<Value>> {
    let path = format!("{}/versions", attachment_path(attachment)?);
    Ok(items(&api.get(&path).await?.json_if(200)?).to_vec())
}

/// The numbers of the history, newest first.
pub async fn numbers(api: &Api, attachment: &Value) -> Result<Vec<i64>> {
    let versions = history(api, attachment).await?;
    let numbers = versions.iter().filter_map(|one| one["version"].as_i64());
    Ok(numbers.collect())
}

pub async fn bytes_of(api: &Api, attachment: &Value, version: i64) -> Result<Vec<u8>> {
    let path = format!(
        "{}/versions/{version}/content",
        attachment_path(attachment)?
    );
    let redirect = api.get(&path).await?;
    redirect.expect(302)?;
    let url = redirect.header("location").context("no location")?;
    let reply = api.with_bearer(None).get(url).await?;
    reply.expect(200)?;
    Ok(reply.body)
}

async fn restore(api: &Api, attachment: &Value, version: i64) -> Result<Reply> {
    let path = format!("{}/versions/{version}", attachment_path(attachment)?);
    api.restore(&path).await
}

/// Nothing of the tenant waits to be deleted, and each of its objects is there, with a row of its own.
async fn assert_whole(tenant: &Tenant<'_>, versions: i64) -> Result<()> {
    let keys = tenant.object_keys().await?;
    assert_eq!(i64::try_from(keys.len())?, versions);
    for key in &keys {
        ensure!(object_exists(tenant.stack, key).await?, "{key} is gone");
    }
    let waiting = "SELECT count(*) FROM keepsake.outbox WHERE object_key LIKE 't/' || $1 || '/%'";
    assert_eq!(tenant.count(waiting).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_new_version_is_current_at_once_and_the_old_one_stays() -> Result<()> {
    let tenant = tenant().await?;
    let first = tenant.upload_one(note(1)).await?;
    assert_eq!(first["version"], 1);
    let upload = store(&tenant.api, &first, note(2)).await?;

    // Stored is not current.
    let before = tenant.api.get(&attachment_path(&first)?).await?;
    assert_eq!(before.json_if(200)?, first);
    assert_eq!(tenant.api.download(id(&first)?).await?.body, CONTENTS[0]);
    assert_eq!(numbers(&tenant.api, &first).await?, [1]);

    let done = tenant.complete(&upload).await?.json_if(200)?;
    let second = &done["attachments"][0];
    assert_eq!(
        (&second["id"], &second["version"]),
        (&first["id"], &json!(2))
    );
    assert_eq!(second["created_at"], first["created_at"]);
    assert_eq!(tenant.api.download(id(&first)?).await?.body, CONTENTS[1]);
    assert_eq!(tenant.attachments().await?, std::slice::from_ref(second));
    let after = tenant.api.get(&attachment_path(&first)?).await?;
    assert_ne!(after.header("etag"), before.header("etag"));
    // Asked again, both uploads have become the attachment.
    assert_eq!(tenant.complete(&upload).await?.json_if(200)?, done);
    let status = tenant.api.get(&upload_path(&upload)?).await?.json_if(200)?;
    assert_eq!(status["state"], "completed");
    assert_eq!(status["files"][0]["attachment_id"], first["id"]);
    assert_eq!(status["files"][0]["size"], CONTENTS[1].len());

    let versions = history(&tenant.api, &first).await?;
    assert_eq!(versions.len(), 2);
    for (one, number) in versions.iter().zip([2_i64, 1]) {
        assert_eq!(one["version"], number);
        assert_eq!(one["current"], number == 2);
        assert_eq!(one["uploaded_by"], "ada");
        let bytes = bytes_of(&tenant.api, &first, number).await?;
        assert_eq!(Some(bytes.len() as u64), one["size"].as_u64());
        assert_eq!(bytes, CONTENTS[usize::try_from(number)? - 1]);
    }
    assert_whole(&tenant, 2).await
}

#[tokio::test]
async fn the_name_and_the_type_may_change_and_are_judged_as_of_an_upload() -> Result<()> {
    let tenant = tenant().await?;
    let first = tenant.upload_one(note(1)).await?;
    tenant.upload_one(PDF).await?;
    let taken = declare_if(&tenant.api, &first, PDF, &[]).await?;
    let taken = taken.expect_problem(409, "name_taken")?;
    assert_eq!(taken["errors"][0]["pointer"], "/files/0/name");
    for (file, status, code) in [
        (
            Fixture {
                name: "a.html",
                ..TEXT
            },
            415,
            "media_type_not_allowed",
        ),
        (
            Fixture {
                bytes: b"",
                ..note(1)
            },
            422,
            "invalid_upload",
        ),
    ] {
        let refused = declare_if(&tenant.api, &first, file, &[]).await?;
        refused.expect_problem(status, code)?;
    }
    // Other bytes than a PDF has.
    let renamed = Fixture {
        name: "other.pdf",
        media_type: "application/pdf",
        ..PDF
    };
    let lying = Fixture {
        bytes: CONTENTS[1],
        ..renamed
    };
    let upload = store(&tenant.api, &first, lying).await?;
    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(422, "upload_rejected")?;
    assert_eq!(tenant.api.download(id(&first)?).await?.body, CONTENTS[0]);

    let second = replace(&tenant.api, &first, renamed).await?;
    assert_eq!(second["name"], "other.pdf");
    assert_eq!(second["media_type"], "application/pdf");
    let found = tenant.api.get("/v1/attachments?q=other").await?;
    assert_eq!(items(&found.json_if(200)?), [second]);
    let found = tenant.api.get("/v1/attachments?q=note").await?;
    assert!(
        items(&found.json_if(200)?).is_empty(),
        "a former name is found"
    );
    // A rename while a version of the old name is on its way.
    let upload = store(&tenant.api, &first, renamed).await?;
    let path = attachment_path(&first)?;
    tenant
        .api
        .patch(&path, &json!({ "name": "third.pdf" }))
        .await?
        .expect(200)?;
    let done = tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(done["attachments"][0]["name"], "third.pdf");
    Ok(())
}

#[tokio::test]
async fn of_two_replacements_at_once_one_wins() -> Result<()> {
    let tenant = tenant().await?;
    let first = tenant.upload_one(note(1)).await?;
    let two = store(&tenant.api, &first, note(2)).await?;
    let three = store(&tenant.api, &first, note(3)).await?;
    let (a, b) = tokio::join!(tenant.complete(&two), tenant.complete(&three));
    let (a, b) = (a?, b?);
    let (won, lost, loser) = if a.status == 200 {
        (a, b, three)
    } else {
        (b, a, two)
    };
    let won = won.json_if(200)?["attachments"][0].clone();
    lost.expect_problem(409, "version_conflict")?;
    assert_eq!(won["version"], 2);
    assert_eq!(numbers(&tenant.api, &first).await?, [2, 1]);
    let bytes = tenant.api.download(id(&first)?).await?.body;
    assert_eq!(Some(bytes.len() as u64), won["size"].as_u64());
    // What lost is given up like any upload.
    tenant
        .api
        .delete(&upload_path(&loser)?)
        .await?
        .expect(204)?;
    assert_eq!(tenant.rows().await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_version_that_is_later_than_several_others_is_refused_like_one() -> Result<()> {
    let tenant = tenant().await?;
    let first = tenant.upload_one(note(1)).await?;
    let late = store(&tenant.api, &first, note(2)).await?;
    for number in [3, 4] {
        replace(&tenant.api, &first, note(number)).await?;
    }
    let refused = tenant.complete(&late).await?;
    refused.expect_problem(409, "version_conflict")?;
    assert_eq!(numbers(&tenant.api, &first).await?, [3, 2, 1]);
    Ok(())
}

#[tokio::test]
async fn a_version_that_is_held_stays_in_its_row() -> Result<()> {
    let tenant = tenant().await?;
    let first = note_of(&tenant, 2).await?;
    let mut database = tenant.database().await?;
    let hold = "SELECT keepsake.hold('attachments.attachment', a.id, 'a lawsuit')
                FROM attachments.attachment a WHERE a.version_of = $1::uuid";
    sqlx::query(hold)
        .bind(id(&first)?)
        .execute(&mut database)
        .await?;
    let refused = restore(&tenant.api, &first, 1).await?;
    refused.expect_problem(409, "held")?;
    assert_eq!(numbers(&tenant.api, &first).await?, [2, 1]);
    assert_eq!(bytes_of(&tenant.api, &first, 1).await?, note(1).bytes);
    Ok(())
}

#[tokio::test]
async fn a_verdict_that_meets_a_replacement_stays_with_its_bytes() -> Result<()> {
    let tenant = tenant().await?;
    let first = note_of(&tenant, 2).await?;
    let (mut replacing, mut scanning) = (tenant.database().await?, tenant.database().await?);
    let infected: String =
        sqlx::query_scalar("SELECT object_key FROM attachments.attachment WHERE id = $1::uuid")
            .bind(id(&first)?)
            .fetch_one(&mut replacing)
            .await?;
    replacing.execute("BEGIN").await?;
    let exchange = "SELECT attachments.exchange_contents(v.version_of, v.id, v.version)
                    FROM attachments.attachment v WHERE v.version_of = $1::uuid";
    sqlx::query(exchange)
        .bind(id(&first)?)
        .execute(&mut replacing)
        .await?;
    let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut scanning)
        .await?;
    let key = infected.clone();
    let verdict = tokio::spawn(async move {
        sqlx::query("SELECT attachments.take_verdict($1, 'infected')")
            .bind(key)
            .execute(&mut scanning)
            .await
    });
    until("the verdict waits for the replacement", async || {
        is_waiting(&mut replacing, process).await
    })
    .await?;
    replacing.execute("COMMIT").await?;
    verdict.await??;
    let of_object: Option<String> =
        sqlx::query_scalar("SELECT scan_verdict FROM attachments.attachment WHERE object_key = $1")
            .bind(infected)
            .fetch_one(&mut replacing)
            .await?;
    assert_eq!(of_object.as_deref(), Some("infected"));
    let path = format!("{}/versions/2/content", attachment_path(&first)?);
    let shut = tenant.api.get(&path).await?;
    shut.expect_problem(403, "file_quarantined")?;
    Ok(())
}

#[tokio::test]
async fn a_condition_names_the_version_that_is_replaced() -> Result<()> {
    let tenant = tenant().await?;
    let first = tenant.upload_one(note(1)).await?;
    let path = attachment_path(&first)?;
    let seen = tenant.api.get(&path).await?;
    let seen = seen.header("etag").context("no etag")?.to_owned();
    for tag in [seen.as_str(), "\"1\"", "\"9\", \"1\"", "*"] {
        let declared = declare_if(&tenant.api, &first, note(2), &[("if-match", tag)]).await?;
        declared.expect(201).context(tag.to_owned())?;
    }
    replace(&tenant.api, &first, note(2)).await?;
    for tag in [seen.as_str(), "\"1\"", "W/\"2\"", "2"] {
        let refused = declare_if(&tenant.api, &first, note(3), &[("if-match", tag)]).await?;
        refused.expect_problem(412, "precondition_failed")?;
        let restore = format!("{path}/versions/1/restore");
        let headers = [("if-match", tag)];
        let refused = tenant
            .api
            .send(Method::POST, &restore, &headers, None)
            .await?;
        refused.expect_problem(412, "precondition_failed")?;
    }
    assert_eq!(numbers(&tenant.api, &first).await?, [2, 1]);
    Ok(())
}

#[tokio::test]
async fn a_key_declares_a_version_once() -> Result<()> {
    let tenant = tenant().await?;
    let first = tenant.upload_one(note(1)).await?;
    let key = [("idempotency-key", "version-once")];
    let one = declare_if(&tenant.api, &first, note(2), &key)
        .await?
        .json_if(201)?;
    let again = declare_if(&tenant.api, &first, note(2), &key)
        .await?
        .json_if(201)?;
    assert_eq!(one["id"], again["id"]);
    assert_eq!(tenant.rows().await?, 2);
    let other = declare_if(&tenant.api, &first, note(3), &key).await?;
    other.expect_problem(422, "idempotency_mismatch")?;
    Ok(())
}

#[tokio::test]
async fn a_former_version_becomes_current_under_a_new_number() -> Result<()> {
    let tenant = tenant().await?;
    let attachment = note_of(&tenant, 3).await?;
    let restored = restore(&tenant.api, &attachment, 1).await?.json_if(200)?;
    assert_eq!(
        (&restored["version"], &restored["id"]),
        (&json!(4), &attachment["id"])
    );
    assert_eq!(
        tenant.api.download(id(&attachment)?).await?.body,
        CONTENTS[0]
    );
    assert_eq!(numbers(&tenant.api, &attachment).await?, [4, 3, 2]);
    let versions = history(&tenant.api, &attachment).await?;
    assert_eq!(versions[0]["restored_from"], 1);
    assert_eq!(versions[1]["restored_from"], Value::Null);
    assert_eq!(bytes_of(&tenant.api, &attachment, 3).await?, CONTENTS[2]);
    // Again, as after a lost answer; and of the current one.
    for number in [1, 4] {
        let again = restore(&tenant.api, &attachment, number)
            .await?
            .json_if(200)?;
        assert_eq!(again["version"], 4);
    }
    for number in [0, 7] {
        let refused = restore(&tenant.api, &attachment, number).await?;
        ensure!(matches!(refused.status, 400 | 404), "{number}");
    }
    // A version that was declared before is not put over it.
    let upload = store(&tenant.api, &attachment, note(5)).await?;
    restore(&tenant.api, &attachment, 2).await?.expect(200)?;
    let lost = tenant.complete(&upload).await?;
    lost.expect_problem(409, "version_conflict")?;
    assert_eq!(
        tenant.api.download(id(&attachment)?).await?.body,
        CONTENTS[1]
    );

    // Its name may be another file's by now.
    let other = Fixture {
        name: "other.txt",
        ..note(6)
    };
    replace(&tenant.api, &attachment, other).await?;
    tenant.upload_one(note(4)).await?;
    let refused = restore(&tenant.api, &attachment, 3).await?;
    refused.expect_problem(409, "name_taken")?;
    assert_eq!(
        tenant.api.download(id(&attachment)?).await?.body,
        CONTENTS[5]
    );
    Ok(())
}

#[tokio::test]
async fn the_history_is_listed_in_pages() -> Result<()> {
    let tenant = tenant().await?;
    let attachment = note_of(&tenant, 3).await?;
    let path = format!("{}/versions?limit=2", attachment_path(&attachment)?);
    let page = tenant.api.get(&path).await?.json_if(200)?;
    assert_eq!(items(&page).len(), 2);
    let cursor = page["next_cursor"].as_str().context("no cursor")?;
    let rest = tenant
        .api
        .get(&format!("{path}&cursor={cursor}"))
        .await?
        .json_if(200)?;
    assert_eq!(items(&rest)[0]["version"], 1);
    assert_eq!(
        (items(&rest).len(), &rest["next_cursor"]),
        (1, &Value::Null)
    );
    // The cursor of one attachment's history is no other's.
    let other = tenant.upload_one(PDF).await?;
    let other = format!(
        "{}/versions?limit=2&cursor={cursor}",
        attachment_path(&other)?
    );
    tenant
        .api
        .get(&other)
        .await?
        .expect_problem(400, "invalid_field")?;
    Ok(())
}

#[tokio::test]
async fn a_version_that_never_comes_leaves_everything_as_it_was() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let first = tenant.upload_one(note(1)).await?;
    let path = attachment_path(&first)?;
    let before = tenant.api.get(&path).await?.json_if(200)?;
    // One that is aborted, one whose time runs out with its bytes stored and wrong, one without.
    let aborted = store(&tenant.api, &first, note(2)).await?;
    tenant
        .api
        .delete(&upload_path(&aborted)?)
        .await?
        .expect(204)?;
    store(&tenant.api, &first, note(3)).await?;
    declare_if(&tenant.api, &first, note(4), &[])
        .await?
        .expect(201)?;
    let keys = tenant.object_keys().await?;
    assert_eq!(keys.len(), 3);
    tenant.let_time_pass_until("-2 minutes").await?;
    for _ in 0..2 {
        let due = "UPDATE keepsake.outbox SET next_attempt_at = now(), writable_until = now() - interval '1 hour'";
        tenant.database().await?.execute(due).await?;
        run_schedule(&stack).await?;
    }
    assert_eq!(tenant.api.get(&path).await?.json_if(200)?, before);
    assert_eq!(numbers(&tenant.api, &first).await?, [1]);
    assert_eq!(tenant.api.download(id(&first)?).await?.body, CONTENTS[0]);
    ensure!(!any_object_exists(&stack, &keys[1..]).await?);
    assert_whole(&tenant, 1).await
}

#[tokio::test]
async fn what_its_client_left_is_completed_by_the_schedule() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let first = tenant.upload_one(note(1)).await?;
    store(&tenant.api, &first, note(2)).await?;
    tenant.let_time_pass_until("5 minutes").await?;
    run_schedule(&stack).await?;
    assert_eq!(numbers(&tenant.api, &first).await?, [2, 1]);
    assert_eq!(tenant.api.download(id(&first)?).await?.body, CONTENTS[1]);
    Ok(())
}

/// Deletes something with a history and restores it, then deletes it again, for good.
async fn deleted_and_restored(
    stack: &Stack,
    delete: impl AsyncFn(&Tenant<'_>, &Value) -> Result<()>,
) -> Result<()> {
    let tenant = Tenant::new(stack).await?;
    let attachment = note_of(&tenant, 3).await?;
    // A fourth is on its way.
    let upload = store(&tenant.api, &attachment, note(4)).await?;
    delete(&tenant, &attachment).await?;
    let in_one = "SELECT count(DISTINCT deletion_id) * 100 + count(*) FROM attachments.attachment
                  WHERE tenant_id = $1 AND deletion_id IS NOT NULL";
    assert_eq!(tenant.count(in_one).await?, 104);
    let path = attachment_path(&attachment)?;
    for path in [
        path.clone(),
        format!("{path}/versions"),
        format!("{path}/versions/1/content"),
    ] {
        tenant
            .api
            .get(&path)
            .await?
            .expect_problem(404, "not_found")?;
    }
    let refused = tenant.complete(&upload).await?;
    ensure!(matches!(
        refused.code().as_deref(),
        Some("upload_closed" | "not_found")
    ));
    let bin = tenant.api.get("/v1/deletions").await?.json_if(200)?;
    let deletion = id(&items(&bin)[0])?.to_owned();
    let details = tenant
        .api
        .get(&format!("/v1/deletions/{deletion}"))
        .await?
        .json_if(200)?;
    assert_eq!(details["counts"]["attachments"], 1);

    tenant
        .api
        .post(&format!("/v1/deletions/{deletion}/restore"), &json!({}))
        .await?
        .expect(200)?;
    assert_eq!(numbers(&tenant.api, &attachment).await?, [3, 2, 1]);
    let done = tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(done["attachments"][0]["version"], 4);
    for number in 1..=4 {
        let bytes = bytes_of(&tenant.api, &attachment, number).await?;
        assert_eq!(bytes, CONTENTS[usize::try_from(number)? - 1]);
    }
    assert_whole(&tenant, 4).await?;

    delete(&tenant, &attachment).await?;
    let keys = tenant.object_keys().await?;
    let mut database = tenant.database().await?;
    database
        .execute("UPDATE attachments.object_grace SET grace = '0'")
        .await?;
    tenant.let_retention_run_out().await?;
    for _ in 0..2 {
        run_schedule(stack).await?;
    }
    assert_eq!(tenant.rows().await?, 0);
    ensure!(!any_object_exists(stack, &keys).await?, "an object is left");
    Ok(())
}

#[tokio::test]
async fn all_versions_are_deleted_restored_and_purged_together() -> Result<()> {
    let stack = own_stack().await?;
    deleted_and_restored(&stack, async |tenant, attachment| {
        tenant.delete_attachment(attachment).await?.expect(204)
    })
    .await?;
    deleted_and_restored(&stack, async |tenant, _| {
        tenant.delete_post().await?.expect(204)
    })
    .await
}

#[tokio::test]
async fn plain_sql_deletes_all_versions() -> Result<()> {
    let stack = own_stack().await?;
    let as_owner = async |tenant: &Tenant<'_>, sql: &'static str, id: &str| -> Result<()> {
        let mut database = tenant.database().await?;
        let claims = json!({ "tenant": tenant.name, "sub": "ada" }).to_string();
        let mut transaction = sqlx::Connection::begin(&mut database).await?;
        sqlx::query("SELECT set_config('request.jwt.claims', $1, true)")
            .bind(claims)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(sql).bind(id).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    };
    deleted_and_restored(&stack, async |tenant, attachment| {
        let sql = "DELETE FROM attachments.attachment WHERE id = $1::uuid";
        as_owner(tenant, sql, id(attachment)?).await
    })
    .await?;
    deleted_and_restored(&stack, async |tenant, _| {
        let sql = "DELETE FROM public.thread WHERE id = $1::bigint";
        as_owner(tenant, sql, &tenant.thread).await
    })
    .await
}

#[tokio::test]
async fn so_many_versions_are_kept_and_older_ones_purged() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let limits = tenant
        .api
        .get("/v1/limits?entity_type=post")
        .await?
        .json_if(200)?;
    assert_eq!(limits["max_versions"], 100);
    let mut database = tenant.database().await?;
    for sql in [
        "INSERT INTO attachments.version_limit VALUES ($1, 'post', 3), ($1, NULL, 2)",
        "UPDATE attachments.object_grace SET grace = '0' WHERE $1 <> ''",
    ] {
        sqlx::query(sql)
            .bind(&tenant.name)
            .execute(&mut database)
            .await?;
    }
    let limits = tenant
        .api
        .get("/v1/limits?entity_type=post")
        .await?
        .json_if(200)?;
    assert_eq!(limits["max_versions"], 3);
    let attachment = note_of(&tenant, 3).await?;
    let keys = tenant.object_keys().await?;
    let first =
        "SELECT object_key FROM attachments.attachment WHERE tenant_id = $1 AND version = 1";
    let first: String = sqlx::query_scalar(first)
        .bind(&tenant.name)
        .fetch_one(&mut database)
        .await?;
    ensure!(keys.contains(&first));
    replace(&tenant.api, &attachment, note(4)).await?;
    assert_eq!(numbers(&tenant.api, &attachment).await?, [4, 3, 2]);
    let due = "UPDATE keepsake.outbox SET next_attempt_at = now(), writable_until = now() - interval '1 hour'";
    database.execute(due).await?;
    run_schedule(&stack).await?;
    ensure!(
        !object_exists(&stack, &first).await?,
        "the bytes of a version that is not kept"
    );
    assert_whole(&tenant, 3).await?;

    // A hold on the attachment keeps what is beyond.
    sqlx::query("SELECT keepsake.hold('attachments.attachment', $1::uuid, 'case 7')")
        .bind(id(&attachment)?)
        .execute(&mut database)
        .await?;
    replace(&tenant.api, &attachment, note(5)).await?;
    assert_eq!(numbers(&tenant.api, &attachment).await?, [5, 4, 3, 2]);
    assert_whole(&tenant, 4).await
}

#[tokio::test]
async fn each_version_counts_in_the_quota() -> Result<()> {
    let tenant = tenant().await?;
    let first = tenant.upload_one(note(1)).await?;
    let room = (CONTENTS[0].len() + CONTENTS[1].len()) as i64;
    sqlx::query(
        "INSERT INTO attachments.quota (scope, tenant_id, max_bytes) VALUES ('tenant', $1, $2)",
    )
    .bind(&tenant.name)
    .bind(room)
    .execute(&mut tenant.database().await?)
    .await?;
    let over = declare_if(&tenant.api, &first, note(3), &[]).await?;
    over.expect_problem(403, "quota_exceeded")?;
    replace(&tenant.api, &first, note(2)).await?;
    let over = declare_if(&tenant.api, &first, note(1), &[]).await?;
    over.expect_problem(403, "quota_exceeded")?;
    let usage = tenant.api.get("/v1/usage").await?.json_if(200)?;
    assert_eq!(
        (&usage["tenant"]["bytes"], &usage["tenant"]["files"]),
        (&json!(room), &json!(2))
    );
    restore(&tenant.api, &first, 1).await?.expect(200)?;
    let after = tenant.api.get("/v1/usage").await?.json_if(200)?;
    assert_eq!(after, usage);
    Ok(())
}

#[tokio::test]
async fn who_may_not_change_the_post_makes_no_version_and_a_stranger_sees_none() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let attachment = note_of(&tenant, 2).await?;
    let stranger = Tenant::new(&stack).await?;
    let refused = declare_if(&stranger.api, &attachment, note(3), &[]).await?;
    refused.expect_problem(404, "not_found")?;
    let policy = "CREATE POLICY ada_changes ON public.post AS RESTRICTIVE FOR UPDATE USING (attachments.claim('sub') = 'ada')";
    tenant.database().await?.execute(policy).await?;
    let bob = tenant.user("bob");
    assert_eq!(numbers(&bob, &attachment).await?, [2, 1]);
    assert_eq!(bytes_of(&bob, &attachment, 1).await?, CONTENTS[0]);
    let refused = declare_if(&bob, &attachment, note(3), &[]).await?;
    refused.expect_problem(404, "not_found")?;
    let path = attachment_path(&attachment)?;
    bob.restore(&format!("{path}/versions/1"))
        .await?
        .expect_problem(404, "not_found")?;
    assert_eq!(numbers(&tenant.api, &attachment).await?, [2, 1]);
    replace(&tenant.api, &attachment, note(3)).await?;
    Ok(())
}

#[tokio::test]
async fn readers_meet_one_version_or_the_other_and_never_none() -> Result<()> {
    let tenant = tenant().await?;
    let attachment = tenant.upload_one(note(1)).await?;
    let reader = tenant.api.clone();
    let watched = attachment.clone();
    let reading = tokio::spawn(async move {
        let mut last = 0;
        while last < 6 {
            let page = reader
                .get(&attachment_path(&watched)?)
                .await?
                .json_if(200)?;
            let version = page["version"].as_u64().context("no version")?;
            ensure!(version >= last, "version {last} came back");
            // By the time it is read, a later one may be current.
            let size = page["size"].as_u64().context("no size")?;
            let index = usize::try_from(version)? - 1;
            ensure!(
                CONTENTS[index].len() as u64 == size,
                "version {version} has {size} bytes"
            );
            let body = reader.download(id(&watched)?).await?.body;
            ensure!(
                CONTENTS[index..].contains(&body.as_slice()),
                "bytes of no version"
            );
            last = version;
        }
        Ok(())
    });
    for number in 2..=6 {
        replace(&tenant.api, &attachment, note(number)).await?;
    }
    reading.await?
}

#[tokio::test]
async fn the_worker_dies_between_the_bytes_and_the_completion() -> Result<()> {
    let mut stack = own_stack().await?;
    let (first, upload, api) = {
        let tenant = Tenant::new(&stack).await?;
        let first = tenant.upload_one(note(1)).await?;
        let upload = store(&tenant.api, &first, note(2)).await?;
        (first, upload, tenant.api)
    };
    stack.worker.kill();
    stack.worker.restart().await?;
    assert_eq!(api.download(id(&first)?).await?.body, CONTENTS[0]);
    api.complete(&upload).await?.json_if(200)?;
    assert_eq!(api.download(id(&first)?).await?.body, CONTENTS[1]);
    assert_eq!(numbers(&api, &first).await?, [2, 1]);
    assert_agreement(&stack, Place::Bucket).await
}

#[tokio::test]
async fn replacements_restores_and_deletions_at_once_leave_every_object_with_its_row() -> Result<()>
{
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let attachment = note_of(&tenant, 2).await?;
    let path = attachment_path(&attachment)?;
    for _ in 0..4 {
        let uploads = (
            store(&tenant.api, &attachment, note(3)).await?,
            store(&tenant.api, &attachment, note(4)).await?,
        );
        let versions = numbers(&tenant.api, &attachment).await?;
        let oldest = versions.last().copied().context("no version")?;
        let (a, b, restored, deleted) = tokio::join!(
            tenant.complete(&uploads.0),
            tenant.complete(&uploads.1),
            restore(&tenant.api, &attachment, oldest),
            tenant.api.delete(&path),
        );
        deleted?.expect(204)?;
        for reply in [a?, b?, restored?] {
            ensure!(matches!(reply.status, 200 | 404 | 409), "{}", reply.status);
        }
        tenant.api.restore(&path).await?.expect(200)?;
        let versions = history(&tenant.api, &attachment).await?;
        for version in &versions {
            let number = version["version"].as_i64().context("no number")?;
            let bytes = bytes_of(&tenant.api, &attachment, number).await?;
            ensure!(Some(bytes.len() as u64) == version["size"].as_u64());
        }
    }
    tenant.let_time_pass_until("-2 minutes").await.ok();
    assert_agreement(&stack, Place::Bucket).await
}
