//! A file of a gibibyte in parts. It takes minutes, so only with `KEEPSAKE_LONG_TESTS=1`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use keepsake_tests::api::{declaration, sha256_base64, text};
use keepsake_tests::fixtures::PNG;
use keepsake_tests::requires;
use keepsake_tests::secrets::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::world::{Tenant, id, s3_stack, upload_path};

const PART: usize = 16 << 20;
const PARTS: usize = 64;
const SETTINGS: [(&str, &str); 4] = [
    ("MAX_FILE_BYTES", "2147483648"),
    ("MAX_SET_BYTES", "2147483648"),
    ("PART_BYTES", "16777216"),
    // A store of which nothing is known: the whole file has to be read and hashed.
    ("S3_KIND", "other"),
];
/// How much more memory all processes of the runtime may take than before the first byte, what they
/// have not collected yet included: a quarter of the file. 35 MiB were seen while it was sent, 167
/// while it was read and hashed.
const MEMORY: u64 = 256 << 20;

/// One part: a picture's beginning in the first, and in each what no other has.
fn part(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; PART];
    for (at, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = ((number << 32 | at) as u64).to_le_bytes();
    }
    if number == 1 {
        bytes[..PNG.bytes.len()].copy_from_slice(PNG.bytes);
    }
    bytes
}

#[tokio::test]
async fn a_gibibyte_arrives_in_parts_and_is_resumed() -> Result<()> {
    requires!(S3);
    if std::env::var_os("KEEPSAKE_LONG_TESTS").is_none() {
        eprintln!("skipped: set KEEPSAKE_LONG_TESTS=1 to send a gibibyte");
        return Ok(());
    }
    let (stack, store) = s3_stack(&SETTINGS).await?;
    let tenant = Tenant::new(&stack).await?;
    let patient = reqwest::Client::builder()
        .timeout(Duration::from_secs(600))
        .build()?;
    let memory = Memory::watch(stack.worker.process());

    let mut whole = Sha256::new();
    (1..=PARTS).for_each(|number| whole.update(part(number)));
    let mut file = declaration(&PNG);
    file["size"] = json!(PART * PARTS);
    file["sha256"] = json!(hex(&whole.finalize()));
    let request = tenant.request(json!([file]));
    let upload = tenant
        .api
        .post("/v1/uploads", &request)
        .await?
        .json_if(201)?;
    assert_eq!(upload["files"][0]["multipart"]["part_count"], PARTS);

    // A client sends every third part and dies.
    let began = Instant::now();
    for number in (1..=PARTS).step_by(3) {
        send(&tenant, &upload, number).await?;
    }
    // Another asks what is there, and sends the rest.
    let missing = missing(&tenant, &upload).await?;
    assert_eq!(missing.len(), PARTS - PARTS.div_ceil(3));
    for number in missing {
        send(&tenant, &upload, number).await?;
    }
    let sent = began.elapsed();
    println!(
        "memory grew by {} MiB while it was sent",
        memory.growth() >> 20
    );

    let began = Instant::now();
    let place = format!("{}{}/complete", stack.worker.url(), upload_path(&upload)?);
    let token = keepsake_tests::token::mint(
        &keepsake_tests::token::claims(&tenant.name, "ada"),
        &stack.secrets.jwt_key,
    );
    let reply = patient.post(place).bearer_auth(token).send().await?;
    assert_eq!(reply.status(), 200, "{}", reply.text().await?);
    println!(
        "sent in {sent:.1?}, completed in {:.1?}, memory grew by {} MiB",
        began.elapsed(),
        memory.growth() >> 20
    );

    let attachments = tenant.attachments().await?;
    assert_eq!(attachments[0]["size"], PART * PARTS);
    let url = tenant.api.content_url(id(&attachments[0])?).await?;
    for number in [1, 33, PARTS] {
        let from = (number - 1) * PART;
        let range = format!("bytes={from}-{}", from + PART - 1);
        let reply = tenant.api.get_with(&url, &[("range", &range)]).await?;
        assert!(
            reply.body == part(number),
            "part {number} came back changed"
        );
    }
    let keys = tenant.object_keys().await?;
    assert!(store.holds(&keys[0]));
    assert!(
        memory.growth() < MEMORY,
        "the runtime took {} MiB more",
        memory.growth() >> 20
    );
    Ok(())
}

async fn send(tenant: &Tenant<'_>, upload: &Value, number: usize) -> Result<()> {
    let bytes = part(number);
    let request = json!({
        "attachment_id": text(upload, "/files/0/attachment_id")?,
        "parts": [{ "number": number, "checksum": sha256_base64(&bytes) }],
    });
    let place = format!("{}/parts", upload_path(upload)?);
    let signed = tenant.api.post(&place, &request).await?.json_if(200)?;
    let reply = tenant.api.put(&signed["parts"][0], &bytes).await?;
    reply.expect_stored()
}

/// The numbers of the parts that the store does not hold yet.
async fn missing(tenant: &Tenant<'_>, upload: &Value) -> Result<Vec<usize>> {
    let attachment = text(upload, "/files/0/attachment_id")?;
    let place = format!("{}/parts?attachment_id={attachment}", upload_path(upload)?);
    let listed = tenant.api.get(&place).await?.json_if(200)?;
    let listed = listed["parts"].as_array().context("no parts")?;
    let held: Vec<u64> = listed
        .iter()
        .filter_map(|part| part["number"].as_u64())
        .collect();
    Ok((1..=PARTS)
        .filter(|number| !held.contains(&(*number as u64)))
        .collect())
}

/// Watches how much memory the runtimes under a process take.
struct Memory {
    before: u64,
    most: Arc<AtomicU64>,
}

impl Memory {
    fn watch(above: u32) -> Self {
        let before = runtimes_memory(above);
        let most = Arc::new(AtomicU64::new(before));
        let seen = Arc::downgrade(&most);
        std::thread::spawn(move || {
            while let Some(most) = seen.upgrade() {
                most.fetch_max(runtimes_memory(above), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { before, most }
    }

    fn growth(&self) -> u64 {
        self.most
            .load(Ordering::Relaxed)
            .saturating_sub(self.before)
    }
}

/// Resident bytes of all processes named `workerd` that descend from this one.
fn runtimes_memory(above: u32) -> u64 {
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|process| field(*process, "Name").as_deref() == Some("workerd"))
        .filter(|process| descends(*process, above))
        .filter_map(|process| {
            let resident = field(process, "VmRSS")?;
            resident.strip_suffix(" kB")?.trim().parse::<u64>().ok()
        })
        .sum::<u64>()
        << 10
}

fn descends(process: u32, from: u32) -> bool {
    let parent = |process| field(process, "PPid")?.parse().ok().filter(|id| *id > 1);
    std::iter::successors(Some(process), |process| parent(*process)).any(|process| process == from)
}

/// A line of `/proc/<process>/status`.
fn field(process: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}
