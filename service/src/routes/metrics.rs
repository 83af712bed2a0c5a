//! `GET /metrics`.

use super::extractors::Watcher;
use crate::{
    context::RequestContext,
    db::Database,
    db::{self, Call},
    http::{ApiError, query::Query},
};
use axum::{
    extract::{RawQuery, State},
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

/// The text format of Prometheus
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// `GET /metrics`: the numbers that an operator watches, of all tenants together.
///
/// 1. A token with the scope `metrics`; else 401 or 403.
/// 2. Any query → 400.
/// 3. Ask the database; no answer → 503.
/// 4. 200 in the text format of Prometheus.
pub(crate) async fn get(
    State(context): State<RequestContext>,
    _watcher: Watcher,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref(), &[])?;
    let samples: Vec<Value> = db::read(context.database()?.call(Call::Metrics).await?)?;
    Ok(([(CONTENT_TYPE, TEXT_FORMAT)], render(&samples)).into_response())
}

/// Samples of one metric stand together, under its type. A number is written as JSON writes it, which
/// is a number there, too.
fn render(samples: &[Value]) -> String {
    let mut text = String::new();
    let mut current = "";
    for sample in samples {
        let metric = sample["metric"].as_str().unwrap_or_default();
        if metric != current {
            current = metric;
            let kind = if metric.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            text += &format!("# TYPE {metric} {kind}\n");
        }
        let labels = sample["labels"].as_object().map(labels).unwrap_or_default();
        text += &format!("{metric}{labels} {}\n", sample["value"]);
    }
    text
}

fn labels(labels: &Map<String, Value>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value.as_str().unwrap_or_default())))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// A label's value: a table's name may hold anything.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn writes_the_text_format() {
        let samples = [
            json!({ "metric": "a", "labels": {}, "value": 0 }),
            json!({ "metric": "b_total", "labels": { "table": "we\"ird\\\n", "x": "1" }, "value": 1.5 }),
            json!({ "metric": "b_total", "labels": { "table": "t" }, "value": 3_000_000_000_u32 }),
        ];
        assert_eq!(
            render(&samples),
            "# TYPE a gauge\na 0\n# TYPE b_total counter\n\
             b_total{table=\"we\\\"ird\\\\\\n\",x=\"1\"} 1.5\nb_total{table=\"t\"} 3000000000\n"
        );
    }
}
