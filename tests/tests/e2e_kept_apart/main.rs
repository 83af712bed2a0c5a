//! Tests of `tests/e2e` in which entities are deleted, restored or purged, once more: with entities whose deleted rows are kept in
//! archives.

#![expect(dead_code, reason = "the modules have more than these tests use")]

use keepsake_tests::migrate::Keep;

/// Where the entities keep what is deleted of them.
const KEEP: Keep = Keep::Apart;

#[path = "../e2e/agreement.rs"]
mod agreement;
#[path = "../e2e/bin.rs"]
mod bin;
#[path = "../e2e/deletion.rs"]
mod deletion;
#[path = "../e2e/entities.rs"]
mod entities;
#[path = "../e2e/every_route.rs"]
mod every_route;
#[path = "../e2e/listing.rs"]
mod listing;
#[path = "../e2e/lost_entities.rs"]
mod lost_entities;
#[path = "../e2e/object_store.rs"]
mod object_store;
#[path = "../e2e/policies.rs"]
mod policies;
#[path = "../e2e/races.rs"]
mod races;
#[path = "../e2e/restore_races.rs"]
mod restore_races;
#[path = "../e2e/retention.rs"]
mod retention;
#[path = "../e2e/routes.rs"]
mod routes;
#[path = "../e2e/tenants.rs"]
mod tenants;
#[path = "../e2e/versions.rs"]
mod versions;
#[path = "../e2e/world.rs"]
mod world;
