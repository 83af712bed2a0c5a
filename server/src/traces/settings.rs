//! The settings of traces, by OpenTelemetry's own names
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).

use super::sampling::Sampling;
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
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// Each setting with its default. `docs/settings.md` explains them.
pub(crate) const NAMES: [(&str, &str); 13] = [
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
    (EXPORTER, "otlp"),
    (DISABLED, "false"),
];

/// A setting that cannot be used: its name, and what is wrong with it.
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
    pub(super) sampling: Sampling,
    /// Most spans that wait.
    pub(super) queue: usize,
    /// Longest time that one waits for others to go with it.
    pub(super) delay: Duration,
}

/// What the settings ask for. Platforms set some of them for all programs alike, so that of OpenTelemetry's many values one
/// that we do not have stops no server: it is told of, and passed over.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// None where nothing is to be traced.
    pub(super) settings: Option<Settings>,
    /// What is passed over.
    pub(super) ignored: Vec<Unusable>,
}

impl Asked {
    /// Reads the settings, each from `given` as it is or its default.
    ///
    /// # Errors
    /// The address or the headers cannot be used: there is nothing to go on with.
    pub(crate) fn read(given: impl Fn(&'static str) -> String) -> Result<Self, Unusable> {
        let mut reader = Reader {
            given,
            ignored: Vec::new(),
        };
        let settings = reader.settings()?;
        let ignored = reader.ignored;
        Ok(Self { settings, ignored })
    }
}

struct Reader<G> {
    given: G,
    ignored: Vec<Unusable>,
}

impl<G: Fn(&'static str) -> String> Reader<G> {
    fn settings(&mut self) -> Result<Option<Settings>, Unusable> {
        let Some((name, endpoint)) = self.endpoint() else {
            return Ok(None);
        };
        if self.usable(DISABLED, "true or false", truth)? || !self.has_exporter() {
            return Ok(None);
        }
        let milliseconds = |number: u32| Duration::from_millis(number.into());
        Ok(Some(Settings {
            endpoint: address(name, endpoint)?,
            headers: headers(&self.text(HEADERS))?,
            timeout: milliseconds(self.number(TIMEOUT, 60_000)?),
            resource: self.resource()?,
            sampling: self.sampling()?,
            queue: self.number(MAX_QUEUE_SIZE, 100_000)? as usize,
            delay: milliseconds(self.number(SCHEDULE_DELAY, 60_000)?),
        }))
    }

    /// Where to send traces, and the setting that says so.
    fn endpoint(&self) -> Option<(&'static str, String)> {
        let (whole, base) = (self.text(TRACES_ENDPOINT), self.text(ENDPOINT));
        match (whole.as_str(), base.trim_end_matches('/')) {
            ("", "") => None,
            ("", base) => Some((ENDPOINT, format!("{base}/v1/traces"))),
            _ => Some((TRACES_ENDPOINT, whole)),
        }
    }

    /// Whether they are to be sent in the one way that we have. In another they would reach nobody.
    fn has_exporter(&mut self) -> bool {
        let exporters = self.text(EXPORTER).to_ascii_lowercase();
        let exporters: Vec<&str> = exporters.split(',').map(str::trim).collect();
        if exporters.iter().all(|name| *name == "none") {
            return false;
        }
        if !exporters.contains(&"otlp") {
            self.ignore(EXPORTER, "nothing is traced: it must be otlp or none");
            return false;
        }
        let is_ours = self.text(PROTOCOL).eq_ignore_ascii_case(default(PROTOCOL));
        if !is_ours {
            let problem = "nothing is traced: it must be http/protobuf, which every collector takes at its port 4318";
            self.ignore(PROTOCOL, problem);
        }
        is_ours
    }

    /// What is said of the server. The name that is set goes before one among the attributes, and that before the default.
    fn resource(&mut self) -> Result<Vec<(String, String)>, Unusable> {
        const KEY: &str = "service.name";
        let mut resource = self.usable(RESOURCE_ATTRIBUTES, PAIRS, pairs)?;
        let name = self.text(SERVICE_NAME);
        let is_default = name == default(SERVICE_NAME);
        if !(is_default && resource.iter().any(|(key, _)| key == KEY)) {
            resource.retain(|(key, _)| key != KEY);
            resource.push((KEY.to_owned(), name));
        }
        Ok(resource)
    }

    fn sampling(&mut self) -> Result<Sampling, Unusable> {
        let must = "always_on, always_off or traceidratio, or one of them behind parentbased_";
        let mut sampling = self.usable(SAMPLER, must, sampling)?;
        if let Sampler::TraceIdRatioBased(share) = &mut sampling.own {
            *share = self.usable(SAMPLER_ARG, "a number from 0.0 to 1.0", |text| {
                let share = text.parse().ok();
                share.filter(|share| (0.0..=1.0).contains(share))
            })?;
        }
        Ok(sampling)
    }

    /// A whole number from 1 on.
    fn number(&mut self, name: &'static str, most: u32) -> Result<u32, Unusable> {
        let must = format!("a whole number from 1 to {most}");
        self.usable(name, &must, |text| {
            let number = text.parse().ok();
            number.filter(|number| (1..=most).contains(number))
        })
    }

    /// A setting's value; its default, where it has none that can be used.
    fn usable<T>(
        &mut self,
        name: &'static str,
        must: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Unusable> {
        if let Some(value) = parse(&self.text(name)) {
            return Ok(value);
        }
        let problem = match default(name) {
            "" => format!("it counts as none: it must be {must}"),
            default => format!("it counts as {default}: it must be {must}"),
        };
        self.ignore(name, &problem);
        parse(default(name)).ok_or((name, problem))
    }

    fn text(&self, name: &'static str) -> String {
        (self.given)(name).trim().to_owned()
    }

    fn ignore(&mut self, name: &'static str, problem: &str) {
        self.ignored.push((name, problem.to_owned()));
    }
}

fn default(name: &str) -> &'static str {
    let known = NAMES.iter().find(|(known, _)| *known == name);
    known.map_or("", |(_, value)| value)
}

fn truth(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

fn address(name: &'static str, text: String) -> Result<String, Unusable> {
    let uri: Option<Uri> = text.parse().ok();
    let is_address = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    });
    match is_address && !text.contains('@') {
        true => Ok(text),
        false => Err((name, "must be like http://127.0.0.1:4318".to_owned())),
    }
}

