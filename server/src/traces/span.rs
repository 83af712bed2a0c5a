//! Spans: what takes time, and what it is a part of.

use futures_util::future::Either;
pub(crate) use opentelemetry::trace::SpanKind as Kind;
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{FutureExt, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;
use std::{borrow::Cow, sync::OnceLock};

/// None where nothing is traced.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Lets this one make the spans. Of several the first stays.
pub(super) fn install(tracer: SdkTracer) {
    let _ = TRACER.set(tracer);
}

/// Whether anything is traced.
pub(crate) fn are_on() -> bool {
    TRACER.get().is_some()
}

/// What a span begins with: its name and its attributes.
pub(crate) type Begin = (Cow<'static, str>, Vec<KeyValue>);

/// A span that ends when it is dropped; nothing where nothing is traced.
#[derive(Debug)]
pub(crate) struct Span(Option<Context>);

impl Span {
    /// Begins a span, as a part of the one around it.
    pub(crate) fn begin(kind: Kind, begin: impl FnOnce() -> Begin) -> Self {
        Self::begin_in(Context::current, kind, begin)
    }

    /// Begins a span, as a part of another.
    pub(super) fn begin_in(
        parent: impl FnOnce() -> Context,
        kind: Kind,
        begin: impl FnOnce() -> Begin,
    ) -> Self {
        Self(TRACER.get().map(|tracer| {
            let (parent, (name, attributes)) = (parent(), begin());
            let span = tracer.span_builder(name).with_kind(kind);
            let span = span.with_attributes(attributes);
            let span = tracer.build_with_context(span, &parent);
            parent.with_span(span)
        }))
    }

    /// Does work whose spans are parts of this one.
    pub(crate) fn around<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        match &self.0 {
            Some(context) => Either::Right(work.with_context(context.clone())),
            None => Either::Left(work),
        }
    }

    /// Adds an attribute.
    pub(crate) fn add(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Names it anew.
    pub(super) fn rename(&self, name: String) {
        if let Some(context) = &self.0 {
            context.span().update_name(name);
        }
    }

    /// Says that it failed, and in which of a few ways. What an error says of itself may hold what somebody sent.
    pub(crate) fn fail(&self, way: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            let span = context.span();
            span.set_attribute(KeyValue::new("error.type", way.into()));
            span.set_status(Status::error(""));
        }
    }
}

impl Drop for Span {
    /// Also of work that nobody waits for any more.
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// Work that is done elsewhere, as a part of the same span.
pub(crate) fn carried<W: Future>(work: W) -> impl Future<Output = W::Output> + use<W> {
    if are_on() {
        Either::Right(work.with_current_context())
    } else {
        Either::Left(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::cell::Cell;

    #[test]
    fn where_nothing_is_traced_nothing_is_made() {
        let made = Cell::new(false);
        let span = Span::begin(Kind::Internal, || {
            made.set(true);
            ("work".into(), Vec::new())
        });
        span.add("attribute", "value");
        span.fail("way");
        assert_eq!(span.around(async { 7 }).now_or_never(), Some(7));
        assert_eq!(carried(async { 7 }).now_or_never(), Some(7));
        assert!(span.0.is_none() && !made.get());
    }
}
