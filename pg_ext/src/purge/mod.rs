pub mod batch;
pub mod cycles;
pub mod isolation;
pub mod preview;
pub mod retention;
pub mod rows;
pub mod selection;
