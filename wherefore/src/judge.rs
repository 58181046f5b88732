//! One snapshot in, findings out. Pure.
