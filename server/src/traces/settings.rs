//! The settings of traces, by OpenTelemetry's own names
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).

use axum::http::{HeaderName, HeaderValue, Uri};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use std::{collections::HashMap, time::Duration};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const MAX_QUEUE_SIZE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const SCHEDULE_DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// Each setting with its default. `docs/settings.md` explains them.
pub(crate) const NAMES: [(&str, &str); 12] = [
    (ENDPOINT, ""),
    (TRACES_ENDPOINT, ""),
    (HEADERS, ""),
    (PROTOCOL, "http/protobuf"),
    (TIMEOUT, "10000"),
    (SERVICE_NAME, "keepsake"),
    (RESOURCE_ATTRIBUTES, ""),
    (SAMPLER, "parentbased_always_on"),
    (SAMPLER_ARG, "1.0"),
    (MAX_QUEUE_SIZE, "2048"),
    (SCHEDULE_DELAY, "5000"),
    (DISABLED, "false"),
];

/// A setting that cannot be used: its name, and what it must be.
type Unusable = (&'static str, String);

/// What is traced, and where to.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The receiver's whole address.
    pub(super) endpoint: String,
    /// What its requests carry besides.
    pub(super) headers: HashMap<String, String>,
    /// How long it may take to answer.
    pub(super) timeout: Duration,
    /// What the server is called, and what else is said of it.
    pub(super) resource: Vec<(String, String)>,
    /// Which traces are recorded.
    pub(super) sampler: Sampler,
    /// Most spans that wait.
    pub(super) queue: usize,
    /// Longest time that one waits for others to go with it.
    pub(super) delay: Duration,
}

impl Settings {
    /// Reads the settings, each from `given` as it is or its default; `None` where nothing is to be traced.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub(crate) fn read(given: impl Fn(&'static str) -> String) -> Result<Option<Self>, Unusable> {
        let base = given(ENDPOINT);
        let endpoint = match given(TRACES_ENDPOINT).trim() {
            "" => match base.trim().trim_end_matches('/') {
                "" => return Ok(None),
                base => address(ENDPOINT, format!("{base}/v1/traces"))?,
            },
            whole => address(TRACES_ENDPOINT, whole.to_owned())?,
        };
        match given(DISABLED).trim() {
            "true" => return Ok(None),
            "false" => {}
            _ => return Err(unusable(DISABLED, "must be true or false")),
        }
        if given(PROTOCOL).trim() != "http/protobuf" {
            return Err(unusable(
                PROTOCOL,
                "must be http/protobuf, which every collector takes at its port 4318",
            ));
        }
        let number = |name, least: u32, most: u32| {
            let number = given(name).trim().parse().ok();
            number
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| {
                    unusable(
                        name,
                        format!("must be a whole number from {least} to {most}"),
                    )
                })
        };
        let milliseconds = |number: u32| Duration::from_millis(number.into());
        Ok(Some(Self {
            endpoint,
            headers: headers(&given(HEADERS))?,
            timeout: milliseconds(number(TIMEOUT, 1, 60_000)?),
            resource: resource(&given(SERVICE_NAME), &given(RESOURCE_ATTRIBUTES))?,
            sampler: sampler(given(SAMPLER).trim(), given(SAMPLER_ARG).trim())?,
            queue: number(MAX_QUEUE_SIZE, 1, 100_000)? as usize,
            delay: milliseconds(number(SCHEDULE_DELAY, 1, 60_000)?),
        }))
    }
}

fn unusable(name: &'static str, problem: impl Into<String>) -> Unusable {
    (name, problem.into())
}

fn address(name: &'static str, text: String) -> Result<String, Unusable> {
    let uri: Option<Uri> = text.parse().ok();
    let is_address = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    });
    match is_address && !text.contains('@') {
        true => Ok(text),
        false => Err(unusable(name, "must be like http://127.0.0.1:4318")),
    }
}

/// `name=value` pairs between commas, as W3C Baggage writes them: values may be percent-encoded.
fn pairs(name: &'static str, text: &str) -> Result<Vec<(String, String)>, Unusable> {
    let given = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    given
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            let key = key.trim();
            (!key.is_empty()).then(|| (key.to_owned(), value.into_owned()))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| unusable(name, "must be like name=value,name=value"))
}

fn headers(text: &str) -> Result<HashMap<String, String>, Unusable> {
    let pairs = pairs(HEADERS, text)?;
    let are_headers = pairs.iter().all(|(name, value)| {
        name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok()
    });
    match are_headers {
        true => Ok(pairs.into_iter().collect()),
        false => Err(unusable(HEADERS, "must name headers")),
    }
}

