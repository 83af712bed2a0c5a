//! The whole path on real parts: PostgreSQL with the extension, the worker under `wrangler dev`,
//! HTTP. One module a story; each test has a tenant of its own.

mod atomicity;
mod audit;
mod bad_input;
mod bad_tokens;
mod bin;
mod browsers;
mod crashes;
mod deletion;
mod downloads;
mod idempotency;
mod issuer;
mod listing;
mod long_uploads;
mod lost_entities;
mod multipart;
mod object_store;
mod object_urls;
mod operations;
mod operator;
mod pictures;
mod policies;
mod published_keys;
mod quota;
mod races;
mod refused_uploads;
mod restore_races;
mod retention;
mod s3_faults;
mod s3_forms;
mod s3_puts;
mod scans;
mod story;
mod tenants;
mod things;
mod world;
