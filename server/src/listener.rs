//! Takes requests in, until it is told to stop. Then those that have come are answered.

use crate::{
    connection::Connection, descriptors, drain, host::Server, schedule, settings::Settings, traces,
};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::{
        HeaderName, HeaderValue, Request, Uri, Version,
        header::{EXPECT, HOST},
        uri::{Authority, PathAndQuery, Scheme},
    },
    response::Response,
};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use keepsake_service::{
    Arrival,
    http::rate_limit,
    log::{self, Level, Line},
};
use serde_json::json;
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

/// Longest wait for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// After an error such as too many open files, a moment for it to pass.
const PAUSE: Duration = Duration::from_millis(100);

/// What log and traces call the route of the page's files.
const FILE: &str = "/{file}";

const ADDRESS: HeaderName = HeaderName::from_static(rate_limit::ADDRESS);

/// What is the same for all connections.
#[derive(Debug)]
struct Rim {
    server: Arc<Server>,
    public_origin: Option<(Scheme, Authority)>,
    address_header: Option<HeaderName>,
}

/// Serves until SIGTERM or SIGINT.
///
/// 1. No more connections are accepted.
/// 2. Requests that have begun are answered, and what goes on after an answer ends, within `STOP_SECONDS`.
///
/// # Errors
/// The operating system gives no signals.
pub(crate) async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    settings: &Settings,
) -> io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let rim = Arc::new(Rim::new(&server, settings));
    let schedule = settings
        .schedule
        .map(|every| tokio::spawn(schedule::run(Arc::clone(&server), every)));
    if let Ok(address) = listener.local_addr() {
        log::write(
            Level::Info,
            "listening",
            json!({ "address": address.to_string() }),
        );
    }
    if let Some(advice) = settings.config.advice() {
        log::write(Level::Warning, "settings", json!({ "advice": advice }));
    }
    descriptors::raise(settings.max_connections, settings.connections);
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(settings.max_connections as usize));
    loop {
        tokio::select! {
            (accepted, place) = accept(&listener, &places) => match accepted {
                Ok((stream, peer)) => {
                    // Without it small answers wait for the acknowledgement of those before.
                    let _ = stream.set_nodelay(true);
                    let rim = Arc::clone(&rim);
                    let answer = service_fn(move |request| answer(Arc::clone(&rim), peer, request));
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .serve_connection(TokioIo::new(Connection::new(stream)), answer);
                    // A client that breaks off is its own business.
                    let watched = connections.watch(connection);
                    tokio::spawn(async move {
                        let _ = watched.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    log::write(Level::Error, "accept", json!({ "cause": error.to_string() }));
                    sleep(PAUSE).await;
                }
            },
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        }
    }
    drop(listener);
    log::write(Level::Info, "stopping", json!({}));
    if let Some(schedule) = schedule {
        schedule.abort();
    }
    server.tasks.close();
    let ended = timeout(settings.stop, async {
        connections.shutdown().await;
        server.tasks.wait().await;
    });
    if ended.await.is_err() {
        log::write(
            Level::Warning,
            "stopped",
            json!({ "cause": "requests were broken off" }),
        );
    }
    Ok(())
}

/// The next connection, once there is a place for it. Until then it waits with the operating system.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (
    io::Result<(TcpStream, SocketAddr)>,
    Option<OwnedSemaphorePermit>,
) {
    // None only if it were closed, which nobody does.
    let place = Arc::clone(places).acquire_owned().await.ok();
    (listener.accept().await, place)
}

impl Rim {
    fn new(server: &Arc<Server>, settings: &Settings) -> Self {
        let origin = settings.public_origin.as_deref();
        let origin: Option<Uri> = origin.and_then(|origin| origin.parse().ok());
        let parts = origin.map(Uri::into_parts);
        Self {
            server: Arc::clone(server),
            public_origin: parts.and_then(|parts| Some((parts.scheme?, parts.authority?))),
            address_header: settings.address_header.clone(),
        }
    }

