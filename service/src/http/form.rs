//! `multipart/form-data` (RFC 7578), read from memory: each part without a copy.
//!
//! Stricter than RFC 2046 where no browser and no HTTP library needs it: nothing stands before the first boundary, nothing
//! between a boundary and the end of its line, no header is folded, and no part is encoded or another multipart.

use axum::{
    body::Bytes,
    http::{HeaderMap, header::CONTENT_TYPE},
};
use std::borrow::Cow;

/// The longest boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;

/// Most bytes of the headers of a part: several times what the longest file name needs, as a browser escapes it.
const MAX_HEADER_BYTES: usize = 4096;

/// Longest `Content-Type` of a form: several times what the longest boundary needs.
const MAX_CONTENT_TYPE: usize = 1024;

/// Most parameters of a header. Each is compared with those before it.
const MAX_PARAMETERS: usize = 16;

/// Most parts of a form, whatever they are.
const MAX_PARTS: usize = 128;

/// Why a form cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormError {
    /// It ends in the middle.
    Incomplete,
    /// It is none, for this reason.
    Malformed(&'static str),
}

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The field's name.
    pub(crate) name: String,
    /// The file's name, of a part that is a file. Empty where a browser's file field was left empty.
    pub(crate) file_name: Option<String>,
    /// The field's value, or the file.
    pub(crate) content: Bytes,
}

/// What stands between the parts of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Boundary(Vec<u8>);

impl Boundary {
    /// That of a request whose body is a form; `None` of any other.
    ///
    /// # Errors
    /// It has none, or none that may be.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, FormError> {
        let declared = headers
            .get(CONTENT_TYPE)
            .map_or(&[][..], |value| value.as_bytes());
        let (essence, parameters) = cut(declared, b';');
        if !essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"multipart/form-data")
        {
            return Ok(None);
        }
        if declared.len() > MAX_CONTENT_TYPE {
            return Err(FormError::Malformed(
                "its Content-Type has more than 1024 bytes",
            ));
        }
        let boundary = Parameters::parse(parameters)
            .and_then(|mut parameters| parameters.take("boundary"))
            .filter(|text| (1..=MAX_BOUNDARY).contains(&text.len()))
            .filter(|text| text.iter().all(|byte| (b' '..=b'~').contains(byte)))
            .ok_or(FormError::Malformed(
                "its Content-Type has no boundary of 1 to 70 characters",
            ))?;
        Ok(Some(Self([b"\r\n--", &*boundary].concat())))
    }

    /// The parts of a form, one after the other.
    pub(crate) fn parts(&self, form: Bytes) -> Parts<'_> {
        Parts {
            boundary: &self.0,
            form,
            at: 0,
            seen: 0,
        }
    }
}

/// What is left of a form.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// With the line end before it.
    boundary: &'a [u8],
    form: Bytes,
    /// Where a boundary stands.
    at: usize,
    seen: usize,
}

impl Parts<'_> {
    /// The next part; `None` behind the last.
    ///
    /// # Errors
    /// See [`FormError`].
    pub(crate) fn next(&mut self) -> Result<Option<Part>, FormError> {
        let rest = self.form.get(self.at..).unwrap_or_default();
        // The first needs no line end before it.
        let boundary = match self.at {
            0 if !rest.starts_with(b"\r") => self.boundary.get(2..).unwrap_or_default(),
            _ => self.boundary,
        };
        let behind = match rest.strip_prefix(boundary) {
            Some(behind) => behind,
            None if boundary.starts_with(rest) => return Err(FormError::Incomplete),
            None => return Err(FormError::Malformed("it does not begin with its boundary")),
        };
        if behind.starts_with(b"--") {
            return Ok(None);
        }
        let behind = match behind.strip_prefix(b"\r\n") {
            Some(behind) => behind,
            None if behind.len() < 2 => return Err(FormError::Incomplete),
            None => {
                return Err(FormError::Malformed(
                    "a boundary is followed by something else",
                ));
            }
        };
        self.seen += 1;
        if self.seen > MAX_PARTS {
            return Err(FormError::Malformed("it has more than 128 parts"));
        }
        let (head, content) = split_head(behind)?;
        let length = find(content, self.boundary).ok_or(FormError::Incomplete)?;
        let start = self.form.len() - content.len();
        let (name, file_name) = read_head(head)?;
        self.at = start + length;
        Ok(Some(Part {
            name,
            file_name,
            content: self.form.slice(start..self.at),
        }))
    }
}

