//! The program `keepsake`: installs and updates Keepsake in a database, and operates it.
//!
//! Data flows one way: [`arguments`] are parsed, and with them the `address` of the database, [`commands`] query the database, and the
//! program prints a [`report`] or a [`failure`], through [`output`].

#![warn(clippy::print_stderr, clippy::print_stdout)]

mod address;
pub mod arguments;
mod commands;
mod database;
mod doctor;
pub mod failure;
mod migrate;
pub mod migrations;
pub mod output;
pub mod report;

pub use commands::run;
