//! The program `keepsake`: installs and updates Keepsake in a database, and operates it.
//!
//! A call goes one way: [`arguments`] are parsed, [`commands`] ask the database, [`report`] is what came of it, and the
//! program prints that or a [`failure`].

pub mod arguments;
mod commands;
mod database;
mod doctor;
pub mod failure;
mod migrate;
pub mod migrations;
pub mod report;

pub use commands::run;
