//! A real S3 server inside the test process: `s3s-fs`, which verifies every signature. In front of it
//! stands what can go wrong between a worker and its store.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hyper::header::HeaderValue;
use hyper_util::rt::{TokioIo, TokioTimer};
use keepsake_tests::cors::Cors;
use keepsake_tests::leash::Leash;
use keepsake_tests::secrets::{hex, random};
use keepsake_tests::stack::throwaway_folder;
use keepsake_tests::worker::OuterStore;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpRequest, HttpResponse};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

/// The bucket's name.
pub const BUCKET: &str = "keepsake";
/// Stands in the query of a request by a signed URL.
pub const BY_URL: &str = "X-Amz-Signature";
const ACCESS_KEY: &str = "AKIAKEEPSAKETESTS";
const REGION: &str = "eu-central-1";

/// What goes wrong with a request of the worker.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is answered with this status, and not done.
    Refused(u16),
    /// It is done, and answered with this status all the same.
    DoneButRefused(u16),
    /// It is done, and the connection breaks before the answer.
    ReplyLost,
    /// It is done after so long a time.
    Slow(Duration),
    /// It is done, and answered after so long a time.
    DoneButSlow(Duration),
    /// The range is passed over: the answer is the whole object, with 200.
    Whole,
    /// The answer has at most so many bytes of the range.
    Short(usize),
    /// The answer tells no length, unless only bytes as they are were asked for.
    NoLength,
}

/// A fault that waits for its request.
#[derive(Clone, Debug)]
struct Trap {
    method: &'static str,
    /// A part of the query, such as `uploads`; empty for any.
    query: &'static str,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Trouble {
    /// Where the objects are.
    root: PathBuf,
    traps: Mutex<VecDeque<Trap>>,
}

/// A running store. Ends with the process.
#[derive(Debug)]
pub struct ObjectStore {
    address: SocketAddr,
    folder: PathBuf,
    secret_key: String,
    trouble: Arc<Trouble>,
    cors: Arc<OnceLock<Cors>>,
    _leash: Leash,
}

impl ObjectStore {
    /// Starts a store with one empty bucket. It runs in a thread of its own, so that it outlives the
    /// test that started it.
    pub fn start() -> Result<Self> {
        let (folder, leash) = throwaway_folder()?;
        std::fs::create_dir_all(folder.join(BUCKET))?;
        let secret_key = hex(&random::<20>()?);
        let files = FileSystem::new(&folder)
            .map_err(|error| anyhow::anyhow!("cannot open the store's folder: {error:?}"))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, secret_key.as_str()));
        let service = service.build();
        let trouble = Arc::new(Trouble {
            root: folder.clone(),
            traps: Mutex::default(),
        });

        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let behind = Arc::clone(&trouble);
        let cors = Arc::new(OnceLock::new());
        let rules = Arc::clone(&cors);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        std::thread::spawn(move || runtime.block_on(serve(listener, service, behind, rules)));
        Ok(Self {
            address,
            folder,
            secret_key,
            trouble,
            cors,
            _leash: leash,
        })
    }

    /// Where it listens, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets pages in by these rules, once and for all.
    pub fn admit(&self, rules: Cors) {
        let _ = self.cors.set(rules);
    }

    /// The settings of a worker that keeps its objects here.
    pub fn settings(&self) -> Vec<(String, String)> {
        [
            ("STORAGE", "s3"),
            ("S3_ENDPOINT", &self.url()),
            ("S3_BUCKET", BUCKET),
            ("S3_REGION", REGION),
            ("S3_KIND", "minio"),
            ("S3_ACCESS_KEY_ID", ACCESS_KEY),
            ("S3_SECRET_ACCESS_KEY", &self.secret_key),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// The file that holds an object's bytes.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(BUCKET).join(key)
    }

    /// Whether an object is there, asked of the disk.
    pub fn holds(&self, key: &str) -> bool {
        self.path(key).is_file()
    }

    /// The keys of all objects, asked of the disk.
    pub fn keys(&self) -> Result<Vec<String>> {
        let root = self.folder.join(BUCKET);
        let (mut folders, mut keys) = (vec![root.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    keys.push(path.strip_prefix(&root)?.to_string_lossy().into_owned());
                }
            }
        }
        Ok(keys)
    }

    /// Parts of an upload that is neither joined nor given up.
    pub fn loose_parts(&self, upload: &str) -> Result<usize> {
        let mut parts = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let begin = format!(".upload_id-{upload}.part-");
            parts += usize::from(name.to_string_lossy().starts_with(&begin));
        }
        Ok(parts)
    }

    /// Lets this happen to the next request of the worker with this method and, in its query, this
    /// text; `times` times. With [`BY_URL`] it happens to requests by signed URLs instead.
    pub fn trap(&self, method: &'static str, query: &'static str, fault: Fault, times: usize) {
        let trap = Trap {
            method,
            query,
            fault,
        };
        self.trouble
            .traps()
            .extend(std::iter::repeat_n(trap, times));
    }

    /// Waits until something has stepped into the last trap.
    pub async fn sprung(&self) -> Result<()> {
        for _ in 0..500 {
            if self.trouble.traps().is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("nothing stepped into the trap")
    }

    /// Takes away the traps that nothing stepped into, and says how many they were.
    pub fn disarm(&self) -> usize {
        self.trouble.traps().drain(..).count()
    }
}

