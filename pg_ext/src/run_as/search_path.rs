//! Where a statement finds names, and how it prints and reads values.

use std::ffi::{CStr, CString};

use crate::model::sql::Ident;
use crate::postgres::settings::LocalSettings;

/// Where unqualified names are looked for, and how values are printed and read.
#[derive(Clone, Debug)]
pub struct SearchPath {
    path: CString,
    callers_formats: bool,
}

impl SearchPath {
    /// `pg_catalog, pg_temp`: for statements of our own, which qualify all else.
    pub fn pinned() -> Self {
        Self {
            path: c"pg_catalog, pg_temp".to_owned(),
            callers_formats: false,
        }
    }

    /// With a table's schema, for the triggers and expressions of the table.
    pub fn of(schema: &Ident) -> Self {
        // A name cannot hold a NUL; without its schema the path is only shorter.
        let path = CString::new(format!("pg_catalog, {schema}, pg_temp"));
        path.map_or_else(
            |_| Self::pinned(),
            |path| Self {
                path,
                callers_formats: false,
            },
        )
    }

    /// The same, with values printed and read as the caller has set it: what he gave he wrote so.
    pub fn in_callers_formats(mut self) -> Self {
        self.callers_formats = true;
        self
    }

    /// The settings under which a statement of ours runs with this path.
    pub fn settings(&self) -> [(&CStr, &CStr); 2] {
        // Our statements are many and short: compiling one costs more than running it.
        [(c"search_path", &self.path), (c"jit", c"off")]
    }

    /// Keys that our own statements print or read are to be the same in every session.
    pub fn pin_formats(&self, settings: &LocalSettings) {
        if !self.callers_formats {
            settings.pin_output();
        }
    }

    /// Sets the path, until dropped, for a statement that runs with the caller's own rights.
    pub fn pin(&self) -> LocalSettings {
        let settings = LocalSettings::open(&self.settings());
        self.pin_formats(&settings);
        settings
    }
}
