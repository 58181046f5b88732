//! Known traffic through every backend and hook, counted and compared to the packet and the byte.
//!
//! Each hook has a network namespace of its own with a pair of devices: what one sends, the other receives, and
//! nobody else is there. No interface of the host is looked at, let alone touched. Namespace and devices go with
//! the thread that made them, so nothing stays, whatever ends the program.

mod compare;
mod frame;
mod pair;
mod traffic;

use std::{
    thread,
    time::{Duration, Instant},
};

use wherefore_common::Direction;

use self::{compare::Counts, pair::Pair, traffic::Parcel};
pub use self::{
    compare::{Difference, Promise},
    traffic::Count,
};
use crate::{
    backend::{
        Backend, Choice, Error, Hook, LiveSettings, ebpf::features::KernelFeature, interfaces::Request, live,
        probe,
    },
    config::default,
    filter::CidrFilter,
};

/// Longest wait for packets that were sent: they pass within milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// A backend and a hook that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// `ebpf` or `pcap`.
    pub backend: &'static str,
    /// What the backend says it uses when it is this: `tcx`, `xdp+clsact`, …; only the beginning before `+` is
    /// compared.
    pub hook: &'static str,
    choice: Choice,
    ask: Hook,
    ingress: Promise,
    egress: Promise,
}

impl Candidate {
    /// What is promised at ingress by this kernel.
    fn ingress(&self) -> Promise {
        let unmarked = self.ask == Hook::XdpGeneric && !KernelFeature::CheckMtu.by_version(&probe::release());
        if unmarked { Promise::Merged } else { self.ingress }
    }
}

/// All there are.
pub const CANDIDATES: [Candidate; 5] = {
    const fn ebpf(hook: &'static str, ask: Hook, ingress: Promise) -> Candidate {
        Candidate { backend: "ebpf", hook, choice: Choice::Ebpf, ask, ingress, egress: Promise::Wire }
    }
    [
        ebpf("tcx", Hook::Tc, Promise::Wire),
        ebpf("clsact", Hook::Clsact, Promise::Wire),
        ebpf("xdp", Hook::Xdp, Promise::Wire),
        ebpf("xdp-generic", Hook::XdpGeneric, Promise::Marked),
        Candidate {
            backend: "pcap",
            hook: "libpcap",
            choice: Choice::Pcap,
            ask: Hook::Tc,
            ingress: Promise::Marked,
            egress: Promise::Marked,
        },
    ]
};

/// How a candidate did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `ebpf` or `pcap`.
    pub backend: &'static str,
    /// The hook in use; the candidate's where it did not come to that.
    pub hook: String,
    /// What came out.
    pub verdict: Verdict,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything agrees with what is promised here.
    Ok {
        /// What was sent, each way.
        sent: Count,
        /// What was counted, received and sent: less where merged packets are not told apart.
        counted: [Count; 2],
    },
    /// Something was counted otherwise.
    Differs(Vec<Difference>),
    /// Neither kernel nor host offers this: why.
    NotHere(String),
    /// It should work here and did not: why, which may take several lines.
    Failed(String),
}

/// Tries every backend and hook; a second or two. What fails on the way is that candidate's [`Verdict::Failed`].
///
/// # Errors
/// [`Error::Permission`] or [`Error::System`] where there can be no network to test in.
pub fn run() -> Result<Vec<Outcome>, Error> {
    CANDIDATES.iter().map(apart).collect()
}

/// Tries one on a thread of its own, whose network namespace goes with it.
fn apart(candidate: &Candidate) -> Result<Outcome, Error> {
    let tried = thread::scope(|scope| scope.spawn(|| attempt(candidate)).join());
    tried.unwrap_or_else(|_| {
        Err(Error::System {
            action: format!("testing {}", candidate.hook),
            reason: "the test itself failed: a fault of this program".into(),
        })
    })
}

