//! Large files arrive in parts, in any order and with pauses, and become visible like all others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keepsake_tests::api::{Reply, sha256_base64, text};
use keepsake_tests::fixtures::{Fixture, PNG, TEXT};
use keepsake_tests::requires;
use keepsake_tests::stack::{Stack, StackSettings};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::agreement::{Place, assert_agreement};
use crate::object_store::{Fault, ObjectStore};
use crate::world::{Tenant, errors, id, names, run_schedule, s3_stack, start_stack, upload_path};

const MIB: usize = 1 << 20;
const PART: usize = 5 * MIB;
const SETTINGS: [(&str, &str); 4] = [
    ("MAX_FILE_BYTES", "20971520"),
    ("MAX_SET_BYTES", "41943040"),
    ("MULTIPART_THRESHOLD_BYTES", "6291456"),
    ("PART_BYTES", "5242880"),
];

/// A picture with so much behind it that it comes in three parts, the last a small one.
fn large() -> Fixture {
    let mut bytes = PNG.bytes.to_vec();
    bytes.extend((0..2 * PART + MIB - PNG.bytes.len()).map(|at| (at * 7 / 3) as u8));
    Fixture {
        bytes: bytes.leak(),
        ..PNG
    }
}

fn part(file: Fixture, number: usize) -> &'static [u8] {
    let from = (number - 1) * PART;
    &file.bytes[from..file.bytes.len().min(from + PART)]
}

static BUCKET: OnceCell<Stack> = OnceCell::const_new();
static S3: OnceCell<(Stack, ObjectStore, Mutex<()>)> = OnceCell::const_new();

/// The stack whose objects are in the bucket of the binding.
async fn bucket() -> Result<&'static Stack> {
    let settings = StackSettings {
        vars: SETTINGS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..StackSettings::default()
    };
    BUCKET
        .get_or_try_init(async || start_stack(settings).await)
        .await
}

/// The stack whose objects are in an S3 store, and the turn to trouble it: one test at a time.
async fn s3() -> Result<(
    &'static Stack,
    &'static ObjectStore,
    MutexGuard<'static, ()>,
)> {
    let (stack, store, turns) = S3
        .get_or_try_init(async || {
            let (stack, store) = s3_stack(&SETTINGS).await?;
            anyhow::Ok((stack, store, Mutex::new(())))
        })
        .await?;
    let turn = turns.lock().await;
    store.disarm();
    Ok((stack, store, turn))
}

/// A declared upload of one large file and one small, with its tenant.
struct Large<'a> {
    tenant: Tenant<'a>,
    file: Fixture,
    upload: Value,
}

impl<'a> Large<'a> {
    async fn declare(stack: &'a Stack) -> Result<Self> {
        Self::declare_as(stack, large()).await
    }

    async fn declare_as(stack: &'a Stack, file: Fixture) -> Result<Self> {
        let tenant = Tenant::new(stack).await?;
        let upload = tenant.declare(&[file, TEXT]).await?;
        tenant.put(&upload["files"][1], TEXT).await?;
        Ok(Self {
            tenant,
            file,
            upload,
        })
    }

    fn parts_path(&self) -> Result<String> {
        Ok(format!("{}/parts", upload_path(&self.upload)?))
    }

    fn attachment(&self) -> Result<&str> {
        text(&self.upload, "/files/0/attachment_id")
    }

    /// Asks for these parts to be signed, each with the checksum of its bytes.
    async fn sign(&self, numbers: &[usize]) -> Result<Reply> {
        let parts: Vec<Value> = numbers
            .iter()
            .map(|number| {
                let checksum = sha256_base64(part(self.file, *number));
                json!({ "number": number, "checksum": checksum })
            })
            .collect();
        let request = json!({ "attachment_id": self.attachment()?, "parts": parts });
        self.tenant.api.post(&self.parts_path()?, &request).await
    }

    async fn signed(&self, number: usize) -> Result<Value> {
        Ok(self.sign(&[number]).await?.json_if(200)?["parts"][0].clone())
    }

