//! What an erasure removes, what it leaves, and what it tells. Erasures and certificates are of all tenants together, and the walk
//! over the catalog reads every table, so each test has a stack of its own.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::{Fixture, PDF, PNG, TEXT};
use keepsake_tests::migrate::Keep;
use keepsake_tests::stack::StackSettings;
use keepsake_tests::token::{mint, unix_now};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::versions::{note, numbers, replace};
use crate::world::{
    Tenant, any_object_exists, attachment_path, deletion_id, id, items, names, own_stack,
    run_schedule, start_stack, until,
};

/// A client with the scope of operators, and no tenant.
fn operator(tenant: &Tenant<'_>) -> Api {
    let claims = json!({ "sub": "olga", "scope": "operator", "exp": unix_now() + 600 });
    let token = mint(&claims, &tenant.stack.secrets.jwt_key);
    tenant.api.with_bearer(Some(&token))
}

async fn erase(tenant: &Tenant<'_>, what: Value) -> Result<Value> {
    let mut body = json!({ "tenant": tenant.name, "reason": "ticket 7" });
    for (name, value) in what.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    operator(tenant)
        .post("/v1/operator/erasures", &body)
        .await?
        .json_if(200)
}

/// Columns that hold no name, whatever is done, and why. A new column that can hold text has to be erased, or to stand here.
const NAMELESS: &[(&str, &str)] = &[
    (
        "attachments.attachment.media_type",
        "follows from the extension",
    ),
    ("attachments.attachment.state", "a word"),
    ("attachments.attachment.scan_verdict", "a word"),
    (
        "attachments.attachment.entity_type",
        "the operator's name for a table",
    ),
    (
        "attachments.attachment.search",
        "terms of the file's name, in its row",
    ),
    ("attachments.attachment.entity_id", "goes with the row"),
    ("attachments.attachment.file_name", "goes with the row"),
    ("attachments.audit.after", "where the audit is, for minutes"),
    ("attachments.audit_finding.kind", "a word"),
    (
        "attachments.entity_type.name",
        "the operator's name for a table",
    ),
    ("attachments.erasure.actor", "the operator, as evidence"),
    ("attachments.erasure.kept", "tables, counts and holds"),
    (
        "attachments.erasure.reason",
        "the operator's words, who is told to name nobody",
    ),
    ("attachments.erasure.removed", "tables and counts"),
    ("attachments.erasure.renamed", "tables and counts"),
    ("attachments.erasure.scope", "a word"),
    ("attachments.event.entity_id", "goes with the event"),
    (
        "attachments.event.entity_type",
        "the operator's name for a table",
    ),
    ("attachments.event.last_error", "a status"),
    ("attachments.event.type", "a word"),
    (
        "attachments.file_type_rule.entity_type",
        "the operator's name for a table",
    ),
    ("attachments.file_type_rule.file_types", "words"),
    (
        "attachments.version_limit.entity_type",
        "the operator's name for a table",
    ),
    ("attachments.multipart.last_error", "a status"),
    ("attachments.multipart.storage_id", "the store's"),
    ("attachments.multipart_part.etag", "a hash"),
    ("attachments.quota.scope", "a word"),
    ("attachments.run.counts", "counts"),
    ("attachments.run.error", "the worker's words"),
    ("attachments.run.outcome", "a word"),
    ("attachments.run.step", "a word"),
    ("attachments.sample.bytes", "counts"),
    ("attachments.sample.files", "counts"),
    ("attachments.scan_message.mac", "a hash"),
    ("attachments.upload_set.entity_id", "goes with the row"),
    (
        "attachments.upload_set.entity_type",
        "the operator's name for a table",
    ),
    ("attachments.upload_set.state", "a word"),
    (
        "keepsake.deletion.purge_error",
        "of deletions whose purge failed, with the row",
    ),
    ("keepsake.deletion.root_key", "an id, with the row"),
    ("keepsake.deletion.state", "a word"),
    (
        "keepsake.detached.new_values",
        "values of the application's, with the deletion",
    ),
    (
        "keepsake.detached.old_values",
        "values of the application's, with the deletion",
    ),
    ("keepsake.detached.row_keys", "ids, with the deletion"),
    ("keepsake.archive_undo.columns", "names of columns"),
    ("keepsake.archive_undo.key_columns", "names of columns"),
    ("keepsake.archive_undo.key_values", "ids, with the deletion"),
    (
        "keepsake.archive_undo.new_values",
        "values of the application's, with the deletion",
    ),
    (
        "keepsake.archive_undo.old_values",
        "values of the application's, with the deletion",
    ),
    ("keepsake.hold.row_key", "an id, with the hold"),
    ("keepsake.outbox.last_error", "a status"),
];

