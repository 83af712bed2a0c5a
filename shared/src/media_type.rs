//! The one table of what may be uploaded: which extension means which media type, which bytes are
//! believed, what may be shown inside a browser, and what is allowed where nobody says otherwise.
//!
//! Not in the table, on purpose: HTML, SVG and XML, which run scripts in the reader's session, and
//! programs. Archives, whose contents nobody has looked at, and documents with macros are in it and
//! only allowed where [`FileTypes`](crate::FileTypes) says so.
//!
//! What is shown in place has to be what its name says. What is only saved may be whatever the programs
//! for its name open: a text in any encoding, a workbook under one of its many forms, and where an
//! extension has several meanings (`key`, `msg`, `mts`) a file of any of them. Of office documents the
//! bytes have to agree, for a wrong one is more often a mistake there than a file of that name.
//! Types are named as IANA registers them, else as freedesktop.org's shared-mime-info does.

use core::{fmt, str::FromStr};

use crate::{FileName, content, text_serde::serde_as_text};

/// A media type that may be uploaded: a row of the table.
#[derive(Clone, Copy)]
pub struct MediaType(&'static Row);

/// One media type.
struct Row {
    name: &'static str,
    /// Its extensions in lower case, the usual one first.
    extensions: &'static [&'static str],
    /// Other names that browsers, telephones and mail programs give such a file.
    aliases: &'static [&'static str],
    /// What the bytes of such a file may show, beside `name` itself.
    seen_as: &'static [&'static str],
    /// What else they may be.
    otherwise: Otherwise,
    /// Whether a browser may show it instead of saving it: pictures made of pixels, PDF, sound and
    /// film. Text is not among them, for it is shown in whatever encoding the browser guesses.
    inline_safe: bool,
    /// Whether it is allowed where no setting says otherwise.
    usual: bool,
}

/// What bytes may be that show none of the kinds a row names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// Nothing.
    Refused,
    /// Text of any format, or no kind that is known.
    TextOrUnknown,
    /// Whatever they are.
    Anything,
}

const fn row(name: &'static str, extensions: &'static [&'static str]) -> Row {
    Row {
        name,
        extensions,
        aliases: &[],
        seen_as: &[],
        otherwise: Otherwise::Refused,
        inline_safe: false,
        usual: true,
    }
}

impl Row {
    const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn seen_as(mut self, kinds: &'static [&'static str]) -> Self {
        self.seen_as = kinds;
        self
    }

    const fn or_unknown(mut self) -> Self {
        self.otherwise = Otherwise::TextOrUnknown;
        self
    }

    const fn or_anything(mut self) -> Self {
        self.otherwise = Otherwise::Anything;
        self
    }

    const fn shown(mut self) -> Self {
        self.inline_safe = true;
        self
    }

    const fn on_request(mut self) -> Self {
        self.usual = false;
        self
    }
}

const OOXML: &str = "application/x-ooxml";
const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const PPTX: &str = "application/vnd.openxmlformats-officedocument.presentationml.presentation";
/// Every OLE compound file looks alike in its first bytes; what it holds stands further on.
const COMPOUND: &str = "application/x-ole-storage";

const OLE: &[&str] = &[COMPOUND];
// A document with a password is an OLE compound file (MS-OFFCRYPTO 1.3.2).
const WORD: &[&str] = &[DOCX, OOXML, COMPOUND];
const EXCEL: &[&str] = &[XLSX, OOXML, COMPOUND];
const POWERPOINT: &[&str] = &[PPTX, OOXML, COMPOUND];
/// Word and Excel open whatever they know under the names that they had first: their own formats
/// since 1985, RTF, web pages, tables in text.
const LEGACY_OFFICE: &[&str] = &[COMPOUND, DOCX, XLSX, PPTX, OOXML];
const OPEN_DOCUMENT: &[&str] = &["application/x-opendocument"];
const ANY_ZIP: &[&str] = &[
    "application/zip",
    "application/x-opendocument",
    "application/epub+zip",
    DOCX,
    XLSX,
    PPTX,
    OOXML,
];
/// Sound and film in boxes: one container, whose brands and extensions cameras and telephones mix up.
const ISO_MEDIA: &[&str] = &[
    "video/mp4",
    "video/x-m4v",
    "video/quicktime",
    "video/3gpp",
    "video/3gpp2",
    "audio/mp4",
];
const ISO_MEDIA_AND_AAC: &[&str] = &[
    "video/mp4",
    "video/x-m4v",
    "video/quicktime",
    "video/3gpp",
    "video/3gpp2",
    "audio/mp4",
    "audio/aac",
    "audio/mpeg",
];