impl OuterStore for ObjectStore {
    fn settings(&self) -> Vec<(String, String)> {
        Self::settings(self)
    }

    fn object(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(key)).ok()
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(key);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, bytes)?)
    }
}

impl Trouble {
    fn traps(&self) -> MutexGuard<'_, VecDeque<Trap>> {
        self.traps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to happen to a request.
    fn fault(&self, request: &HttpRequest) -> Option<Fault> {
        let query = request.uri().query().unwrap_or_default();
        let by_url = query.contains(BY_URL);
        let mut traps = self.traps();
        let fits = |trap: &Trap| {
            trap.method == request.method()
                && query.contains(trap.query)
                && by_url == (trap.query == BY_URL)
        };
        let place = traps.iter().position(fits)?;
        traps.remove(place).map(|trap| trap.fault)
    }
}

async fn serve(
    listener: std::net::TcpListener,
    service: S3Service,
    trouble: Arc<Trouble>,
    cors: Arc<OnceLock<Cors>>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        let trouble = Arc::clone(&trouble);
        let cors = Arc::clone(&cors);
        let answer = move |request: HttpRequest| {
            let service = service.clone();
            let trouble = Arc::clone(&trouble);
            let cors = Arc::clone(&cors);
            async move {
                match cors.get() {
                    Some(cors) => answer_page(&service, &trouble, cors, request).await,
                    None => answer(&service, &trouble, request).await,
                }
            }
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(socket),
                hyper::service::service_fn(
                    move |request: hyper::Request<hyper::body::Incoming>| {
                        answer(request.map(Body::from))
                    },
                ),
            );
        tokio::spawn(async move {
            // A connection that breaks is part of what is tested.
            let _ = connection.await;
        });
    }
}

/// Breaks the connection.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("the reply was lost")
    }
}

impl std::error::Error for Lost {}

/// Answers a page of another origin too.
async fn answer_page(
    service: &S3Service,
    trouble: &Trouble,
    cors: &Cors,
    request: HttpRequest,
) -> Result<HttpResponse, Lost> {
    let asked = request.headers().clone();
    let method = request.method().clone();
    if method == hyper::Method::OPTIONS {
        let allowed = cors.preflight(&asked);
        let mut response = refusal(if allowed.is_some() { 200 } else { 403 });
        response.headers_mut().extend(allowed.unwrap_or_default());
        return Ok(response);
    }
    let mut response = answer(service, trouble, request).await?;
    let told = cors.of_answer(method.as_str(), &asked);
    response.headers_mut().extend(told);
    Ok(response)
}

async fn answer(
    service: &S3Service,
    trouble: &Trouble,
    request: HttpRequest,
) -> Result<HttpResponse, Lost> {
    let fault = trouble.fault(&request);
    if let Some(Fault::Refused(status)) = fault {
        return Ok(refusal(status));
    }
    if let Some(Fault::Slow(time)) = fault {
        tokio::time::sleep(time).await;
    }
    let object = trouble
        .root
        .join(request.uri().path().trim_start_matches('/'));
    let range = request.headers().get("range").cloned();
    let as_it_is = request
        .headers()
        .get("accept-encoding")
        .is_some_and(|value| value == "identity");
    let mut done = service.call(request).await.map_err(|_| Lost)?;
    match fault {
        Some(Fault::Whole) => {
            let bytes = std::fs::read(object).map_err(|_| Lost)?;
            Ok(HttpResponse::new(Body::from(bytes)))
        }
        Some(Fault::Short(most)) => {
            let bytes = std::fs::read(object).map_err(|_| Lost)?;
            short(&bytes, range, most).ok_or(Lost)
        }
        Some(Fault::NoLength) if !as_it_is => {
            done.headers_mut().remove("content-length");
            Ok(done)
        }
        Some(Fault::DoneButRefused(status)) => Ok(refusal(status)),
        Some(Fault::ReplyLost) => Err(Lost),
        Some(Fault::DoneButSlow(time)) => {
            tokio::time::sleep(time).await;
            Ok(done)
        }
        _ => Ok(done),
    }
}

/// At most so many bytes of a range.
fn short(bytes: &[u8], range: Option<HeaderValue>, most: usize) -> Option<HttpResponse> {
    let range = range?;
    let (first, last) = range
        .to_str()
        .ok()?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    let end = bytes.len().min(last + 1).min(first + most);
    let mut response = refusal(if first < end { 206 } else { 416 });
    if first < end {
        let told = format!("bytes {first}-{}/{}", end - 1, bytes.len());
        let told = told.parse().ok()?;
        response.headers_mut().insert("content-range", told);
        *response.body_mut() = Body::from(bytes[first..end].to_vec());
    }
    Some(response)
}

fn refusal(status: u16) -> HttpResponse {
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response
}
