//! `wherefore doctor`.
