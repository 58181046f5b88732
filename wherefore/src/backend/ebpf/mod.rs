//! Counting in the kernel: programs at an interface's hooks, tables read and emptied once an interval.

pub mod attach;
mod batch;
mod by_key;
mod cause;
mod cidr;
mod clock;
mod drain;
pub mod features;
pub mod filter;
mod journal;
pub mod load;
mod mapped;
mod order;
pub mod permission;
mod swap;
pub mod xdp_safety;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use aya::Ebpf;
use aya_log::EbpfLogger;

pub use attach::{Start, Target, leftovers};
pub use permission::missing_capabilities;

use self::{
    attach::Attached,
    features::KernelFeature,
    filter::{Arrays, Expression, Filter},
    load::{Features, Loaded, Tables},
    order::Order,
    swap::Counting,
};
use super::{
    Backend, Description, Error, Hook, LiveSettings, Watched,
    interfaces::{self, Attach, Follower, Interface, LinkKind},
    merged::Merged,
    probe::{self, Owner},
};
use crate::{filter::CidrFilter, snapshot::Snapshot};

/// The kernel programs at work. Dropping it detaches them and gives their tables back.
pub struct EbpfBackend {
    description: Description,
    // Detaches before the tables below go.
    follower: Follower,
    counting: Counting,
    merged: Merged,
    ebpf: Arc<Mutex<Ebpf>>,
    hook: Hook,
    seats: Seats,
    log: Option<EbpfLogger<KernelLog>>,
}

/// Loads the programs, attaches them to the interfaces that `settings` ask for, and follows these.
///
/// # Errors
/// [`Error::Expression`], [`Error::ExpressionForLibpcap`]; [`Error::Permission`] with the capabilities that are
/// missing and how to give them; [`Error::NoInterface`]; else [`Error::System`]. Nothing stays attached after an error.
pub fn start(settings: &LiveSettings) -> Result<EbpfBackend, Error> {
    if let Some(text) = &settings.expression {
        // What is wrong with it is told first.
        for verdict in interfaces::plan(&settings.interfaces)?.watched() {
            Expression::compile(text, &[target(&verdict.interface)?])?;
        }
    }
    let missing = missing_capabilities();
    if !missing.is_empty() {
        return Err(permission::denied("count in the kernel", &missing));
    }
    features::enough(&probe::release())?;
    let Loaded { mut ebpf, tables } = load::load(settings.table_size, &features(settings))?;
    let log = if settings.kernel_log { Some(kernel_log(&mut ebpf)?) } else { None };
    let owner =
        Owner::new().map_err(|error| permission::explain("mark kernel filters as our own", &error))?;
    let mut counting = Counting::new(tables)?;
    counting.filter(&settings.filter)?;
    let ebpf = Arc::new(Mutex::new(ebpf));
    let seats = Seats::default();
    let programs = Programs {
        attached: BTreeMap::new(),
        ebpf: Arc::clone(&ebpf),
        settings: settings.clone(),
        filters: BTreeMap::new(),
        arrays: None,
        owner,
        order: Order::new(),
        seats: Arc::clone(&seats),
    };
    let (follower, started) = Follower::start(&settings.interfaces, programs)?;
    counting.begin()?;
    let description = Description {
        backend: "ebpf",
        why: why(settings.hook, &started.watched),
        watched: started.watched,
        chosen: started.why,
    };
    let merged = Merged::new("XDP sees", "--hook tc counts them exactly");
    Ok(EbpfBackend { description, follower, counting, merged, ebpf, hook: settings.hook, seats, log })
}

fn features(settings: &LiveSettings) -> Features {
    let generic = settings.hook == Hook::XdpGeneric;
    let estimate = generic && KernelFeature::CheckMtu.by_version(&probe::release());
    if generic && !estimate {
        tracing::warn!(
            "this kernel does not tell XDP programs the MTU (Linux 5.12): what offload has merged counts as one \
             packet without a mark; --hook tc counts it exactly"
        );
    }
    Features { log: settings.kernel_log, estimate, ..Features::default() }
}

