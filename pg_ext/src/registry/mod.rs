pub mod deletion;
pub mod locks;