const PAIRS: &str = "like name=value,name=value";

/// `name=value` pairs between commas, as W3C Baggage writes them: values may be percent-encoded.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
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
        .collect()
}

fn headers(text: &str) -> Result<HashMap<String, String>, Unusable> {
    let pairs = pairs(text).ok_or_else(|| (HEADERS, format!("must be {PAIRS}")))?;
    let are_headers = pairs.iter().all(|(name, value)| {
        name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok()
    });
    match are_headers {
        true => Ok(pairs.into_iter().collect()),
        false => Err((HEADERS, "must name headers".to_owned())),
    }
}

/// A sampler by its name. The share of one that has a share is all.
fn sampling(name: &str) -> Option<Sampling> {
    let name = name.to_ascii_lowercase();
    let (own, by_caller) = match name.strip_prefix("parentbased_") {
        Some(own) => (own, true),
        None => (name.as_str(), false),
    };
    let own = match own {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(1.0),
        _ => return None,
    };
    Some(Sampling { own, by_caller })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(given: &[(&str, &str)]) -> Result<Asked, Unusable> {
        Asked::read(|name| {
            let mut all = given.iter().chain(&NAMES);
            all.find(|(known, _)| *known == name)
                .map_or_else(String::new, |(_, value)| (*value).to_owned())
        })
    }

    /// What is asked for without a fault.
    fn read(given: &[(&str, &str)]) -> Option<Settings> {
        let asked = asked(given).unwrap();
        assert!(asked.ignored.is_empty(), "{asked:?}");
        asked.settings
    }

    /// What is passed over beside a receiver, and whether anything is traced then.
    fn ignored(given: &[(&str, &str)]) -> (Vec<&'static str>, Option<Settings>) {
        let given = [given, &[(ENDPOINT, "http://a")]].concat();
        let asked = asked(&given).unwrap();
        for (_, problem) in &asked.ignored {
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        let names = asked.ignored.into_iter().map(|(name, _)| name);
        (names.collect(), asked.settings)
    }

    #[test]
    fn without_a_receiver_nothing_is_traced() {
        assert!(read(&[]).is_none());
        assert!(read(&[(SAMPLER, "xray"), (PROTOCOL, "grpc")]).is_none());
    }

    #[test]
    fn can_be_turned_off() {
        for off in [
            (DISABLED, "true"),
            (DISABLED, "True"),
            (EXPORTER, "none"),
            (EXPORTER, "None"),
        ] {
            assert!(read(&[off, (ENDPOINT, "http://a")]).is_none(), "{off:?}");
            // What it does not need is not looked at.
            assert!(read(&[off, (ENDPOINT, "a:4317")]).is_none(), "{off:?}");
        }
        for on in [
            (DISABLED, "False"),
            (EXPORTER, "OTLP"),
            (EXPORTER, "console, otlp"),
            (PROTOCOL, "HTTP/protobuf"),
            (SAMPLER, "Always_On"),
        ] {
            assert!(read(&[on, (ENDPOINT, "http://a")]).is_some(), "{on:?}");
        }
    }

    #[test]
    fn what_cannot_be_sent_as_it_is_asked_is_not_traced() {
        for (name, value) in [
            (PROTOCOL, "grpc"),
            (PROTOCOL, "http/json"),
            (PROTOCOL, "hunter2"),
            (EXPORTER, "console"),
            (EXPORTER, "hunter2,none"),
        ] {
            let (ignored, settings) = ignored(&[(name, value)]);
            assert_eq!(ignored, [name], "{value}");
            assert!(settings.is_none(), "{value}");
        }
    }

    #[test]
    fn what_is_not_known_counts_as_the_default() {
        let usual = format!("{:?}", read(&[(ENDPOINT, "http://a")]).unwrap());
        for (name, value) in [
            (SAMPLER, "xray"),
            (SAMPLER, "jaeger_remote"),
            (SAMPLER, "parentbased_hunter2"),
            (DISABLED, "hunter2"),
            (DISABLED, "1"),
            (TIMEOUT, "0"),
            (TIMEOUT, "hunter2"),
            (MAX_QUEUE_SIZE, "0"),
            (SCHEDULE_DELAY, "-1"),
            (RESOURCE_ATTRIBUTES, "a=b,=hunter2"),
        ] {
            let (ignored, settings) = ignored(&[(name, value)]);
            assert_eq!(ignored, [name], "{value}");
            assert_eq!(format!("{:?}", settings.unwrap()), usual, "{name}={value}");
        }
        let share = [(SAMPLER, "traceidratio"), (SAMPLER_ARG, "2")];
        let (ignored, settings) = ignored(&share);
        assert_eq!(ignored, [SAMPLER_ARG]);
        let own = settings.unwrap().sampling.own;
        assert_eq!(format!("{own:?}"), "TraceIdRatioBased(1.0)");
    }

    #[test]
    fn the_address_of_all_signals_gets_the_path_of_traces() {
        let endpoint = |given: &[_]| read(given).unwrap().endpoint;
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
            read(&given).unwrap().resource
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
            let sampling = read(&given).unwrap().sampling;
            (format!("{:?}", sampling.own), sampling.by_caller)
        };
        let is = |own: &str, by_caller| (own.to_owned(), by_caller);
        assert_eq!(sampler("always_off", ""), is("AlwaysOff", false));
        assert_eq!(
            sampler("traceidratio", "0.25"),
            is("TraceIdRatioBased(0.25)", false)
        );
        assert_eq!(
            sampler("parentbased_traceidratio", "0"),
            is("TraceIdRatioBased(0.0)", true)
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
        ] {
            let given = [(name, value), (ENDPOINT, "http://a")];
            let (named, problem) = asked(&given).unwrap_err();
            assert_eq!(named, name, "{value}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