/// The programs, and where they are attached.
struct Programs {
    // Detached before the programs go.
    attached: BTreeMap<u32, Attached>,
    /// Also the polls', which ask one of the programs for the time.
    ebpf: Arc<Mutex<Ebpf>>,
    settings: LiveSettings,
    /// The expression's programs, by what frames begin with.
    filters: BTreeMap<Start, Ebpf>,
    /// By which they and the counting programs find each other.
    arrays: Option<Arrays>,
    owner: Owner,
    order: Order,
    seats: Seats,
}

/// The numbers of our programs at TC, by interface: also the polls', which ask their devices.
type Seats = Arc<Mutex<BTreeMap<u32, BTreeSet<u32>>>>;

impl Attach for Programs {
    fn attach(&mut self, interface: &Interface) -> Result<String, Error> {
        let target = target(interface)?;
        let targets = std::slice::from_ref(&target);
        let hook = self.settings.hook;
        let mut ebpf = lock(&self.ebpf);
        attach::load(&mut ebpf, targets, hook)?;
        if let Some(text) = &self.settings.expression
            && !self.filters.contains_key(&target.start)
        {
            let expression = Expression::compile(text, targets)?;
            let arrays = match &mut self.arrays {
                Some(arrays) => arrays,
                None => self.arrays.insert(Arrays::new(&mut ebpf)?),
            };
            let filter = expression.load_into(arrays, &mut ebpf, targets, hook)?;
            self.filters.insert(target.start, filter);
        }
        // The program at the hook is the expression's, where there is one.
        let first = self.filters.get_mut(&target.start).unwrap_or(&mut ebpf);
        let attached = attach::attach(first, &target, &self.settings, &self.owner)?;
        let posts = attach::posts(first, &target, hook);
        lock(&self.seats).insert(target.index, posts.iter().map(|post| post.program).collect());
        self.order.add(posts);
        let hook = attached.hook.clone();
        self.attached.insert(target.index, attached);
        Ok(hook)
    }

    fn detach(&mut self, indexes: &[u32]) {
        for index in indexes {
            self.attached.remove(index);
            self.order.remove(*index);
            lock(&self.seats).remove(index);
        }
    }

    fn renew(&mut self, interface: &Interface) {
        self.order.rename(interface.index, &interface.name);
    }

    fn check(&mut self) {
        self.order.check(Instant::now());
    }
}

/// A panic while attaching leaves the programs what they were, and the list of them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of the kernel programs an interface needs.
fn target(interface: &Interface) -> Result<Target, Error> {
    let start = match interface.link {
        LinkKind::Ethernet | LinkKind::Loopback => Start::Ethernet,
        LinkKind::Ip => Start::Ip,
        LinkKind::Other(kind) => {
            return Err(Error::System {
                action: format!("cannot count {} in the kernel", interface.name),
                reason: format!(
                    "its frames are of a type the kernel programs do not know (ARPHRD {kind}); \
                                 libpcap may: --backend pcap"
                ),
            });
        }
    };
    Ok(Target { name: interface.name.clone(), index: interface.index, start })
}

/// Why this hook, in a few words.
fn why(hook: Hook, watched: &[Watched]) -> String {
    let release = probe::release();
    match hook {
        Hook::Tc if watched.is_empty() => "kernel programs".into(),
        Hook::Tc if watched.iter().all(|watched| watched.hook == "tcx") => {
            format!("kernel {release} has TCX")
        }
        Hook::Tc => format!("kernel {release} has no TCX (Linux 6.6)"),
        Hook::Clsact => "clsact was asked for".into(),
        Hook::Xdp => "native XDP was asked for".into(),
        Hook::XdpGeneric => "generic XDP was asked for; it switches receive offload off".into(),
    }
}

