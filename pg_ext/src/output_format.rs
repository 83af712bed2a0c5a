//! The settings that decide how values are printed.

use std::ffi::{CStr, c_int};

use pgrx::pg_sys;

use crate::local_settings::LocalSettings;

/// Prints and reads values exactly, whatever the caller has set, until dropped: a key that went
/// into jsonb must be found again by a session with other settings.
#[derive(Debug)]
pub struct ExactOutput {
    _level: LocalSettings,
}

impl ExactOutput {
    /// Pins the settings.
    pub fn new() -> Self {
        let level = LocalSettings::new(&[]);
        pin();
        Self { _level: level }
    }
}

/// Pins them until the end of the GUC nest level that is open: the same three as `postgres_fdw`
/// (`set_transmission_modes`). The order of day and month stays the caller's.
pub fn pin() {
    // SAFETY: reads plain integers of this backend; the level is the caller's, who has opened one.
    unsafe {
        if pg_sys::DateStyle != pg_sys::USE_ISO_DATES as c_int {
            set(c"datestyle", c"ISO");
        }
        if pg_sys::IntervalStyle != pg_sys::INTSTYLE_POSTGRES as c_int {
            set(c"intervalstyle", c"postgres");
        }
        if pg_sys::extra_float_digits < 1 {
            set(c"extra_float_digits", c"1");
        }
    }
}

/// # Safety
/// Within a GUC nest level of the caller's.
unsafe fn set(name: &CStr, value: &CStr) {
    // SAFETY: both are NUL-terminated and copied.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}
