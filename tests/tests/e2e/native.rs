//! What only `keepsake serve` with a folder of files has to stand: being stopped, being killed, full disks, links, and a
//! second server on the same folder.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::{Fixture, PDF, PNG, TEXT};
use keepsake_tests::migrate::WORKER;
use keepsake_tests::requires;
use keepsake_tests::stack::Stack;
use serde_json::Value;
use sqlx::Connection as _;
use tokio::time::sleep;

use crate::world::{Tenant, names, own_stack, run_schedule, shared_stack};

/// A text of 1 MiB.
fn large() -> Fixture {
    text_of(1 << 20)
}

fn text_of(bytes: usize) -> Fixture {
    Fixture {
        name: "large.txt",
        media_type: "text/plain",
        bytes: Vec::leak(b"keepsake\n".repeat(bytes / 9)),
    }
}

/// An upload whose body has been sent by half.
pub fn half_sent(target: &Value, file: Fixture) -> Result<(TcpStream, &'static [u8])> {
    let url = text(target, "/url")?;
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|url| url.split_once('/'))
        .context("no URL")?;
    let mut head = format!(
        "PUT /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\nconnection: close\r\n",
        file.bytes.len()
    );
    for (name, value) in target["headers"].as_object().context("no headers")? {
        let value = value.as_str().context("no text")?;
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let (first, rest) = file.bytes.split_at(file.bytes.len() / 2);
    let mut client = TcpStream::connect(host)?;
    client.set_read_timeout(Some(Duration::from_secs(20)))?;
    client.write_all(format!("{head}\r\n").as_bytes())?;
    client.write_all(first)?;
    client.flush()?;
    Ok((client, rest))
}

/// The files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn bucket(stack: &Stack) -> PathBuf {
    stack.folder().join("bucket")
}

