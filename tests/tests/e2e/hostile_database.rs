//! What stands where the database should is not the database, or is broken: it is believed nothing, told no
//! password, and each request is answered in time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::Api;
use keepsake_tests::requires;
use keepsake_tests::token::{claims, mint};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::world::{Tenant, shared_stack};

/// What becomes of a message, by its tag and its body.
type Alter = fn(u8, &[u8]) -> Vec<u8>;

/// What it does to whoever connects.
#[derive(Clone)]
enum Act {
    /// Passes everything on, both ways.
    Nothing,
    /// Says this to everything it hears.
    Says(Vec<u8>),
    /// Says this without an end.
    Repeats(Vec<u8>),
    /// Begins a login by SCRAM, with this salt and so many iterations.
    Salts(&'static str, &'static str),
    /// Lets the database's messages through as this makes of them: tag and body.
    Alters(Alter),
}

/// A server that pretends to be the database.
struct Impostor {
    port: u16,
    act: Arc<Mutex<Act>>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Impostor {
    /// Starts one before the database on this port.
    async fn start(database: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let impostor = Self {
            port: listener.local_addr()?.port(),
            act: Arc::new(Mutex::new(Act::Nothing)),
            heard: Arc::default(),
        };
        let (act, heard) = (Arc::clone(&impostor.act), Arc::clone(&impostor.heard));
        let database = SocketAddr::from(([127, 0, 0, 1], database));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let act = act.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let heard = Arc::clone(&heard);
                // How it ends is the client's affair.
                tokio::spawn(async move { meet(client, act, database, heard).await.ok() });
            }
        });
        Ok(impostor)
    }

    fn plays(&self, act: Act) {
        *self.act.lock().unwrap_or_else(PoisonError::into_inner) = act;
    }

    fn has_heard(&self, text: &str) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    }
}

async fn meet(
    client: TcpStream,
    act: Act,
    database: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
) -> Result<()> {
    let (mut from, mut to) = client.into_split();
    let listen = async |bytes: &[u8]| {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.extend_from_slice(bytes);
    };
    let alter: Alter = match act {
        Act::Nothing => message,
        Act::Alters(alter) => alter,
        Act::Says(words) => {
            let mut bytes = [0; 4096];
            loop {
                let length = from.read(&mut bytes).await?;
                ensure!(length > 0, "gone");
                listen(&bytes[..length]).await;
                to.write_all(&words).await?;
            }
        }
        Act::Repeats(words) => loop {
            to.write_all(&words).await?;
        },
        Act::Salts(salt, iterations) => return challenge(from, to, salt, iterations).await,
    };
    let (theirs, mut to_database) = TcpStream::connect(database).await?.into_split();
    let back = tokio::spawn(pass_back(theirs, to, alter));
    tokio::io::copy(&mut from, &mut to_database).await?;
    to_database.shutdown().await?;
    back.await?
}

/// Passes on what the database says, message by message.
async fn pass_back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, alter: Alter) -> Result<()> {
    loop {
        let tag = from.read_u8().await?;
        let length = usize::try_from(from.read_u32().await?)?;
        let mut body = vec![0; length - 4];
        from.read_exact(&mut body).await?;
        to.write_all(&alter(tag, &body)).await?;
    }
}

/// The first half of a login by SCRAM (RFC 5802), with the client's own nonce in it.
async fn challenge(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    salt: &str,
    iterations: &str,
) -> Result<()> {
    let mut bytes = [0; 4096];
    let _ = from.read(&mut bytes).await?;
    to.write_all(&message(b'R', b"\0\0\0\nSCRAM-SHA-256\0\0"))
        .await?;
    let length = from.read(&mut bytes).await?;
    let first = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let nonce = first.rsplit("r=").next().context("no nonce")?;
    let words = format!("\0\0\0\x0br={nonce}more,s={salt},i={iterations}");
    to.write_all(&message(b'R', words.as_bytes())).await?;
    let length = from.read(&mut bytes).await?;
    ensure!(!bytes[..length].starts_with(b"p"), "it proved its password");
    Ok(())
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

fn head(tag: u8, length: u32) -> Vec<u8> {
    [&[tag], length.to_be_bytes().as_slice()].concat()
}

/// The values of a row, each with its length before it.
fn values(row: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &row[2..];
    let mut values = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or_default();
        values.push(rest[..4 + length].to_vec());
        rest = &more[length..];
    }
    values
}

