//! What an administrator does to a database: updates the extension, dumps and restores, replicates,
//! reads on a standby, changes the tables, takes the extension away, and loses power.

mod archive_crash;
mod archive_dump;
mod busy_clients;
mod crash;
mod ddl;
mod dump;
mod leave;
mod load_order;
mod partitioned_dump;
mod replication;
mod standby;
mod upgrade;
mod world;