#[rustfmt::skip]
static TABLE: [Row; 114] = [
    // Pictures that browsers show
    row("image/png", &["png", "apng"]).also(&["image/apng", "image/vnd.mozilla.apng", "image/x-citrix-png"]).shown(),
    row("image/jpeg", &["jpg", "jpeg", "jpe", "jfif", "jif", "pjpeg"]).also(&["image/jpg", "image/jpe", "image/jfif", "image/pjpeg", "image/x-citrix-jpeg", "application/jpg", "application/jpeg"]).shown(),
    row("image/gif", &["gif"]).also(&["image/gi_"]).shown(),
    row("image/webp", &["webp"]).also(&["application/webp"]).shown(),
    row("image/avif", &["avif", "avifs"]).also(&["image/avif-sequence", "image/avifs"]).seen_as(&["image/heif"]).shown(),
    row("image/heic", &["heic", "heics", "hif"]).also(&["image/heif", "image/heic-sequence", "image/heif-sequence"]).seen_as(&["image/heif"]).shown(),
    row("image/heif", &["heif", "heifs"]).also(&["image/heic", "image/heif-sequence", "image/heic-sequence"]).seen_as(&["image/heic", "image/avif"]).shown(),
    row("image/bmp", &["bmp", "dib"]).also(&["image/ms-bmp", "image/x-windows-bmp", "image/x-win-bitmap", "image/bitmap", "image/x-xbitmap", "application/bmp"]).shown(),
    row("image/tiff", &["tif", "tiff"]).also(&["image/tif", "image/tiff-fx", "application/tif", "application/tiff"]).shown(),
    // Other pictures
    row("image/vnd.microsoft.icon", &["ico"]).also(&["image/x-icon", "image/ico", "image/icon", "application/ico", "text/ico"]).seen_as(&["image/png", "image/bmp"]).or_unknown(),
    row("image/jxl", &["jxl"]).or_unknown(),
    row("image/jp2", &["jp2", "jpg2", "jpx", "jpm", "jpf"]).also(&["image/jpeg2000", "image/jpx", "image/jpm", "image/jpeg2000-image"]).seen_as(&["image/j2c"]).or_unknown(),
    row("image/j2c", &["j2k", "j2c", "jpc"]).also(&["image/j2k", "image/jpeg2000"]).seen_as(&["image/jp2"]).or_unknown(),
    row("image/vnd.adobe.photoshop", &["psd", "psb"]).also(&["image/psd", "image/photoshop", "application/photoshop", "application/psd"]).or_unknown(),
    row("image/x-adobe-dng", &["dng"]).also(&["image/dng", "image/tiff"]).seen_as(&["image/tiff"]).or_unknown(),
    row("image/x-raw", &["cr2", "cr3", "nef", "nrw", "arw", "orf", "rw2", "pef", "raf", "srw"]).also(&["image/x-canon-cr2", "image/x-canon-cr3", "image/x-nikon-nef", "image/x-nikon-nrw", "image/x-sony-arw", "image/x-olympus-orf", "image/x-panasonic-rw2", "image/x-pentax-pef", "image/x-fuji-raf", "image/x-samsung-srw", "image/x-dcraw"]).seen_as(&["image/tiff", "image/x-canon-cr3"]).or_unknown(),
    row("image/vnd.djvu", &["djvu", "djv"]).also(&["image/x-djvu", "image/x.djvu", "image/vnd.djvu+multipage"]).or_unknown(),
    row("image/x-xcf", &["xcf"]).also(&["image/x-compressed-xcf"]).or_unknown(),
    row("image/vnd.dwg", &["dwg"]).also(&["image/x-dwg", "application/acad", "application/x-acad", "application/autocad_dwg", "application/dwg", "drawing/dwg", "application/x-autocad"]).or_unknown(),
    row("image/vnd.dxf", &["dxf"]).also(&["image/dxf", "application/dxf", "drawing/dxf"]).or_unknown(),
    row("application/postscript", &["ps", "eps", "ai"]).also(&["image/eps", "image/x-eps", "application/eps", "application/illustrator", "application/vnd.adobe.illustrator"]).seen_as(&["application/pdf"]).or_unknown(),
    row("image/wmf", &["wmf", "emf"]).also(&["image/emf", "application/x-msmetafile", "windows/metafile"]).or_unknown(),
    // Text
    row("text/plain", &["txt", "text", "log"]).also(&["text/x-log"]).or_unknown(),
    row("text/markdown", &["md", "markdown"]).also(&["text/plain"]).or_unknown(),
    row("text/csv", &["csv"]).also(&["application/csv", "application/vnd.ms-excel", "application/excel", "text/comma-separated-values", "text/anytext", "application/vnd.msexcel", "text/plain", "text/tab-separated-values"]).or_unknown(),
    row("text/tab-separated-values", &["tsv", "tab"]).also(&["text/tsv", "text/plain", "text/csv"]).or_unknown(),
    row("application/json", &["json"]).also(&["text/json", "application/javascript", "text/javascript", "text/plain"]).or_unknown(),
    row("application/x-ndjson", &["jsonl", "ndjson"]).also(&["application/jsonl", "application/json-lines", "application/json", "text/plain"]).or_unknown(),
    row("application/geo+json", &["geojson"]).also(&["application/vnd.geo+json", "application/json"]).or_unknown(),
    row("application/yaml", &["yaml", "yml"]).also(&["text/yaml", "text/vnd.yaml", "application/vnd.yaml", "text/plain"]).or_unknown(),
    row("application/toml", &["toml"]).also(&["text/toml", "text/plain"]).or_unknown(),
    row("text/x-config", &["ini", "conf", "cfg", "properties"]).also(&["text/plain", "text/x-ini", "application/x-wine-extension-ini", "text/x-java-properties"]).or_unknown(),
    row("application/sql", &["sql"]).also(&["text/sql", "text/plain"]).or_unknown(),
    row("application/x-tex", &["tex", "bib"]).also(&["text/x-tex", "text/x-bibtex", "application/x-latex", "application/x-bibtex", "text/plain"]).or_unknown(),
    row("text/x-rst", &["rst", "org", "adoc"]).also(&["text/prs.fallenstein.rst", "text/org", "text/asciidoc", "text/plain"]).or_unknown(),
    row("application/gpx+xml", &["gpx"]).also(&["application/gpx", "application/xml", "text/xml"]).or_unknown(),
    row("application/vnd.google-earth.kml+xml", &["kml"]).also(&["application/xml", "text/xml"]).or_unknown(),
    row("application/x-subrip", &["srt"]).also(&["text/srt", "text/x-srt", "application/srt", "text/plain"]).or_unknown(),
    row("text/vtt", &["vtt"]).also(&["text/plain"]).or_unknown(),
    row("text/calendar", &["ics", "ical", "ifb"]).also(&["application/ics", "text/x-vcalendar"]).or_unknown(),
    row("text/vcard", &["vcf", "vcard"]).also(&["text/directory", "text/x-vcard"]).or_unknown(),
    row("message/rfc822", &["eml"]).also(&["application/eml", "text/plain"]).or_unknown(),
    // Documents
    row("application/pdf", &["pdf"]).also(&["application/acrobat", "application/nappdf", "application/vnd.pdf", "applications/vnd.pdf", "text/pdf", "image/pdf"]).shown(),
    row("application/vnd.openxmlformats-officedocument.wordprocessingml.document", &["docx"]).also(&["application/msword", "application/vnd.ms-word", "application/docx", "application/zip"]).seen_as(WORD),
    row("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", &["xlsx"]).also(&["application/vnd.ms-excel", "application/excel", "application/xlsx", "application/zip"]).seen_as(EXCEL),
    row("application/vnd.openxmlformats-officedocument.presentationml.presentation", &["pptx"]).also(&["application/vnd.ms-powerpoint", "application/powerpoint", "application/pptx", "application/zip"]).seen_as(POWERPOINT),
    row("application/vnd.openxmlformats-officedocument.wordprocessingml.template", &["dotx"]).also(&["application/vnd.ms-word", "application/msword", "application/zip"]).seen_as(WORD),
    row("application/vnd.openxmlformats-officedocument.spreadsheetml.template", &["xltx"]).also(&["application/vnd.ms-excel", "application/zip"]).seen_as(EXCEL),
    row("application/vnd.openxmlformats-officedocument.presentationml.template", &["potx"]).also(&["application/vnd.ms-powerpoint", "application/zip"]).seen_as(POWERPOINT),
    row("application/vnd.openxmlformats-officedocument.presentationml.slideshow", &["ppsx"]).also(&["application/vnd.ms-powerpoint", "application/zip"]).seen_as(POWERPOINT),
    row("application/vnd.ms-word.document.macroenabled.12", &["docm"]).also(&["application/vnd.ms-word", "application/zip"]).seen_as(WORD).on_request(),
    row("application/vnd.ms-excel.sheet.macroenabled.12", &["xlsm"]).also(&["application/vnd.ms-excel", "application/zip"]).seen_as(EXCEL).on_request(),
    row("application/vnd.ms-excel.sheet.binary.macroenabled.12", &["xlsb"]).also(&["application/vnd.ms-excel", "application/zip"]).seen_as(EXCEL).on_request(),
    row("application/vnd.ms-powerpoint.presentation.macroenabled.12", &["pptm"]).also(&["application/vnd.ms-powerpoint", "application/zip"]).seen_as(POWERPOINT).on_request(),
    row("application/vnd.oasis.opendocument.text", &["odt"]).also(&["application/zip"]).seen_as(OPEN_DOCUMENT),
    row("application/vnd.oasis.opendocument.spreadsheet", &["ods"]).also(&["application/zip"]).seen_as(OPEN_DOCUMENT),
    row("application/vnd.oasis.opendocument.presentation", &["odp"]).also(&["application/zip"]).seen_as(OPEN_DOCUMENT),
    row("application/vnd.oasis.opendocument.graphics", &["odg"]).also(&["application/zip"]).seen_as(OPEN_DOCUMENT),
    row("application/vnd.oasis.opendocument.text-template", &["ott"]).also(&["application/zip"]).seen_as(OPEN_DOCUMENT),
    row("application/vnd.oasis.opendocument.spreadsheet-template", &["ots"]).also(&["application/zip"]).seen_as(OPEN_DOCUMENT),
    row("application/vnd.oasis.opendocument.presentation-template", &["otp"]).also(&["application/zip"]).seen_as(OPEN_DOCUMENT),
    row("application/vnd.oasis.opendocument.chart", &["odc"]).also(&["application/zip"]).seen_as(OPEN_DOCUMENT),
    row("application/vnd.oasis.opendocument.formula", &["odf"]).also(&["application/zip"]).seen_as(OPEN_DOCUMENT),
    row("application/vnd.oasis.opendocument.text-flat-xml", &["fodt", "fods", "fodp", "fodg"]).also(&["text/xml", "application/xml", "application/vnd.oasis.opendocument.spreadsheet-flat-xml", "application/vnd.oasis.opendocument.presentation-flat-xml"]).or_unknown(),
    row("application/msword", &["doc", "dot"]).also(&["application/vnd.ms-word", "application/doc", "application/vnd.msword", "application/winword", "application/word", "application/rtf", "text/rtf"]).seen_as(LEGACY_OFFICE).or_unknown(),
    row("application/vnd.ms-excel", &["xls", "xlt"]).also(&["application/msexcel", "application/x-msexcel", "application/x-ms-excel", "application/x-excel", "application/excel", "application/x-dos_ms_excel", "application/xls", "zz-application/zz-winassoc-xls"]).seen_as(LEGACY_OFFICE).or_unknown(),
    row("application/vnd.ms-powerpoint", &["ppt", "pps", "pot"]).also(&["application/mspowerpoint", "application/powerpoint", "application/vnd.mspowerpoint"]).seen_as(LEGACY_OFFICE),
    row("application/rtf", &["rtf"]).also(&["text/rtf", "text/richtext", "application/msword"]).or_unknown(),
    row("application/vnd.ms-outlook", &["msg", "oft"]).also(&["application/msoutlook", "application/vnd.ms-outlook-pst"]).seen_as(OLE).or_unknown(),
    row("application/vnd.visio", &["vsd", "vsdx", "vss", "vst"]).also(&["application/vnd.ms-visio.drawing", "application/visio", "application/vnd.ms-visio.viewer", "application/vnd.ms-visio.drawing.main+xml"]).seen_as(&["application/x-ole-storage", "application/x-ooxml", "application/zip"]).or_unknown(),
    row("application/vnd.ms-project", &["mpp", "mpt"]).also(&["application/msproject"]).seen_as(OLE).or_unknown(),
    row("application/epub+zip", &["epub"]).also(&["application/zip"]).seen_as(ANY_ZIP).or_unknown(),
    row("application/vnd.apple.pages", &["pages"]).also(&["application/zip", "application/x-iwork-pages-sffpages"]).seen_as(ANY_ZIP).or_unknown(),
    row("application/vnd.apple.numbers", &["numbers"]).also(&["application/zip", "application/x-iwork-numbers-sffnumbers"]).seen_as(ANY_ZIP).or_unknown(),
    row("application/vnd.apple.keynote", &["key", "keynote"]).also(&["application/zip", "application/x-iwork-keynote-sffkey", "application/pgp-keys"]).seen_as(ANY_ZIP).or_unknown(),
    row("application/vnd.google-earth.kmz", &["kmz"]).also(&["application/zip"]).seen_as(ANY_ZIP).or_unknown(),
    row("application/pkcs7-mime", &["p7m", "p7c"]).also(&["application/pkcs7-signature"]).or_unknown(),
    row("application/pkcs7-signature", &["p7s"]).also(&["application/pkcs7-mime"]).or_unknown(),
    row("application/dicom", &["dcm"]).also(&["image/dicom"]).or_unknown(),
    row("application/vnd.ms-xpsdocument", &["xps", "oxps"]).also(&["application/oxps", "application/zip"]).seen_as(ANY_ZIP).or_unknown(),
    // Sound
    row("audio/mpeg", &["mp3", "mp2", "mpga"]).also(&["audio/mp3", "audio/mpg", "audio/mpeg3"]).seen_as(&["audio/aac", "audio/wav"]).shown(),
    row("audio/mp4", &["m4a", "m4b"]).also(&["audio/m4a", "audio/m4b", "video/mp4"]).seen_as(ISO_MEDIA_AND_AAC).shown(),
    row("audio/wav", &["wav", "wave"]).also(&["audio/wave", "audio/vnd.wave"]).shown(),
    row("audio/ogg", &["ogg", "oga", "opus", "spx"]).also(&["audio/opus", "application/ogg", "audio/vorbis", "audio/speex"]).seen_as(&["audio/opus", "video/ogg", "audio/flac"]).shown(),
    row("audio/flac", &["flac"]).seen_as(&["audio/ogg"]).shown(),
    row("audio/aac", &["aac", "adts"]).also(&["audio/aacp", "audio/hx-aac-adts", "audio/vnd.dlna.adts", "audio/mpeg"]).seen_as(ISO_MEDIA_AND_AAC).shown(),
    row("audio/aiff", &["aif", "aiff", "aifc"]).also(&["audio/aifc"]).or_unknown(),
    row("audio/amr", &["amr"]).also(&["audio/amr-nb", "audio/amr-wb"]).or_unknown(),
    row("audio/midi", &["mid", "midi"]).also(&["audio/mid", "application/midi", "audio/sp-midi"]).or_unknown(),
    row("audio/x-caf", &["caf"]).or_unknown(),
    row("audio/x-ms-wma", &["wma"]).also(&["video/x-ms-asf"]).seen_as(&["video/x-ms-asf"]).or_unknown(),
    // Film
    row("video/mp4", &["mp4", "mp4v", "mpg4"]).also(&["application/mp4", "video/mpeg4"]).seen_as(ISO_MEDIA).shown(),
    row("video/x-m4v", &["m4v"]).also(&["video/mp4"]).seen_as(ISO_MEDIA).shown(),
    row("video/quicktime", &["mov", "qt"]).also(&["image/mov", "video/mp4"]).seen_as(ISO_MEDIA).shown(),
    row("video/webm", &["webm"]).also(&["audio/webm"]).shown(),
    row("audio/webm", &["weba"]).also(&["video/webm"]).seen_as(&["video/webm"]).shown(),
    row("video/3gpp", &["3gp", "3gpp"]).also(&["audio/3gpp"]).seen_as(ISO_MEDIA).or_unknown(),
    row("video/3gpp2", &["3g2"]).also(&["audio/3gpp2"]).seen_as(ISO_MEDIA).or_unknown(),
    row("video/ogg", &["ogv"]).also(&["application/ogg"]).seen_as(&["audio/ogg", "audio/opus"]).or_unknown(),
    row("video/x-matroska", &["mkv", "mka", "mk3d"]).also(&["video/matroska", "audio/x-matroska", "application/x-matroska"]).seen_as(&["video/webm"]).or_unknown(),
    row("video/x-msvideo", &["avi"]).also(&["video/avi", "video/msvideo", "video/vnd.avi"]).or_unknown(),
    row("video/mpeg", &["mpg", "mpeg", "mpe", "vob"]).also(&["video/x-mpeg2", "video/mpg"]).seen_as(&["video/mp2t", "audio/mpeg"]).or_unknown(),
    row("video/mp2t", &["mts", "m2ts"]).also(&["video/vnd.dlna.mpeg-tts", "model/vnd.mts"]).or_unknown(),
    row("video/x-ms-wmv", &["wmv", "asf"]).also(&["video/x-ms-asf", "application/vnd.ms-asf"]).seen_as(&["video/x-ms-asf"]).or_unknown(),
    row("video/x-flv", &["flv"]).also(&["video/flv"]).or_unknown(),
    // Archives, which nobody has looked into
    row("application/zip", &["zip"]).also(&["application/x-zip-compressed", "application/x-compressed", "multipart/x-zip"]).seen_as(ANY_ZIP).or_unknown().on_request(),
    row("application/x-7z-compressed", &["7z"]).also(&["application/x-7zip-compressed", "application/7z"]).or_unknown().on_request(),
    row("application/vnd.rar", &["rar"]).also(&["application/x-rar-compressed", "application/x-rar", "application/rar"]).or_unknown().on_request(),
    row("application/gzip", &["gz", "tgz"]).also(&["application/x-gzip", "application/x-compressed-tar", "application/x-gtar", "application/x-tgz", "application/x-tar-gz", "application/gzip-compressed"]).or_unknown().on_request(),
    row("application/x-tar", &["tar"]).also(&["application/tar", "application/x-gtar"]).or_unknown().on_request(),
    row("application/x-bzip2", &["bz2"]).also(&["application/bzip2", "application/x-bzip"]).or_unknown().on_request(),
    row("application/x-xz", &["xz"]).also(&["application/xz"]).or_unknown().on_request(),
    row("application/zstd", &["zst"]).also(&["application/x-zstd"]).or_unknown().on_request(),
    // Whatever has no row of its own, where that is allowed.
    row("application/octet-stream", &[]).or_anything().on_request(),
];