/// Tables of the extension that describe the schema, and no rows.
const OF_THE_SCHEMA: [&str; 9] = [
    "keepsake.archive_column",
    "keepsake.archive_table",
    "keepsake.bound_storage",
    "keepsake.declared_reference",
    "keepsake.hidden_reads",
    "keepsake.managed_table",
    "keepsake.purge_run",
    "keepsake.reference_override",
    "keepsake.whole_schema",
];

/// Every column of the two schemas that can hold a text.
async fn columns(database: &mut PgConnection) -> Result<Vec<(String, String)>> {
    Ok(sqlx::query_as(
        "SELECT c.oid::regclass::text, quote_ident(a.attname)
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace IN ('attachments'::regnamespace, 'keepsake'::regnamespace) AND c.relkind IN ('r', 'p')
           AND a.attnum > 0 AND NOT a.attisdropped
           AND a.atttypid IN ('text'::regtype, 'text[]'::regtype, 'jsonb'::regtype, 'varchar'::regtype, 'json'::regtype)
         ORDER BY 1, 2",
    )
    .fetch_all(database)
    .await?)
}

/// Those of the columns in which a name is found.
async fn naming(database: &mut PgConnection, name: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (table, column) in columns(database).await? {
        let sql =
            format!("SELECT EXISTS (SELECT FROM {table} WHERE {column}::text LIKE '%{name}%')");
        let named: bool = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *database)
            .await?;
        if named {
            found.insert(format!("{table}.{column}"));
        }
    }
    Ok(found)
}