/// The headers of a part, and what comes behind them.
fn split_head(part: &[u8]) -> Result<(&[u8], &[u8]), FormError> {
    const END: &[u8] = b"\r\n\r\n";
    if part.starts_with(b"\r\n") {
        return Err(FormError::Malformed("a part has no headers"));
    }
    let within = part.get(..MAX_HEADER_BYTES).unwrap_or(part);
    match find(within, END) {
        Some(end) => Ok((&part[..end], &part[end + END.len()..])),
        None if within.len() < MAX_HEADER_BYTES => Err(FormError::Incomplete),
        None => Err(FormError::Malformed("the headers of a part are too long")),
    }
}

/// The names of field and file.
fn read_head(head: &[u8]) -> Result<(String, Option<String>), FormError> {
    let mut found = None;
    for line in Lines(Some(head)) {
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        if !line.contains(&b':') || line.iter().any(is_control) {
            return Err(FormError::Malformed("a part has a line that is no header"));
        }
        let (name, value) = cut(line, b':');
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("content-disposition") {
            let names = disposition(value).ok_or(FormError::Malformed(
                "the Content-Disposition of a part is no form-data with the name of a field",
            ))?;
            if found.replace(names).is_some() {
                return Err(FormError::Malformed(
                    "a part has more than one Content-Disposition",
                ));
            }
        }
        // RFC 7578 §4.7: nobody sends it. Who undid it would find other bytes than those that are checked.
        if is("content-transfer-encoding")
            && !["binary", "8bit", "7bit"]
                .iter()
                .any(|plain| value.trim_ascii().eq_ignore_ascii_case(plain.as_bytes()))
        {
            return Err(FormError::Malformed("a part is encoded"));
        }
    }
    found.ok_or(FormError::Malformed("a part has no Content-Disposition"))
}

/// The names in a `Content-Disposition`.
fn disposition(value: &[u8]) -> Option<(String, Option<String>)> {
    let (kind, parameters) = cut(value, b';');
    if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return None;
    }
    let mut parameters = Parameters::parse(parameters)?;
    let name = text(parameters.take("name")?)?;
    let plain = parameters.take("filename");
    // Not in forms, says RFC 7578 §4.2; some clients send it all the same, and then it is what they mean.
    let extended = parameters.take("filename*");
    let file_name = match (extended, plain) {
        (Some(extended), _) => Some(extended_value(&extended)?),
        (None, Some(plain)) => Some(text(plain)?),
        (None, None) => None,
    };
    Some((name, file_name))
}

/// A name, of which browsers escape these three characters alone
/// (<https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data>).
fn text(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    if !text.contains('%') {
        return Some(text);
    }
    let text = text.replace("%22", "\"");
    Some(
        text.replace("%0D", "\r")
            .replace("%0A", "\n")
            .replace("%0d", "\r")
            .replace("%0a", "\n"),
    )
}

/// An `ext-value` (RFC 8187 §3.2.1) in UTF-8.
fn extended_value(value: &[u8]) -> Option<String> {
    let (charset, rest) = cut(value, b'\'');
    let (_language, escaped) = cut(rest, b'\'');
    if !charset.eq_ignore_ascii_case(b"utf-8") {
        return None;
    }
    let decoded = percent_encoding::percent_decode(escaped);
    Some(decoded.decode_utf8().ok()?.into_owned())
}

/// Parameters behind the value of a header: `; name=token; name="quoted"`.
#[derive(Debug, Default)]
struct Parameters(Vec<(String, Vec<u8>)>);

impl Parameters {
    /// `None` for what are none, too many, or one twice. The first needs no semicolon: it was cut off.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        let mut rest = text.trim_ascii();
        while !rest.is_empty() {
            let (name, value) =
                rest.split_at_checked(rest.iter().position(|byte| *byte == b'=')?)?;
            let name = std::str::from_utf8(name.trim_ascii()).ok()?;
            let name = name.to_ascii_lowercase();
            let is_token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if found.0.len() == MAX_PARAMETERS
                || name.is_empty()
                || !name.bytes().all(is_token)
                || found.0.iter().any(|(seen, _)| *seen == name)
            {
                return None;
            }
            let value = value.get(1..)?;
            let (value, behind) = match value.strip_prefix(b"\"") {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let (token, _) = cut(value, b';');
                    (token.trim_ascii().to_vec(), &value[token.len()..])
                }
            };
            found.0.push((name, value));
            rest = match behind.trim_ascii_start() {
                [] => &[],
                [b';', next @ ..] => next.trim_ascii_start(),
                _ => return None,
            };
        }
        Some(found)
    }

    fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|(seen, _)| seen == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// A quoted string behind its first quote, and what comes behind it. A backslash escapes a quote or a backslash, as older