    /// The request as the service takes it: with its whole URI, and with the client's address where no client can set it.
    fn admit(&self, request: &mut Request<Body>, peer: SocketAddr) {
        let host = request.headers().get(HOST).and_then(authority);
        let seen = self
            .public_origin
            .clone()
            .or_else(|| Some((Scheme::HTTP, host?)));
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = parts
            .path_and_query
            .or(Some(PathAndQuery::from_static("/")));
        (parts.scheme, parts.authority) = match seen {
            Some((scheme, authority)) => (Some(scheme), Some(authority)),
            None => (None, None),
        };
        // A form that has no place in a URI matches nothing.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();

        let told = self.address_header.as_ref().map(|name| {
            let mut values = request.headers().get_all(name).iter();
            // Each proxy adds to the end what it knows; what comes before may be the client's own.
            let last = values.next_back().and_then(|value| value.to_str().ok());
            let last = last.and_then(|text| text.rsplit(',').next());
            last.unwrap_or_default().trim().to_owned()
        });
        let address = told.unwrap_or_else(|| peer.ip().to_string());
        match HeaderValue::from_str(&address) {
            Ok(address) => request.headers_mut().insert(ADDRESS, address),
            Err(_) => request.headers_mut().remove(ADDRESS),
        };
    }
}

/// The host and port that a header names. No user is part of them.
fn authority(host: &HeaderValue) -> Option<Authority> {
    let host = Authority::try_from(host.as_bytes()).ok()?;
    (!host.as_str().contains('@')).then_some(host)
}

/// Whether a request says which host it means, once, as it has to (RFC 9112 §3.2). Two readers may take two for different ones.
fn names_its_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => host.is_empty() || authority(host).is_some(),
        (Some(_), Some(_)) => false,
    }
}

/// Answers one request.
///
/// 1. Someone finds an answer.
/// 2. A body that nobody wanted is read off.
/// 3. It is logged.
async fn answer(
    rim: Arc<Rim>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let (head, incoming) = request.into_parts();
    let mut body = Shared::new(incoming);
    // Who waits to be asked for the body has sent none.
    let discards = !head.headers.contains_key(EXPECT);
    let request = Request::from_parts(head, Body::new(body.clone()));
    let (answer, line) = find(&rim, peer, request).await;
    if discards && !body.is_begun() {
        drain::read_off(&mut body).await;
    }
    line.write();
    Ok(answer)
}

/// Finds the answer to a request, and its line in the log.
///
/// 1. One that does not name its host → 400.
/// 2. A file of the page is sent as it is.
/// 3. Else the service answers.
async fn find(rim: &Rim, peer: SocketAddr, mut request: Request<Body>) -> (Response, Line) {
    let arrival = Arrival::of(&request);
    if !names_its_host(&request) {
        return arrival.answered(keepsake_service::hostless(), None);
    }
    rim.admit(&mut request, peer);
    let server = &rim.server;
    let traced = traces::Request::begin(&request);
    if let Some(file) = server.page.answer(&request) {
        let (answer, line) = arrival.answered(file, Some(FILE));
        traced.end(&answer, Some(FILE));
        return (answer, line);
    }
    let host = Arc::clone(server);
    let answered = traced.around(keepsake_service::answer(request, &server.config, host));
    let (answer, line) = answered.await;
    traced.end(&answer, keepsake_service::matched(&answer));
    (answer, line)
}

/// A request's body, which can be read off when no handler wanted it. One that a handler has begun to read is left to it: it
/// may be the client's slowness why it stopped.
#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Opened>>);

#[derive(Debug)]
struct Opened {
    body: Incoming,
    is_begun: bool,
}

impl Shared {
    fn new(body: Incoming) -> Self {
        let is_begun = body.is_end_stream();
        Self(Arc::new(Mutex::new(Opened { body, is_begun })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Opened) -> T) -> T {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut opened)
    }

    fn is_begun(&self) -> bool {
        self.with(|opened| opened.is_begun)
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.with(|opened| {
            opened.is_begun = true;
            Pin::new(&mut opened.body).poll_frame(context)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.with(|opened| opened.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|opened| opened.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_named(version: Version, hosts: &[&'static str]) -> bool {
        let mut request = Request::builder().version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        names_its_host(&request.body(()).unwrap())
    }

    #[test]
    fn a_request_names_its_host_once() {
        for host in ["files.example.com", "127.0.0.1:8787", "[::1]:8787", ""] {
            assert!(is_named(Version::HTTP_11, &[host]), "{host}");
        }
        assert!(is_named(Version::HTTP_10, &[]));
        for hosts in [
            &[][..],
            &["a.example.com", "b.example.com"],
            &["a.example.com", "a.example.com"],
            &["user:password@evil.example.com"],
            &["a.example.com/path"],
            &["a b"],
        ] {
            assert!(!is_named(Version::HTTP_11, hosts), "{hosts:?}");
        }
    }
}
