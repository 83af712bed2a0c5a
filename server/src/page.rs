//! The page's files, as `scripts/build-page` made them, read once.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
        header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::Response,
};
use keepsake_shared::Sha256Digest;
use std::{collections::HashMap, fs, io, path::Path};

/// What the build says of the headers
/// (<https://developers.cloudflare.com/workers/static-assets/headers/>).
const HEADERS: &str = "_headers";
const DOCUMENT: &str = "/index.html";

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

    /// The file that a request asks for, if it is one of these. The document itself is the service's business.
    pub(crate) fn answer(&self, request: &Request<Body>) -> Option<Response> {
        let path = request.uri().path();
        let asks = matches!(*request.method(), Method::GET | Method::HEAD) && path != DOCUMENT;
        let file = self.0.get(path).filter(|_| asks)?;
        let known = request.headers().get(IF_NONE_MATCH);
        let mut response = file.whole();
        if known.is_some() && known == file.headers.get(ETAG) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
        }
        Some(response)
    }
}

impl File {
    fn whole(&self) -> Response {
        let mut response = Response::new(Body::from(self.bytes.clone()));
        *response.headers_mut() = self.headers.clone();
        response
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