/// clients write them, and otherwise stands for itself.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [b'"', behind @ ..] => return Some((value, behind)),
            [b'\\', escaped @ (b'"' | b'\\'), behind @ ..] => {
                value.push(*escaped);
                rest = behind;
            }
            [byte, behind @ ..] => {
                value.push(*byte);
                rest = behind;
            }
            [] => return None,
        }
    }
}

/// What stands before and behind a byte; everything before, where there is none.
fn cut(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == at) {
        Some(place) => (&text[..place], &text[place + 1..]),
        None => (text, &[]),
    }
}

/// The lines of a head.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        let end = find(rest, b"\r\n");
        self.0 = end.map(|end| &rest[end + 2..]);
        Some(end.map_or(rest, |end| &rest[..end]))
    }
}

/// Where a line end is followed by what else `wanted` has.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(place) = text.get(from..)?.iter().position(|byte| *byte == b'\r') {
        from += place;
        if text.get(from..)?.starts_with(wanted) {
            return Some(from);
        }
        from += 1;
    }
    None
}

/// What is wrong, for who sent it.
impl FormError {
    pub(crate) fn detail(self) -> Cow<'static, str> {
        match self {
            Self::Incomplete => "The form ended before it was complete. Nothing was stored.".into(),
            Self::Malformed(reason) => {
                format!("The form cannot be read: {reason}. Nothing was stored.").into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt};
    use proptest::prelude::*;

    fn boundary_of(content_type: &str) -> Result<Option<Boundary>, FormError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        Boundary::of(&headers)
    }

    fn boundary() -> Boundary {
        boundary_of("multipart/form-data; boundary=b")
            .unwrap()
            .unwrap()
    }

    fn all(boundary: &Boundary, form: &[u8]) -> Result<Vec<Part>, FormError> {
        let mut parts = boundary.parts(Bytes::copy_from_slice(form));
        let mut found = Vec::new();
        while let Some(part) = parts.next()? {
            found.push(part);
        }
        Ok(found)
    }

    fn parse(form: &str) -> Result<Vec<Part>, FormError> {
        all(&boundary(), form.as_bytes())
    }

    /// The names of a form of one part with this disposition.
    fn names(disposition: &str) -> Result<(String, Option<String>), FormError> {
        let form = format!("--b\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n--b--\r\n");
        let mut parts = parse(&form)?;
        assert_eq!(parts.len(), 1);
        let part = parts.remove(0);
        assert_eq!(part.content, "x");
        Ok((part.name, part.file_name))
    }

