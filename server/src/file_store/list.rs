//! Listing keys.

use super::folder::Folder;
use keepsake_service::storage::Listing;
use std::io;

/// At most `limit` keys that begin with `prefix` and come behind `after`, in the order of their bytes.
///
/// # Errors
/// The operating system's.
pub(super) fn list(
    objects: &Folder,
    prefix: &str,
    after: &str,
    limit: usize,
) -> io::Result<Listing> {
    let mut walk = Walk {
        prefix,
        after,
        most: limit + 1,
        keys: Vec::new(),
    };
    walk.enter(objects, "")?;
    let mut keys = walk.keys;
    let more = keys.len() > limit;
    keys.truncate(limit);
    Ok(Listing { keys, more })
}

/// Lists keys in the order of their bytes.
struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    most: usize,
    keys: Vec<String>,
}

impl Walk<'_> {
    /// Goes through a folder, whose path ends with a slash unless it is the root.
    fn enter(&mut self, folder: &Folder, path: &str) -> io::Result<()> {
        let mut entries: Vec<(String, bool)> = folder
            .entries()?
            .into_iter()
            .map(|entry| match entry.is_folder {
                // What is in a folder comes where its name stands with the slash.
                true => (format!("{path}{}/", entry.name), true),
                false => (format!("{path}{}", entry.name), false),
            })
            .filter(|(path, is_folder)| self.concerns(path, *is_folder))
            .collect();
        entries.sort_unstable();
        for (path, is_folder) in entries {
            if self.keys.len() >= self.most {
                break;
            }
            if !is_folder {
                self.keys.push(path);
                continue;
            }
            let name = path.trim_end_matches('/').rsplit('/').next();
            match folder.open(name.unwrap_or_default()) {
                // It was empty, and has been removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                inner => self.enter(&inner?, &path)?,
            }
        }
        Ok(())
    }

    fn concerns(&self, path: &str, is_folder: bool) -> bool {
        if is_folder {
            (path.starts_with(self.prefix) || self.prefix.starts_with(path))
                && (path > self.after || self.after.starts_with(path))
        } else {
            path.starts_with(self.prefix) && path > self.after
        }
    }
}
