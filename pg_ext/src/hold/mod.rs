pub mod legal_hold;