    #[test]
    fn a_form_is_known_by_its_content_type() {
        for (content_type, want) in [
            ("multipart/form-data; boundary=b", Some("b")),
            ("Multipart/Form-Data;boundary=\"a b\"", Some("a b")),
            (
                "multipart/form-data; charset=utf-8; boundary=----WebKitFormBoundary7MA4YWxk",
                Some("----WebKitFormBoundary7MA4YWxk"),
            ),
            ("multipart/mixed; boundary=b", None),
            ("multipart/form-data-x; boundary=b", None),
            ("application/octet-stream", None),
            ("", None),
        ] {
            let want = want.map(|text| Boundary(format!("\r\n--{text}").into_bytes()));
            assert_eq!(boundary_of(content_type), Ok(want), "{content_type}");
        }
        for malformed in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=\"b",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary",
            &format!("multipart/form-data; boundary={}", "b".repeat(71)),
        ] {
            assert!(boundary_of(malformed).is_err(), "{malformed}");
        }
    }

    #[test]
    fn bounds_the_parameters_of_a_header() {
        let parameters = |count| (1..count).map(|n| format!("; p{n}=x")).collect::<String>();
        let content_type = |count| {
            let others = parameters(count);
            boundary_of(&format!("multipart/form-data{others}; boundary=b"))
        };
        assert_eq!(content_type(MAX_PARAMETERS), Ok(Some(boundary())));
        assert!(content_type(MAX_PARAMETERS + 1).is_err());
        let disposition = |count| names(&format!("form-data{}; name=f", parameters(count)));
        assert!(disposition(MAX_PARAMETERS).is_ok());
        assert!(disposition(MAX_PARAMETERS + 1).is_err());

        let begin = "multipart/form-data; boundary=b; a=";
        let long = |length: usize| format!("{begin}{}", "x".repeat(length - begin.len()));
        assert_eq!(boundary_of(&long(MAX_CONTENT_TYPE)), Ok(Some(boundary())));
        assert!(boundary_of(&long(MAX_CONTENT_TYPE + 1)).is_err());
    }

    #[test]
    fn reads_fields_and_files() {
        let form = "--b\r\ncontent-disposition: form-data; name=\"token\"\r\n\r\nt\r\n\
            --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n\
            one\r\n--bx\r\n-- two\r\n--b\r\n\
            Content-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\r\n\r\n--b--";
        let refused = parse(form);
        assert_eq!(
            refused,
            Err(FormError::Malformed(
                "a boundary is followed by something else"
            ))
        );
        let form = form.replace("--bx\r\n", "--x\r\n");
        let parts = parse(&form).unwrap();
        let shown: Vec<_> = parts
            .iter()
            .map(|part| {
                (
                    part.name.as_str(),
                    part.file_name.as_deref(),
                    &part.content[..],
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("token", None, &b"t"[..]),
                ("file", Some("a.txt"), b"one\r\n--x\r\n-- two"),
                ("none", Some(""), b""),
            ]
        );
    }

    #[test]
    fn reads_names_as_clients_write_them() {
        for (disposition, name, file_name) in [
            ("form-data; name=f", "f", None),
            ("form-data; name=\"f\"; filename=a.png", "f", Some("a.png")),
            (
                "FORM-DATA;NAME=\"f\";FILENAME=\"a;b.png\";",
                "f",
                Some("a;b.png"),
            ),
            (
                "form-data; filename=\"a.png\"; name=\"f\"",
                "f",
                Some("a.png"),
            ),
            // Browsers, and curl of late.
            (
                "form-data; name=\"f\"; filename=\"a%22b%0D%0A%41.png\"",
                "f",
                Some("a\"b\r\n%41.png"),
            ),
            // curl before, and Python.
            (
                "form-data; name=\"f\"; filename=\"a\\\"b\\\\c.png\"",
                "f",
                Some("a\"b\\c.png"),
            ),
            (
                "form-data; name=\"f\"; filename=\"C:\\dir\\a.png\"",
                "f",
                Some("C:\\dir\\a.png"),
            ),
            (
                "form-data; name=\"f\"; filename=\"résumé.pdf\"",
                "f",
                Some("résumé.pdf"),
            ),
            (
                "form-data; name=\"f\"; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf",
                "f",
                Some("résumé.pdf"),
            ),
            (
                "form-data; name=\"f\"; filename=\"x.pdf\"; filename*=utf-8'en'y.pdf",
                "f",
                Some("y.pdf"),
            ),
            ("form-data; name=\"f\"; filename=\"\"", "f", Some("")),
        ] {
            let want = (name.to_owned(), file_name.map(ToOwned::to_owned));
            assert_eq!(names(disposition), Ok(want), "{disposition}");
        }
        for malformed in [
            "attachment; name=\"f\"",
            "form-data",
            "form-data; filename=\"a.png\"",
            "form-data; name=\"f",
            "form-data; name=\"f\" filename=\"a.png\"",
            "form-data; name=\"f\"; name=\"g\"",
            "form-data; name=\"f\"; filename=\"a\"; FileName=\"b\"",
            "form-data; name=\"f\"; filename*=ISO-8859-1''a.png",
            "form-data; name=\"f\"; filename*=UTF-8''%FF.png",
            "form-data; name=\"f\"; =x",
        ] {
            assert!(names(malformed).is_err(), "{malformed}");
        }
        let form = b"--b\r\nContent-Disposition: form-data; name=\"\xff\"\r\n\r\nx\r\n--b--";
        assert!(all(&boundary(), form).is_err());
    }

    #[test]
    fn refuses_what_hides_a_part() {
        for malformed in [
            "x--b\r\nContent-Disposition: form-data; name=f\r\n\r\nx\r\n--b--",
            "preamble\r\n--b\r\nContent-Disposition: form-data; name=f\r\n\r\nx\r\n--b--",
            "--b \r\nContent-Disposition: form-data; name=f\r\n\r\nx\r\n--b--",
            "--b\nContent-Disposition: form-data; name=f\n\nx\n--b--",
            "--b\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Disposition: form-data; name=f\r\nContent-Disposition: form-data; name=g\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Disposition: form-data;\r\n name=f\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Disposition: form-data; name=f\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n--b--",
            &format!(
                "--b\r\nContent-Disposition: form-data; name={}\r\n\r\nx\r\n--b--",
                "n".repeat(MAX_HEADER_BYTES)
            ),
        ] {
            let refused = parse(malformed);
            assert!(
                matches!(refused, Err(FormError::Malformed(_))),
                "{malformed:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn counts_parts() {
        let form = |parts: usize| {
            let part = "--b\r\nContent-Disposition: form-data; name=f\r\n\r\nx\r\n";
            format!("{}--b--\r\n", part.repeat(parts))
        };
        assert_eq!(parse(&form(MAX_PARTS)).unwrap().len(), MAX_PARTS);
        assert!(matches!(
            parse(&form(MAX_PARTS + 1)),
            Err(FormError::Malformed(_))
        ));
        assert_eq!(parse("--b--"), Ok(Vec::new()));
    }

    #[test]
    fn whatever_is_cut_off_is_incomplete() {
        let form = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\none\r\n--b\r\n\
            Content-Disposition: form-data; name=g\r\n\r\ntwo\r\n--b--";
        for end in 0..form.len() {
            assert_eq!(parse(&form[..end]), Err(FormError::Incomplete), "{end}");
        }
        assert_eq!(parse(form).unwrap().len(), 2);
    }

    /// What the library reads that axum uses; `None` where it refuses.
    fn by_multer(form: &[u8]) -> Option<Vec<Part>> {
        let stream =
            futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(form))]);
        let mut parts = multer::Multipart::new(stream.boxed(), "b");
        let read = async {
            let mut found = Vec::new();
            while let Some(field) = parts.next_field().await.ok()? {
                found.push(Part {
                    name: field.name()?.to_owned(),
                    file_name: field.file_name().map(ToOwned::to_owned),
                    content: field.bytes().await.ok()?,
                });
            }
            Some(found)
        };
        read.now_or_never().flatten()
    }

    /// Texts of the pieces that matter to a form.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: &[&[u8]] = &[
            b"\r\n",
            b"--",
            b"--b",
            b"\r\n--b",
            b"\r\n--b--",
            b"\r\n\r\n",
            b"\r",
            b"\n",
            b"\"",
            b"\\",
            b";",
            b"=",
            b":",
            b"x",
            b"\xff",
            b"\0",
            b"name=f",
            b"; filename=\"a\"",
            b"Content-Disposition: form-data; name=\"f\"",
        ];
        let piece = prop::sample::select(PIECES);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn reads_anything_without_fail(form in prop_oneof![pieces(), prop::collection::vec(any::<u8>(), 0..200)]) {
            if let Ok(parts) = all(&boundary(), &form) {
                // No byte comes twice.
                prop_assert!(parts.iter().map(|part| part.content.len()).sum::<usize>() <= form.len());
            }
        }

        #[test]
        fn reads_what_it_takes_as_others_do(form in pieces()) {
            let form = [b"--b\r\nContent-Disposition: form-data; name=\"f\"", &form[..]].concat();
            if let Ok(parts) = all(&boundary(), &form)
                && let Some(theirs) = by_multer(&form)
            {
                prop_assert_eq!(parts, theirs, "{}", form.escape_ascii());
            }
        }

        #[test]
        fn what_is_written_is_read(
            files in prop::collection::vec(("[^\\x00-\\x1f\\x7f\"\\\\%]{0,40}", prop::collection::vec(any::<u8>(), 0..200)), 0..6),
        ) {
            let mut form = Vec::new();
            let mut want = Vec::new();
            for (name, content) in files {
                // A client chooses a boundary that the content does not have.
                prop_assume!(!content.windows(3).any(|window| window == b"--b"));
                form.extend(format!("--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\nContent-Type: x/y\r\n\r\n").into_bytes());
                form.extend(&content);
                form.extend(b"\r\n");
                want.push(Part { name: "f".to_owned(), file_name: Some(name), content: content.into() });
            }
            form.extend(b"--b--\r\n");
            prop_assert_eq!(all(&boundary(), &form), Ok(want.clone()));
            prop_assert_eq!(by_multer(&form), Some(want));
        }
    }
}