/// Waits until a server has begun to take a file in.
async fn until_incoming(bucket: &Path) -> Result<()> {
    for _ in 0..400 {
        if !files(&bucket.join("incoming"))?.is_empty() {
            return Ok(());
        }
        sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("no upload has begun")
}

#[tokio::test]
async fn an_upload_that_has_begun_ends_before_the_server_does() -> Result<()> {
    requires!(FOLDER);
    let mut stack = own_stack().await?;
    let (upload, api, post) = {
        let tenant = Tenant::new(&stack).await?;
        (tenant.declare(&[PNG]).await?, tenant.api, tenant.post)
    };
    let (mut client, rest) = half_sent(&upload["files"][0], PNG)?;
    until_incoming(&bucket(&stack)).await?;
    stack.worker.ask_to_stop()?;
    let refused = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
    let address = stack.worker.url().replace("http://", "");
    crate::world::until("no more connections are accepted", async || {
        Ok(TcpStream::connect(&address).is_err_and(|error| refused(&error)))
    })
    .await?;
    client.write_all(rest)?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 201 "), "{answer}");

    stack.worker.kill();
    stack.worker.restart().await?;
    api.complete(&upload).await?.json_if(200)?;
    assert_eq!(names(&api.list(("post", &post)).await?), [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_killed_in_an_upload_leaves_no_object() -> Result<()> {
    requires!(FOLDER);
    let mut stack = own_stack().await?;
    let (upload, api) = {
        let tenant = Tenant::new(&stack).await?;
        (tenant.declare(&[PDF]).await?, tenant.api)
    };
    let (_client, _rest) = half_sent(&upload["files"][0], PDF)?;
    until_incoming(&bucket(&stack)).await?;
    stack.worker.kill();
    ensure!(files(&bucket(&stack).join("objects"))?.is_empty());
    stack.worker.restart().await?;
    api.complete(&upload)
        .await?
        .expect_problem(409, "not_uploaded")?;
    api.put(&upload["files"][0], PDF.bytes).await?.expect(201)?;
    api.complete(&upload).await?.json_if(200)?;
    Ok(())
}

#[tokio::test]
async fn two_servers_share_a_folder() -> Result<()> {
    requires!(FOLDER);
    let stack = own_stack().await?;
    let root = bucket(&stack).display().to_string();
    let other = stack
        .another_worker("other", &[("FILE_ROOT", &root)], None)
        .await?;
    for round in 0..5 {
        let tenant = Tenant::new(&stack).await?;
        let upload = tenant.declare(&[large()]).await?;
        let here = upload["files"][0].clone();
        let mut there = here.clone();
        let url = text(&here, "/url")?.replace(&stack.worker.url(), &other.url());
        there["url"] = url.into();
        let bytes = large().bytes;
        let puts = [&here, &there, &here, &there].map(|target| tenant.api.put(target, bytes));
        let mut outcomes = Vec::new();
        for reply in futures_util::future::join_all(puts).await {
            outcomes.push(reply?.status);
        }
        outcomes.sort_unstable();
        assert_eq!(outcomes, [201, 412, 412, 412], "round {round}");
        tenant.complete(&upload).await?.json_if(200)?;
    }
    ensure!(files(&bucket(&stack).join("incoming"))?.is_empty());
    assert_eq!(files(&bucket(&stack).join("objects"))?.len(), 5);
    Ok(())
}

/// A disk of its own, which is taken away when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` where this process may not have one.
    fn new(folder: &Path, bytes: u32) -> Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            .arg(folder)
            .output()?;
        Ok(mounted.status.success().then(|| Self(folder.to_path_buf())))
    }

    fn resize(&self, bytes: u32) -> Result<()> {
        self.remount(&format!("size={bytes}"))
    }

    fn remount(&self, option: &str) -> Result<()> {
        let remounted = Command::new("mount")
            .args(["-o", &format!("remount,{option}")])
            .arg(&self.0)
            .status()?;
        ensure!(remounted.success(), "the disk stays as it was");
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_left_of_the_upload() -> Result<()> {
    requires!(FOLDER);
    let stack = own_stack().await?;
    let root = stack.folder().join("small-disk");
    let Some(disk) = Disk::new(&root, 512 << 10)? else {
        println!("skipped: only root has a disk to fill");
        return Ok(());
    };
    let shown = root.display().to_string();
    let server = stack
        .another_worker("small", &[("FILE_ROOT", &shown)], None)
        .await?;
    let tenant = Tenant::new(&stack).await?;
    // Longer than what waits in buffers: the client still sends when the disk is full.
    let large = text_of(9 << 20);
    let upload = tenant.declare(&[large, TEXT]).await?;
    let moved = |index: usize| -> Result<Value> {
        let mut target = upload["files"][index].clone();
        let url = text(&target, "/url")?.replace(&stack.worker.url(), &server.url());
        target["url"] = url.into();
        Ok(target)
    };
    let put = async || tenant.api.put(&moved(0)?, large.bytes).await;
    put().await?.expect_problem(503, "storage_unavailable")?;
    let log = fs::read_to_string(stack.folder().join("small/worker.log"))?;
    ensure!(log.contains("the disk is full"), "{log}");
    ensure!(files(&root)?.is_empty(), "{:?}", files(&root)?);
    // What fits is stored.
    let small = tenant.api.put(&moved(1)?, TEXT.bytes).await?;
    small.expect(201)?;
    disk.resize(64 << 20)?;
    put().await?.expect(201)?;
    Ok(())
}

/// Whether a server says that all it needs is there, once it says so: an outcome of the store stands for a moment.
async fn comes_to(api: &Api, status: u16) -> Result<()> {
    for _ in 0..50 {
        if api.get("/healthz?deep=1").await?.status == status {
            return Ok(());
        }
        sleep(Duration::from_millis(200)).await;
    }
    api.get("/healthz?deep=1").await?.expect(status)
}

#[tokio::test]
async fn a_folder_that_can_take_no_file_in_is_not_healthy() -> Result<()> {
    requires!(FOLDER);
    let stack = own_stack().await?;
    let api = Tenant::new(&stack).await?.api.with_bearer(None);
    let bucket = stack.folder().join("bucket");
    comes_to(&api, 200).await?;
    for folder in ["incoming", "objects", "parts", "."] {
        let (path, moved) = (bucket.join(folder), stack.folder().join("moved"));
        let path = path.components().collect::<PathBuf>();
        fs::rename(&path, &moved)?;
        comes_to(&api, 503).await?;
        fs::create_dir(&path)?;
        comes_to(&api, 503).await?;
        fs::remove_dir(&path)?;
        fs::rename(&moved, &path)?;
        comes_to(&api, 200).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_disk_that_is_full_or_can_only_be_read_is_not_healthy() -> Result<()> {
    requires!(FOLDER);
    let stack = own_stack().await?;
    let root = stack.folder().join("small-disk");
    let Some(disk) = Disk::new(&root, 512 << 10)? else {
        println!("skipped: only root has a disk to fill");
        return Ok(());
    };
    let shown = root.display().to_string();
    let vars = [("FILE_ROOT", shown.as_str())];
    let server = stack.another_worker("small", &vars, None).await?;
    let api = Api::new(&server.url(), None)?;
    comes_to(&api, 200).await?;
    let filler = root.join("filler");
    let filled = fs::write(&filler, vec![0; 1 << 20]);
    ensure!(filled.is_err(), "the disk is not full");
    comes_to(&api, 503).await?;
    fs::remove_file(&filler)?;
    comes_to(&api, 200).await?;
    disk.remount("ro")?;
    comes_to(&api, 503).await?;
    disk.remount("rw")?;
    comes_to(&api, 200).await?;
    Ok(())
}

#[tokio::test]
async fn a_link_in_the_folder_leads_nowhere() -> Result<()> {
    requires!(FOLDER);
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let outside = stack.folder().join("outside");
    fs::create_dir(&outside)?;
    let tenants = bucket(&stack).join("objects/t");
    fs::create_dir_all(&tenants)?;
    std::os::unix::fs::symlink(&outside, tenants.join(&tenant.name))?;
    let upload = tenant.declare(&[TEXT]).await?;
    let refused = tenant.api.put(&upload["files"][0], TEXT.bytes).await?;
    refused.expect_problem(503, "storage_unavailable")?;
    ensure!(files(&outside)?.is_empty());

    // Also not to what lies there under the right name.
    let key = tenant.object_keys().await?.pop().context("no key")?;
    let inside = key.splitn(3, '/').nth(2).context("no key")?;
    let file = outside.join(inside);
    fs::create_dir_all(file.parent().context("no folder")?)?;
    fs::write(&file, TEXT.bytes)?;
    let completed = tenant.complete(&upload).await?;
    completed.expect_problem(503, "storage_unavailable")?;
    Ok(())
}

/// A tenant with a post and a file whose retention has run out: the scheduled work purges them.
async fn with_expired_deletion(stack: &Stack) -> Result<Tenant<'_>> {
    let tenant = Tenant::new(stack).await?;
    tenant.upload(&[PNG]).await?;
    tenant.delete_post().await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    Ok(tenant)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_that_is_done_once_waits_for_another_servers() -> Result<()> {
    requires!(NATIVE);
    let stack = own_stack().await?;
    let tenant = with_expired_deletion(&stack).await?;
    // As a server that is at it.
    let mut other = stack.postgres.connect().await?;
    sqlx::raw_sql("BEGIN; SELECT attachments_api.lead_schedule('{}')")
        .execute(&mut other)
        .await?;
    let release = tokio::spawn(async move {
        sleep(Duration::from_secs(3)).await;
        other.close().await
    });
    run_schedule(&stack).await?;
    release.await??;
    assert_eq!(tenant.rows().await?, 0, "the work was passed over");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_a_server_holds_the_scheduled_work() -> Result<()> {
    requires!(NATIVE);
    let stack = own_stack().await?;
    let tenant = with_expired_deletion(&stack).await?;
    let mut stranger = stack.postgres.connect().await?;
    sqlx::raw_sql("CREATE ROLE stranger; SET ROLE stranger")
        .execute(&mut stranger)
        .await?;
    for denied in [
        "SELECT attachments_api.lead_schedule('{}')",
        "SELECT FROM attachments.schedule FOR UPDATE",
        "BEGIN; LOCK TABLE attachments.schedule",
    ] {
        let tried = sqlx::raw_sql(denied).execute(&mut stranger).await;
        let error = tried.err().context(denied)?;
        let code = error.as_database_error().and_then(|error| error.code());
        ensure!(code.as_deref() == Some("42501"), "{denied}: {error}");
        sqlx::raw_sql("ROLLBACK").execute(&mut stranger).await?;
    }
    // The lock of before, which any role can take.
    sqlx::query("SELECT pg_advisory_lock(7738703068352572261)")
        .execute(&mut stranger)
        .await?;
    run_schedule(&stack).await?;
    assert_eq!(tenant.rows().await?, 0, "the work was passed over");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_without_its_row_is_not_taken_for_another_servers() -> Result<()> {
    requires!(NATIVE);
    let stack = own_stack().await?;
    let mut owner = stack.postgres.connect().await?;
    sqlx::raw_sql("DELETE FROM attachments.schedule")
        .execute(&mut owner)
        .await?;
    let failed = run_schedule(&stack).await.err().context("it ran")?;
    let said = format!("{failed:#}");
    ensure!(
        said.contains("INSERT INTO attachments.schedule DEFAULT VALUES"),
        "{said}"
    );
    sqlx::raw_sql("INSERT INTO attachments.schedule DEFAULT VALUES")
        .execute(&mut owner)
        .await?;
    run_schedule(&stack).await
}

#[tokio::test]
async fn calls_that_nobody_waits_for_keep_no_more_connections_than_there_may_be() -> Result<()> {
    requires!(NATIVE);
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let mut locking = tenant.database().await?;
    let mut locked = locking.begin().await?;
    sqlx::query("LOCK TABLE attachments.attachment IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *locked)
        .await?;
    let mut watching = tenant.database().await?;
    for round in 0..3 {
        let calls = (0..20).map(|_| async {
            let call = tenant.api.get("/v1/attachments");
            tokio::time::timeout(Duration::from_secs(1), call).await
        });
        let answered = futures_util::future::join_all(calls).await;
        ensure!(answered.iter().all(Result::is_err), "nothing is locked");
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'",
        )
        .bind(WORKER)
        .fetch_one(&mut watching)
        .await?;
        // The default of DATABASE_CONNECTIONS.
        ensure!(waiting <= 10, "{waiting} connections in round {round}");
    }
    locked.rollback().await?;
    ensure!(tenant.visible().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_server_with_few_places_answers_everybody_in_turn() -> Result<()> {
    requires!(NATIVE);
    let stack = own_stack().await?;
    let vars = [("MAX_CONNECTIONS", "2")];
    let server = stack.another_worker("few", &vars, None).await?;
    let address = server.url().replace("http://", "");
    let ask = |client: &mut TcpStream| -> Result<String> {
        client.set_read_timeout(Some(Duration::from_secs(10)))?;
        client.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let mut idle = [TcpStream::connect(&address)?, TcpStream::connect(&address)?];
    let mut third = TcpStream::connect(&address)?;
    third.set_read_timeout(Some(Duration::from_secs(1)))?;
    third.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    ensure!(third.read(&mut [0; 1]).is_err(), "a third has a place");
    for client in &mut idle {
        let answer = ask(client)?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    third.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answer = String::new();
    third.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}

/// What comes back for these lines, to the end of the connection.
fn asked(address: &str, lines: &str) -> Result<String> {
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(client, "{lines}connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_request_that_does_not_name_its_host_once_is_refused() -> Result<()> {
    requires!(NATIVE);
    let stack = shared_stack().await?;
    let address = stack.worker.url().replace("http://", "");
    for (hosts, status) in [
        ("host: a.example.com\r\n", 200),
        ("", 400),
        ("host: a.example.com\r\nhost: b.example.com\r\n", 400),
        ("host: user:password@evil.example.com\r\n", 400),
    ] {
        let answer = asked(&address, &format!("GET /healthz HTTP/1.1\r\n{hosts}"))?;
        let want = format!("HTTP/1.1 {status} ");
        ensure!(answer.starts_with(&want), "{hosts}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn what_no_route_answers_has_an_id_and_a_line_in_the_log_as_well() -> Result<()> {
    requires!(NATIVE);
    let stack = own_stack().await?;
    let address = stack.worker.url().replace("http://", "");
    for (n, (line, status, route)) in [
        (
            "GET /openapi.json HTTP/1.1\r\nhost: a",
            200,
            Some("/{file}"),
        ),
        (
            "HEAD /openapi.json HTTP/1.1\r\nif-none-match: \"b\", *\r\nhost: a",
            304,
            Some("/{file}"),
        ),
        (
            "POST /openapi.json HTTP/1.1\r\nhost: a",
            405,
            Some("/{file}"),
        ),
        ("GET /healthz HTTP/1.1", 400, None),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = asked(&address, &format!("{line}\r\nx-request-id: asked-{n}\r\n"))?;
        let begin = answer.split("\r\n\r\n").next().unwrap_or_default();
        ensure!(begin.starts_with(&format!("HTTP/1.1 {status} ")), "{begin}");
        ensure!(
            begin.contains(&format!("x-request-id: asked-{n}")),
            "{begin}"
        );
        ensure!(
            (status == 405) == begin.contains("allow: GET, HEAD, OPTIONS"),
            "{begin}"
        );
        ensure!(
            (status >= 400) == begin.contains("content-type: application/problem+json"),
            "{begin}"
        );
        let log = fs::read_to_string(stack.folder().join("worker.log"))?;
        let written = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["request_id"] == format!("asked-{n}"))
            .with_context(|| format!("{line} is not in the log"))?;
        ensure!(written["status"] == status, "{written}");
        ensure!(written["route"].as_str() == route, "{written}");
    }
    Ok(())
}
