//! Reads the settings from the worker's environment, once per isolate: a new deployment starts new ones.

use keepsake_service::{
    config::{Config, ConfigError, StoreSettings},
    log::{self, Level},
};
use serde_json::json;
use std::sync::{Arc, OnceLock};
use worker::{Env, js_sys::Reflect, wasm_bindgen::JsValue};

static CONFIG: OnceLock<Result<Arc<Config>, ConfigError>> = OnceLock::new();

/// The settings.
///
/// # Errors
/// A setting that cannot be used.
pub(crate) fn load(env: &Env) -> Result<Arc<Config>, ConfigError> {
    CONFIG.get_or_init(|| read(env)).clone()
}

/// Reads them, and tells the log what is wrong or should be changed.
fn read(env: &Env) -> Result<Arc<Config>, ConfigError> {
    let config = Config::read(|name| lookup(env, name)).and_then(only_here);
    match &config {
        Ok(config) => {
            if let Some(advice) = config.advice() {
                log::write(Level::Warning, "settings", json!({ "advice": advice }));
            }
        }
        Err(error) => log::write(
            Level::Error,
            "settings",
            json!({ "cause": error.to_string() }),
        ),
    }
    config.map(Arc::new)
}

/// A worker has no file system.
fn only_here(config: Config) -> Result<Config, ConfigError> {
    match config.store {
        StoreSettings::File(_) => Err(ConfigError {
            name: "STORAGE",
            problem: "must be r2 or s3 in a worker: file is for keepsake serve".to_owned(),
        }),
        _ => Ok(config),
    }
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
