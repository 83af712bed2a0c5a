//! The check of an upload before anything is written or signed.

use alloc::{format, string::String, vec::Vec};

use super::{FileDeclaration, UploadRequest, VersionRequest};
use crate::{
    EntityId, EntityType, ErrorCode, FieldError, FileName, FileTypes, Limits, MediaType,
    Sha256Digest, sentence::sentence,
};

/// An upload set that may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedUpload {
    /// The type of the entity the files belong to.
    pub entity_type: EntityType,
    /// The id of the entity the files belong to.
    pub entity_id: EntityId,
    /// The files, in the order they were declared.
    pub files: Vec<CheckedFile>,
    /// See [`CheckedFiles::notes`].
    pub notes: Vec<FieldError>,
}

/// Files that may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFiles {
    /// The files, in the order they were declared.
    pub files: Vec<CheckedFile>,
    /// What its client should know and need not change, each at its field: a declared media type that
    /// the name contradicts.
    pub notes: Vec<FieldError>,
}

/// A file that may be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    /// The name, in NFC; numbered, where an earlier file of the set has it and the limits say so.
    pub name: FileName,
    /// The media type, by the name's extension.
    pub media_type: MediaType,
    /// The length in bytes, at least 1.
    pub size: u64,
    /// The SHA-256 of the content.
    pub sha256: Sha256Digest,
}

/// Checks a whole request and reports every error in it, each with a JSON pointer to its field.
///
/// Of a set with too many files only the first [`Limits::max_files`] are looked at, so that the
/// answer stays short whatever was asked.
///
/// # Errors
/// Every error found, in the order of the fields; never an empty list.
pub fn check_upload(
    request: &UploadRequest,
    limits: &Limits,
) -> Result<CheckedUpload, Vec<FieldError>> {
    let mut errors = Vec::new();
    let entity_type = check_id::<EntityType>(&request.entity_type, "/entity_type", &mut errors);
    let entity_id = check_id::<EntityId>(&request.entity_id, "/entity_id", &mut errors);
    let files = check_files(&request.files, limits, &mut errors);
    match (entity_type, entity_id, files) {
        (Some(entity_type), Some(entity_id), Some(CheckedFiles { files, notes }))
            if errors.is_empty() =>
        {
            Ok(CheckedUpload {
                entity_type,
                entity_id,
                files,
                notes,
            })
        }
        _ => Err(errors),
    }
}

/// Checks a request for a new version like [`check_upload`]: one of exactly one file.
///
/// # Errors
/// Every error found, in the order of the fields; never an empty list.
pub fn check_version(
    request: &VersionRequest,
    limits: &Limits,
) -> Result<CheckedFiles, Vec<FieldError>> {
    let one = Limits {
        max_files: 1,
        ..*limits
    };
    let mut errors = Vec::new();
    check_files(&request.files, &one, &mut errors)
        .filter(|_| errors.is_empty())
        .ok_or(errors)
}

/// Checks the files of a set. `None` if one of them is wrong.
fn check_files(
    declared: &[FileDeclaration],
    limits: &Limits,
    errors: &mut Vec<FieldError>,
) -> Option<CheckedFiles> {
    check_set(declared, limits, errors);
    let mut notes = Vec::new();
    let most = usize::try_from(limits.max_files).unwrap_or(usize::MAX);
    let files: Vec<Option<CheckedFile>> = declared
        .iter()
        .take(most)
        .enumerate()
        .map(|(index, file)| check_file(index, file, limits, errors, &mut notes))
        .collect();
    if !limits.number_duplicates {
        check_names_differ(declared.iter().take(most), errors);
    }
    let mut files: Vec<CheckedFile> = files.into_iter().collect::<Option<_>>()?;
    number_duplicates(&mut files);
    Some(CheckedFiles { files, notes })
}

fn check_id<T: core::str::FromStr<Err = crate::IdError>>(
    text: &str,
    pointer: &str,
    errors: &mut Vec<FieldError>,
) -> Option<T> {
    text.parse()
        .map_err(|error| {
            errors.push(FieldError::new(
                pointer,
                ErrorCode::InvalidId,
                sentence(error),
            ));
        })
        .ok()
}

fn check_set(files: &[FileDeclaration], limits: &Limits, errors: &mut Vec<FieldError>) {
    let count = u64::try_from(files.len()).unwrap_or(u64::MAX);
    if count == 0 {
        errors.push(FieldError::new(
            "/files",
            ErrorCode::NoFiles,
            "The upload must contain at least one file.",
        ));
    }
    if count > u64::from(limits.max_files) {
        let detail = format!(
            "The upload has {count} files; at most {} are allowed.",
            limits.max_files
        );
        errors.push(FieldError::new("/files", ErrorCode::TooManyFiles, detail));
    }
    let total = files
        .iter()
        .map(|file| u64::try_from(file.size).unwrap_or(0))
        .fold(0, u64::saturating_add);
    if total > limits.max_set_bytes {
        let detail = format!(
            "The files have {total} bytes together; at most {} are allowed.",
            limits.max_set_bytes
        );
        errors.push(FieldError::new("/files", ErrorCode::SetTooLarge, detail));
    }
}

/// Checks only that files of these names may be uploaded: what a database does whose choice of types is
/// another than its caller's. The errors are those of [`check_upload`].
#[must_use]
pub fn check_file_types<'a>(
    names: impl Iterator<Item = &'a FileName>,
    file_types: FileTypes,
) -> Vec<FieldError> {
    names
        .enumerate()
        .filter_map(|(index, name)| allowed_type(index, name, file_types).err())
        .collect()
}

