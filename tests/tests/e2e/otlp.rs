//! A receiver of traces inside the test process: OTLP over HTTP, as a collector takes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;

use crate::world::until;

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    /// Empty for the first of a trace.
    pub parent: Vec<u8>,
    pub is_error: bool,
    pub attributes: BTreeMap<String, String>,
    /// What is said of whoever sent it.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    /// An attribute's value; empty if there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
struct Received {
    spans: Mutex<Vec<Span>>,
    bodies: Mutex<Vec<u8>>,
    headers: Mutex<Vec<HeaderMap>>,
    requests: AtomicUsize,
    hangs: AtomicBool,
}

/// A running receiver. Ends with the process.
#[derive(Debug)]
pub struct Otlp {
    address: SocketAddr,
    received: Arc<Received>,
}

impl Otlp {
    /// Starts it in a thread of its own, so that it outlives the test that started it.
    pub fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let received = Arc::<Received>::default();
        let router = axum::Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&received));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).await
            })
        });
        Ok(Self { address, received })
    }

    /// Where it listens, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no more, and answers nobody.
    pub fn hang(&self) {
        self.received.hangs.store(true, Ordering::SeqCst);
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        self.received.requests.load(Ordering::SeqCst)
    }

    /// The spans that have come.
    pub fn spans(&self) -> Vec<Span> {
        taken(&self.received.spans)
    }

    /// All bytes that have come, as text.
    pub fn text(&self) -> String {
        let bodies = taken(&self.received.bodies);
        let headers = taken(&self.received.headers);
        format!("{}\n{headers:?}", String::from_utf8_lossy(&bodies))
    }

    /// A header of the last request.
    pub fn header(&self, name: &str) -> Option<String> {
        let headers = taken(&self.received.headers);
        Some(headers.last()?.get(name)?.to_str().ok()?.to_owned())
    }

    /// Waits for a span of this name that belongs to this trace.
    pub async fn span(&self, trace: &[u8], name: &str) -> Result<Span> {
        let find = || {
            let spans = self.spans();
            let mut of_trace = spans.into_iter().filter(|span| span.trace == trace);
            of_trace.find(|span| span.name == name)
        };
        let came = until(name, async || Ok(find().is_some())).await;
        if came.is_err() {
            bail!("no span {name} among {:#?}", self.spans());
        }
        find().context("it was there")
    }
}

fn taken<T: Clone>(from: &Mutex<T>) -> T {
    from.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn add<T>(to: &Mutex<Vec<T>>, more: impl IntoIterator<Item = T>) {
    let mut all = to.lock().unwrap_or_else(PoisonError::into_inner);
    all.extend(more);
}

async fn take(
    State(received): State<Arc<Received>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    received.requests.fetch_add(1, Ordering::SeqCst);
    if received.hangs.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body.clone()) else {
        return StatusCode::BAD_REQUEST;
    };
    add(&received.bodies, body);
    add(&received.headers, [headers]);
    add(&received.spans, spans(request));
    StatusCode::OK
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut found = Vec::new();
    for of_resource in request.resource_spans {
        let resource = texts(of_resource.resource.unwrap_or_default().attributes);
        let spans = of_resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans);
        found.extend(spans.map(|span| {
            Span {
                is_error: span
                    .status
                    .is_some_and(|status| status.code() == SpanStatus::Error),
                name: span.name,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
                attributes: texts(span.attributes),
                resource: resource.clone(),
            }
        }));
    }
    found
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes
        .into_iter()
        .map(|one| (one.key, text(one.value.and_then(|value| value.value))))
        .collect()
}
