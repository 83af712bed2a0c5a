pub mod catalog;
pub mod reference_graph;
