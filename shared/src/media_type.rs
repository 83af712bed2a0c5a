//! The one table of what may be uploaded: which extension means which media type, which first bytes
//! are believed, and what may be shown inside a browser.
//!
//! Not in the table, on purpose: HTML, SVG and XML, which run scripts in the reader's session, and
//! ZIP and other archives, whose contents nobody has looked at.

use core::{fmt, str::FromStr};

use crate::{sniff::sniff, text_serde::serde_as_text};

pub use crate::sniff::SNIFF_BYTES;

/// A media type that may be uploaded: a row of the table.
#[derive(Clone, Copy)]
pub struct MediaType(&'static Row);

/// One media type.
struct Row {
    /// The type as IANA registers it.
    name: &'static str,
    /// Its extensions in lower case, the usual one first.
    extensions: &'static [&'static str],
    /// Other names browsers give the type of a file with one of these extensions.
    aliases: &'static [&'static str],
    /// What [`sniff`] may answer for such a file, beside `name` itself.
    sniffed: &'static [&'static str],
    /// Whether a browser may show it instead of saving it: pictures made of pixels, PDF, sound and
    /// film. Text is not among them, for it is shown in whatever encoding the browser guesses.
    inline_safe: bool,
}

/// Every OLE compound file looks alike in its first bytes; what it holds stands further on.
const OLE: &[&str] = &["application/x-ole-storage"];
const TEXT: &[&str] = &["text/plain"];

#[rustfmt::skip]
static TABLE: [Row; 34] = [
    // Images
    Row { name: "image/png", extensions: &["png"], aliases: &[], sniffed: &[], inline_safe: true },
    Row { name: "image/jpeg", extensions: &["jpg", "jpeg", "jpe", "jfif"], aliases: &["image/jpg", "image/pjpeg"], sniffed: &[], inline_safe: true },
    Row { name: "image/gif", extensions: &["gif"], aliases: &[], sniffed: &[], inline_safe: true },
    Row { name: "image/webp", extensions: &["webp"], aliases: &[], sniffed: &[], inline_safe: true },
    Row { name: "image/avif", extensions: &["avif"], aliases: &[], sniffed: &[], inline_safe: true },
    // The first bytes of HEIC and of its parent HEIF differ by a brand that cameras mix up.
    Row { name: "image/heic", extensions: &["heic"], aliases: &["image/heif"], sniffed: &["image/heif"], inline_safe: true },
    Row { name: "image/heif", extensions: &["heif"], aliases: &["image/heic"], sniffed: &[], inline_safe: true },
    Row { name: "image/bmp", extensions: &["bmp"], aliases: &["image/x-ms-bmp"], sniffed: &[], inline_safe: true },
    Row { name: "image/tiff", extensions: &["tif", "tiff"], aliases: &[], sniffed: &[], inline_safe: true },
    // Text
    Row { name: "text/plain", extensions: &["txt"], aliases: &[], sniffed: &[], inline_safe: false },
    Row { name: "text/markdown", extensions: &["md", "markdown"], aliases: &["text/x-markdown", "text/plain"], sniffed: TEXT, inline_safe: false },
    // Windows names a CSV file after the program that opens it.
    Row { name: "text/csv", extensions: &["csv"], aliases: &["application/csv", "application/vnd.ms-excel", "text/plain"], sniffed: TEXT, inline_safe: false },
    Row { name: "application/json", extensions: &["json"], aliases: &["text/json"], sniffed: TEXT, inline_safe: false },
    // Documents
    Row { name: "application/pdf", extensions: &["pdf"], aliases: &["application/x-pdf"], sniffed: &[], inline_safe: true },
    Row { name: "application/vnd.openxmlformats-officedocument.wordprocessingml.document", extensions: &["docx"], aliases: &[], sniffed: &["application/x-ooxml"], inline_safe: false },
    Row { name: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", extensions: &["xlsx"], aliases: &[], sniffed: &["application/x-ooxml"], inline_safe: false },
    Row { name: "application/vnd.openxmlformats-officedocument.presentationml.presentation", extensions: &["pptx"], aliases: &[], sniffed: &["application/x-ooxml"], inline_safe: false },
    Row { name: "application/vnd.oasis.opendocument.text", extensions: &["odt"], aliases: &[], sniffed: &[], inline_safe: false },
    Row { name: "application/vnd.oasis.opendocument.spreadsheet", extensions: &["ods"], aliases: &[], sniffed: &[], inline_safe: false },
    Row { name: "application/vnd.oasis.opendocument.presentation", extensions: &["odp"], aliases: &[], sniffed: &[], inline_safe: false },
    Row { name: "application/msword", extensions: &["doc"], aliases: &[], sniffed: OLE, inline_safe: false },
    Row { name: "application/vnd.ms-excel", extensions: &["xls"], aliases: &[], sniffed: OLE, inline_safe: false },
    Row { name: "application/vnd.ms-powerpoint", extensions: &["ppt"], aliases: &[], sniffed: OLE, inline_safe: false },
    Row { name: "application/rtf", extensions: &["rtf"], aliases: &["text/rtf", "application/msword"], sniffed: &[], inline_safe: false },
    // Sound
    Row { name: "audio/mpeg", extensions: &["mp3"], aliases: &["audio/mp3", "audio/x-mp3", "audio/x-mpeg"], sniffed: &[], inline_safe: true },
    // Telephones write sound alone in the container that film has.
    Row { name: "audio/mp4", extensions: &["m4a"], aliases: &["audio/m4a", "audio/x-m4a"], sniffed: &["audio/m4a", "video/mp4"], inline_safe: true },
    Row { name: "audio/wav", extensions: &["wav"], aliases: &["audio/x-wav", "audio/wave", "audio/vnd.wave"], sniffed: &["audio/x-wav"], inline_safe: true },
    Row { name: "audio/ogg", extensions: &["ogg", "oga", "opus"], aliases: &["audio/opus", "application/ogg", "video/ogg"], sniffed: &["audio/opus"], inline_safe: true },
    Row { name: "audio/flac", extensions: &["flac"], aliases: &["audio/x-flac"], sniffed: &["audio/x-flac"], inline_safe: true },
    Row { name: "audio/aac", extensions: &["aac"], aliases: &["audio/x-aac", "audio/vnd.dlna.adts"], sniffed: &[], inline_safe: true },
    // Film
    Row { name: "video/mp4", extensions: &["mp4"], aliases: &[], sniffed: &["video/x-m4v"], inline_safe: true },
    Row { name: "video/x-m4v", extensions: &["m4v"], aliases: &["video/mp4"], sniffed: &["video/mp4"], inline_safe: true },
    Row { name: "video/webm", extensions: &["webm"], aliases: &["audio/webm"], sniffed: &[], inline_safe: true },
    Row { name: "video/quicktime", extensions: &["mov", "qt"], aliases: &[], sniffed: &[], inline_safe: true },
];

/// The first bytes of a file are not those of its declared type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file is not what its name says: its first bytes are not those of {expected}{}", Seen(*.seen))]
pub struct MediaTypeMismatch {
    /// The type the file should have.
    pub expected: MediaType,
    /// The type its first bytes show, when they show one.
    pub seen: Option<&'static str>,
}

struct Seen(Option<&'static str>);

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |seen| write!(f, " but of {seen}"))
    }
}