    async fn send(&self, numbers: &[usize]) -> Result<()> {
        let signed = self.sign(numbers).await?.json_if(200)?;
        for (index, number) in numbers.iter().enumerate() {
            let target = &signed["parts"][index];
            let reply = self
                .tenant
                .api
                .put(target, part(self.file, *number))
                .await?;
            reply.expect_stored()?;
        }
        Ok(())
    }

    /// The numbers of the parts that the store holds.
    async fn held(&self) -> Result<Vec<u64>> {
        let path = format!(
            "{}?attachment_id={}",
            self.parts_path()?,
            self.attachment()?
        );
        let listed = self.tenant.api.get(&path).await?.json_if(200)?;
        let parts = listed["parts"].as_array().context("no parts")?;
        Ok(parts
            .iter()
            .filter_map(|part| part["number"].as_u64())
            .collect())
    }

    /// What the store calls the upload.
    async fn storage_id(&self) -> Result<String> {
        let mut database = self.tenant.database().await?;
        let sql = "SELECT storage_id FROM attachments.multipart WHERE tenant_id = $1";
        Ok(sqlx::query_scalar(sql)
            .bind(&self.tenant.name)
            .fetch_one(&mut database)
            .await?)
    }

    async fn complete(&self) -> Result<Reply> {
        self.tenant.complete(&self.upload).await
    }

    async fn assert_there(&self) -> Result<()> {
        let attachments = self.tenant.attachments().await?;
        assert_eq!(names(&attachments), [self.file.name, TEXT.name]);
        let large = attachments
            .iter()
            .find(|one| one["name"] == self.file.name)
            .context("no large file")?;
        let download = self.tenant.api.download(id(large)?).await?;
        assert!(download.body == self.file.bytes, "it came back changed");
        assert_eq!(download.header("content-type"), Some(self.file.media_type));
        Ok(())
    }
}

async fn comes_in_parts(stack: &Stack) -> Result<()> {
    let large = Large::declare(stack).await?;
    let plan = &large.upload["files"][0];
    assert_eq!(plan["multipart"]["part_size"], PART);
    assert_eq!(plan["multipart"]["part_count"], 3);
    assert_eq!(plan["multipart"]["checksum"], "sha256");
    assert!(plan["url"].is_null());
    assert_eq!(large.held().await?, [0_u64; 0]);

    // In any order, and the client dies half way.
    large.send(&[3, 1]).await?;
    assert_eq!(large.held().await?, [1, 3]);
    let early = large
        .complete()
        .await?
        .expect_problem(409, "not_uploaded")?;
    assert_eq!(errors(&early), [("/files/0", "not_uploaded")]);
    assert!(large.tenant.visible().await?.is_empty());

    // Another takes over with what is missing; a part may be sent twice.
    large.send(&[2]).await?;
    large.send(&[3]).await?;
    assert_eq!(large.held().await?, [1, 2, 3]);
    large.complete().await?.json_if(200)?;
    large.assert_there().await?;
    large.complete().await?.json_if(200)?;
    large
        .sign(&[1])
        .await?
        .expect_problem(409, "upload_closed")?;
    Ok(())
}