impl EbpfBackend {
    /// Filters by `filter` from the next interval on; the programs stay as they are.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn replace_filter(&mut self, filter: &CidrFilter) -> Result<(), Error> {
        self.counting.filter(filter)
    }
}

impl Backend for EbpfBackend {
    fn description(&self) -> &Description {
        &self.description
    }

    fn is_live(&self) -> bool {
        true
    }

    fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let mut snapshot = self.counting.poll(&lock(&self.ebpf))?;
        self.follower.describe(&mut snapshot)?;
        self.merged.check(&snapshot);
        Ok(Some(snapshot))
    }

    fn stop(&mut self) -> Result<Option<Snapshot>, Error> {
        let last = self.follower.stop()?;
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let mut snapshot = self.counting.poll(&lock(&self.ebpf))?;
        self.follower.describe_last(last, &mut snapshot);
        self.merged.check(&snapshot);
        Ok(Some(snapshot))
    }
}

/// The programs' messages as ours, at level "debug".
struct KernelLog;

impl log::Log for KernelLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: "wherefore::kernel", "{}", record.args());
    }

    fn flush(&self) {}
}

fn kernel_log(ebpf: &mut Ebpf) -> Result<EbpfLogger<KernelLog>, Error> {
    EbpfLogger::init_with_logger(ebpf, KernelLog).map_err(|error| Error::System {
        action: "read the kernel programs' messages".into(),
        reason: error.to_string(),
    })
}

/// The loaded programs and tables without an interface, for `BPF_PROG_TEST_RUN`.
pub mod bench {
    use aya::programs::Program;

    pub use super::load::Features;
    use super::{
        CidrFilter, Counting, Ebpf, Error, Expression, Filter, Hook, Loaded, Snapshot, Target, attach, load,
    };

    /// Programs and tables; nothing is attached.
    pub struct Bench {
        /// The programs, not loaded yet.
        pub ebpf: Ebpf,
        counting: Counting,
    }

    impl Bench {
        /// Loads the object with tables of `table_size` flows.
        ///
        /// # Errors
        /// As [`super::start`].
        pub fn new(table_size: u32) -> Result<Self, Error> {
            Self::with(table_size, &Features::default())
        }

        /// As [`Bench::new`], with other features than by default.
        ///
        /// # Errors
        /// As [`super::start`].
        pub fn with(table_size: u32, features: &Features) -> Result<Self, Error> {
            let Loaded { ebpf, tables } = load::load(table_size, features)?;
            let mut counting = Counting::new(tables)?;
            counting.begin()?;
            Ok(Self { ebpf, counting })
        }

        /// Hands the program of this name to the kernel.
        ///
        /// # Errors
        /// As [`super::start`].
        pub fn load(&mut self, name: &str) -> Result<&Program, Error> {
            load::program(&mut self.ebpf, name)?;
            self.ebpf.program(name).ok_or_else(|| Error::System {
                action: format!("load {name}"),
                reason: "there is no such program".into(),
            })
        }

        /// Filters by `filter` from the next interval on.
        ///
        /// # Errors
        /// As [`super::start`].
        pub fn filter(&mut self, filter: &CidrFilter) -> Result<(), Error> {
            self.counting.filter(filter)
        }

        /// Puts an expression in front of what `hook` needs on `targets`.
        ///
        /// # Errors
        /// As [`super::start`].
        pub fn expression(&mut self, text: &str, targets: &[Target], hook: Hook) -> Result<Filter, Error> {
            let expression = Expression::compile(text, targets)?;
            attach::load(&mut self.ebpf, targets, hook)?;
            expression.load(&mut self.ebpf, targets, hook)
        }

        /// Swaps the tables and hands over what the old ones held.
        ///
        /// # Errors
        /// As [`super::Backend::poll`].
        pub fn poll(&mut self) -> Result<Snapshot, Error> {
            self.counting.poll(&self.ebpf)
        }
    }
}
