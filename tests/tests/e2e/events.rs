//! Events arrive at a real receiver: at least once, and of one attachment in order, whatever the receiver does.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::{JPEG, PDF, PNG, TEXT};
use keepsake_tests::places::{checkout, free_port};
use keepsake_tests::requires;
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{mint, unix_now};
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::receiver::{Fault, KEY, Message, Receiver};
use crate::versions::{note, replace};
use crate::world::{Tenant, attachment_path, id, items, run_schedule, start_stack, until};

async fn stack_that_tells(receiver: &Receiver) -> Result<Stack> {
    let settings = StackSettings {
        keep: crate::KEEP,
        vars: receiver.settings().into(),
        ..StackSettings::default()
    };
    start_stack(settings).await
}

fn operator(tenant: &Tenant<'_>) -> Api {
    let claims = json!({ "sub": "olga", "scope": "operator", "exp": unix_now() + 600 });
    let token = mint(&claims, &tenant.stack.secrets.jwt_key);
    tenant.api.with_bearer(Some(&token))
}

async fn waiting(tenant: &Tenant<'_>) -> Result<i64> {
    tenant
        .count("SELECT count(*) FROM attachments.event WHERE tenant_id = $1 AND dead_at IS NULL")
        .await
}

async fn run(tenant: &Tenant<'_>, sql: &'static str) -> Result<()> {
    tenant.database().await?.execute(sql).await?;
    Ok(())
}

/// Lets the pause before the next attempt pass, and runs the schedule until nothing waits.
async fn deliver_all(tenant: &Tenant<'_>) -> Result<()> {
    until("all events are delivered", async || {
        run(
            tenant,
            "UPDATE attachments.event SET next_attempt_at = now()",
        )
        .await?;
        run_schedule(tenant.stack).await?;
        Ok(waiting(tenant).await? == 0)
    })
    .await
}

/// What the receiver took of an attachment, each event once.
fn taken_of(messages: &[Message], attachment: &str) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut taken = Vec::new();
    for message in messages.iter().filter(|message| message.is_taken()) {
        let event = message.event()?;
        if event["data"]["attachment_id"] == attachment && seen.insert(&message.id) {
            taken.push(text(&event, "/type")?.replace("attachment.", ""));
        }
    }
    Ok(taken)
}

#[tokio::test]
async fn they_go_to_a_queue_that_is_bound() -> Result<()> {
    requires!(WORKER);
    let settings = StackSettings {
        keep: crate::KEEP,
        events_queue: Some("keepsake-events".to_owned()),
        ..StackSettings::default()
    };
    let stack = start_stack(settings).await?;
    let consumer = stack.companion("tests/event-queue/wrangler.toml").await?;
    let tenant = Tenant::new(&stack).await?;
    // The first run sees the queue; from then on, events are recorded.
    run_schedule(&stack).await?;
    let uploaded = tenant.upload(&[PNG, TEXT]).await?;
    tenant.delete_attachment(&uploaded[0]).await?.expect(204)?;
    deliver_all(&tenant).await?;

    let taken = async || -> Result<Vec<Value>> {
        Ok(serde_json::from_str(
            &reqwest::get(&consumer.url).await?.text().await?,
        )?)
    };
    until("the queue has handed over three events", async || {
        Ok(taken().await?.len() == 3)
    })
    .await?;
    let messages = taken().await?;
    let types_of = |attachment: &str| -> Vec<&Value> {
        let of_it = messages
            .iter()
            .filter(|m| m["event"]["data"]["attachment_id"] == attachment);
        of_it.map(|message| &message["event"]["type"]).collect()
    };
    assert_eq!(
        types_of(id(&uploaded[0])?),
        ["attachment.available", "attachment.deleted"]
    );
    assert_eq!(types_of(id(&uploaded[1])?), ["attachment.available"]);
    let ids: BTreeSet<&str> = messages
        .iter()
        .map(|m| text(m, "/id"))
        .collect::<Result<_>>()?;
    assert_eq!(ids.len(), 3, "{messages:?}");
    Ok(())
}

