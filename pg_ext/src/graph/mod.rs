//! The reference graph: managed tables, every table that refers to one, and the references between them.
//!
//! - `reference_graph` holds it and sorts it, parents before children.
//! - `catalog` reads it from PostgreSQL's catalog and the registry, by the queries beside it.
//! - `stored_columns` finds columns whose values the registry keeps.
//! - `cache` keeps it in the backend until something in it changes. Callers ask `cache::current`.
//!
//! It uses `model` and `spi`.

pub mod cache;
pub mod catalog;
pub mod reference_graph;
pub mod stored_columns;