/// Names that say nothing about a file.
const SAYING_NOTHING: [&str; 14] = [
    "application/octet-stream",
    "binary/octet-stream",
    "application/octetstream",
    "application/binary",
    "application/x-binary",
    "application/unknown",
    "application/x-unknown",
    "unknown/unknown",
    "application/download",
    "application/x-download",
    "application/force-download",
    "application/x-forcedownload",
    "application/x-msdownload",
    "*/*",
];

/// The bytes of a file are not those of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file is not what its name says: its bytes are not those of {expected}{}", Seen(*.seen))]
pub struct MediaTypeMismatch {
    /// The type the file should have.
    pub expected: MediaType,
    /// The type its bytes show, when they show one.
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
    /// How many types there are.
    pub(crate) const COUNT: usize = TABLE.len();

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

    /// `application/octet-stream`, the type of a file of which nothing is known but that it may be
    /// saved. No extension stands for it.
    #[must_use]
    pub const fn unknown() -> Self {
        Self(&TABLE[TABLE.len() - 1])
    }

    /// The type of a file of this name, by its extension; [`unknown`](Self::unknown) for one that has no
    /// row in the table.
    #[must_use]
    pub fn of_name(name: &FileName) -> Self {
        name.extension()
            .and_then(Self::from_extension)
            .unwrap_or_else(Self::unknown)
    }

