//! Settings that hold until they are dropped, as those of a function's SET clause.

use std::ffi::{CStr, c_int};

use pgrx::pg_sys;

/// A setting that is not empty.
pub fn value_of<'a>(name: &CStr) -> Option<&'a CStr> {
    // SAFETY: looks a setting up; NULL where there is none. It is read before anything can change it.
    let value = unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a setting's value is a string.
    Some(unsafe { CStr::from_ptr(value) }).filter(|text| !text.is_empty())
}

/// A level of settings, which ends when it is dropped.
#[derive(Debug)]
pub struct LocalSettings {
    nest_level: c_int,
    keeps_others: bool,
}

impl LocalSettings {
    /// Opens a level with these settings. What else is set within it, as by a trigger that calls `set_config`, stays
    /// set when it ends.
    pub fn open(settings: &[(&CStr, &CStr)]) -> Self {
        // SAFETY: counts a backend-local variable up; an abort unwinds the level by itself.
        let nest_level = unsafe { pg_sys::NewGUCNestLevel() };
        let level = Self {
            nest_level,
            keeps_others: true,
        };
        for (name, value) in settings {
            level.set(name, value);
        }
        level
    }

    /// Opens a level that leaves nothing behind: whatever is set within it is undone when it ends.
    pub fn leaving_nothing(settings: &[(&CStr, &CStr)]) -> Self {
        let mut level = Self::open(settings);
        level.keeps_others = false;
        level
    }

    /// Opens a level with a setting that only the engine sets.
    pub fn internal(name: &CStr, value: &CStr) -> Self {
        let level = Self::open(&[]);
        level.set_as(pg_sys::GucContext::PGC_INTERNAL, name, value);
        level
    }

    /// Statements fire no triggers of a table's, those of foreign keys among them, but for what is enabled always.
    pub fn without_triggers() -> Self {
        let level = Self::open(&[]);
        level.set_as(
            pg_sys::GucContext::PGC_SUSET,
            c"session_replication_role",
            c"replica",
        );
        level
    }

    /// Values that are printed and read exactly, whatever the caller has set: a key that went into jsonb must be
    /// found again by a session with other settings.
    pub fn exact_output() -> Self {
        let level = Self::open(&[]);
        level.pin_output();
        level
    }

    /// Pins the same three settings as `postgres_fdw` (`set_transmission_modes`). The order of day and month stays the
    /// caller's.
    pub fn pin_output(&self) {
        // SAFETY: reads plain integers of this backend.
        let (date, interval, digits) = unsafe {
            (
                pg_sys::DateStyle,
                pg_sys::IntervalStyle,
                pg_sys::extra_float_digits,
            )
        };
        if date != pg_sys::USE_ISO_DATES as c_int {
            self.set(c"datestyle", c"ISO");
        }
        if interval != pg_sys::INTSTYLE_POSTGRES as c_int {
            self.set(c"intervalstyle", c"postgres");
        }
        if digits < 1 {
            self.set(c"extra_float_digits", c"1");
        }
    }

    fn set(&self, name: &CStr, value: &CStr) {
        self.set_as(pg_sys::GucContext::PGC_USERSET, name, value);
    }

    fn set_as(&self, context: pg_sys::GucContext::Type, name: &CStr, value: &CStr) {
        // SAFETY: both texts end with a NUL and are copied. The level that the value belongs to is open: `self` closes
        // it. As `fmgr_security_definer` does for a SET clause.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                context,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
}

impl Drop for LocalSettings {
    fn drop(&mut self) {
        // SAFETY: closes the level that `open` opened; levels opened later were closed before it, since guards are
        // dropped in reverse order.
        unsafe { pg_sys::AtEOXact_GUC(self.keeps_others, self.nest_level) }
    }
}

/// What is made for somebody else, with other rights than his, goes where the database has its tables, until dropped: he may have no right to the
/// tablespace that he has set.
pub fn default_tablespace() -> LocalSettings {
    LocalSettings::open(&[(c"default_tablespace", c"")])
}

/// Runs kept statements by a plan that is made once, whatever their arguments, until dropped.
pub fn one_plan() -> LocalSettings {
    LocalSettings::open(&[(c"plan_cache_mode", c"force_generic_plan")])
}

/// Plans go from row to row by indexes, until dropped: for few rows that are found by arguments. How many an argument finds on the average
/// says little, where one deletion has millions and another five; and a plan that is kept may be as old as a table with one page.
const FROM_ROW_TO_ROW: [(&CStr, &CStr); 3] = [
    (c"enable_seqscan", c"off"),
    (c"enable_hashjoin", c"off"),
    (c"enable_mergejoin", c"off"),
];

/// Plans statements so, until dropped.
pub fn from_row_to_row() -> LocalSettings {
    LocalSettings::open(&FROM_ROW_TO_ROW)
}

/// Runs kept statements that read few rows by such a plan, which is made once, whatever their arguments, until dropped.
pub fn one_plan_for_few() -> LocalSettings {
    let level = one_plan();
    for (name, value) in FROM_ROW_TO_ROW {
        level.set(name, value);
    }
    level
}

/// Plans statements without scans of whole tables where an index of any kind serves, until dropped.
pub fn no_whole_tables() -> LocalSettings {
    LocalSettings::open(&[(c"enable_seqscan", c"off")])
}

/// Plans statements without scans of whole tables, until dropped: a batch that takes the first rows of many would read,
/// each time, past those that earlier batches removed.
pub fn indexes_only() -> LocalSettings {
    LocalSettings::open(&[
        (c"enable_seqscan", c"off"),
        (c"enable_bitmapscan", c"off"),
        (c"enable_sort", c"off"),
    ])
}
