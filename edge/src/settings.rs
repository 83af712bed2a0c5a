//! Reads the settings from the worker's environment, once per isolate: a new deployment starts a new one.

use crate::{
    config::{Config, ConfigError},
    problem::ApiError,
};
use std::sync::{Arc, OnceLock};
use worker::Env;

static CONFIG: OnceLock<Arc<Config>> = OnceLock::new();

/// The settings.
///
/// # Errors
/// 500, with the setting that is wrong in the log.
pub(crate) fn load(env: &Env) -> Result<Arc<Config>, ApiError> {
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let config = Config::read(|name| lookup(env, name)).map_err(ApiError::internal)?;
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

fn lookup(env: &Env, name: &'static str) -> Result<Option<String>, ConfigError> {
    match env.var(name) {
        Ok(value) => Ok(Some(value.to_string())),
        Err(worker::Error::BindingError(_)) => Ok(None),
        Err(_) => Err(ConfigError {
            name,
            problem: "must be a string: put it in quotes".to_owned(),
        }),
    }
}
