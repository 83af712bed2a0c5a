//! What kind of document a ZIP file is, by the names of its first entries (APPNOTE.TXT 4.3.7).
//!
//! `infer` follows the entries of an office document by fixed steps and gives up on some writers'
//! order. The names themselves tell: `word/`, `xl/` and `ppt/` stand in one kind each. Whatever does
//! not begin as such documents do is just a ZIP, and that is not allowed. What does begin so, but
//! shows none of the three folders within the sample, is taken for any of the kinds: a picture of the
//! first page may stand before them, and a wrong refusal would cost a user more than a wrong icon.

const LOCAL_HEADER: &[u8; 4] = b"PK\x03\x04";
const LOCAL_HEADER_BYTES: usize = 30;
const STORED_MIMETYPE: &[u8] = b"mimetype";

const OPEN_DOCUMENT: [&str; 3] = [
    "application/vnd.oasis.opendocument.text",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.presentation",
];

const OFFICE_FOLDERS: [(&[u8], &str); 3] = [
    (
        b"word/",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    (
        b"xl/",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    (
        b"ppt/",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
];

/// What else an office document may begin with (ECMA-376 part 2).
const OTHER_FIRST_ENTRIES: [&[u8]; 5] = [
    b"[Content_Types].xml",
    b"_rels/",
    b"docProps/",
    b"customXml/",
    b"docMetadata/",
];

pub(crate) fn is_zip(sample: &[u8]) -> bool {
    sample.starts_with(LOCAL_HEADER)
}

/// The media type of a file for which [`is_zip`] holds.
pub(crate) fn media_type(sample: &[u8]) -> &'static str {
    let mut names = entry_names(sample);
    let first = names.next().unwrap_or_default();
    if first.starts_with(STORED_MIMETYPE) {
        return open_document(first).unwrap_or("application/zip");
    }
    let begins_as_office = office_folder(first).is_some()
        || OTHER_FIRST_ENTRIES
            .iter()
            .any(|known| first.starts_with(known));
    if !begins_as_office {
        return "application/zip";
    }
    core::iter::once(first)
        .chain(names)
        .find_map(office_folder)
        .unwrap_or("application/x-ooxml")
}

/// From the name of each entry on, up to the end of the sample.
fn entry_names(sample: &[u8]) -> impl Iterator<Item = &[u8]> {
    sample
        .windows(LOCAL_HEADER.len())
        .enumerate()
        .filter(|(_, window)| window == LOCAL_HEADER)
        .filter_map(|(start, _)| sample.get(start + LOCAL_HEADER_BYTES..))
}

fn office_folder(name: &[u8]) -> Option<&'static str> {
    OFFICE_FOLDERS
        .iter()
        .find(|(folder, _)| name.starts_with(folder))
        .map(|(_, media_type)| *media_type)
}

/// An OpenDocument file begins with an entry `mimetype`, stored as it is and without an extra field
/// (OpenDocument 1.3 part 2, 3.3), so its type follows the name directly.
fn open_document(first: &[u8]) -> Option<&'static str> {
    let stored = first.strip_prefix(STORED_MIMETYPE)?;
    OPEN_DOCUMENT
        .into_iter()
        .filter(|media_type| stored.starts_with(media_type.as_bytes()))
        // A template or a master document has a longer type with the same start.
        .find(|media_type| !matches!(stored.get(media_type.len()), Some(b'-' | b'a'..=b'z')))
}
