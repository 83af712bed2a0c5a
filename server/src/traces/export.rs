//! How spans reach their receiver: they wait in a queue of bounded length, and a thread of its own sends them in batches. What
//! finds the queue full is lost, and so is what the receiver does not take. The log says so once in a while.

use super::{Settings, span};
use crate::runtime;
use http_body_util::{BodyExt, Full, Limited};
use keepsake_service::log::{self, Level};
use opentelemetry::{Context, KeyValue, trace::TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    resource::TelemetryResourceDetector,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter,
        SpanProcessor,
    },
};
use serde_json::json;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, task::spawn_blocking, time::timeout};

/// How often the log says at most that spans are lost.
const PERIOD: Duration = Duration::from_secs(300);

/// How long the last spans may take to be sent when the server stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of a receiver's answer that are read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What is traced ends with it; nothing where nothing is traced.
#[derive(Debug)]
pub(crate) struct Traces(Option<SdkTracerProvider>);

/// Traces from now on what the settings say.
///
/// # Errors
/// There is no exporter of these settings.
pub(crate) fn start(settings: Option<&Settings>) -> Result<Traces, String> {
    let Some(settings) = settings else {
        return Ok(Traces(None));
    };
    let losses = Arc::new(Losses::default());
    let client = Client {
        runtime: Handle::current(),
        timeout: settings.timeout,
        losses: Arc::clone(&losses),
    };
    let exporter = Otlp::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&settings.endpoint)
        .with_timeout(settings.timeout)
        .with_headers(settings.headers.clone())
        .with_http_client(client)
        .build()
        .map_err(|_| {
            "the variables OTEL_EXPORTER_OTLP_… ask for more than http/protobuf without compression"
                .to_owned()
        })?;
    let ended = Arc::new(AtomicUsize::new(0));
    let exporter = Exporter {
        otlp: exporter,
        waiting: Arc::clone(&ended),
        losses: Arc::clone(&losses),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(settings.queue)
        .with_scheduled_delay(settings.delay)
        .build();
    let queue = Queue {
        batches: BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build(),
        waiting: ended,
        most: settings.queue,
        losses,
    };
    let provider = SdkTracerProvider::builder()
        .with_sampler(settings.sampler.clone())
        .with_resource(resource(settings))
        .with_span_processor(queue)
        .build();
    span::install(provider.tracer("keepsake"));
    Ok(Traces(Some(provider)))
}

impl Traces {
    /// Sends what waits, within [`FLUSH_TIMEOUT`].
    pub(crate) async fn stop(self) {
        let Some(provider) = self.0 else {
            return;
        };
        // It waits for its thread.
        let stopped = spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        if !matches!(stopped, Ok(Ok(()))) {
            let cause = "the last spans were not sent before the server stopped";
            log::write(Level::Warning, "traces", json!({ "cause": cause }));
        }
    }
}

fn resource(settings: &Settings) -> Resource {
    let given = settings.resource.iter();
    let given = given.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(given)
        .build()
}

/// Takes ended spans in, as long as there is room.
#[derive(Debug)]
struct Queue {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    most: usize,
    losses: Arc<Losses>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.most {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.losses.add(1, "the receiver of traces is too slow");
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Sends a batch, and counts what is lost.
#[derive(Debug)]
struct Exporter {
    otlp: Otlp,
    waiting: Arc<AtomicUsize>,
    losses: Arc<Losses>,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.otlp.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        if sent.is_err() {
            self.losses.add(spans, &self.losses.cause());
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

/// Sends an export by the client that the server has. It is driven by a thread without a runtime.
#[derive(Debug)]
struct Client {
    runtime: Handle,
    timeout: Duration,
    losses: Arc<Losses>,
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let time = self.timeout;
            // A timer, too, is made by the runtime.
            let sent = self
                .runtime
                .spawn(async move { timeout(time, send(request)).await });
            let answer = match sent.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err("no answer in time".to_owned()),
                Err(_) => Err("the server stops".to_owned()),
            };
            self.losses.explain(match &answer {
                Ok(answer) => format!("the receiver of traces answered {}", answer.status()),
                Err(cause) => format!("the receiver of traces cannot be reached: {cause}"),
            });
            answer.map_err(Into::into)
        })
    }
}

async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let answer = runtime::client()?.request(request.map(Full::new)).await;
    let (head, body) = answer.map_err(|error| runtime::cause(&error))?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| runtime::cause(error.as_ref()))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// What was lost since the log said so last, and why the last export failed.
#[derive(Debug, Default)]
struct Losses(Mutex<Lost>);

#[derive(Debug, Default)]
struct Lost {
    spans: usize,
    told: Option<Instant>,
    cause: String,
}

impl Losses {
    fn with<T>(&self, work: impl FnOnce(&mut Lost) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Remembers how the last attempt ended.
    fn explain(&self, cause: String) {
        self.with(|lost| lost.cause = cause);
    }

    fn cause(&self) -> String {
        self.with(|lost| lost.cause.clone())
    }

    /// Counts spans that are lost, and says so if it was not said for a while.
    fn add(&self, spans: usize, cause: &str) {
        if let Some(spans) = self.due(spans, Instant::now()) {
            let fields = json!({ "cause": cause, "lost_spans": spans });
            log::write(Level::Warning, "traces", fields);
        }
    }

    /// How many to tell of, if it is time.
    fn due(&self, spans: usize, now: Instant) -> Option<usize> {
        self.with(|lost| {
            lost.spans = lost.spans.saturating_add(spans);
            let is_due = lost
                .told
                .is_none_or(|told| now.duration_since(told) >= PERIOD);
            is_due.then(|| {
                lost.told = Some(now);
                std::mem::take(&mut lost.spans)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_at_once_and_then_once_in_a_while() {
        let (losses, start) = (Losses::default(), Instant::now());
        assert_eq!(losses.due(3, start), Some(3));
        assert_eq!(losses.due(4, start), None);
        assert_eq!(losses.due(5, start + PERIOD / 2), None);
        assert_eq!(losses.due(1, start + PERIOD), Some(10));
    }
}