/// What is said of the server. The name that is set goes before one among the attributes, and that before the default.
fn resource(name: &str, attributes: &str) -> Result<Vec<(String, String)>, Unusable> {
    const NAME: &str = "service.name";
    let mut resource = pairs(RESOURCE_ATTRIBUTES, attributes)?;
    let is_default = NAMES.contains(&(SERVICE_NAME, name));
    if !(is_default && resource.iter().any(|(key, _)| key == NAME)) {
        resource.retain(|(key, _)| key != NAME);
        resource.push((NAME.to_owned(), name.trim().to_owned()));
    }
    Ok(resource)
}

fn sampler(name: &str, share: &str) -> Result<Sampler, Unusable> {
    let share: Option<f64> = share.parse().ok();
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    let share = || share.ok_or_else(|| unusable(SAMPLER_ARG, "must be a number from 0.0 to 1.0"));
    let (own, by_parent) = match name.strip_prefix("parentbased_") {
        Some(own) => (own, true),
        None => (name, false),
    };
    let own = match own {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(share()?),
        _ => {
            return Err(unusable(
                SAMPLER,
                "must be always_on, always_off or traceidratio, or one of them behind parentbased_",
            ));
        }
    };
    Ok(match by_parent {
        true => Sampler::ParentBased(Box::new(own)),
        false => own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<Option<Settings>, Unusable> {
        Settings::read(|name| {
            let mut all = given.iter().chain(&NAMES);
            all.find(|(known, _)| *known == name)
                .map_or_else(String::new, |(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_receiver_nothing_is_traced() {
        assert!(read(&[]).unwrap().is_none());
        let off = [(ENDPOINT, "http://collector:4318"), (DISABLED, "true")];
        assert!(read(&off).unwrap().is_none());
    }

    #[test]
    fn the_address_of_all_signals_gets_the_path_of_traces() {
        let endpoint = |given: &[_]| read(given).unwrap().unwrap().endpoint;
        for base in ["http://collector:4318", "http://collector:4318/"] {
            assert_eq!(
                endpoint(&[(ENDPOINT, base)]),
                "http://collector:4318/v1/traces"
            );
        }
        let own = [(ENDPOINT, "http://a"), (TRACES_ENDPOINT, "https://b/in")];
        assert_eq!(endpoint(&own), "https://b/in");
    }

    #[test]
    fn says_who_it_is() {
        let resource = |given: &[_]| {
            let given = [given, &[(ENDPOINT, "http://a")]].concat();
            read(&given).unwrap().unwrap().resource
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(resource(&[]), [pair("service.name", "keepsake")]);
        let attributes = (RESOURCE_ATTRIBUTES, "service.name=x, team=a%2Cb");
        let team = pair("team", "a,b");
        assert_eq!(
            resource(&[attributes]),
            [pair("service.name", "x"), team.clone()]
        );
        let named = [attributes, (SERVICE_NAME, "files")];
        assert_eq!(resource(&named), [team, pair("service.name", "files")]);
    }

    #[test]
    fn samples_as_it_is_told() {
        let sampler = |name, share| {
            let given = [
                (ENDPOINT, "http://a"),
                (SAMPLER, name),
                (SAMPLER_ARG, share),
            ];
            format!("{:?}", read(&given).unwrap().unwrap().sampler)
        };
        assert_eq!(sampler("always_off", ""), "AlwaysOff");
        assert_eq!(sampler("traceidratio", "0.25"), "TraceIdRatioBased(0.25)");
        assert_eq!(
            sampler("parentbased_traceidratio", "0"),
            "ParentBased(TraceIdRatioBased(0.0))"
        );
    }

    #[test]
    fn names_the_setting_that_is_wrong_and_keeps_its_value_to_itself() {
        for (name, value) in [
            (ENDPOINT, "hunter2"),
            (ENDPOINT, "ftp://hunter2"),
            (TRACES_ENDPOINT, "http://ada:hunter2@collector"),
            (HEADERS, "hunter2"),
            (HEADERS, "hunter 2=x"),
            (HEADERS, "a=hunter2%0a"),
            (PROTOCOL, "grpc"),
            (TIMEOUT, "0"),
            (RESOURCE_ATTRIBUTES, "=hunter2"),
            (SAMPLER, "hunter2"),
            (MAX_QUEUE_SIZE, "0"),
            (SCHEDULE_DELAY, "-1"),
            (DISABLED, "hunter2"),
        ] {
            let given = [(name, value), (ENDPOINT, "http://a")];
            let (named, problem) = read(&given).unwrap_err();
            assert_eq!(named, name, "{value}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        let share = [
            (ENDPOINT, "http://a"),
            (SAMPLER, "traceidratio"),
            (SAMPLER_ARG, "2"),
        ];
        assert_eq!(read(&share).unwrap_err().0, SAMPLER_ARG);
    }
}