/// As an uploader that speaks S3 goes about it, such as Uppy.
async fn speaks_s3(stack: &Stack) -> Result<()> {
    let large = Large::declare(stack).await?;
    let api = &large.tenant.api;
    let attachment = large.attachment()?;
    let path = format!("{}/multipart/{attachment}", upload_path(&large.upload)?);
    let xml = |reply: Reply| -> Result<String> {
        ensure!(reply.status == 200, "{reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/xml"));
        Ok(String::from_utf8(reply.body)?)
    };
    let begun = xml(api.post_empty(&format!("{path}?uploads")).await?)?;
    assert!(begun.contains(&format!("<UploadId>{attachment}</UploadId>")));
    let ended = format!("{path}?uploadId={attachment}");
    assert!(!xml(api.get(&ended).await?)?.contains("<Part>"));
    let early = api.post_empty(&ended).await?;
    early.expect_problem(409, "not_uploaded")?;

    let signed = large.sign(&[2]).await?.json_if(200)?;
    let stored = api.put(&signed["parts"][0], part(large.file, 2)).await?;
    let etag = stored.header("etag").context("no ETag")?.to_owned();
    large.send(&[1]).await?;
    let listed = xml(api.get(&ended).await?)?;
    let number = "<PartNumber>2</PartNumber><Size>5242880</Size>";
    let named = format!("{number}<ETag>{}</ETag>", etag.trim_matches('"'));
    assert!(listed.replace('"', "").contains(&named), "{listed}");
    assert!(!listed.contains("<PartNumber>3<"));
    let early = api.post_empty(&ended).await?;
    early.expect_problem(409, "not_uploaded")?;

    large.send(&[3]).await?;
    let joined = xml(api.post_empty(&ended).await?)?;
    assert!(joined.contains(&format!("<Key>{attachment}</Key>")));
    assert!(large.tenant.visible().await?.is_empty());
    large.complete().await?.json_if(200)?;
    large.assert_there().await?;
    let late = api.post_empty(&ended).await?;
    late.expect_problem(409, "upload_closed")?;
    Ok(())
}

#[tokio::test]
async fn to_the_bucket_in_the_words_of_s3() -> Result<()> {
    requires!(SERVED);
    speaks_s3(bucket().await?).await
}

#[tokio::test]
async fn to_an_s3_store_in_the_words_of_s3() -> Result<()> {
    requires!(S3);
    let (stack, _, _turn) = s3().await?;
    speaks_s3(stack).await
}

#[tokio::test]
async fn the_words_of_s3_are_only_for_who_may_speak_them() -> Result<()> {
    requires!(SERVED);
    let large = Large::declare(bucket().await?).await?;
    let other = Large::declare(bucket().await?).await?;
    let upload = upload_path(&large.upload)?;
    let path = format!("{upload}/multipart/{}", large.attachment()?);
    let foreign = &other.tenant.api;
    let not_found = foreign.post_empty(&format!("{path}?uploads")).await?;
    not_found.expect_problem(404, "not_found")?;
    foreign.get(&path).await?.expect_problem(404, "not_found")?;
    let nobody = foreign.with_bearer(None);
    nobody
        .get(&path)
        .await?
        .expect_problem(401, "missing_token")?;

    let api = &large.tenant.api;
    let small = text(&large.upload, "/files/1/attachment_id")?;
    let whole = api.get(&format!("{upload}/multipart/{small}")).await?;
    whole.expect_problem(422, "not_in_parts")?;
    let mixed = api.post_empty(&format!("{path}?uploadId={small}")).await?;
    mixed.expect_problem(400, "invalid_field")?;
    let unknown = api.post_empty(&format!("{path}?partNumber=1")).await?;
    unknown.expect_problem(400, "unknown_field")?;
    Ok(())
}

#[tokio::test]
async fn to_the_bucket() -> Result<()> {
    requires!(SERVED);
    comes_in_parts(bucket().await?).await
}

#[tokio::test]
async fn to_an_s3_store() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = s3().await?;
    comes_in_parts(stack).await?;
    let large = Large::declare(stack).await?;
    large.send(&[2, 1, 3]).await?;
    let upload = large.storage_id().await?;
    assert_eq!(store.loose_parts(&upload)?, 3);
    large.complete().await?.json_if(200)?;
    assert_eq!(store.loose_parts(&upload)?, 0);
    Ok(())
}