/// Checks one file: name, media type, size, SHA-256.
fn check_file(
    index: usize,
    file: &FileDeclaration,
    limits: &Limits,
    errors: &mut Vec<FieldError>,
    notes: &mut Vec<FieldError>,
) -> Option<CheckedFile> {
    let name = check_name(index, &file.name, errors);
    check_declared(index, file.media_type.as_deref(), errors);
    let media_type = name
        .as_ref()
        .and_then(|name| {
            allowed_type(index, name, limits.file_types)
                .map_err(|error| errors.push(error))
                .ok()
        })
        .filter(|media_type| {
            let Some(note) = contradiction(index, *media_type, file.media_type.as_deref()) else {
                return true;
            };
            let is_shown = media_type.is_inline_safe();
            if is_shown {
                errors.push(note)
            } else {
                notes.push(note)
            }
            !is_shown
        });
    let size = check_size(index, file.size, limits, errors);
    let sha256 = file
        .sha256
        .parse::<Sha256Digest>()
        .map_err(|error| {
            errors.push(FieldError::new(
                at(index, "sha256"),
                ErrorCode::Sha256Invalid,
                sentence(error),
            ));
        })
        .ok();
    Some(CheckedFile {
        name: name?,
        media_type: media_type?,
        size: size?,
        sha256: sha256?,
    })
}

fn check_name(index: usize, name: &str, errors: &mut Vec<FieldError>) -> Option<FileName> {
    FileName::parse(name)
        .map_err(|reason| {
            errors.push(
                FieldError::new(
                    at(index, "name"),
                    ErrorCode::FileNameInvalid,
                    sentence(reason),
                )
                .because(reason.code()),
            );
        })
        .ok()
}

/// The type comes from the extension.
fn allowed_type(
    index: usize,
    name: &FileName,
    file_types: FileTypes,
) -> Result<MediaType, FieldError> {
    file_types.of_name(name).ok_or_else(|| {
        let detail = name.extension().map_or_else(
            || String::from("A file without an extension cannot be uploaded."),
            |extension| format!("Files with the extension \".{extension}\" are not allowed."),
        );
        FieldError::new(at(index, "name"), ErrorCode::MediaTypeNotAllowed, detail)
    })
}

/// The longest media type: two names of 127 characters (RFC 6838 §4.2) and the slash between them.
const MAX_MEDIA_TYPE_CHARS: usize = 255;

fn check_declared(index: usize, declared: Option<&str>, errors: &mut Vec<FieldError>) {
    if declared.is_some_and(|declared| declared.chars().count() > MAX_MEDIA_TYPE_CHARS) {
        errors.push(FieldError::new(
            at(index, "media_type"),
            ErrorCode::InvalidField,
            format!("A media type has at most {MAX_MEDIA_TYPE_CHARS} characters."),
        ));
    }
}

/// A declared type is only compared with that of the name. What a browser or a telephone declares is
/// often wrong, so it stands in the way of nothing but a file that may be shown in place.
fn contradiction(
    index: usize,
    media_type: MediaType,
    declared: Option<&str>,
) -> Option<FieldError> {
    let declared = declared.filter(|declared| !declared.is_empty())?;
    (!media_type.goes_by(declared)).then(|| {
        let detail = format!(
            "The file name's extension means {media_type}, but the declared media type is different."
        );
        FieldError::new(
            at(index, "media_type"),
            ErrorCode::MediaTypeMismatch,
            detail,
        )
    })
}

fn check_size(
    index: usize,
    size: i64,
    limits: &Limits,
    errors: &mut Vec<FieldError>,
) -> Option<u64> {
    let (code, detail) = match u64::try_from(size) {
        Ok(0) => (
            ErrorCode::FileEmpty,
            String::from("An empty file cannot be uploaded."),
        ),
        Err(_) => (
            ErrorCode::InvalidField,
            String::from("A size is not less than 1 byte."),
        ),
        Ok(size) if size > limits.max_file_bytes => (
            ErrorCode::FileTooLarge,
            format!(
                "The file has {size} bytes; at most {} are allowed.",
                limits.max_file_bytes
            ),
        ),
        Ok(size) => return Some(size),
    };
    errors.push(FieldError::new(at(index, "size"), code, detail));
    None
}

/// Refuses a name that an earlier file of the set has, compared as file systems without regard to
/// case compare them.
fn check_names_differ<'a>(
    files: impl Iterator<Item = &'a FileDeclaration>,
    errors: &mut Vec<FieldError>,
) {
    let mut seen: Vec<(usize, String)> = Vec::new();
    for (index, file) in files.enumerate() {
        let Ok(name) = FileName::parse(&file.name) else {
            continue;
        };
        let key = name.comparison_key();
        match seen.iter().find(|(_, earlier)| *earlier == key) {
            Some((first, _)) => errors.push(FieldError::new(
                at(index, "name"),
                ErrorCode::DuplicateName,
                format!("The file at /files/{first} has the same name."),
            )),
            None => seen.push((index, key)),
        }
    }
}

/// Numbers the later ones of files that have one name: `image.jpg`, `image (2).jpg`.
fn number_duplicates(files: &mut [CheckedFile]) {
    let mut taken: Vec<String> = files
        .iter()
        .map(|file| file.name.comparison_key())
        .collect();
    for index in 1..files.len() {
        let (earlier, rest) = files.split_at_mut(index);
        let Some(file) = rest.first_mut() else { return };
        let key = file.name.comparison_key();
        if earlier.iter().all(|one| one.name.comparison_key() != key) {
            continue;
        }
        let numbered = (2..)
            .map(|number| file.name.numbered(number))
            .find(|name| !taken.contains(&name.comparison_key()));
        if let Some(name) = numbered {
            taken.push(name.comparison_key());
            file.name = name;
        }
    }
}

fn at(index: usize, field: &str) -> String {
    format!("/files/{index}/{field}")
}