/// A text that names no media type of the table. Its stable code is
/// [`crate::ErrorCode::MediaTypeNotAllowed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this media type is not allowed")]
pub struct UnknownMediaType;

impl MediaType {
    /// The type of an extension, given in lower case and without its dot.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        Self::all().find(|media_type| media_type.extensions().contains(&extension))
    }

    /// The type of a name such as `image/png`, compared without regard to case; parameters such as
    /// `; charset=utf-8` are left out of account. Other names of the type are not taken: see
    /// [`goes_by`](Self::goes_by).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = essence(name);
        Self::all().find(|media_type| media_type.as_str().eq_ignore_ascii_case(name))
    }

    /// The type's name, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0.name
    }

    /// The extensions of the type, in lower case and without a dot, the usual one first.
    #[must_use]
    pub const fn extensions(self) -> &'static [&'static str] {
        self.0.extensions
    }

    /// Whether a browser may show such a file in the page's place instead of saving it.
    #[must_use]
    pub const fn is_inline_safe(self) -> bool {
        self.0.inline_safe
    }

    /// Whether `name` is this type's name or one that a browser is known to give it instead.
    #[must_use]
    pub fn goes_by(self, name: &str) -> bool {
        let name = essence(name);
        core::iter::once(&self.0.name)
            .chain(self.0.aliases)
            .any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Every type of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(Self)
    }

    /// Checks that a file of this type may begin with `first_bytes`: the first [`SNIFF_BYTES`] of
    /// it, or the whole of a shorter file. More are not looked at.
    ///
    /// # Errors
    /// [`MediaTypeMismatch`], with the type the bytes show.
    pub fn check(self, first_bytes: &[u8]) -> Result<(), MediaTypeMismatch> {
        let seen = sniff(first_bytes);
        match seen {
            Some(seen) if seen == self.0.name || self.0.sniffed.contains(&seen) => Ok(()),
            _ => Err(MediaTypeMismatch {
                expected: self,
                seen,
            }),
        }
    }
}

fn essence(name: &str) -> &str {
    name.split(';').next().unwrap_or_default().trim()
}

impl PartialEq for MediaType {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for MediaType {}

impl core::hash::Hash for MediaType {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl FromStr for MediaType {
    type Err = UnknownMediaType;

    fn from_str(text: &str) -> Result<Self, UnknownMediaType> {
        Self::from_name(text).ok_or(UnknownMediaType)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MediaType({self})")
    }
}

serde_as_text!(MediaType);
