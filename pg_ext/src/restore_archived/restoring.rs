//! The setting `keepsake.restoring`: what triggers can read while a restore inserts rows.

use std::ffi::CString;

use pgrx::Uuid;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::postgres::settings::LocalSettings;

static RESTORING: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// Defines the setting `keepsake.restoring`. Once in a backend's life.
pub fn install() {
    GucRegistry::define_string_guc(
        c"keepsake.restoring",
        c"The deletion that is being restored; empty when none is.",
        c"For triggers: rows that a restore brings back are no new ones.",
        &RESTORING,
        GucContext::Internal,
        GucFlags::default(),
    );
}

/// While it lives, the setting names the deletion.
pub fn restoring(deletion: Uuid) -> Option<LocalSettings> {
    let id = CString::new(deletion.to_string()).ok()?;
    Some(LocalSettings::internal(c"keepsake.restoring", &id))
}
