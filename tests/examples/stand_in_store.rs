//! Stands for Garage where `scripts/test-packages compose` starts what `compose.yaml` says: `server` and `health`, with its settings.
//! It is `s3s-fs`, which verifies every signature, and keeps a bucket's CORS rules besides.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use keepsake_tests::cors::Cors;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpRequest, HttpResponse};
use s3s_fs::FileSystem;
use serde_json::json;
use tokio::net::TcpListener;

const SETTINGS: &str = "/etc/garage.toml";

fn main() -> Result<()> {
    let settings = std::fs::read_to_string(SETTINGS).context(SETTINGS)?;
    let address: SocketAddr = setting(&settings, "api_bind_addr")?.parse()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["health", "--quiet"] => {
            TcpStream::connect(("127.0.0.1", address.port()))?;
            Ok(())
        }
        ["server", "--single-node", "--default-bucket"] => {
            let folder = setting(&settings, "data_dir")?;
            tokio::runtime::Runtime::new()?.block_on(serve(address, Path::new(folder)))
        }
        _ => bail!("Garage has other arguments than {arguments:?}"),
    }
}

/// A text of a TOML file of one line each.
fn setting<'a>(settings: &'a str, name: &str) -> Result<&'a str> {
    let line = settings.lines().find_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim() == name).then(|| value.trim().trim_matches('"'))
    });
    line.with_context(|| format!("{SETTINGS} has no {name}"))
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}

/// The rules of the one bucket.
type Rules = Arc<Mutex<Option<Cors>>>;

async fn serve(address: SocketAddr, folder: &Path) -> Result<()> {
    variable("GARAGE_RPC_SECRET")?;
    std::fs::create_dir_all(folder.join(variable("GARAGE_DEFAULT_BUCKET")?))?;
    let files = FileSystem::new(folder).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(
        variable("GARAGE_DEFAULT_ACCESS_KEY")?,
        variable("GARAGE_DEFAULT_SECRET_KEY")?,
    ));
    let service = service.build();
    let rules = Rules::default();
    let listener = TcpListener::bind(address).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        let (service, rules) = (service.clone(), Arc::clone(&rules));
        let answer = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let (service, rules) = (service.clone(), Arc::clone(&rules));
            async move { answer(&service, &rules, request.map(Body::from)).await }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(socket), answer);
        tokio::spawn(connection);
    }
}

async fn answer(
    service: &S3Service,
    rules: &Rules,
    request: HttpRequest,
) -> Result<HttpResponse, String> {
    let asked = request.headers().clone();
    let method = request.method().clone();
    if method == Method::OPTIONS {
        let rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = rules.as_ref().and_then(|rules| rules.preflight(&asked));
        let mut response = HttpResponse::new(Body::empty());
        match allowed {
            Some(headers) => response.headers_mut().extend(headers),
            None => *response.status_mut() = StatusCode::FORBIDDEN,
        }
        return Ok(response);
    }
    if method == Method::PUT && request.uri().query() == Some("cors=") {
        return take_rules(service, rules, request).await;
    }
    let mut response = service
        .call(request)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(rules) = rules.as_ref() {
        let told = rules.of_answer(method.as_str(), &asked);
        response.headers_mut().extend(told);
    }
    Ok(response)
}

/// `s3s-fs` does not know these rules. It says so after it has verified the signature.
async fn take_rules(
    service: &S3Service,
    rules: &Rules,
    request: HttpRequest,
) -> Result<HttpResponse, String> {
    let (head, mut body) = request.into_parts();
    let text = body
        .store_all_limited(1 << 16)
        .await
        .map_err(|error| error.to_string())?;
    let request = HttpRequest::from_parts(head, Body::from(text.clone()));
    let mut response = service
        .call(request)
        .await
        .map_err(|error| format!("{error:?}"))?;
    if response.status() == StatusCode::NOT_IMPLEMENTED {
        let read =
            read_rules(&String::from_utf8_lossy(&text)).map_err(|error| error.to_string())?;
        *rules.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        response = HttpResponse::new(Body::empty());
    }
    Ok(response)
}

/// One rule, as S3 takes it in XML.
fn read_rules(xml: &str) -> Result<Cors> {
    let all = |name: &str| -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let parts = xml.split(open.as_str()).skip(1);
        parts
            .filter_map(|part| part.split_once(close.as_str()).map(|(value, _)| value))
            .collect()
    };
    let seconds: u32 = all("MaxAgeSeconds")
        .first()
        .context("no MaxAgeSeconds")?
        .parse()?;
    let rule = json!([{
        "AllowedOrigins": all("AllowedOrigin"),
        "AllowedMethods": all("AllowedMethod"),
        "AllowedHeaders": all("AllowedHeader"),
        "ExposeHeaders": all("ExposeHeader"),
        "MaxAgeSeconds": seconds,
    }]);
    Ok(serde_json::from_value(rule)?)
}