fn row(values: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
    message(
        b'D',
        &[count.to_be_bytes().as_slice(), &values.concat()].concat(),
    )
}

fn value(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), text].concat()
}

/// The row with another answer in it.
fn answering(tag: u8, body: &[u8], text: &[u8]) -> Vec<u8> {
    let mut values = values(body);
    if tag != b'D' || values.is_empty() {
        return message(tag, body);
    }
    values[0] = value(text);
    row(&values)
}

fn let_in() -> Vec<u8> {
    [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()
}

/// A whole good answer, to no question.
fn answered() -> Vec<u8> {
    let row = row(&[
        value(b"{\"ok\":{\"items\":[],\"next_cursor\":null}}"),
        value(b"x"),
    ]);
    [
        message(b'1', b""),
        message(b'2', b""),
        row,
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// What is said instead of a login.
fn at_the_door() -> Vec<(&'static str, Act)> {
    let says = |words: Vec<u8>| Act::Says(words);
    vec![
        ("a huge length", says(head(b'R', 0x7fff_ffff))),
        ("a negative length", says(head(b'R', 0xffff_ffff))),
        ("no length", says(head(b'R', 0))),
        ("a length of 3", says(head(b'E', 3))),
        (
            "a length for gigabytes of notices",
            Act::Repeats(head(b'N', 0x4000_0000)),
        ),
        (
            "notices for ever",
            Act::Repeats(message(b'N', b"SNOTICE\0\0")),
        ),
        (
            "parameters for ever",
            Act::Repeats(message(b'S', b"a\0b\0")),
        ),
        ("zeros for ever", Act::Repeats(vec![0; 4096])),
        (
            "the password in clear, please",
            says(message(b'R', &[0, 0, 0, 3])),
        ),
        (
            "its MD5, please",
            says(message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4])),
        ),
        (
            "whoever you are, come in",
            says([let_in(), answered()].concat()),
        ),
        ("ready, without a login", says(message(b'Z', b"I"))),
        (
            "another protocol",
            says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ),
        ("an error without fields", says(message(b'E', &[0]))),
        (
            "an error of no kind",
            says(message(b'E', b"SFATAL\0C?????\0M\0\0")),
        ),
        ("a defect", says(message(b'E', b"SFATAL\0CXX000\0Mno\0\0"))),
        ("one hash", Act::Salts("c2FsdHNhbHRzYWx0", "1")),
        (
            "billions of hashes",
            Act::Salts("c2FsdHNhbHRzYWx0", "2000000000"),
        ),
        ("no salt", Act::Salts("", "4096")),
    ]
}

/// What becomes of an answer.
fn on_the_way() -> Vec<(&'static str, Act)> {
    let alters = |alter: Alter| Act::Alters(alter);
    vec![
        (
            "a server that does not know the password",
            alters(|tag, body| {
                let mut body = body.to_vec();
                if tag == b'R' && body.starts_with(&[0, 0, 0, 12]) {
                    body[8] ^= 1;
                }
                message(tag, &body)
            }),
        ),
        (
            "a server that does not say whether it does",
            alters(|tag, body| {
                if tag == b'R' && body.starts_with(&[0, 0, 0, 12]) {
                    return Vec::new();
                }
                message(tag, body)
            }),
        ),
        (
            "an answer before the question",
            alters(|tag, body| match tag {
                b'Z' => [message(tag, body), answered()].concat(),
                _ => message(tag, body),
            }),
        ),
        (
            "an answer to another question",
            alters(|tag, body| match tag {
                b'D' => row(&[values(body)[0].clone(), value(&[b'0'; 32])]),
                _ => message(tag, body),
            }),
        ),
        (
            "a row of one value",
            alters(|tag, body| match tag {
                b'D' => row(&values(body)[..1]),
                _ => message(tag, body),
            }),
        ),
        (
            "a row of three",
            alters(|tag, body| match tag {
                b'D' => row(&[values(body), values(body)].concat()[..3]),
                _ => message(tag, body),
            }),
        ),
        (
            "a row of 65,535 values",
            alters(|tag, body| match tag {
                b'D' => message(tag, &[&[255, 255], &body[2..]].concat()),
                _ => message(tag, body),
            }),
        ),
        (
            "two rows",
            alters(|tag, body| match tag {
                b'D' => message(tag, body).repeat(2),
                _ => message(tag, body),
            }),
        ),
        (
            "rows for ever",
            alters(|tag, body| match tag {
                b'D' => row(&[value(&vec![b'x'; 1 << 20]), value(b"")]).repeat(30),
                _ => message(tag, body),
            }),
        ),
        (
            "NULL",
            alters(|tag, body| match tag {
                b'D' => row(&[vec![255; 4], values(body)[1].clone()]),
                _ => message(tag, body),
            }),
        ),
        (
            "a value longer than its row",
            alters(|tag, body| match tag {
                b'D' => message(
                    tag,
                    &[&body[..2], &[127, 255, 255, 255], &body[6..]].concat(),
                ),
                _ => message(tag, body),
            }),
        ),
        (
            "a row of a huge length",
            alters(|tag, body| match tag {
                b'D' => head(tag, 0x7fff_ffff),
                _ => message(tag, body),
            }),
        ),
        (
            "an open transaction",
            alters(|tag, body| match tag {
                b'Z' => message(tag, b"T"),
                _ => message(tag, body),
            }),
        ),
        (
            "no JSON",
            alters(|tag, body| answering(tag, body, b"{\"ok\":")),
        ),
        (
            "no envelope",
            alters(|tag, body| answering(tag, body, b"[1]")),
        ),
        (
            "no UTF-8",
            alters(|tag, body| answering(tag, body, b"{\"ok\":\"\xff\"}")),
        ),
        (
            "a NUL",
            alters(|tag, body| answering(tag, body, b"{\"ok\":\"\0\"}")),
        ),
        (
            "a deep answer",
            alters(|tag, body| {
                let deep = format!("{{\"ok\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
                answering(tag, body, deep.as_bytes())
            }),
        ),
        (
            "an unknown code",
            alters(|tag, body| {
                answering(
                    tag,
                    body,
                    b"{\"error\":{\"code\":\"no_such\",\"detail\":\"\"}}",
                )
            }),
        ),
        (
            "notices for ever in place of the answer",
            alters(|tag, body| match tag {
                b'2' => message(b'N', b"SNOTICE\0\0").repeat(5000),
                _ => message(tag, body),
            }),
        ),
        (
            "an error without fields in place of the answer",
            alters(|tag, body| match tag {
                b'2' => message(b'E', &[0]),
                _ => message(tag, body),
            }),
        ),
        (
            "COPY",
            alters(|tag, body| match tag {
                b'D' => message(b'G', &[0, 0, 0]),
                _ => message(tag, body),
            }),
        ),
        (
            "the end",
            alters(|tag, body| match tag {
                b'C' => Vec::new(),
                _ => message(tag, body),
            }),
        ),
    ]
}

/// Answers of a right form around something of another. Whatever comes of each, it is an answer.
const CONTENTS: [Alter; 6] = [
    |tag, body| answering(tag, body, b"{\"ok\":null}"),
    |tag, body| answering(tag, body, b"{\"ok\":[1]}"),
    |tag, body| answering(tag, body, b"{\"ok\":\"text\"}"),
    |tag, body| answering(tag, body, b"{\"ok\":{}}"),
    |tag, body| {
        answering(
            tag,
            body,
            b"{\"ok\":{\"items\":[1,{\"id\":7}],\"next_cursor\":7}}",
        )
    },
    |tag, body| {
        answering(
            tag,
            body,
            b"{\"ok\":{\"id\":\"1\",\"files\":[{}],\"object_key\":\"..\"}}",
        )
    },
];

#[tokio::test]
async fn whoever_answers_for_the_database_is_believed_nothing_and_told_no_password() -> Result<()> {
    requires!(WORKER);
    let stack = shared_stack().await?;
    let tenant = Tenant::new(stack).await?;
    let database = stack.postgres.port();
    let impostor = Impostor::start(database).await?;
    let url = stack.worker_url();
    let url = url.replace(&format!(":{database}/"), &format!(":{}/", impostor.port));
    let url = format!("{url}?sslmode=disable");
    let worker = stack
        .another_worker("impostor", &[("DATABASE_URL", &url)], None)
        .await?;
    let bearer = mint(&claims(&tenant.name, "ada"), &stack.secrets.jwt_key);
    let api = Api::new(&worker.url(), Some(bearer.clone()))?;
    let served = async || api.get("/v1/attachments").await?.expect(200);
    served().await.context("as long as it does nothing")?;

    for (name, act) in at_the_door().into_iter().chain(on_the_way()) {
        impostor.plays(act);
        let reply = api.get("/v1/attachments").await.context(name)?;
        reply
            .expect_problem(503, "database_unavailable")
            .with_context(|| {
                format!("{name}; the worker's log ends with:\n{}", worker.log_tail())
            })?;
        impostor.plays(Act::Nothing);
        served().await.with_context(|| format!("after {name}"))?;
    }
    ensure!(
        !impostor.has_heard(&stack.secrets.worker_password),
        "it was told the password"
    );

    // Nothing at all is waited for so long, and no longer.
    impostor.plays(Act::Says(Vec::new()));
    let reply = api.get("/healthz?deep=1").await.context("silence")?;
    reply.expect_problem(503, "database_unavailable")?;

    let http = reqwest::Client::new();
    let id = "018f0000-0000-7000-8000-000000000000";
    let file = json!({ "name": "a.png", "size": 1, "sha256": "0".repeat(64) });
    let requests = [
        (Method::GET, "/v1/attachments".to_owned(), None),
        (Method::GET, "/v1/post".to_owned(), None),
        (Method::GET, "/v1/deletions".to_owned(), None),
        (Method::GET, "/v1/usage".to_owned(), None),
        (Method::GET, format!("/v1/attachments/{id}"), None),
        (Method::GET, format!("/v1/attachments/{id}/content"), None),
        (Method::DELETE, format!("/v1/attachments/{id}"), None),
        (Method::GET, format!("/v1/uploads/{id}"), None),
        (Method::DELETE, format!("/v1/uploads/{id}"), None),
        (Method::POST, format!("/v1/uploads/{id}/complete"), None),
        (
            Method::GET,
            format!("/v1/uploads/{id}/parts?attachment_id={id}"),
            None,
        ),
        (
            Method::POST,
            "/v1/uploads".to_owned(),
            Some(tenant.request(json!([file]))),
        ),
        (
            Method::PATCH,
            "/v1/post/1".to_owned(),
            Some(json!({ "label": "x" })),
        ),
    ];
    for content in CONTENTS {
        impostor.plays(Act::Alters(content));
        for (method, path, body) in &requests {
            let mut request = http
                .request(method.clone(), format!("{}{path}", worker.url()))
                .bearer_auth(&bearer)
                .timeout(std::time::Duration::from_secs(30));
            if let Some(body) = body {
                request = request.json(body);
            }
            let status = request.send().await?.status().as_u16();
            ensure!(
                status < 500 || status == 503,
                "{method} {path}: {status}; the worker's log ends with:\n{}",
                worker.log_tail()
            );
        }
    }
    impostor.plays(Act::Nothing);
    served().await
}