#[tokio::test]
async fn they_arrive_in_order_through_every_fault() -> Result<()> {
    let receiver = Receiver::start()?;
    let stack = stack_that_tells(&receiver).await?;
    let tenant = Tenant::new(&stack).await?;
    // Before the first run of a worker that tells them, nobody asked for any.
    tenant.upload(&[JPEG]).await?;
    assert_eq!(waiting(&tenant).await?, 0);
    run_schedule(&stack).await?;

    receiver.fails(
        &[
            Fault::Status(500),
            Fault::Reset,
            Fault::Redirect,
            Fault::LostAnswer,
            Fault::Hang,
            Fault::LostAnswer,
            Fault::Status(410),
        ],
        Fault::None,
    );
    let uploaded = tenant.upload(&[PNG, TEXT]).await?;
    let [first, second] = [id(&uploaded[0])?, id(&uploaded[1])?];
    tenant.delete_attachment(&uploaded[0]).await?.expect(204)?;
    tenant
        .api
        .restore(&attachment_path(&uploaded[0])?)
        .await?
        .expect(200)?;
    tenant.delete_post().await?.expect(204)?;
    deliver_all(&tenant).await?;

    let messages = receiver.messages()?;
    assert_eq!(
        taken_of(&messages, first)?,
        ["available", "deleted", "restored", "deleted"]
    );
    assert_eq!(taken_of(&messages, second)?, ["available", "deleted"]);
    // Of one attachment no event was sent before the one in front of it had been answered.
    let mut answered: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in &messages {
        let event = message.event()?;
        let order = answered
            .entry(text(&event, "/data/attachment_id")?.to_owned())
            .or_default();
        if !order.contains(&message.id) {
            order.push(message.id.clone());
        }
        ensure!(
            order.last() == Some(&message.id),
            "an older event came after a newer one"
        );
        assert_eq!(event["data"]["tenant"], tenant.name.as_str());
        ensure!(
            !message.body.contains("ada"),
            "it names who did it: {}",
            message.body
        );
    }
    // The same again under the same id, letter for letter.
    let twice: Vec<_> = messages
        .iter()
        .filter(|one| one.fault == Fault::LostAnswer)
        .collect();
    assert_eq!(twice.len(), 2);
    for lost in twice {
        let again = messages
            .iter()
            .filter(|one| one.id == lost.id && one.body == lost.body);
        ensure!(again.count() > 1, "it did not come again");
    }
    Ok(())
}

#[tokio::test]
async fn each_kind_is_told() -> Result<()> {
    let receiver = Receiver::start()?;
    let stack = stack_that_tells(&receiver).await?;
    let tenant = Tenant::new(&stack).await?;
    run_schedule(&stack).await?;
    let uploaded = tenant.upload(&[PNG, TEXT]).await?;
    let rejected = tenant.declare(&[PDF]).await?;
    tenant
        .api
        .delete(&format!("/v1/uploads/{}", id(&rejected)?))
        .await?
        .expect(204)?;
    let infected = "SELECT attachments_api.record_scan(jsonb_build_object('object_key', object_key, 'verdict', 'infected', 'mac', 'x'))
                    FROM attachments.attachment WHERE id = $1::uuid";
    sqlx::query(infected)
        .bind(id(&uploaded[0])?)
        .execute(&mut tenant.database().await?)
        .await?;
    let replacing = replace(&tenant.api, &uploaded[1], note(2)).await?;
    assert_eq!(replacing["id"], uploaded[1]["id"]);
    tenant.delete_post().await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    deliver_all(&tenant).await?;
    deliver_all(&tenant).await?;
    let messages = receiver.messages()?;
    assert_eq!(
        taken_of(&messages, id(&uploaded[0])?)?,
        ["available", "quarantined", "deleted", "purged"]
    );
    assert_eq!(
        taken_of(&messages, id(&uploaded[1])?)?,
        ["available", "replaced", "deleted", "purged"]
    );
    // Of the rows of former versions nothing is told.
    assert_eq!(messages.len(), 4 + 4 + 1);
    let declared = text(&rejected, "/files/0/attachment_id")?;
    assert_eq!(taken_of(&messages, declared)?, ["rejected"]);
    Ok(())
}