/// Does whatever leaves the name of a tenant, or of a person in it, anywhere.
async fn leave_names(tenant: &Tenant<'_>, person: &Api, name: &str) -> Result<()> {
    let mut database = tenant.database().await?;
    let entity = tenant.entity();
    person.upload(entity, &[PNG, TEXT]).await?;
    // An open upload, one that is aborted, and one that is rejected; each under a key.
    person.declare(entity, &[PDF]).await?.json_if(201)?;
    let aborted = person.declare(entity, &[PDF]).await?.json_if(201)?;
    person
        .delete(&format!("/v1/uploads/{}", id(&aborted)?))
        .await?
        .expect(204)?;
    let kept = person.upload(entity, &[PDF]).await?;
    let reason = format!("{}?reason={name}", attachment_path(&kept[0])?);
    person.delete(&reason).await?.expect(204)?;
    for sql in [
        "UPDATE keepsake.deletion SET reason = $2 WHERE tenant = $1",
        "UPDATE attachments.upload_set SET files = jsonb_build_array($2), report = jsonb_build_array($2) WHERE tenant_id = $1 AND state = 'aborted'",
        "INSERT INTO attachments.quota (scope, tenant_id, subject, max_files) VALUES ('user', $1, $2, 1000)",
        "INSERT INTO attachments.idempotency (tenant_id, subject, key, fingerprint, upload_id)
         SELECT $1, $2, $2, '', id FROM attachments.upload_set WHERE tenant_id = $1 LIMIT 1",
        "INSERT INTO attachments.file_type_rule (tenant_id, file_types) VALUES ($1, '+zip')",
        "INSERT INTO attachments.version_limit (tenant_id, max_versions) VALUES ($1, 7)",
        "INSERT INTO attachments.scan_policy (tenant_id, required) VALUES ($1, false)",
        "INSERT INTO attachments.usage_release (tenant_id, subject, bytes, files, due_at) VALUES ($1, $2, 0, 0, now() + interval '1 hour')",
        "INSERT INTO attachments.audit_finding (object_key, kind, pass)
         SELECT object_key, 'missing', 1 FROM attachments.attachment WHERE tenant_id = $1 LIMIT 1",
        "INSERT INTO attachments.event (type, tenant_id, attachment_id, entity_type, entity_id, dead_at)
         SELECT 'attachment.available', $1, id, entity_type, entity_id, now() FROM attachments.attachment WHERE tenant_id = $1 LIMIT 1",
        "INSERT INTO attachments.multipart (attachment_id, upload_set_id, tenant_id, object_key, storage_id, part_size)
         SELECT id, upload_set_id, tenant_id, object_key, 'x', 5 FROM attachments.attachment WHERE tenant_id = $1 AND state = 'pending' LIMIT 1",
        "WITH held AS (INSERT INTO keepsake.hold (tenant, reason, actor, released_by, released_at) VALUES ($1, 'case ' || $2, $2, $2, now()) RETURNING id)
         INSERT INTO attachments.hold_release SELECT id, $2 FROM held",
    ] {
        let sql = sql
            .replace("$1", &format!("'{}'", tenant.name))
            .replace("$2", &format!("'{name}'::text"));
        let done = sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut database).await;
        ensure!(done.with_context(|| sql.clone())?.rows_affected() > 0, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn no_column_names_a_tenant_any_more() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let other = Tenant::new(&stack).await?;
    other.upload(&[PNG]).await?;
    let namesake = tenant.user(&tenant.name);
    leave_names(&tenant, &namesake, &tenant.name).await?;
    let keys = tenant.object_keys().await?;
    let mut database = tenant.database().await?;
    let named = naming(&mut database, &tenant.name).await?;
    let nameless: BTreeSet<_> = NAMELESS
        .iter()
        .map(|(column, _)| (*column).to_owned())
        .collect();
    let forgotten: Vec<String> = columns(&mut database)
        .await?
        .into_iter()
        .filter(|(table, _)| !OF_THE_SCHEMA.contains(&table.as_str()))
        .map(|(table, column)| format!("{table}.{column}"))
        .filter(|column| !named.contains(column) && !nameless.contains(column))
        .collect();
    ensure!(
        forgotten.is_empty(),
        "these columns can hold a name, and no erasure deals with them: {forgotten:?}"
    );

    let certificate = erase(&tenant, json!({})).await?;
    assert_eq!(
        (
            &certificate["scope"],
            &certificate["kept"],
            &certificate["actor"]
        ),
        (&json!("tenant"), &json!([]), &json!("olga"))
    );
    // Four files, one of them in the bin; two that were only declared, of which one was removed before.
    assert_eq!(certificate["removed"]["attachments.attachment"], 4);
    let left = naming(&mut database, &tenant.name).await?;
    let until_the_bytes_are_gone = BTreeSet::from(
        [
            "attachments.multipart.object_key",
            "keepsake.outbox.object_key",
        ]
        .map(str::to_owned),
    );
    assert_eq!(left, until_the_bytes_are_gone);
    let of_application: i64 = tenant
        .count("SELECT (SELECT count(*) FROM public.post WHERE tenant = $1) + (SELECT count(*) FROM public.thread WHERE tenant = $1)")
        .await?;
    assert_eq!(of_application, 0);
    ensure!(!certificate.to_string().contains(&tenant.name));

    // The URLs of the open upload have run out.
    for sql in [
        "UPDATE keepsake.outbox SET writable_until = NULL, next_attempt_at = now()",
        "UPDATE attachments.upload_set SET expires_at = now() - interval '1 hour'",
    ] {
        sqlx::query(sql).execute(&mut database).await?;
    }
    run_schedule(&stack).await?;
    ensure!(!any_object_exists(&stack, &keys).await?);
    let left = naming(&mut database, &tenant.name).await?;
    ensure!(
        left.is_subset(&BTreeSet::from([
            "attachments.multipart.object_key".to_owned()
        ])),
        "{left:?}"
    );
    assert_eq!(other.visible().await?, [PNG.name]);
    // With its last part, nothing is left of an open upload.
    run(
        &mut database,
        "UPDATE attachments.upload_set SET expires_at = now() - interval '1 day' WHERE tenant_id = '';
         SELECT attachments_api.settle_multiparts(jsonb_build_object('failed', '[]'::jsonb, 'given_up', (
             SELECT coalesce(jsonb_agg(attachment_id), '[]') FROM attachments.multipart WHERE tenant_id = '')))",
        &[],
    )
    .await?;
    let sets = "SELECT count(*) FROM attachments.upload_set WHERE tenant_id = ''";
    assert_eq!(ask::<i64>(&mut database, sets, &[]).await?, 0);

    let certificates = operator(&tenant)
        .get("/v1/operator/erasures")
        .await?
        .json_if(200)?;
    assert_eq!(items(&certificates), [certificate]);
    let again = erase(&tenant, json!({})).await?;
    assert_eq!(again["removed"].get("attachments.attachment"), None);
    Ok(())
}

#[tokio::test]
async fn no_column_names_a_person_any_more() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let name = format!("person-{}", &tenant.name[7..]);
    let person = tenant.user(&name);
    leave_names(&tenant, &person, &name).await?;
    let mut database = tenant.database().await?;
    let named = naming(&mut database, &name).await?;
    for column in [
        "attachments.attachment.uploaded_by",
        "attachments.upload_set.created_by",
        "attachments.usage.subject",
        "keepsake.deletion.actor",
        "keepsake.hold.released_by",
    ] {
        ensure!(
            named.contains(column),
            "{column} does not name the person: {named:?}"
        );
    }
    let certificate = erase(&tenant, json!({ "subject": name })).await?;
    assert_eq!(certificate["kept"], json!([]));
    // What an operator wrote about a hold is the operator's.
    let left = naming(&mut database, &name).await?;
    let words = ["attachments.hold_release.reason", "keepsake.hold.reason"].map(str::to_owned);
    assert_eq!(left, BTreeSet::from(words));
    assert_eq!(tenant.rows().await?, 0);
    ensure!(!certificate.to_string().contains(&name));
    let usage = tenant.api.get("/v1/usage").await?.json_if(200)?;
    ensure!(usage["tenant"]["files"].as_i64() >= Some(0), "{usage}");
    Ok(())
}

