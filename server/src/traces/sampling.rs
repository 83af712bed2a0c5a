//! Which traces are recorded.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SamplingResult, ShouldSample,
};

/// Decides at the request's arrival, and then the same of each of its parts.
#[derive(Debug, Clone)]
pub(super) struct Sampling {
    /// Decides where the caller does not.
    pub(super) own: Sampler,
    /// Whether a caller that traces decides.
    pub(super) by_caller: bool,
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let around = parent.map(|parent| parent.span().span_context().clone());
        let (sampler, trace) = match around.filter(SpanContext::is_valid) {
            Some(around) if self.by_caller || !around.is_remote() => {
                let same = match around.is_sampled() {
                    true => Sampler::AlwaysOn,
                    false => Sampler::AlwaysOff,
                };
                (same, trace)
            }
            // A share is chosen by an id, and this trace's is the caller's choice.
            Some(_) => (
                self.own.clone(),
                RandomIdGenerator::default().new_trace_id(),
            ),
            None => (self.own.clone(), trace),
        };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanId, TraceFlags, TraceState};
    use opentelemetry_sdk::trace::SamplingDecision;

    /// The least of all ids: where the id decides, each share has it.
    const TRACE: TraceId = TraceId::from_bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    fn around(is_sampled: bool, is_remote: bool) -> Context {
        let flags = TraceFlags::default().with_sampled(is_sampled);
        let span = SpanId::from_bytes([7; 8]);
        let state = TraceState::default();
        Context::new()
            .with_remote_span_context(SpanContext::new(TRACE, span, flags, is_remote, state))
    }

    fn is_recorded(own: Sampler, by_caller: bool, parent: Option<&Context>) -> bool {
        let sampling = Sampling { own, by_caller };
        let result = sampling.should_sample(parent, TRACE, "", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn no_caller_chooses_to_be_in_a_share() {
        let half = || Sampler::TraceIdRatioBased(0.5);
        for caller in [around(true, true), around(false, true)] {
            let recorded = (0..200)
                .filter(|_| is_recorded(half(), false, Some(&caller)))
                .count();
            assert!((1..200).contains(&recorded), "{recorded} of 200");
        }
    }

    #[test]
    fn a_caller_decides_where_it_may() {
        for is_sampled in [true, false] {
            let caller = around(is_sampled, true);
            for own in [Sampler::AlwaysOn, Sampler::AlwaysOff] {
                assert_eq!(is_recorded(own, true, Some(&caller)), is_sampled);
            }
            assert!(is_recorded(Sampler::AlwaysOn, false, Some(&caller)));
            assert!(!is_recorded(Sampler::AlwaysOff, false, Some(&caller)));
        }
    }

    #[test]
    fn what_nobody_else_traces_is_the_servers_choice() {
        for parent in [None, Some(&Context::new())] {
            for by_caller in [true, false] {
                assert!(is_recorded(Sampler::AlwaysOn, by_caller, parent));
                assert!(!is_recorded(Sampler::AlwaysOff, by_caller, parent));
            }
        }
    }

    #[test]
    fn a_part_is_recorded_with_its_whole() {
        for share in [0.0, 0.5, 1.0] {
            for is_sampled in [true, false] {
                let whole = around(is_sampled, false);
                for by_caller in [true, false] {
                    let own = Sampler::TraceIdRatioBased(share);
                    assert_eq!(is_recorded(own, by_caller, Some(&whole)), is_sampled);
                }
            }
        }
    }
}