/// Each lock of a part, changed and dropped; `refused` are the statuses of a store that refuses.
async fn has_its_locks(stack: &Stack, refused: &[u16]) -> Result<()> {
    let large = Large::declare(stack).await?;
    let signed = large.signed(3).await?;
    let bytes = part(large.file, 3);
    let mut other = bytes.to_vec();
    other.reverse();
    let longer = [bytes, b"x"].concat();
    let mut changed = signed.clone();
    changed["headers"]["x-amz-checksum-sha256"] = json!(sha256_base64(&other));
    let mut dropped = signed.clone();
    dropped["headers"] = json!({});
    let mut elsewhere = signed.clone();
    let url = text(&signed, "/url")?.replace("partNumber=3", "partNumber=2");
    let url = if url == text(&signed, "/url")? {
        format!("{url}A")
    } else {
        url
    };
    elsewhere["url"] = json!(url);
    for (what, target, bytes) in [
        ("other bytes", &signed, other.as_slice()),
        ("longer", &signed, &longer),
        ("shorter", &signed, &bytes[1..]),
        ("another checksum", &changed, &other),
        ("no checksum", &dropped, bytes),
        ("another part", &elsewhere, bytes),
    ] {
        let reply = large.tenant.api.put(target, bytes).await?;
        ensure!(refused.contains(&reply.status), "{what}: {reply:?}");
        assert_eq!(large.held().await?, [0_u64; 0], "{what} was stored");
    }
    large
        .tenant
        .api
        .put(&signed, bytes)
        .await?
        .expect_stored()?;
    assert_eq!(large.held().await?, [3]);
    Ok(())
}

#[tokio::test]
async fn a_part_in_the_bucket_has_its_locks() -> Result<()> {
    requires!(SERVED);
    has_its_locks(bucket().await?, &[403, 422]).await
}

#[tokio::test]
async fn a_part_in_an_s3_store_has_its_locks() -> Result<()> {
    requires!(S3);
    let (stack, _, _turn) = s3().await?;
    has_its_locks(stack, &[400, 403]).await
}

/// Every part is what was signed, and the whole is not what was declared.
async fn is_not_what_was_declared(stack: &Stack) -> Result<()> {
    let honest = large();
    let mut bytes = honest.bytes.to_vec();
    bytes[PART + 1] ^= 1;
    let altered = Fixture {
        bytes: bytes.leak(),
        ..honest
    };
    let declared = Large::declare_as(stack, honest).await?;
    let large = Large {
        file: altered,
        ..declared
    };
    large.send(&[1, 2, 3]).await?;
    let problem = large
        .complete()
        .await?
        .expect_problem(422, "upload_rejected")?;
    assert_eq!(errors(&problem), [("/files/0", "sha256_mismatch")]);
    assert_eq!(large.tenant.rows().await?, 0);
    assert!(large.tenant.visible().await?.is_empty());
    Ok(())
}

/// Other bytes in place of a part that is there are refused, and what is listed after that is there.
#[tokio::test]
async fn a_part_that_was_spoilt_is_sent_again() -> Result<()> {
    requires!(SERVED);
    let large = Large::declare(bucket().await?).await?;
    large.send(&[1, 2, 3]).await?;
    let mut other = part(large.file, 3).to_vec();
    other.reverse();
    let signed = large.signed(3).await?;
    let refused = large.tenant.api.put(&signed, &other).await?;
    refused.expect_problem(422, "sha256_mismatch")?;
    if !large.held().await?.contains(&3) {
        let early = large.complete().await?;
        early.expect_problem(409, "not_uploaded")?;
        large.send(&[3]).await?;
    }
    large.complete().await?.json_if(200)?;
    large.assert_there().await
}

#[tokio::test]
async fn other_bytes_in_parts_are_found_in_the_bucket() -> Result<()> {
    requires!(SERVED);
    is_not_what_was_declared(bucket().await?).await
}

#[tokio::test]
async fn other_bytes_in_parts_are_found_in_an_s3_store() -> Result<()> {
    requires!(S3);
    let (stack, _, _turn) = s3().await?;
    is_not_what_was_declared(stack).await
}