#[tokio::test]
async fn files_of_others_in_the_same_deletion_come_back() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    tenant.user("eve").upload(tenant.entity(), &[PNG]).await?;
    tenant.upload(&[TEXT]).await?;
    tenant.delete_post().await?.expect(204)?;
    let certificate = erase(&tenant, json!({ "subject": "eve" })).await?;
    assert_eq!(certificate["removed"]["attachments.attachment"], 1);
    tenant.restore_post().await?.expect(200)?;
    assert_eq!(tenant.visible().await?, [TEXT.name]);
    Ok(())
}

#[tokio::test]
async fn versions_of_others_stay_and_become_current() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let (eve, ada) = (tenant.user("eve"), &tenant.api);
    let attachment = eve.upload(tenant.entity(), &[note(1)]).await?.remove(0);
    replace(ada, &attachment, note(2)).await?;
    replace(&eve, &attachment, note(3)).await?;
    // Its name is another file's by now.
    let taken = Fixture {
        name: "taken.txt",
        ..note(1)
    };
    let named = ada.upload(tenant.entity(), &[taken]).await?.remove(0);
    replace(
        &eve,
        &named,
        Fixture {
            name: "free.txt",
            ..note(2)
        },
    )
    .await?;
    ada.upload(
        tenant.entity(),
        &[Fixture {
            bytes: note(3).bytes,
            ..taken
        }],
    )
    .await?;
    // One that is in the bin goes whole: what is deleted is restored as it was.
    let other = |number| Fixture {
        name: "other.txt",
        ..note(number)
    };
    let deleted = ada.upload(tenant.entity(), &[other(4)]).await?.remove(0);
    replace(&eve, &deleted, other(5)).await?;
    ada.delete(&attachment_path(&deleted)?).await?.expect(204)?;

    let certificate = erase(&tenant, json!({ "subject": "eve" })).await?;
    assert_eq!(certificate["kept"], json!([]), "{certificate}");
    assert_eq!(certificate["removed"]["attachments.attachment"], 5);
    assert_eq!(numbers(ada, &attachment).await?, [4]);
    let kept = ada.get(&attachment_path(&named)?).await?.json_if(200)?;
    assert_eq!(kept["name"], "taken (2).txt");
    assert_eq!(ada.download(id(&named)?).await?.body, note(1).bytes);
    assert_eq!(ada.download(id(&attachment)?).await?.body, note(2).bytes);
    let left = naming(&mut tenant.database().await?, "eve").await?;
    ensure!(left.is_empty(), "{left:?}");
    let keys = tenant.object_keys().await?;
    run_schedule(&stack).await?;
    assert_eq!(keys.len(), 3);
    ensure!(any_object_exists(&stack, &keys).await?);
    Ok(())
}

