//! Deleting objects.

use super::{
    folder::{Folder, split},
    folders::{Folders, failed},
};
use keepsake_service::storage::Undeleted;
use std::{collections::BTreeMap, io};

/// Deletes objects, and the folders that they leave empty. That they are gone is on the disk afterwards. One that cannot be
/// deleted keeps no other from it.
pub(super) fn delete(folders: &Folders, keys: &[String]) -> Vec<Undeleted> {
    let mut left: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut undeleted = Vec::new();
    let mut keep = |key: &str, error: &io::Error| {
        undeleted.push(Undeleted {
            key: key.to_owned(),
            error: failed("delete", error),
        });
    };
    for key in keys {
        let (names, last) = split(key);
        let removed = folders.objects.descend(names);
        match removed.and_then(|folder| folder.remove(last)) {
            Ok(()) => {
                let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
                left.entry(folder).or_default().push(key);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => keep(key, &error),
        }
    }
    for (path, keys) in left {
        // Another server may have removed it.
        if let Ok(folder) = folders.objects.descend(path.split('/'))
            && let Err(error) = folder.sync()
        {
            keys.iter().for_each(|key| keep(key, &error));
        }
        remove_empty(&folders.objects, path);
    }
    undeleted
}

/// Removes a folder, and those above, as far as they are empty.
fn remove_empty(root: &Folder, path: &str) {
    let mut path = path;
    while let Some((above, name)) = path.rsplit_once('/') {
        if let Ok(folder) = root.descend(above.split('/')) {
            folder.remove_empty(name);
        }
        path = above;
    }
}