fn attempt(candidate: &Candidate) -> Result<Outcome, Error> {
    let pair = Pair::new()?;
    let outcome = |hook: String, verdict| Ok(Outcome { backend: candidate.backend, hook, verdict });
    let not_here = |reason: String| outcome(candidate.hook.into(), Verdict::NotHere(reason));
    let mut backend = match live::start(candidate.choice, "self-test", &settings(candidate.ask)) {
        Ok(backend) => backend,
        Err(error @ Error::NotOffered { .. }) => return not_here(live::first_line(&error)),
        // Whether this kernel counts right is then not known, and that must not look like a success.
        Err(error @ Error::Permission(_)) => {
            return outcome(candidate.hook.into(), Verdict::Failed(live::first_line(&error)));
        }
        Err(error) => return outcome(candidate.hook.into(), Verdict::Failed(error.to_string())),
    };
    let hook = backend.description().watched.first().map(|watched| watched.hook.clone()).unwrap_or_default();
    if hook.split('+').next() != Some(candidate.hook) {
        return not_here(format!("kernel {} offers {hook} instead", probe::release()));
    }
    let parcels = traffic::all();
    for parcel in &parcels {
        pair.send(parcel)?;
    }
    plant_fault(&pair, &parcels)?;
    let counts = match collect(backend.as_mut(), &parcels, candidate) {
        Ok(counts) => counts,
        Err(error) => return outcome(hook, Verdict::Failed(error.to_string())),
    };
    let mut found = compare::differences(&parcels, &counts, Direction::Egress, candidate.egress);
    found.extend(compare::differences(&parcels, &counts, Direction::Ingress, candidate.ingress()));
    if !found.is_empty() {
        return outcome(hook, Verdict::Differs(found));
    }
    let mut sent = Count::default();
    parcels.iter().for_each(|parcel| sent.add(parcel.on_the_wire()));
    let counted = [Direction::Ingress, Direction::Egress].map(|way| compare::sum(&counts, way));
    outcome(hook, Verdict::Ok { sent, counted })
}

/// Makes the self-test send some packets twice and not say so, so that a test sees it say so. Heeded in debug
/// builds only.
pub const FAULT_VARIABLE: &str = "WHEREFORE_SELFTEST_FAULT";

fn plant_fault(pair: &Pair, parcels: &[Parcel]) -> Result<(), Error> {
    match parcels.first() {
        Some(parcel) if cfg!(debug_assertions) && std::env::var_os(FAULT_VARIABLE).is_some() => {
            pair.send(parcel)
        }
        _ => Ok(()),
    }
}

fn settings(hook: Hook) -> LiveSettings {
    LiveSettings {
        interfaces: Request::named([pair::NEAR, pair::FAR]),
        hook,
        // Of devices that nobody else has.
        force_xdp: true,
        table_size: 1024,
        kernel_log: false,
        min_coverage: default::MIN_COVERAGE,
        snaplen: default::SNAPLEN,
        read_timeout: Duration::from_millis(10),
        promiscuous: false,
        expression: None,
        filter: CidrFilter::default(),
    }
}

/// Polls until everything has come or has had time to, and once more: what is counted twice shows in that.
fn collect(backend: &mut dyn Backend, parcels: &[Parcel], candidate: &Candidate) -> Result<Counts, Error> {
    let mut counts = Counts::new();
    let begun = Instant::now();
    let least = |promise| -> u64 {
        let packets = |parcel: &Parcel| match promise {
            Promise::Wire => parcel.on_the_wire().packets,
            Promise::Marked | Promise::Merged => parcel.merged().packets,
        };
        parcels.iter().map(packets).sum()
    };
    let wanted =
        [(Direction::Egress, least(candidate.egress)), (Direction::Ingress, least(candidate.ingress))];
    while begun.elapsed() < PATIENCE {
        if let Some(snapshot) = backend.poll()? {
            compare::add(&mut counts, &snapshot);
        }
        if wanted.iter().all(|(direction, packets)| compare::sum(&counts, *direction).packets >= *packets) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    if let Some(snapshot) = backend.stop()? {
        compare::add(&mut counts, &snapshot);
    }
    Ok(counts)
}
