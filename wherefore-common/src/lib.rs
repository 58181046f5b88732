//! What the kernel programs and user space share: the layouts of keys and counters, the reasons why a
//! packet is in no flow, and the one header parser both sides call.
//!
//! Every shared layout is `repr(C)`, free of implicit padding and of types with invalid bit patterns
//! (no `bool`, no `enum`), so that either side may read any bytes the other wrote.
#![no_std]

pub mod cache;
pub mod cidr;
pub mod counters;
pub mod filter;
pub mod key;
pub mod offload;
pub mod parse;
pub mod reason;
pub mod sketch;
pub mod tables;

pub use counters::{Amount, Extra, FlowCounters, Stored, Totals};
pub use key::{Direction, FlowKey, UnaccountedKey};
pub use reason::Reason;