#[tokio::test]
async fn a_person_can_be_forgotten_without_their_files() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let eve = tenant.user("eve-the-author");
    let uploaded = eve.upload(tenant.entity(), &[PNG, TEXT]).await?;
    eve.delete(&attachment_path(&uploaded[1])?)
        .await?
        .expect(204)?;
    let certificate = erase(
        &tenant,
        json!({ "subject": "eve-the-author", "keep_files": true }),
    )
    .await?;
    assert_eq!(
        (
            &certificate["renamed"]["attachments.attachment"],
            &certificate["objects"]
        ),
        (&json!(2), &json!(0))
    );
    assert_eq!(names(&tenant.attachments().await?), [PNG.name]);
    let left = naming(&mut tenant.database().await?, "eve-the-author").await?;
    ensure!(left.is_empty(), "{left:?}");
    tenant
        .api
        .restore(&attachment_path(&uploaded[1])?)
        .await?
        .expect(200)?;
    let usage = tenant.api.get("/v1/usage").await?.json_if(200)?;
    assert_eq!(usage["tenant"]["files"], 2);
    Ok(())
}

#[tokio::test]
async fn what_is_held_stays_and_is_told() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let operator = operator(&tenant);
    let uploaded = tenant.upload(&[PNG, TEXT]).await?;
    let hold = async |body: Value| {
        operator
            .post("/v1/operator/holds", &body)
            .await?
            .json_if(200)
    };
    let release = async |hold: &Value| {
        let path = format!("/v1/operator/holds/{}/release", hold["id"]);
        operator
            .post(&path, &json!({ "reason": "over" }))
            .await?
            .expect(200)
    };
    let whole = hold(json!({ "kind": "tenant", "id": tenant.name, "reason": "a lawsuit" })).await?;
    let body = json!({ "tenant": tenant.name, "reason": "x" });
    let refused = operator.post("/v1/operator/erasures", &body).await?;
    let problem = refused.expect_problem(409, "held")?;
    ensure!(
        text(&problem, "/detail")?.contains(&whole["id"].to_string()),
        "{problem}"
    );
    assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    release(&whole).await?;

    let one = hold(json!({ "kind": "attachment", "id": id(&uploaded[0])?, "reason": "a lawsuit" }))
        .await?;
    let certificate = erase(&tenant, json!({ "subject": "ada" })).await?;
    let kept = json!([{ "table": "attachments.attachment", "rows": 1, "why": "held", "holds": [one["id"]] }]);
    assert_eq!(
        (&certificate["kept"], &certificate["objects"]),
        (&kept, &json!(1))
    );
    assert_eq!(tenant.visible().await?, [PNG.name]);

    release(&one).await?;
    let rest = erase(&tenant, json!({ "subject": "ada" })).await?;
    assert_eq!((&rest["kept"], &rest["objects"]), (&json!([]), &json!(1)));
    assert_eq!(tenant.rows().await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_erased_is_refused() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let operator = operator(&tenant);
    for (body, code) in [
        (json!({ "tenant": "", "reason": "x" }), "invalid_field"),
        (json!({ "tenant": "a", "reason": "" }), "invalid_field"),
        (
            json!({ "tenant": "a", "subject": "", "reason": "x" }),
            "invalid_field",
        ),
        (
            json!({ "tenant": "a", "keep_files": true, "reason": "x" }),
            "invalid_field",
        ),
        (json!({ "reason": "x" }), "invalid_field"),
        (
            json!({ "tenant": "a", "reason": "x", "force": true }),
            "unknown_field",
        ),
    ] {
        let reply = operator.post("/v1/operator/erasures", &body).await?;
        reply
            .expect_problem(400, code)
            .with_context(|| body.to_string())?;
    }
    let body = json!({ "tenant": tenant.name, "reason": "x" });
    let reply = tenant.api.post("/v1/operator/erasures", &body).await?;
    reply.expect_problem(403, "insufficient_scope")?;
    Ok(())
}

