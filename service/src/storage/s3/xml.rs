//! The XML of a store's answers, as much of it as they are made of: elements, text, references to
//! characters. A document type, which is where XML gets dangerous, is refused.

use std::borrow::Cow;

/// The deepest nesting. Answers of S3 have four levels.
const MAX_DEPTH: usize = 16;

/// An element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'a> {
    name: &'a str,
    text: Cow<'a, str>,
    children: Vec<Self>,
}

/// A text that is not XML of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the XML cannot be read")]
pub(super) struct XmlError;

impl<'a> Element<'a> {
    /// Reads a document and gives its one outermost element.
    pub(super) fn parse(document: &'a str) -> Result<Self, XmlError> {
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        let mut rest = document.trim_start_matches('\u{feff}');
        while let Some((text, markup)) = rest.split_once('<') {
            add_text(open.last_mut(), text)?;
            let (tag, after) = markup.split_once('>').ok_or(XmlError)?;
            rest = after;
            if tag.starts_with('?') {
                continue;
            }
            if let Some(name) = tag.strip_prefix('/') {
                let closed = open.pop().ok_or(XmlError)?;
                if closed.name != name.trim_end() {
                    return Err(XmlError);
                }
                close(closed, &mut open, &mut root)?;
                continue;
            }
            let element = Self::opened(tag.strip_suffix('/').unwrap_or(tag))?;
            if tag.ends_with('/') {
                close(element, &mut open, &mut root)?;
            } else if root.is_some() || open.len() == MAX_DEPTH {
                return Err(XmlError);
            } else {
                open.push(element);
            }
        }
        let ended = open.is_empty() && rest.trim().is_empty();
        root.filter(|_| ended).ok_or(XmlError)
    }

    fn opened(tag: &'a str) -> Result<Self, XmlError> {
        let name = tag.split_ascii_whitespace().next().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        if name.is_empty() || !name.chars().all(is_name) || tag.starts_with(char::is_whitespace) {
            return Err(XmlError);
        }
        Ok(Self {
            name,
            ..Self::default()
        })
    }

    /// The element's name.
    pub(super) const fn name(&self) -> &'a str {
        self.name
    }

    /// The elements of a name right inside this one.
    pub(super) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first element of a name right inside this one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.children
            .iter()
            .find(|child| child.name == name)
            .map(|child| child.text.as_ref())
    }
}

fn add_text<'a>(element: Option<&mut Element<'a>>, text: &'a str) -> Result<(), XmlError> {
    match element {
        Some(element) if element.text.is_empty() => element.text = unescape(text)?,
        Some(element) => element.text.to_mut().push_str(&unescape(text)?),
        None if text.trim().is_empty() => {}
        None => return Err(XmlError),
    }
    Ok(())
}

fn close<'a>(
    closed: Element<'a>,
    open: &mut [Element<'a>],
    root: &mut Option<Element<'a>>,
) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(parent) => parent.children.push(closed),
        None if root.is_none() => *root = Some(closed),
        None => return Err(XmlError),
    }
    Ok(())
}

/// Replaces the five named references and those by number (XML 1.0, 4.1).
fn unescape(text: &str) -> Result<Cow<'_, str>, XmlError> {
    if !text.contains('&') {
        return Ok(text.into());
    }
    let mut pieces = text.split('&');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (reference, after) = piece.split_once(';').ok_or(XmlError)?;
        plain.push(referred(reference).ok_or(XmlError)?);
        plain.push_str(after);
    }
    Ok(plain.into())
}

fn referred(reference: &str) -> Option<char> {
    match reference {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = reference.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

/// Appends text so that it stands for itself.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\r' => out.push_str("&#13;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_answer() {
        let answer = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  <Bucket/>\n  \
            <Part><PartNumber>1</PartNumber><ETag>&quot;a&amp;b&#x3C;&#62;&quot;</ETag></Part>\n  \
            <Part ><PartNumber>2</PartNumber ></Part>\n</ListPartsResult>\n";
        let root = Element::parse(answer).unwrap();
        assert_eq!(root.name(), "ListPartsResult");
        assert_eq!(root.text("Bucket"), Some(""));
        let parts: Vec<_> = root.all("Part").collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].text("ETag"), Some("\"a&b<>\""));
        assert_eq!(parts[1].text("PartNumber"), Some("2"));
        assert_eq!(parts[1].text("ETag"), None);
    }

    #[test]
    fn refuses_what_is_no_answer() {
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        for text in [
            "",
            "plain",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a></a>x",
            "<a>&nbsp;</a>",
            "<a>&amp</a>",
            "<a>&#xD800;</a>",
            "< a></ a>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
            "<a><!-- b --></a>",
            "<a",
            &deep,
        ] {
            assert_eq!(Element::parse(text), Err(XmlError), "{text}");
        }
    }

    #[test]
    fn what_is_escaped_reads_as_it_was() {
        let text = "a<b>&c;\r\"'é";
        let mut escaped = String::from("<a>");
        push_escaped(&mut escaped, text);
        escaped.push_str("</a>");
        assert_eq!(Element::parse(&escaped).unwrap().text, text);
    }
}
