//! What kind of document a ZIP file is, by the names of its entries (APPNOTE.TXT 4.3.7, 4.3.12).
//!
//! The names of the first entries tell of most documents, and of the others the list of all entries at
//! the end of the file. In an Office Open XML file (ECMA-376 part 2) the folders `word/`, `xl/` and
//! `ppt/` stand in one kind each; which folder a writer chooses is its own affair, so a file that has
//! none of the three is taken for any of the kinds: a wrong refusal would cost a user more than a wrong
//! icon. An OpenDocument file (OpenDocument 1.3 part 2, 3.3) has its type in an entry `mimetype`.

use super::bytes::{KnownBytes, Order, Stop};

const ZIP: &str = "application/zip";
const OOXML: &str = "application/x-ooxml";
const OPEN_DOCUMENT: &str = "application/x-opendocument";

const LOCAL_HEADER: &[u8; 4] = b"PK\x03\x04";
const LOCAL_HEADER_BYTES: usize = 30;
const DIRECTORY_HEADER: &[u8; 4] = b"PK\x01\x02";
const DIRECTORY_HEADER_BYTES: usize = 46;
const DIRECTORY_END: &[u8; 4] = b"PK\x05\x06";
const DIRECTORY_END_BYTES: usize = 22;

/// How many last bytes are searched for the end of the directory: a comment may follow it.
const TAIL_BYTES: usize = 64 * 1024;
/// How much of the directory is read: some thousand names.
const DIRECTORY_BYTES: usize = 256 * 1024;

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

/// What else an office document may begin with.
const OTHER_OFFICE_ENTRIES: [&[u8]; 5] = [
    b"[content_types].xml",
    b"_rels/",
    b"docprops/",
    b"customxml/",
    b"docmetadata/",
];

/// Types that stand in an entry `mimetype`.
const STATED_TYPES: [&str; 14] = [
    "application/vnd.oasis.opendocument.text",
    "application/vnd.oasis.opendocument.text-template",
    "application/vnd.oasis.opendocument.text-master",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.spreadsheet-template",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.oasis.opendocument.presentation-template",
    "application/vnd.oasis.opendocument.graphics",
    "application/vnd.oasis.opendocument.graphics-template",
    "application/vnd.oasis.opendocument.chart",
    "application/vnd.oasis.opendocument.formula",
    "application/vnd.oasis.opendocument.base",
    "application/epub+zip",
    "image/openraster",
];

/// What the names of entries have told so far.
#[derive(Default)]
struct Told {
    kind: Option<&'static str>,
    begins_as_office: bool,
    is_ooxml: bool,
    has_mimetype: bool,
    has_manifest: bool,
}

impl Told {
    /// `name` is an entry's, or begins with it.
    fn hear(&mut self, name: &[u8], is_first: bool) {
        let name = Name::of(name);
        let folder = OFFICE_FOLDERS
            .iter()
            .find(|(folder, _)| name.begins_with(folder));
        let is_other = OTHER_OFFICE_ENTRIES
            .iter()
            .any(|known| name.begins_with(known));
        if is_first {
            self.begins_as_office = folder.is_some() || is_other;
        }
        self.kind = self.kind.or(folder.map(|(_, kind)| *kind));
        self.is_ooxml |= name.begins_with(OTHER_OFFICE_ENTRIES[0]);
        self.has_mimetype |= name.begins_with(b"mimetype");
        self.has_manifest |= name.begins_with(b"meta-inf/manifest.xml");
    }

    fn office_kind(&self) -> &'static str {
        self.kind.unwrap_or(OOXML)
    }
}

/// A name as documents mean it: some writers put `\` for `/`, one before it, or other letters' case.
struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self(match bytes {
            [b'/' | b'\\', rest @ ..] => rest,
            all => all,
        })
    }

    fn begins_with(&self, wanted: &[u8]) -> bool {
        self.0.len() >= wanted.len()
            && self.0.iter().zip(wanted).all(|(byte, wanted)| match byte {
                b'\\' => *wanted == b'/',
                byte => byte.eq_ignore_ascii_case(wanted),
            })
    }
}