/// Runs statements as whoever migrates; `$1` and `$2` are the tenants, or what else is given.
async fn run(database: &mut PgConnection, sql: &str, values: &[&str]) -> Result<()> {
    let mut sql = sql.to_owned();
    for (n, value) in values.iter().enumerate() {
        sql = sql.replace(&format!("${}", n + 1), value);
    }
    database
        .execute(AssertSqlSafe(sql.clone()))
        .await
        .context(sql)?;
    Ok(())
}

/// One value of a query.
async fn ask<T>(database: &mut PgConnection, sql: &str, values: &[&str]) -> Result<T>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let mut query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
    for value in values {
        query = query.bind(*value);
    }
    query.fetch_one(database).await.context(sql.to_owned())
}

/// One statement without claims deletes threads of two tenants, and of only one of them are there posts with files.
async fn nothing_of_others_goes(keep: Keep) -> Result<()> {
    let settings = StackSettings {
        keep,
        ..StackSettings::default()
    };
    let stack = start_stack(settings).await?;
    let (erased, other) = (Tenant::new(&stack).await?, Tenant::new(&stack).await?);
    other.upload(&[PNG]).await?;
    let mut database = erased.database().await?;
    let tenants = [erased.name.as_str(), other.name.as_str()];
    run(
        &mut database,
        "DELETE FROM public.post WHERE tenant = '$1';
         DELETE FROM public.thread WHERE tenant IN ('$1', '$2')",
        &tenants,
    )
    .await?;
    let deletion: String = ask(
        &mut database,
        "SELECT deletion_id::text FROM attachments.attachment WHERE tenant_id = $1",
        &tenants[1..],
    )
    .await?;
    let certificate = erase(&erased, json!({})).await?;
    let kept = match keep {
        Keep::Apart => {
            json!([{ "table": "public.thread", "rows": 1, "why": "shared", "holds": [] }])
        }
        Keep::InPlace => json!([]),
    };
    assert_eq!(certificate["kept"], kept, "{certificate}");
    let restore = "SELECT keepsake.restore($1::uuid)";
    let _: Value = ask(&mut database, restore, &[&deletion]).await?;
    assert_eq!(other.visible().await?, [PNG.name]);
    let keys = other.object_keys().await?;
    run_schedule(&stack).await?;
    ensure!(any_object_exists(&stack, &keys).await?);
    Ok(())
}

#[tokio::test]
async fn nothing_of_others_in_the_same_archived_deletion_goes() -> Result<()> {
    nothing_of_others_goes(Keep::Apart).await
}

#[tokio::test]
async fn nothing_of_others_in_the_same_deletion_goes() -> Result<()> {
    nothing_of_others_goes(Keep::InPlace).await
}

#[tokio::test]
async fn rows_that_refer_to_each_other_go_whoever_deleted_them() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let mut database = tenant.database().await?;
    let values = [tenant.name.as_str(), &tenant.thread, &tenant.post];
    // The post is deleted without claims, with a note that the tables of entities do not know of. Two threads refer to each other's
    // rows without a cascade, in both orders of their keys.
    run(
        &mut database,
        "CREATE TABLE public.note (id int PRIMARY KEY, post_id bigint REFERENCES public.post ON DELETE CASCADE);
         SELECT keepsake.manage('public.note');
         INSERT INTO public.note VALUES (1, $3);
         SELECT keepsake.soft_delete('public.post', $3, 'the name of a person');
         ALTER TABLE public.thread ADD COLUMN best bigint REFERENCES public.post, ADD COLUMN next bigint REFERENCES public.thread;
         INSERT INTO public.thread (id, tenant, title, next) VALUES (1001, '$1', 'a', NULL), (1002, '$1', 'b', 1001), (1003, '$1', 'c', 1002);
         INSERT INTO public.thread (id, tenant, title, next) VALUES (2003, '$1', 'a', NULL), (2002, '$1', 'b', 2003), (2001, '$1', 'c', 2002);
         INSERT INTO public.post (id, tenant, thread_id, slug, body) VALUES (3001, '$1', 1001, 's', '');
         UPDATE public.thread SET best = 3001 WHERE id = 2003",
        &values,
    )
    .await?;
    let certificate = erase(&tenant, json!({})).await?;
    assert_eq!(certificate["kept"], json!([]), "{certificate}");
    assert_eq!(certificate["removed"]["public.note"], 1, "{certificate}");
    let left = "SELECT (SELECT count(*) FROM public.thread WHERE tenant = $1) + (SELECT count(*) FROM public.post WHERE tenant = $1)
                     + (SELECT count(*) FROM keepsake.deletion)";
    let left: i64 = ask(&mut database, left, &values[..1]).await?;
    assert_eq!(left, 0);
    Ok(())
}

