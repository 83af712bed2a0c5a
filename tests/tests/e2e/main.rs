//! The whole path on real parts: PostgreSQL with the extension, the worker under `wrangler dev`,
//! HTTP. One module a story; each test has a tenant of its own.

use keepsake_tests::migrate::Keep;

/// Where the entities keep what is deleted of them; `tests/e2e_kept_apart` runs some of these tests with archives.
const KEEP: Keep = Keep::InPlace;

mod agreement;
mod at_once;
mod atomicity;
mod audit;
mod bad_input;
mod bad_tokens;
mod bin;
mod browsers;
mod clocks;
mod completion;
mod connections;
mod crashes;
mod deletion;
mod downloads;
mod entities;
mod erasure;
mod events;
mod every_route;
mod expired_urls;
mod file_types;
mod hostile_database;
mod idempotency;
mod issuer;
mod issuers;
mod json_bombs;
mod listing;
mod long_uploads;
mod lost_entities;
mod multipart;
mod native;
mod object_store;
mod object_urls;
mod operations;
mod operator;
mod outages;
mod pictures;
mod point_in_time;
mod policies;
mod published_keys;
mod quota;
mod races;
mod rate_limits;
mod receiver;
mod refused_uploads;
mod restore_races;
mod retention;
mod routes;
mod s3_faults;
mod s3_forms;
mod s3_puts;
mod scans;
mod schema_version;
mod secrets_in_logs;
mod slow_bodies;
mod store_events;
mod story;
mod tenants;
mod token_confusion;
mod versions;
mod world;
