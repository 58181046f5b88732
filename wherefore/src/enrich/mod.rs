//! What a snapshot's flows are told about themselves before anyone judges them.

pub mod locality;
pub mod own;