#[tokio::test]
async fn code_of_the_owner_of_a_table_is_not_run() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let mut database = tenant.database().await?;
    run(
        &mut database,
        "CREATE TABLE public.trap (id int PRIMARY KEY, tenant text);
         SELECT attachments.register_entity('trap', 'public.trap', 'tenant');
         CREATE TYPE public.bait AS (name text);
         CREATE TABLE public.caught (who text);
         CREATE FUNCTION public.spring(public.bait) RETURNS text LANGUAGE sql AS
             $$ INSERT INTO public.caught VALUES (current_user); SELECT ($1).name $$;
         CREATE CAST (public.bait AS text) WITH FUNCTION public.spring(public.bait);
         DROP INDEX public.trap_tenant_id_idx;
         INSERT INTO public.trap VALUES (1, 'a');
         ALTER TABLE public.trap ALTER COLUMN tenant TYPE public.bait USING ROW(tenant)::public.bait",
        &[],
    )
    .await?;
    let erase = "SELECT id::text FROM attachments.erase($1, NULL, 'x')";
    let refused = ask::<String>(&mut database, erase, &[&tenant.name]).await;
    let refused = format!("{:?}", refused.err().context("it was not refused")?);
    ensure!(
        refused.contains("cannot erase rows of table trap: the type of its column tenant is bait")
            || refused.contains(
                "cannot erase rows of table public.trap: the type of its column tenant is public.bait"
            ),
        "{refused}"
    );
    let caught: i64 = ask(&mut database, "SELECT count(*) FROM public.caught", &[]).await?;
    assert_eq!(caught, 0);
    Ok(())
}

#[tokio::test]
async fn evidence_keeps_the_name() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let eve = tenant.user("eve");
    let files = eve.upload(tenant.entity(), &[PNG, TEXT, PDF]).await?;
    let deleted = eve.delete(&attachment_path(&files[1])?).await?;
    let deletion = deletion_id(&deleted)?.to_owned();
    let mut database = tenant.database().await?;
    let reason = "UPDATE keepsake.deletion SET reason = 'mine' WHERE id = '$1'";
    run(&mut database, reason, &[&deletion]).await?;
    for body in [
        json!({ "kind": "attachment", "id": id(&files[0])?, "reason": "a lawsuit" }),
        json!({ "kind": "deletion", "id": deletion, "reason": "a lawsuit" }),
    ] {
        let held = operator(&tenant).post("/v1/operator/holds", &body).await?;
        held.expect(200)?;
    }
    let what = json!({ "subject": "eve", "keep_files": true });
    let certificate = erase(&tenant, what).await?;
    assert_eq!(certificate["renamed"]["attachments.attachment"], 1);
    let kept: Vec<(&Value, &Value, &Value)> = certificate["kept"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|line| (&line["table"], &line["rows"], &line["why"]))
        .collect();
    let held = json!("held");
    assert_eq!(
        kept,
        [
            (&json!("attachments.attachment"), &json!(2), &held),
            (&json!("keepsake.deletion"), &json!(1), &held)
        ]
    );
    let evidence = "SELECT d.actor || ': ' || d.reason || ', ' || string_agg(a.uploaded_by, ', ' ORDER BY a.position)
                    FROM keepsake.deletion d, attachments.attachment a WHERE d.id = $1::uuid GROUP BY d.id";
    let evidence: String = ask(&mut database, evidence, &[&deletion]).await?;
    assert_eq!(evidence, "eve: mine, eve, eve, (erased)");
    Ok(())
}

