//! The setting `keepsake.include_deleted`, which shows deleted rows where a policy of Keepsake's hides them.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::postgres::settings::LocalSettings;

static INCLUDE_DELETED: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Defines the setting `keepsake.include_deleted`. Once in a backend's life.
pub fn install() {
    GucRegistry::define_bool_guc(
        c"keepsake.include_deleted",
        c"Shows deleted rows of tables in which a policy of Keepsake hides them.",
        c"For recovery screens. Anybody may set it.",
        &INCLUDE_DELETED,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// While it lives, statements see deleted rows that are hidden by a policy of ours, and no others:
/// the caller must find a row to restore it. A setting, since parallel workers get it, too.
pub fn including_deleted() -> LocalSettings {
    LocalSettings::open(&[(c"keepsake.include_deleted", c"on")])
}

/// Whether it is on.
pub fn is_on() -> bool {
    INCLUDE_DELETED.get()
}
