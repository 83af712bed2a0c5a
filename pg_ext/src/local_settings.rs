//! Settings of our own, until dropped.

use std::ffi::{CStr, c_int};

use pgrx::pg_sys;

use crate::rights;

/// A level of settings, as a function with SET has one. An abort unwinds it by itself.
#[derive(Debug)]
pub struct LocalSettings {
    nest_level: c_int,
}

impl LocalSettings {
    /// These, from now on.
    pub fn new(settings: &[(&CStr, &CStr)]) -> Self {
        Self {
            nest_level: rights::set_locally(settings),
        }
    }
}

impl Drop for LocalSettings {
    fn drop(&mut self) {
        // SAFETY: closes the level that `new` opened; levels opened later are closed before it.
        unsafe { pg_sys::AtEOXact_GUC(true, self.nest_level) }
    }
}
