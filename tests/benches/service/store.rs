//! An S3 store that keeps its objects in this process's memory and verifies nothing: what it takes falls on no side that is measured.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri, header};

/// The header in which S3 tells an object's digest
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>).
const DIGEST: &str = "x-amz-checksum-sha256";

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    digest: Option<String>,
}

type Objects = Arc<Mutex<HashMap<String, Object>>>;

/// Starts it in a thread of its own, and answers with the settings of a worker that keeps its objects there.
pub fn start() -> Result<Vec<(&'static str, String)>> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        let served = runtime.block_on(async {
            let app = Router::new()
                .fallback(answer)
                .with_state(Objects::default());
            axum::serve(tokio::net::TcpListener::from_std(listener)?, app).await
        });
        if let Err(error) = served {
            eprintln!("the store of the benchmark ended: {error}");
        }
    });
    Ok(vec![
        ("STORAGE", "s3".to_owned()),
        ("S3_ENDPOINT", format!("http://{address}")),
        ("S3_BUCKET", "bench".to_owned()),
        ("S3_REGION", "eu-central-1".to_owned()),
        ("S3_KIND", "minio".to_owned()),
        ("S3_ACCESS_KEY_ID", "bench".to_owned()),
        ("S3_SECRET_ACCESS_KEY", "bench".to_owned()),
    ])
}

async fn answer(
    State(objects): State<Objects>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<axum::body::Body> {
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
    let empty = |status| response(status, &[], Bytes::new());
    match method {
        Method::PUT => {
            let digest = headers.get(DIGEST).and_then(|value| value.to_str().ok());
            let digest = digest.map(ToOwned::to_owned);
            let object = Object {
                bytes: body,
                digest,
            };
            objects.insert(uri.path().to_owned(), object);
            empty(StatusCode::OK)
        }
        Method::GET | Method::HEAD => match objects.get(uri.path()) {
            Some(object) => read(object, &headers),
            None => empty(StatusCode::NOT_FOUND),
        },
        Method::POST => response(
            StatusCode::OK,
            &[(header::CONTENT_TYPE, "application/xml".to_owned())],
            Bytes::from_static(b"<DeleteResult></DeleteResult>"),
        ),
        _ => {
            objects.remove(uri.path());
            empty(StatusCode::NO_CONTENT)
        }
    }
}

/// The object, or the range of it that was asked for.
fn read(object: &Object, headers: &HeaderMap) -> Response<axum::body::Body> {
    let size = object.bytes.len();
    let digest = object.digest.clone();
    let mut told = vec![(header::ETAG, "\"bench\"".to_owned())];
    if let Some(digest) = digest {
        told.push((header::HeaderName::from_static(DIGEST), digest));
    }
    let Some((first, last)) = headers.get(header::RANGE).and_then(range) else {
        return response(StatusCode::OK, &told, object.bytes.clone());
    };
    if first >= size {
        return response(StatusCode::RANGE_NOT_SATISFIABLE, &[], Bytes::new());
    }
    let last = last.min(size - 1);
    told.push((
        header::CONTENT_RANGE,
        format!("bytes {first}-{last}/{size}"),
    ));
    let part = object.bytes.slice(first..=last);
    response(StatusCode::PARTIAL_CONTENT, &told, part)
}

fn range(value: &axum::http::HeaderValue) -> Option<(usize, usize)> {
    let (first, last) = value
        .to_str()
        .ok()?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn response(
    status: StatusCode,
    told: &[(header::HeaderName, String)],
    body: Bytes,
) -> Response<axum::body::Body> {
    let mut response = Response::new(axum::body::Body::from(body));
    *response.status_mut() = status;
    for (name, value) in told {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name.clone(), value);
        }
    }
    response
}