/// The media type of a ZIP file by its first entries, as far as `sample` goes.
pub(super) fn by_head(sample: &[u8]) -> &'static str {
    let mut told = Told::default();
    for (index, header) in local_headers(sample).enumerate() {
        let name = header.get(LOCAL_HEADER_BYTES..).unwrap_or_default();
        if let Some(stated) = stated_type(header, name) {
            return stated;
        }
        told.hear(name, index == 0);
    }
    if told.begins_as_office {
        told.office_kind()
    } else if told.has_mimetype && told.has_manifest {
        OPEN_DOCUMENT
    } else {
        ZIP
    }
}

/// The media type of a ZIP file by the list of all its entries.
pub(super) fn by_directory(bytes: &KnownBytes) -> Result<&'static str, Stop> {
    let tail_at = bytes.size().saturating_sub(TAIL_BYTES as u64);
    let tail = bytes.up_to(tail_at, TAIL_BYTES)?;
    let Some(end) = tail
        .windows(DIRECTORY_END_BYTES)
        .rposition(|window| window.starts_with(DIRECTORY_END))
    else {
        return Ok(ZIP);
    };
    let start = bytes.u32(tail_at + end as u64 + 16, Order::Little)?;
    let directory = bytes.up_to(start.into(), DIRECTORY_BYTES)?;
    let mut told = Told::default();
    let mut stated = None;
    for (index, entry) in directory_entries(directory).enumerate() {
        told.hear(entry.name, index == 0);
        if stated.is_none() && entry.name == b"mimetype" {
            let longest = LOCAL_HEADER_BYTES + 512;
            let header = bytes.up_to(entry.at.into(), longest)?;
            stated = stated_type(header, header.get(LOCAL_HEADER_BYTES..).unwrap_or_default());
        }
    }
    Ok(if let Some(stated) = stated {
        stated
    } else if told.is_ooxml {
        told.office_kind()
    } else if told.has_mimetype && told.has_manifest {
        OPEN_DOCUMENT
    } else {
        ZIP
    })
}

/// From each local header on, up to the end of the sample.
fn local_headers(sample: &[u8]) -> impl Iterator<Item = &[u8]> {
    sample
        .windows(LOCAL_HEADER.len())
        .enumerate()
        .filter(|(_, window)| window == LOCAL_HEADER)
        .filter_map(|(start, _)| sample.get(start..))
}

struct Entry<'a> {
    name: &'a [u8],
    /// Where its local header stands.
    at: u32,
}

fn directory_entries(directory: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = directory;
    core::iter::from_fn(move || {
        let header = rest.get(..DIRECTORY_HEADER_BYTES)?;
        header.starts_with(DIRECTORY_HEADER).then_some(())?;
        let length = |at| Some(usize::from(u16_at(header, at)?));
        let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
        let all = rest.get(DIRECTORY_HEADER_BYTES..)?;
        let entry = Entry {
            name: all.get(..name)?,
            at: u32::from_le_bytes(*header.get(42..)?.first_chunk::<4>()?),
        };
        rest = all.get(name + extra + comment..)?;
        Some(entry)
    })
}

/// The type that an entry `mimetype` states. It is stored as it is; an extra field may stand before
/// it.
fn stated_type(header: &[u8], name: &[u8]) -> Option<&'static str> {
    (name.starts_with(b"mimetype") && u16_at(header, 26)? == 8 && u16_at(header, 8)? == 0)
        .then_some(())?;
    let extra = usize::from(u16_at(header, 28)?);
    let stated = name.get(8 + extra..)?;
    STATED_TYPES
        .into_iter()
        .filter(|kind| stated.starts_with(kind.as_bytes()))
        // One type begins as another does.
        .max_by_key(|kind| kind.len())
        .filter(|kind| !matches!(stated.get(kind.len()), Some(b'-' | b'a'..=b'z')))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk::<2>()?))
}
