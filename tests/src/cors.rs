//! CORS as S3 does it, with the rules that `docs/guides/s3.md` gives for a bucket.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html>

use anyhow::{Context as _, Result};
use reqwest::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use serde::Deserialize;

/// The rules of a bucket; the first that fits counts.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Cors(Vec<Rule>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Rule {
    allowed_origins: Vec<String>,
    allowed_methods: Vec<String>,
    allowed_headers: Vec<String>,
    expose_headers: Vec<String>,
    max_age_seconds: u32,
}

impl Cors {
    /// The documented rules, with this origin in the place of the example's.
    ///
    /// # Errors
    /// `docs/guides/s3.md` has no such rules.
    pub fn documented(origin: &str) -> Result<Self> {
        let page = include_str!("../../docs/guides/s3.md");
        let (_, rest) = page.split_once("```json\n").context("no JSON")?;
        let (rules, _) = rest.split_once("```").context("no end of the JSON")?;
        let mut cors: Self = serde_json::from_str(rules).context("docs/guides/s3.md")?;
        for rule in &mut cors.0 {
            rule.allowed_origins = vec![origin.to_owned()];
        }
        Ok(cors)
    }

    /// What a preflight is answered, if it is allowed.
    #[must_use]
    pub fn preflight(&self, asked: &HeaderMap) -> Option<HeaderMap> {
        let method = text(asked, &ACCESS_CONTROL_REQUEST_METHOD)?;
        let wanted = text(asked, &ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
        let mut names = wanted
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let rule = self.rule(method, asked)?;
        let is_allowed = |name: &str| {
            let mut allowed = rule.allowed_headers.iter();
            allowed.any(|one| one.eq_ignore_ascii_case(name))
        };
        names.all(is_allowed).then(|| {
            let mut answer = rule.headers(asked);
            put(&mut answer, ACCESS_CONTROL_ALLOW_HEADERS, wanted);
            let seconds = rule.max_age_seconds.to_string();
            put(&mut answer, ACCESS_CONTROL_MAX_AGE, &seconds);
            answer
        })
    }

    /// What the answer to a request carries besides: nothing, if no rule allows it to be read.
    #[must_use]
    pub fn of_answer(&self, method: &str, asked: &HeaderMap) -> HeaderMap {
        self.rule(method, asked)
            .map(|rule| rule.headers(asked))
            .unwrap_or_default()
    }

    fn rule(&self, method: &str, asked: &HeaderMap) -> Option<&Rule> {
        let origin = text(asked, &ORIGIN)?;
        self.0.iter().find(|rule| {
            rule.allowed_origins.iter().any(|one| one == origin)
                && rule.allowed_methods.iter().any(|one| one == method)
        })
    }
}

impl Rule {
    fn headers(&self, asked: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        let origin = text(asked, &ORIGIN).unwrap_or_default();
        put(&mut answer, ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let methods = self.allowed_methods.join(", ");
        put(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, &methods);
        let exposed = self.expose_headers.join(", ");
        put(&mut answer, ACCESS_CONTROL_EXPOSE_HEADERS, &exposed);
        answer
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
