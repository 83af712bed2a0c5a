pub mod presign;
pub mod rules;
