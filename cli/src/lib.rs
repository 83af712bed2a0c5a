//! The program `keepsake`: installs and updates Keepsake in a database, and operates it.
//!
//! Data flows one way: [`arguments`] are parsed, [`commands`] query the database, and the program prints a [`report`] or a
//! [`failure`].

pub mod arguments;
mod commands;
mod database;
mod doctor;
pub mod failure;
mod migrate;
pub mod migrations;
pub mod report;

pub use commands::run;