#[tokio::test]
async fn a_given_up_upload_leaves_no_parts() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = s3().await?;
    let large = Large::declare(stack).await?;
    let signed = large.signed(2).await?;
    large.send(&[1]).await?;
    let upload = large.storage_id().await?;
    assert_eq!(store.loose_parts(&upload)?, 1);
    large
        .tenant
        .api
        .delete(&upload_path(&large.upload)?)
        .await?
        .expect(204)?;
    for _ in 0..100 {
        if store.loose_parts(&upload)? == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        store.loose_parts(&upload)?,
        0,
        "parts of a given up upload stayed"
    );
    // A part that comes after that finds no upload; the store may answer before it has read the part,
    // and close.
    let late = large.tenant.api.put(&signed, part(large.file, 2)).await;
    if let Ok(reply) = late {
        ensure!(matches!(reply.status, 403 | 404), "{reply:?}");
    }
    assert_eq!(store.loose_parts(&upload)?, 0);
    Ok(())
}

#[tokio::test]
async fn an_upload_in_parts_that_nobody_completes_is_swept() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = s3().await?;
    let large = Large::declare(stack).await?;
    large.send(&[1, 2]).await?;
    let upload = large.storage_id().await?;
    let mut database = large.tenant.database().await?;
    sqlx::query("UPDATE attachments.upload_set SET expires_at = now() - interval '1 hour' WHERE tenant_id = $1")
        .bind(&large.tenant.name)
        .execute(&mut database)
        .await?;
    large
        .sign(&[3])
        .await?
        .expect_problem(410, "upload_expired")?;
    // The store fails at first.
    store.trap("DELETE", "uploadId", Fault::Refused(503), 3);
    run_schedule(stack).await?;
    assert_eq!(store.disarm(), 0);
    assert_eq!(store.loose_parts(&upload)?, 2);
    sqlx::query("UPDATE attachments.multipart SET next_attempt_at = now()")
        .execute(&mut database)
        .await?;
    run_schedule(stack).await?;
    assert_eq!(
        store.loose_parts(&upload)?,
        0,
        "parts of an expired upload stayed"
    );
    let left = "SELECT count(*) FROM attachments.multipart WHERE tenant_id = $1";
    assert_eq!(large.tenant.count(left).await?, 0);
    assert_agreement(stack, Place::Store(store)).await
}

async fn is_completed_by_the_schedule(stack: &Stack) -> Result<()> {
    let large = Large::declare(stack).await?;
    large.send(&[1, 3]).await?;
    large.tenant.let_time_pass_until("5 minutes").await?;
    run_schedule(stack).await?;
    assert!(large.tenant.visible().await?.is_empty());
    assert_eq!(large.held().await?, [1, 3], "what is there stays");

    // The last part comes, and then nothing more of its client.
    large.send(&[2]).await?;
    sqlx::query("UPDATE attachments.upload_set SET next_look_at = now() WHERE tenant_id = $1")
        .bind(&large.tenant.name)
        .execute(&mut large.tenant.database().await?)
        .await?;
    run_schedule(stack).await?;
    large.assert_there().await
}

#[tokio::test]
async fn whole_parts_in_the_bucket_are_completed_by_the_schedule() -> Result<()> {
    requires!(SERVED);
    is_completed_by_the_schedule(bucket().await?).await
}

#[tokio::test]
async fn whole_parts_in_an_s3_store_are_completed_by_the_schedule() -> Result<()> {
    requires!(S3);
    let (stack, _, _turn) = s3().await?;
    is_completed_by_the_schedule(stack).await
}

