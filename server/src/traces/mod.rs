//! Traces, as OpenTelemetry has them, where the settings name a receiver. Without one nothing here costs more than a look.
//!
//! - `settings`: those of OpenTelemetry's own names.
//! - `span`: what takes time, and what it is a part of. `request`: that of a caller's request. `bucket`: a bucket whose
//!   operations are traced. No attribute holds a value that anybody sends, save ids.
//! - `export`: how spans reach the receiver, behind a queue of bounded length. No request waits for it.

mod bucket;
mod export;
mod request;
mod settings;
mod span;

pub(crate) use bucket::Traced;
pub(crate) use export::start;
pub(crate) use request::Request;
pub(crate) use settings::{NAMES, Settings};
pub(crate) use span::{Kind, Span, are_on, carried};