    /// The type's place in the table.
    pub(crate) fn index(self) -> usize {
        Self::all().position(|one| one == self).unwrap_or_default()
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

    /// Whether it is allowed where no setting says otherwise.
    #[must_use]
    pub const fn is_usual(self) -> bool {
        self.0.usual
    }

    /// Whether `name` is this type's name, one that such a file is known to be given instead, or one
    /// that says nothing. A subtype with `x-` before it is that without; of sound and film, which share
    /// their containers, all names of either go.
    #[must_use]
    pub fn goes_by(self, name: &str) -> bool {
        let name = essence(name);
        let is_recording = |name: &str| name.starts_with("audio/") || name.starts_with("video/");
        SAYING_NOTHING.iter().any(|known| is_same(known, name))
            || core::iter::once(&self.0.name)
                .chain(self.0.aliases)
                .any(|known| is_same(known, name))
            || is_recording(self.0.name)
                && name.get(..6).is_some_and(|start| {
                    start.eq_ignore_ascii_case("audio/") || start.eq_ignore_ascii_case("video/")
                })
    }

    /// Every type of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(Self)
    }

    /// Whether the bytes of a file of this type may show `kind`, as
    /// [`sniff`](crate::content::sniff) gives it.
    #[must_use]
    pub fn accepts(self, kind: Option<&str>) -> bool {
        match (kind, self.0.otherwise) {
            (_, Otherwise::Anything) | (None, Otherwise::TextOrUnknown) => true,
            (None, Otherwise::Refused) => false,
            (Some(kind), otherwise) => {
                kind == self.0.name
                    || self.0.seen_as.contains(&kind)
                    || otherwise == Otherwise::TextOrUnknown && content::is_text_format(kind)
            }
        }
    }

