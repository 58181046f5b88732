//! Counting in the kernel: programs at an interface's hooks, tables read and emptied once an interval.

pub mod attach;
mod batch;
mod by_key;
mod cidr;
mod clock;
mod drain;
pub mod features;
pub mod filter;
pub mod load;
mod mapped;
mod order;
pub mod permission;
mod presence;
mod swap;
pub mod xdp_safety;

use std::{collections::BTreeMap, time::Instant};

use aya::Ebpf;
use aya_log::EbpfLogger;

pub use attach::{Start, Target, leftovers};
pub use permission::missing_capabilities;

use self::{
    attach::Attached,
    features::KernelFeature,
    filter::{Expression, Filter},
    load::{Features, Loaded, Tables},
    order::Order,
    presence::Presence,
    swap::Counting,
};
use super::{
    Backend, Description, Error, Hook, LiveSettings, Watched,
    merged::Merged,
    probe::{self, Owner},
};
use crate::{filter::CidrFilter, snapshot::Snapshot};

/// The kernel programs at work. Dropping it detaches them and gives their tables back.
pub struct EbpfBackend {
    description: Description,
    // Detached before the programs and tables below go.
    attached: Vec<Attached>,
    _filter: Option<Filter>,
    counting: Counting,
    order: Order,
    presence: Presence,
    merged: Merged,
    log: Option<EbpfLogger<KernelLog>>,
    ebpf: Ebpf,
    _owner: Owner,
}

/// Loads the programs and attaches them to each of `targets`, the interfaces that `settings` names.
///
/// # Errors
/// [`Error::Expression`], [`Error::ExpressionForLibpcap`]; [`Error::Permission`] with the capabilities that are
/// missing and how to give them; else [`Error::System`]. Nothing stays attached after an error.
pub fn start(settings: &LiveSettings, targets: &[Target]) -> Result<EbpfBackend, Error> {
    let expression = settings.expression.as_deref();
    let expression = expression.map(|text| Expression::compile(text, targets)).transpose()?;
    let missing = missing_capabilities();
    if !missing.is_empty() {
        return Err(permission::denied("count in the kernel", &missing));
    }
    features::enough(&probe::release())?;
    let Loaded { mut ebpf, tables } = load::load(settings.table_size, &features(settings))?;
    let log = if settings.kernel_log { Some(kernel_log(&mut ebpf)?) } else { None };
    let owner =
        Owner::new().map_err(|error| permission::explain("mark kernel filters as our own", &error))?;
    let mut counting = Counting::new(tables, names(targets))?;
    attach::load(&mut ebpf, targets, settings.hook)?;
    let load = |expression: Expression| expression.load(&mut ebpf, targets, settings.hook);
    let mut filter = expression.map(load).transpose()?;
    // The program at the hook is the expression's, where there is one.
    let first = filter.as_mut().map_or(&mut ebpf, |filter| &mut filter.programs);
    let mut attached = Vec::with_capacity(targets.len());
    for target in targets {
        attached.push(attach::attach(first, target, settings, &owner)?);
    }
    counting.begin()?;
    let order = Order::new(attach::posts(first, targets, settings.hook));
    let presence = Presence::new(targets);
    let merged = Merged::new("XDP", "--hook tc counts them exactly");
    let watched: Vec<_> = targets
        .iter()
        .zip(&attached)
        .map(|(target, attached)| Watched { name: target.name.clone(), hook: attached.hook.clone() })
        .collect();
    let description = Description { backend: "ebpf", why: why(settings.hook, &watched), watched };
    Ok(EbpfBackend {
        description,
        attached,
        _filter: filter,
        counting,
        order,
        presence,
        merged,
        log,
        ebpf,
        _owner: owner,
    })
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

fn names(targets: &[Target]) -> BTreeMap<u32, String> {
    targets.iter().map(|target| (target.index, target.name.clone())).collect()
}

/// Why this hook, in a few words.
fn why(hook: Hook, watched: &[Watched]) -> String {
    let release = probe::release();
    match hook {
        Hook::Tc if watched.iter().all(|watched| watched.hook == "tcx") => {
            format!("kernel {release} has TCX")
        }
        Hook::Tc => format!("kernel {release} has no TCX (Linux 6.6)"),
        Hook::Clsact => "clsact was asked for".into(),
        Hook::Xdp => "native XDP was asked for".into(),
        Hook::XdpGeneric => "generic XDP was asked for; it switches receive offload off".into(),
    }
}

impl Backend for EbpfBackend {
    fn description(&self) -> &Description {
        &self.description
    }

    fn is_live(&self) -> bool {
        true
    }

    /// # Errors
    /// [`Error::System`], also when every interface vanished and all that was counted before is handed over.
    fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        self.order.check(Instant::now());
        // Looked at before the tables are read: what was counted until an interface went is in them then.
        let watching = self.presence.check();
        let snapshot = self.counting.poll(&self.ebpf)?;
        self.merged.check(&snapshot);
        if !watching && snapshot.flows.is_empty() && snapshot.unaccounted.is_empty() {
            return Err(super::all_gone());
        }
        Ok(Some(snapshot))
    }

    fn stop(&mut self) -> Result<Option<Snapshot>, Error> {
        self.attached.clear();
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let snapshot = self.counting.poll(&self.ebpf)?;
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
        BTreeMap, CidrFilter, Counting, Ebpf, Error, Expression, Filter, Hook, Loaded, Snapshot, Target,
        attach, load,
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
            Ok(Self { ebpf, counting: Counting::new(tables, BTreeMap::new())? })
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

        /// Filters by `filter` from the next interval on, and from the first on if none has ended.
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
