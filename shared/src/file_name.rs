//! The name a user gave a file: shown again to users, put in a download header, and never part of
//! an object key or of a path.

use alloc::{format, string::String};
use core::{fmt, str::FromStr};

use crate::{MediaType, nfc::nfc, text_serde::serde_as_text};

/// The longest file name, in bytes of UTF-8: the limit of the usual file systems.
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// What [`FileName::sanitize`] calls a file of whose name nothing is left.
const NAMELESS: &str = "file";

/// A file name that is safe to show, store and send: in Unicode NFC, without characters that hide or
/// reorder text, without path separators, and not a name some system treats as a device. Characters
/// that only Windows does not store (`< > : " | ? *`) are kept: people elsewhere use them, and a
/// browser replaces them when it saves a file there.
///
/// Made by [`FileName::parse`], which refuses, or by [`FileName::sanitize`], which repairs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    text: String,
    extension: Option<String>,
}

/// Why a text is not a file name: one variant and one stable [code](FileNameError::code) a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileNameError {
    /// There is nothing in it.
    #[error("the file name is empty")]
    Empty,
    /// It is longer than [`MAX_FILE_NAME_BYTES`] in NFC.
    #[error("the file name is longer than 255 bytes of UTF-8")]
    TooLong,
    /// It holds NUL or another control character (C0, DEL, C1).
    #[error("the file name holds a control character")]
    ControlCharacter,
    /// It holds a character that changes the direction of the text around it, so that the name
    /// shown is not the name it is (Unicode TR 36, CVE-2021-42574).
    #[error("the file name holds a character that turns the direction of text")]
    BidiCharacter,
    /// It holds a line or paragraph separator (U+2028, U+2029).
    #[error("the file name holds a line separator")]
    LineSeparator,
    /// It holds a character that cannot be seen, such as a zero-width space or a byte order mark.
    #[error("the file name holds an invisible character")]
    InvisibleCharacter,
    /// It holds `/` or `\`.
    #[error("the file name holds a path separator, '/' or '\\'")]
    PathSeparator,
    /// It is made of dots alone, such as `.` and `..`.
    #[error("the file name is made of dots alone")]
    Dots,
    /// It begins with a dot, and so would be hidden.
    #[error("the file name begins with a dot")]
    LeadingDot,
    /// It begins with white space.
    #[error("the file name begins with a space")]
    LeadingSpace,
    /// It ends with white space or a dot, which Windows drops.
    #[error("the file name ends with a space or a dot")]
    TrailingSpaceOrDot,
    /// Windows takes it for a device, with or without an extension: `CON`, `nul.txt`, `COM1`.
    #[error("the file name is the name of a device on Windows")]
    DeviceName,
}

impl FileNameError {
    /// The stable code of the reason, for programs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "file_name_empty",
            Self::TooLong => "file_name_too_long",
            Self::ControlCharacter => "file_name_control_character",
            Self::BidiCharacter => "file_name_bidi_character",
            Self::LineSeparator => "file_name_line_separator",
            Self::InvisibleCharacter => "file_name_invisible_character",
            Self::PathSeparator => "file_name_path_separator",
            Self::Dots => "file_name_dots",
            Self::LeadingDot => "file_name_leading_dot",
            Self::LeadingSpace => "file_name_leading_space",
            Self::TrailingSpaceOrDot => "file_name_trailing_space_or_dot",
            Self::DeviceName => "file_name_device",
        }
    }
}

impl FileName {
    /// Takes a name that is safe as it stands, and puts it in NFC.
    ///
    /// # Errors
    /// The first reason found why the name is refused.
    pub fn parse(text: &str) -> Result<Self, FileNameError> {
        let text = nfc(text);
        check_characters(&text)?;
        check_edges(&text)?;
        if text.len() > MAX_FILE_NAME_BYTES {
            return Err(FileNameError::TooLong);
        }
        if is_device_name(&text) {
            return Err(FileNameError::DeviceName);
        }
        let extension = text
            .rsplit_once('.')
            .map(|(_, extension)| nfc(&extension.to_lowercase()));
        Ok(Self { text, extension })
    }

    /// Makes a safe name of any text. A name that [`parse`](Self::parse) takes comes back as `parse`
    /// gives it; of a path the last part is kept; what cannot be kept is left out; a text of which
    /// nothing is left becomes `file`.
    #[must_use]
    pub fn sanitize(text: &str) -> Self {
        Self::parse(text)
            .or_else(|_| Self::parse(&clean(text)))
            .unwrap_or_else(|_| Self {
                text: NAMELESS.into(),
                extension: None,
            })
    }