#[tokio::test]
async fn a_dead_event_lets_later_ones_pass_and_is_retried_by_an_operator() -> Result<()> {
    let receiver = Receiver::start()?;
    let stack = stack_that_tells(&receiver).await?;
    let tenant = Tenant::new(&stack).await?;
    run_schedule(&stack).await?;
    receiver.fails(&[], Fault::Status(500));
    let uploaded = tenant.upload_one(PNG).await?;
    tenant.delete_attachment(&uploaded).await?.expect(204)?;
    run_schedule(&stack).await?;
    run_schedule(&stack).await?;
    assert_eq!(
        receiver.messages()?.len(),
        1,
        "it waits before the next attempt"
    );
    let operator = operator(&tenant);
    let page = operator.get("/v1/operator/events").await?.json_if(200)?;
    assert_eq!(
        (&items(&page)[0]["attempts"], &items(&page)[0]["last_error"]),
        (&json!(1), &json!("answered 500"))
    );
    assert_eq!(items(&page).len(), 2);

    run(
        &tenant,
        "UPDATE attachments.event SET attempts = 13, next_attempt_at = now() WHERE attempts = 1",
    )
    .await?;
    run_schedule(&stack).await?;
    let page = operator
        .get("/v1/operator/events?state=dead")
        .await?
        .json_if(200)?;
    let [dead] = items(&page) else {
        anyhow::bail!("one event is dead: {page}");
    };
    assert_eq!(dead["type"], "attachment.available");
    receiver.fails(&[], Fault::None);
    run_schedule(&stack).await?;
    assert_eq!(
        taken_of(&receiver.messages()?, id(&uploaded)?)?,
        ["deleted"]
    );

    let retry = format!("/v1/operator/events/{}/retry", dead["id"]);
    operator.post_empty(&retry).await?.expect(204)?;
    run_schedule(&stack).await?;
    assert_eq!(
        taken_of(&receiver.messages()?, id(&uploaded)?)?,
        ["deleted", "available"]
    );
    operator
        .post_empty(&retry)
        .await?
        .expect_problem(404, "not_found")?;
    let page = operator
        .get("/v1/operator/events?state=dead")
        .await?
        .json_if(200)?;
    assert_eq!(items(&page), &[] as &[Value]);
    the_example_takes(&receiver.messages()?).await
}

#[tokio::test]
async fn a_tenant_with_many_events_delays_no_other_and_none_is_lost_untried() -> Result<()> {
    let receiver = Receiver::start()?;
    let stack = stack_that_tells(&receiver).await?;
    let tenant = Tenant::new(&stack).await?;
    let noisy = Tenant::new(&stack).await?;
    run_schedule(&stack).await?;
    let many = "INSERT INTO attachments.event (type, tenant_id, attachment_id, entity_type, entity_id, happened_at, next_attempt_at)
                SELECT 'attachment.deleted', $1, gen_random_uuid(), 'post', '1', now() - interval '40 days', now() - interval '1 day'
                FROM generate_series(1, 5000)";
    sqlx::query(many)
        .bind(&noisy.name)
        .execute(&mut noisy.database().await?)
        .await?;
    let uploaded = tenant.upload_one(PNG).await?;
    let tidied: Value = sqlx::query_scalar("SELECT attachments_api.tidy('{\"limit\": 10000}')")
        .fetch_one(&mut tenant.database().await?)
        .await?;
    assert_eq!(tidied["ok"]["events_removed"], 0, "{tidied}");
    assert_eq!(waiting(&noisy).await?, 5000);
    run_schedule(&stack).await?;
    assert_eq!(
        taken_of(&receiver.messages()?, id(&uploaded)?)?,
        ["available"]
    );
    // Where nobody is told any more, they are removed.
    run(
        &tenant,
        "UPDATE attachments.event_recording SET until = '-infinity'",
    )
    .await?;
    run(&tenant, "SELECT attachments_api.tidy('{\"limit\": 10000}')").await?;
    assert_eq!(waiting(&noisy).await?, 0);
    Ok(())
}

/// The receiver of `examples/` believes these messages and no others, and takes each once.
async fn the_example_takes(messages: &[Message]) -> Result<()> {
    let port = free_port(None)?;
    let mut example = Command::new("node")
        .arg(checkout().join("examples/receiver/receiver.mjs"))
        .env("PORT", port.to_string())
        .env("EVENTS_KEYS", KEY)
        .stdout(Stdio::piped())
        .spawn()
        .context("node does not start")?;
    let client = reqwest::Client::new();
    let send = async |message: &Message, body: &str| {
        let sent = client
            .post(format!("http://127.0.0.1:{port}/"))
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", &message.timestamp)
            .header("webhook-signature", &message.signature)
            .body(body.to_owned());
        Ok::<_, reqwest::Error>(sent.send().await?.status().as_u16())
    };
    until("the example answers", async || {
        Ok(send(&messages[0], "{}").await.is_ok())
    })
    .await?;
    for message in messages.iter().chain(messages) {
        assert_eq!(send(message, &message.body).await?, 204);
        assert_eq!(
            send(message, &message.body.replace("attachment", "whatever")).await?,
            401
        );
    }
    example.kill()?;
    let printed = String::from_utf8(example.wait_with_output()?.stdout)?;
    let ids: BTreeSet<&str> = messages.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(printed.lines().count(), ids.len(), "{printed}");
    Ok(())
}
