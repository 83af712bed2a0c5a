//! Which of the types of the [table](crate::media_type) may be uploaded.

use core::{fmt, str::FromStr};

use crate::{FileName, MediaType, text_serde::serde_as_text};

/// The word for files of no type of the table.
const UNKNOWN: &str = "unknown";

/// The word that allows nothing, for what follows to add to.
const NONE: &str = "none";

const WORDS: usize = 2;
const _: () = assert!(MediaType::COUNT <= 64 * WORDS);

/// A choice of types. By default those of the table that are [usual](MediaType::is_usual).
///
/// Written as words: `+zip` adds the type of the extension `zip`, `-mov` takes that of `mov` away, of
/// whichever extension of a type is named; `none` takes all away. `+unknown` adds files whose extension
/// has no row in the table, and files without one: they are stored as `application/octet-stream` and
/// only ever saved. Read from left to right: `none +pdf +png`, `+zip -eml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileTypes([u64; WORDS]);

/// A word that is none of a choice of file types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "file types are words such as +zip, -mov, +unknown or none, and an extension has to be a known one"
)]
pub struct FileTypesError;

impl FileTypes {
    const NONE: Self = Self([0; WORDS]);

    /// Every type of the table, and files of none.
    #[must_use]
    pub fn every() -> Self {
        Self::of(MediaType::all())
    }

    fn of(types: impl Iterator<Item = MediaType>) -> Self {
        types.fold(Self::NONE, |chosen, media_type| {
            chosen.with(media_type, true)
        })
    }

    fn with(mut self, media_type: MediaType, is_in: bool) -> Self {
        let (word, bit) = place(media_type);
        if let Some(word) = self.0.get_mut(word) {
            *word = if is_in { *word | bit } else { *word & !bit };
        }
        self
    }

    /// Whether files of a type are allowed.
    #[must_use]
    pub fn contains(self, media_type: MediaType) -> bool {
        let (word, bit) = place(media_type);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// The type of a file of this name; `None` when it is not allowed. What has a row in the table is
    /// never taken for unknown.
    #[must_use]
    pub fn of_name(self, name: &FileName) -> Option<MediaType> {
        Some(MediaType::of_name(name)).filter(|media_type| self.contains(*media_type))
    }

    /// The types that are allowed.
    pub fn iter(self) -> impl Iterator<Item = MediaType> {
        MediaType::all().filter(move |media_type| self.contains(*media_type))
    }
}

fn place(media_type: MediaType) -> (usize, u64) {
    let index = media_type.index();
    (index / 64, 1 << (index % 64))
}

impl Default for FileTypes {
    fn default() -> Self {
        Self::of(MediaType::all().filter(|media_type| media_type.is_usual()))
    }
}

impl FromStr for FileTypes {
    type Err = FileTypesError;

    fn from_str(text: &str) -> Result<Self, FileTypesError> {
        text.split([' ', ','])
            .filter(|word| !word.is_empty())
            .try_fold(Self::default(), |chosen, word| {
                if word == NONE {
                    return Ok(Self::NONE);
                }
                let (sign, extension) = word.split_at_checked(1).ok_or(FileTypesError)?;
                let media_type = if extension == UNKNOWN {
                    Some(MediaType::unknown())
                } else {
                    MediaType::from_extension(extension.trim_start_matches('.'))
                };
                match (sign, media_type) {
                    ("+", Some(media_type)) => Ok(chosen.with(media_type, true)),
                    ("-", Some(media_type)) => Ok(chosen.with(media_type, false)),
                    _ => Err(FileTypesError),
                }
            })
    }
}

/// By what differs from the usual types, each by its first extension.
impl fmt::Display for FileTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for media_type in MediaType::all() {
            let is_in = self.contains(media_type);
            if is_in != media_type.is_usual() {
                let sign = if is_in { '+' } else { '-' };
                let extension = media_type.extensions().first().unwrap_or(&UNKNOWN);
                write!(f, "{space}{sign}{extension}")?;
                space = " ";
            }
        }
        Ok(())
    }
}

serde_as_text!(FileTypes);
