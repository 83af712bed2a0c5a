//! The setting that switches archives off.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

static CAPTURE: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Defines `keepsake.capture`. Once in a backend's life.
pub fn define() {
    GucRegistry::define_bool_guc(
        c"keepsake.capture",
        c"Archives the rows that are deleted from tables managed with keep => 'archive'.",
        c"Off, they are deleted for good: for databases in which tests run. Only a superuser may set it.",
        &CAPTURE,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// Whether rows are archived at all.
pub fn is_on() -> bool {
    CAPTURE.get()
}