#[tokio::test]
async fn uploads_to_the_tenant_wait_and_lose_nothing_to_a_deadlock() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let upload = tenant.store(&[PNG]).await?;
    let (mut uploader, mut eraser) = (tenant.database().await?, tenant.database().await?);
    let claims = json!({ "tenant": tenant.name, "sub": "ada" }).to_string();
    let request = json!({ "upload_id": id(&upload)? }).to_string();
    // It has locked the set and its files, and then wants the tenant's usage.
    uploader.execute("BEGIN").await?;
    let complete = "SELECT attachments_api.complete_upload($1::jsonb, $2::jsonb)";
    let completed: Value = ask(&mut uploader, complete, &[&claims, &request]).await?;
    ensure!(completed["ok"]["state"] == "completed", "{completed}");
    let pid: i32 = ask(&mut eraser, "SELECT pg_backend_pid()", &[]).await?;
    let erasing = async {
        let erase = "SELECT removed FROM attachments.erase($1, NULL, 'x')";
        ask::<Value>(&mut eraser, erase, &[&tenant.name]).await
    };
    let uploading = async {
        let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1::int AND NOT granted)";
        let pid = pid.to_string();
        until("the erasure waits", async || {
            ask(&mut uploader, waits, &[&pid]).await
        })
        .await?;
        let settle = "SELECT attachments.settle_usage($1)::text";
        let _: String = ask(&mut uploader, settle, &[&tenant.name]).await?;
        uploader.execute("COMMIT").await?;
        Ok::<_, anyhow::Error>(())
    };
    let (erased, uploaded) = tokio::join!(erasing, uploading);
    uploaded?;
    assert_eq!(erased?["attachments.attachment"], 1);
    assert_eq!(tenant.rows().await?, 0);
    Ok(())
}

#[tokio::test]
async fn the_schedule_passes_over_a_tenant_that_is_locked() -> Result<()> {
    let stack = own_stack().await?;
    let (locked, other) = (Tenant::new(&stack).await?, Tenant::new(&stack).await?);
    locked.upload(&[PNG]).await?;
    other.upload(&[PNG]).await?;
    let tenants = [locked.name.as_str(), other.name.as_str()];
    let (mut database, mut eraser) = (locked.database().await?, locked.database().await?);
    run(
        &mut database,
        "INSERT INTO attachments.usage_release (tenant_id, subject, bytes, files, due_at)
         VALUES ('$1', 'ada', 0, 0, now()), ('$2', 'ada', 0, 0, now())",
        &tenants,
    )
    .await?;
    run(
        &mut eraser,
        "BEGIN; SELECT FROM attachments.usage WHERE tenant_id = '$1' FOR UPDATE",
        &tenants,
    )
    .await?;
    run(&mut database, "SET lock_timeout = '10s'", &[]).await?;
    let tidy = "SELECT attachments_api.tidy('{\"limit\": 500}')";
    let tidied: Value = ask(&mut database, tidy, &[]).await?;
    assert_eq!(tidied["ok"]["settled"], 1, "{tidied}");
    eraser.execute("COMMIT").await?;
    let tidied: Value = ask(&mut database, tidy, &[]).await?;
    assert_eq!(tidied["ok"]["settled"], 1, "{tidied}");
    Ok(())
}

#[tokio::test]
async fn what_the_application_refuses_is_no_hold() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let mut database = tenant.database().await?;
    run(
        &mut database,
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = '55000'; END $$;
         CREATE TRIGGER refuse BEFORE DELETE ON public.post FOR EACH ROW EXECUTE FUNCTION public.refuse()",
        &[],
    )
    .await?;
    let erase = "SELECT attachments_api.erase(jsonb_build_object('tenant', $1, 'actor', 'olga', 'reason', 'x', 'keep_files', false))";
    let refused = ask::<Value>(&mut database, erase, &[&tenant.name]).await;
    let refused = format!("{:?}", refused.err().context("it was not refused")?);
    ensure!(refused.contains("not today"), "{refused}");
    Ok(())
}
