//! The page's files, as `scripts/build-page` made them, read once.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
        header::{ALLOW, CONTENT_TYPE, ETAG},
    },
    response::Response,
};
use keepsake_service::http::etag;
use keepsake_shared::Sha256Digest;
use std::{collections::HashMap, fs, io, path::Path};

/// What the build says of the headers
/// (<https://developers.cloudflare.com/workers/static-assets/headers/>).
const HEADERS: &str = "_headers";
const DOCUMENT: &str = "/index.html";

/// The methods that a file takes.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// The files by their paths.
#[derive(Debug, Default)]
pub(crate) struct Page(HashMap<String, File>);

#[derive(Debug)]
struct File {
    headers: HeaderMap,
    bytes: axum::body::Bytes,
}

impl Page {
    /// Reads a folder.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let rules = match fs::read_to_string(root.join(HEADERS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            rules => rules?,
        };
        let mut page = Self::default();
        page.add(root, "", &rules)?;
        Ok(page)
    }

    fn add(&mut self, folder: &Path, path: &str, rules: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = format!("{path}/{name}");
            if entry.file_type()?.is_dir() {
                self.add(&entry.path(), &path, rules)?;
            } else if name != HEADERS {
                let bytes = fs::read(entry.path())?;
                let headers = headers(rules, &path, &bytes);
                let bytes = bytes.into();
                self.0.insert(path, File { headers, bytes });
            }
        }
        Ok(())
    }

    /// The page's document.
    pub(crate) fn document(&self) -> Option<Response> {
        self.0.get(DOCUMENT).map(File::whole)
    }

    /// The answer to a request for one of the files; `None` where it is for none. The document itself is the service's business.
    ///
    /// 1. `OPTIONS` → 204 with the methods, another method than `GET` and `HEAD` → 405.
    /// 2. `If-None-Match` names the file → 304.
    /// 3. 200.
    pub(crate) fn answer(&self, request: &Request<Body>) -> Option<Response> {
        let path = request.uri().path();
        let file = self.0.get(path).filter(|_| path != DOCUMENT)?;
        Some(match *request.method() {
            Method::GET | Method::HEAD if etag::matches(request.headers(), file.etag()) => {
                let mut response = file.whole();
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                *response.body_mut() = Body::empty();
                response
            }
            Method::GET | Method::HEAD => file.whole(),
            Method::OPTIONS => only_told(StatusCode::NO_CONTENT),
            _ => only_told(StatusCode::METHOD_NOT_ALLOWED),
        })
    }
}

/// What says no more than which methods a file takes.
fn only_told(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

impl File {
    fn whole(&self) -> Response {
        let mut response = Response::new(Body::from(self.bytes.clone()));
        *response.headers_mut() = self.headers.clone();
        response
    }

    fn etag(&self) -> &str {
        let etag = self.headers.get(ETAG).map(HeaderValue::to_str);
        etag.and_then(Result::ok).unwrap_or_default()
    }
}

fn headers(rules: &str, path: &str, bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, media_type(path));
    let digest = Sha256Digest::of(bytes).to_hex();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{digest}\"")) {
        headers.insert(ETAG, etag);
    }
    let mut applies = false;
    for line in rules.lines() {
        let Some(rule) = line.strip_prefix(' ') else {
            applies = match line.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == line || (line == "/" && path == DOCUMENT),
            };
            continue;
        };
        if applies {
            apply(rule.trim(), &mut headers);
        }
    }
    headers
}

/// One line: `Name: value` sets a header, `! Name` removes it.
fn apply(rule: &str, headers: &mut HeaderMap) {
    if let Some(name) = rule.strip_prefix("! ") {
        headers.remove(name.trim());
    } else if let Some((name, value)) = rule.split_once(": ")
        && let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.trim().parse())
    {
        headers.insert(name, value);
    }
}

fn media_type(path: &str) -> HeaderValue {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    HeaderValue::from_static(match extension {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use axum::http::header::IF_NONE_MATCH;

    fn page() -> Page {
        let (path, bytes) = ("/assets/a.js".to_owned(), "1".into());
        let headers = headers(RULES, &path, b"1");
        Page(HashMap::from([(path, File { headers, bytes })]))
    }

    fn asked(method: Method, known: &str) -> Response {
        let request = Request::builder().method(method).uri("/assets/a.js");
        let request = request.header(IF_NONE_MATCH, known).body(Body::empty());
        page().answer(&request.unwrap()).unwrap()
    }

    #[test]
    fn a_file_that_the_client_has_is_not_sent_again() {
        let page = page();
        let etag = page.0["/assets/a.js"].etag();
        assert!(!etag.is_empty());
        let others = format!("\"b\", W/{etag}");
        for (known, status) in [
            (etag, StatusCode::NOT_MODIFIED),
            ("*", StatusCode::NOT_MODIFIED),
            (&others, StatusCode::NOT_MODIFIED),
            ("\"b\"", StatusCode::OK),
            ("", StatusCode::OK),
        ] {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(asked(method, known).status(), status, "{known}");
            }
        }
    }

    #[test]
    fn a_file_takes_no_other_method() {
        for (method, status) in [
            (Method::POST, StatusCode::METHOD_NOT_ALLOWED),
            (Method::DELETE, StatusCode::METHOD_NOT_ALLOWED),
            (Method::OPTIONS, StatusCode::NO_CONTENT),
        ] {
            let answer = asked(method, "*");
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers()[ALLOW], METHODS);
        }
    }

    const RULES: &str = "/*\n  Cache-Control: no-cache\n  X-A: 1\n/assets/*\n  ! Cache-Control\n  Cache-Control: public\n/openapi.json\n  ! X-A\n";

    #[test]
    fn headers_are_those_of_every_rule_that_matches() {
        let shown = |path| {
            let headers = headers(RULES, path, b"");
            ["cache-control", "x-a"].map(|name| {
                let value = headers.get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            })
        };
        assert_eq!(shown("/index.html"), ["no-cache", "1"]);
        assert_eq!(shown("/assets/a.js"), ["public", "1"]);
        assert_eq!(shown("/openapi.json"), ["no-cache", ""]);
    }
}
