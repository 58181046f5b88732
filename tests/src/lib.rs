//! What the end-to-end tests share.

mod random;
pub mod veth;

pub use random::Random;

/// Whether this process may load kernel programs. Says why not, unless `WHEREFORE_REQUIRE_BPF=1` asks
/// for a failure then.
///
/// # Panics
/// With `WHEREFORE_REQUIRE_BPF=1`, where it may not.
#[must_use]
pub fn can_load() -> bool {
    match wherefore::backend::ebpf::bench::Bench::new(1) {
        Ok(_) => true,
        Err(error) => {
            assert!(
                std::env::var_os("WHEREFORE_REQUIRE_BPF").is_none_or(|value| value != "1"),
                "cannot load kernel programs: {error}"
            );
            println!("skipped: {error}");
            false
        }
    }
}