    /// The name in NFC, 1 to 255 bytes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What follows the last dot, in lower case and without the dot.
    #[must_use]
    pub fn extension(&self) -> Option<&str> {
        self.extension.as_deref()
    }

    /// The name with a number before its extension: `image (2).jpg`, shortened where it would be too
    /// long.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Self {
        let (stem, extension) = match self.text.rsplit_once('.') {
            Some((stem, extension)) => (stem, format!(".{extension}")),
            None => (self.text.as_str(), String::new()),
        };
        let ending = format!(" ({number}){extension}");
        let stem = cut(stem, MAX_FILE_NAME_BYTES.saturating_sub(ending.len()));
        Self::sanitize(&format!("{stem}{ending}"))
    }

    /// The form in which two names of one place are compared: lower case, in NFC. `Photo.JPG` and
    /// `photo.jpg` have the same, for many file systems hold them for one file.
    #[must_use]
    pub fn comparison_key(&self) -> String {
        nfc(&self.text.to_lowercase())
    }
}

impl FromStr for FileName {
    type Err = FileNameError;

    fn from_str(text: &str) -> Result<Self, FileNameError> {
        Self::parse(text)
    }
}

impl AsRef<str> for FileName {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serde_as_text!(FileName);

fn check_characters(text: &str) -> Result<(), FileNameError> {
    let mut previous = None;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        let next = rest.clone().next();
        if let Some(reason) = refusal(previous, character, next) {
            return Err(reason);
        }
        previous = Some(character);
    }
    Ok(())
}

fn check_edges(text: &str) -> Result<(), FileNameError> {
    let (Some(first), Some(last)) = (text.chars().next(), text.chars().next_back()) else {
        return Err(FileNameError::Empty);
    };
    if text.chars().all(|character| character == '.') {
        Err(FileNameError::Dots)
    } else if first == '.' {
        Err(FileNameError::LeadingDot)
    } else if first.is_whitespace() {
        Err(FileNameError::LeadingSpace)
    } else if last == '.' || last.is_whitespace() {
        Err(FileNameError::TrailingSpaceOrDot)
    } else {
        Ok(())
    }
}

/// Why `character`, between its neighbours, may not stand in a name; `None` when it may.
fn refusal(previous: Option<char>, character: char, next: Option<char>) -> Option<FileNameError> {
    match character {
        '/' | '\\' => Some(FileNameError::PathSeparator),
        '\u{2028}' | '\u{2029}' => Some(FileNameError::LineSeparator),
        '\u{061C}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}' => Some(FileNameError::BidiCharacter),
        // Persian and Indic words and joined emoji need these two, and only between characters of
        // their own; beside ASCII they would only make two names look alike.
        '\u{200C}' | '\u{200D}' => {
            let joins = |neighbour: Option<char>| {
                neighbour.is_some_and(|c| !c.is_ascii() && !matches!(c, '\u{200C}' | '\u{200D}'))
            };
            let used = joins(previous) && joins(next);
            (!used).then_some(FileNameError::InvisibleCharacter)
        }
        // A flag of a part of a country is a black flag and, in tags, the code of the part (Unicode TS 51,
        // 2.6 and C.1): they are no text of their own there.
        TAG_FIRST..=TAG_LAST => {
            let begins = previous.is_some_and(|c| c == BLACK_FLAG || is_tag(c));
            let goes_on = next.is_some_and(|c| is_tag(c) || c == TAG_END);
            (!(is_tag(character) && begins && goes_on)).then_some(FileNameError::InvisibleCharacter)
        }
        TAG_END => (!previous.is_some_and(is_tag)).then_some(FileNameError::InvisibleCharacter),
        _ if is_invisible(character) => Some(FileNameError::InvisibleCharacter),
        _ if character.is_control() => Some(FileNameError::ControlCharacter),
        _ => None,
    }
}

const BLACK_FLAG: char = '\u{1F3F4}';
const TAG_FIRST: char = '\u{E0020}';
const TAG_LAST: char = '\u{E007E}';
const TAG_END: char = '\u{E007F}';

/// The tags of which codes are made: digits and small letters.
const fn is_tag(character: char) -> bool {
    matches!(character, '\u{E0030}'..='\u{E0039}' | '\u{E0061}'..='\u{E007A}')
}