#[tokio::test]
async fn joining_survives_lost_replies_and_a_store_that_stumbles() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = s3().await?;
    for (fault, times) in [
        (Fault::Refused(500), 2),
        (Fault::Refused(503), 3),
        (Fault::ReplyLost, 1),
        (Fault::DoneButRefused(500), 3),
        (Fault::DoneButRefused(504), 1),
    ] {
        let large = Large::declare(stack).await?;
        large.send(&[1, 2, 3]).await?;
        let upload = large.storage_id().await?;
        store.trap("POST", "uploadId", fault, times);
        let reply = large.complete().await?;
        store.disarm();
        if reply.status != 200 {
            reply.expect_problem(503, "storage_unavailable")?;
            assert!(
                large.tenant.visible().await?.is_empty(),
                "half a set is visible"
            );
            large.complete().await?.json_if(200)?;
        }
        large.assert_there().await?;
        assert_eq!(store.loose_parts(&upload)?, 0, "{fault:?}: parts were left");
    }
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn a_client_that_waits_no_longer_for_the_joining_asks_again() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = s3().await?;
    let large = Large::declare(stack).await?;
    large.send(&[1, 2, 3]).await?;
    let upload = large.storage_id().await?;
    store.trap(
        "POST",
        "uploadId",
        Fault::DoneButSlow(Duration::from_secs(20)),
        1,
    );
    let impatient = tokio::time::timeout(Duration::from_secs(2), large.complete()).await;
    assert!(impatient.is_err(), "the joining was not slow");
    assert!(large.tenant.visible().await?.is_empty());
    large.complete().await?.json_if(200)?;
    large.assert_there().await?;
    assert_eq!(store.disarm(), 0);
    assert_eq!(store.loose_parts(&upload)?, 0);
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn two_that_begin_at_once_share_one_upload() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = s3().await?;
    let large = Large::declare(stack).await?;
    let (one, other) = tokio::join!(large.sign(&[1]), large.sign(&[2]));
    let upload_of = |reply: Reply| -> Result<String> {
        let signed = reply.json_if(200)?;
        let url = text(&signed, "/parts/0/url")?;
        let (_, id) = url.split_once("uploadId=").context("no upload")?;
        Ok(id.split('&').next().unwrap_or_default().to_owned())
    };
    assert_eq!(upload_of(one?)?, upload_of(other?)?);
    large.send(&[1, 2, 3]).await?;
    let upload = large.storage_id().await?;
    large.complete().await?.json_if(200)?;
    assert_eq!(store.loose_parts(&upload)?, 0);
    Ok(())
}

#[tokio::test]
async fn parts_that_are_none_are_refused_all_at_once() -> Result<()> {
    requires!(SERVED);
    let stack = bucket().await?;
    let large = Large::declare(stack).await?;
    let path = large.parts_path()?;
    let ask = async |attachment: &str, parts: Value| {
        let request = json!({ "attachment_id": attachment, "parts": parts });
        large.tenant.api.post(&path, &request).await
    };
    let good = sha256_base64(b"");
    let problem = ask(
        large.attachment()?,
        json!([
            { "number": 0, "checksum": good },
            { "number": 4, "checksum": good },
            { "number": 1 },
            { "number": 1, "checksum": "abc" },
        ]),
    )
    .await?
    .expect_problem(422, "invalid_upload")?;
    let mut pointers: Vec<&str> = errors(&problem)
        .into_iter()
        .map(|(pointer, _)| pointer)
        .collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/parts/0/number",
            "/parts/1/number",
            "/parts/2/checksum",
            "/parts/3/checksum"
        ]
    );
    let one = json!([{ "number": 1, "checksum": good }]);
    ask(large.attachment()?, json!([]))
        .await?
        .expect_problem(422, "invalid_upload")?;
    let small = text(&large.upload, "/files/1/attachment_id")?;
    ask(small, one.clone())
        .await?
        .expect_problem(422, "not_in_parts")?;
    let unknown = "0198f7d0-1111-7aaa-8bbb-000000000001";
    ask(unknown, one.clone())
        .await?
        .expect_problem(404, "not_found")?;
    ask("x", one.clone())
        .await?
        .expect_problem(400, "invalid_field")?;

    // Another tenant learns nothing of it.
    let stranger = Tenant::new(stack).await?;
    let request = json!({ "attachment_id": large.attachment()?, "parts": one });
    stranger
        .api
        .post(&path, &request)
        .await?
        .expect_problem(404, "not_found")?;
    let listing = format!("{path}?attachment_id={}", large.attachment()?);
    stranger
        .api
        .get(&listing)
        .await?
        .expect_problem(404, "not_found")?;
    Ok(())
}