    /// Checks that the bytes of a file of this type may show `seen`.
    ///
    /// # Errors
    /// [`MediaTypeMismatch`], with the type the bytes show.
    pub fn check(self, seen: Option<&'static str>) -> Result<(), MediaTypeMismatch> {
        if self.accepts(seen) {
            Ok(())
        } else {
            Err(MediaTypeMismatch {
                expected: self,
                seen,
            })
        }
    }

    /// Whether it is a picture that is shown, whose size is therefore bounded.
    pub(crate) fn is_bounded_picture(self) -> bool {
        self.0.inline_safe && self.0.name.starts_with("image/")
    }

    /// Whether it is a document in a ZIP file, of which the list of entries tells the kind.
    pub(crate) fn is_zip_document(self) -> bool {
        let in_zip = |kind: &&str| matches!(*kind, OOXML | "application/x-opendocument");
        self.0.seen_as.iter().any(in_zip)
    }
}

fn essence(name: &str) -> &str {
    name.split(';').next().unwrap_or_default().trim()
}

/// Whether two names are one but for their letters' case and an `x-` before the subtype.
fn is_same(known: &str, name: &str) -> bool {
    match (parts(known), parts(name)) {
        (Some((kind, subtype)), Some((other_kind, other_subtype))) => {
            kind.eq_ignore_ascii_case(other_kind) && subtype.eq_ignore_ascii_case(other_subtype)
        }
        _ => false,
    }
}

/// A name's type and subtype, the latter without `x-`.
fn parts(name: &str) -> Option<(&str, &str)> {
    let (kind, subtype) = name.split_once('/')?;
    let plain = subtype
        .split_at_checked(2)
        .filter(|(start, _)| start.eq_ignore_ascii_case("x-"));
    Some((kind, plain.map_or(subtype, |(_, rest)| rest)))
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
