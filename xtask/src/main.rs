//! Chores of the project.

mod bpf;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bpf"] => bpf::run(false),
        ["bpf", "--check"] => bpf::run(true),
        _ => anyhow::bail!("usage: cargo xtask bpf [--check]"),
    }
}
