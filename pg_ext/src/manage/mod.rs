pub mod declared_reference;
pub mod drop_guards;
pub mod hide;
pub mod manage_table;
pub mod reference_override;
pub mod triggers;
