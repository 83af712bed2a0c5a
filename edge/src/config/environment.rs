//! Reads the settings from the worker's environment, once per isolate: a new deployment starts new ones.

use super::{Config, ConfigError};
use crate::log::{self, Level};
use serde_json::json;
use std::sync::{Arc, OnceLock};
use worker::{Env, js_sys::Reflect, wasm_bindgen::JsValue};

static CONFIG: OnceLock<Arc<Config>> = OnceLock::new();

/// The settings.
///
/// # Errors
/// A setting that cannot be used.
pub(crate) fn load(env: &Env) -> Result<Arc<Config>, ConfigError> {
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let config = Config::read(|name| lookup(env, name))?;
    if let Some(advice) = config.advice() {
        log::write(Level::Warning, "settings", json!({ "advice": advice }));
    }
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

fn lookup(env: &Env, name: &'static str) -> Result<Option<String>, ConfigError> {
    let value = Reflect::get(env, &name.into()).unwrap_or(JsValue::UNDEFINED);
    if value.is_undefined() {
        return Ok(None);
    }
    value.as_string().map(Some).ok_or_else(|| ConfigError {
        name,
        problem: "must be a string: put it in quotation marks".to_owned(),
    })
}
