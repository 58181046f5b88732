//! Wherefore counts what every IP flow of a host carries, notices when a flow stops behaving like itself,
//! and says who did it.
//!
//! The data goes one way (ARCHITECTURE.md): a [`backend`] hands over one [`snapshot`] per interval, the
//! judge turns it into [`finding`]s, the [`alert`] life cycle into alerts, and [`sink`]s tell people.

pub mod alarm;
pub mod alert;
pub mod backend;
pub mod clean;
pub mod cli;
pub mod config;
pub mod coverage;
pub mod detect;
pub mod enrich;
pub mod filter;
pub mod finding;
pub mod input;
pub mod judge;
pub mod locality;
pub mod lost;
pub mod pipeline;
pub mod render;
pub mod rules;
pub mod score;
pub mod selftest;
pub mod series;
pub mod sink;
pub mod snapshot;
pub mod state;
pub mod time;
pub mod tune;
pub mod units;