/// Characters without a shape of their own (Unicode's Default_Ignorable_Code_Point, but for the
/// variation selectors, which choose the shape of the character before them), the interlinear
/// annotation marks, and the code points that never become characters.
const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{00AD}'
            | '\u{034F}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{180E}'
            | '\u{200B}'
            | '\u{2060}'..='\u{2065}'
            | '\u{206A}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FDD0}'..='\u{FDEF}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}'
            | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E00FF}'
            | '\u{E01F0}'..='\u{E0FFF}'
    ) || character as u32 & 0xFFFE == 0xFFFE
}

/// Windows looks at what stands before the first dot, in any case and without spaces at its end
/// (Microsoft, "Naming Files, Paths, and Namespaces").
fn is_device_name(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or_default().trim_end();
    if ["con", "prn", "aux", "nul", "conin$", "conout$"]
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
    {
        return true;
    }
    let mut characters = stem.chars();
    let Some(port @ ('0'..='9' | '¹' | '²' | '³')) = characters.next_back() else {
        return false;
    };
    let ports = characters.as_str();
    port != '0' && (ports.eq_ignore_ascii_case("com") || ports.eq_ignore_ascii_case("lpt"))
}

fn clean(text: &str) -> String {
    let kept = text
        .rsplit(['/', '\\'])
        .map(|part| keep_allowed(&nfc(part)))
        .find(|part| !trim_edges(part).is_empty())
        .unwrap_or_default();
    // Of a name whose stem cannot be seen the extension is kept.
    let is_extension_alone = kept.starts_with('.') && is_known_extension(trim_edges(&kept));
    let kept = if is_extension_alone {
        format!("{NAMELESS}{kept}")
    } else {
        kept
    };
    // What stood apart may now compose.
    let mut name = shorten(&nfc(trim_edges(&kept)));
    if is_device_name(&name) {
        name.insert(0, '_');
        name = shorten(&name);
    }
    name
}

fn keep_allowed(text: &str) -> String {
    // What is refused wherever it stands goes first, so that the joiners see their true neighbours.
    let visible: String = without_stray_tags(text)
        .chars()
        .filter(|&c| is_joiner(c) || is_tag(c) || c == TAG_END || refusal(None, c, None).is_none())
        .collect();
    let mut kept = String::with_capacity(visible.len());
    let mut rest = visible.chars();
    while let Some(character) = rest.next() {
        let next = rest.clone().next();
        if refusal(kept.chars().next_back(), character, next).is_none() {
            kept.push(character);
        }
    }
    kept
}

/// Without tags that make no flag.
fn without_stray_tags(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let (one, behind) = rest.split_at(character.len_utf8());
        let tags = behind.len() - behind.trim_start_matches(is_tag).len();
        let is_flag = character == BLACK_FLAG
            && tags > 0
            && behind
                .get(tags..)
                .is_some_and(|end| end.starts_with(TAG_END));
        if is_flag {
            let length = one.len() + tags + TAG_END.len_utf8();
            kept.push_str(rest.get(..length).unwrap_or_default());
            rest = rest.get(length..).unwrap_or_default();
        } else {
            if !matches!(character, TAG_FIRST..=TAG_END) {
                kept.push(character);
            }
            rest = behind;
        }
    }
    kept
}

fn is_known_extension(text: &str) -> bool {
    MediaType::from_extension(&text.to_lowercase()).is_some()
}

const fn is_joiner(character: char) -> bool {
    matches!(character, '\u{200C}' | '\u{200D}')
}

fn trim_edges(text: &str) -> &str {
    text.trim_matches(may_not_end_a_name)
}

fn may_not_end_a_name(character: char) -> bool {
    // A flag that was cut ends within its tags.
    character == '.' || character.is_whitespace() || is_joiner(character) || is_tag(character)
}

/// Cuts a name to the limit, keeping a usual extension.
fn shorten(name: &str) -> String {
    const LONGEST_EXTENSION_KEPT: usize = 16;
    if name.len() <= MAX_FILE_NAME_BYTES {
        return name.into();
    }
    match name.rsplit_once('.') {
        Some((stem, extension)) if extension.len() <= LONGEST_EXTENSION_KEPT => {
            let stem = cut(stem, MAX_FILE_NAME_BYTES - 1 - extension.len());
            format!("{stem}.{extension}")
        }
        _ => cut(name, MAX_FILE_NAME_BYTES).into(),
    }
}

/// The longest start of `text` of at most `bytes` bytes that may end a name.
fn cut(text: &str, bytes: usize) -> &str {
    let end = text.floor_char_boundary(bytes);
    let start = text.get(..end).unwrap_or(text);
    start.trim_end_matches(may_not_end_a_name)
}
